//! Writes `spec/vectors/*.json`: `cargo run -p synddb-protocol --example vectors -- DIR`.
//!
//! Every value is fixed and every signature deterministic, so the same files come out everywhere.

#[path = "vectors/outbound.rs"]
mod outbound;
#[path = "../tests/it/sample.rs"]
mod sample;

use std::path::Path;

use serde_json::{Value as Json, json};
use synddb_protocol::Canonical;
use synddb_protocol::hash::{BodyHash, TreeHash};
use synddb_protocol::id::{Epoch, Sequence, StreamId, Timestamp};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::tree::{self, NoSuchProof, Node};
use synddb_protocol::log::{
    APPLY_VERSION, Batch, Body, Entry, EpochRecord, Equivocation, Frontier, KeyProof, MessageHeader,
    MessageType, PROTOCOL_VERSION, Receipt, Tip, Versions,
};
use synddb_protocol::signing::{Domain, SigningKey};
use synddb_protocol::state::{State, TableHash, Value};
use synddb_protocol::submission::{
    Chunk, Content, ObjectKind, SchemaRow, Snapshot, Submission, TextEncoding,
};
use synddb_protocol::trace::{Place, Sampling, Stage, TraceId};

use sample::Leader;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: vectors DIR")?;
    let files = [
        ("commits.json", commits()),
        ("messages.json", messages()),
        ("checkpoints.json", checkpoints()),
        ("epochs.json", epochs()),
        ("manifests.json", manifests()),
        ("endorsements.json", endorsements()),
        ("outbound.json", outbound::outbound()),
        ("refusals.json", refusals()),
        ("batches.json", batches()),
        ("tree.json", log_tree()),
        ("equivocation.json", equivocation()),
        ("state.json", state()),
        ("refused.json", refused()),
        ("upgrade.json", upgrade()),
        ("traces.json", traces()),
    ];
    std::fs::create_dir_all(&dir)?;
    for (name, content) in files {
        std::fs::write(Path::new(&dir).join(name), serde_json::to_string_pretty(&content)? + "\n")?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    format!("0x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn traces() -> Json {
    let stream = StreamId::from_bytes([0x5d; 32]);
    let body = BodyHash::of(b"a body, as stored");
    let trace = TraceId::of(stream, body);
    let (epoch, sequence) = (2, 40);
    let place = Place {
        epoch: Epoch::new(epoch).expect("the constant is an epoch"),
        sequence: Sequence::new(sequence).expect("the constant is a sequence"),
    };
    let reader = [0x7e; 16];
    let stages = [
        Stage::Capture,
        Stage::Ship,
        Stage::Sequence(place),
        Stage::Store(place),
        Stage::Apply(place, reader),
    ];
    let first_taken =
        (0..=1_000_000_u32).find(|share| Sampling::try_from(*share).is_ok_and(|some| some.takes(trace)));
    json!({
        "about": "The trace of a body, and its spans. Nothing of it is stored or signed.",
        "stream": stream.to_string(),
        "body_hash": body.to_string(),
        "epoch": epoch,
        "sequence": sequence,
        "reader": hex(&reader),
        "trace": trace.to_string(),
        "spans": stages.map(|stage| json!({
            "stage": stage.name(),
            "span": stage.span(trace).to_string(),
            "parent": stage.parent(trace).map(|parent| parent.to_string()),
        })),
        "traceparent": Stage::Ship.traceparent(trace, true),
        "sampled_from_per_million": first_taken,
    })
}

fn signer(seed: u8) -> Json {
    let key: SigningKey = sample::key(seed);
    json!({
        "secret": hex(&[seed; 32]),
        "public": key.verifying_key().to_string(),
        "address": key.id().to_string(),
    })
}

fn commits() -> Json {
    let root = sample::first_snapshot().digest();
    let submission = sample::commits(1, root, 3);
    let Content::Commits(commits) = &submission.content else { unreachable!("it has commits") };
    let first = sample::part(4, 0, commits.digest(), None);
    let last = sample::part(4, 1, first.digest(), sample::claim(3));
    let entries = commits
        .as_slice()
        .iter()
        .map(|commit| (commit.to_bytes(), commit.prev, commit.digest()))
        .chain([&first, &last].map(|part| (part.to_bytes(), part.prev, part.digest())));
    json!({
        "about": "The digest chain of one incarnation: each entry names the digest of the one before as prev.",
        "snapshot": { "cbor": hex(&sample::first_snapshot().to_bytes()), "digest": root.to_string() },
        "entries": entries.map(|(cbor, prev, digest)| json!({
            "cbor": hex(&cbor), "prev": prev.to_string(), "digest": digest.to_string(),
        })).collect::<Vec<_>>(),
        "submission": hex(&submission.to_bytes()),
    })
}

fn receipt_json(name: &str, receipt: &Receipt) -> Json {
    let header = receipt.header();
    json!({
        "name": name,
        "cose": hex(&receipt.to_bytes()),
        "sequence": header.sequence.get(),
        "timestamp": header.timestamp.as_ms(),
        "type": header.message_type.code(),
        "stream": header.stream.to_string(),
        "epoch": header.epoch.get(),
        "key": receipt.key().to_string(),
        "body_hash": receipt.body_hash().to_string(),
        "leaf": receipt.leaf().to_string(),
    })
}

fn messages() -> Json {
    let (_, log) = sample::log();
    let mut vectors: Vec<Json> = log
        .iter()
        .flat_map(|(_, batch)| batch.messages())
        .map(|message| {
            let kind = message.receipt.header().message_type;
            let body = Body::read(kind, message.body.clone(), BODY_BYTES_MAX).expect("it was just made");
            let content = match body.entry() {
                Entry::Submission(value) => value.to_bytes(),
                Entry::Snapshot(value) => value.to_bytes(),
                Entry::Inbound(value) => value.to_bytes(),
                Entry::Status(value) => value.to_bytes(),
                Entry::Epoch(value) => value.to_bytes(),
            };
            let mut vector = receipt_json(&format!("{kind:?}").to_lowercase(), &message.receipt);
            vector["body"] = hex(&message.body).into();
            vector["content"] = hex(&content).into();
            vector
        })
        .collect();
    let largest = MessageHeader {
        stream: StreamId::from_bytes([0xff; 32]),
        epoch: Epoch::new(Epoch::MAX).expect("it is the largest"),
        sequence: Sequence::new(Sequence::MAX).expect("it is the largest"),
        timestamp: Timestamp::from_ms((1 << 53) - 1).expect("it is the largest"),
        message_type: MessageType::Submission,
    };
    vectors.push(receipt_json("largest numbers, no body", &Receipt::sign(largest, b"", &sample::key(7))));
    json!({
        "about": "Messages: a COSE_Sign1 over the SHA-256 of the body. The body is zstd over content.",
        "external_aad": "synddb/message/v1",
        "signer": signer(7),
        "epoch_record": hex(&sample::record(1, &sample::key(7)).to_bytes()),
        "vectors": vectors,
    })
}

fn checkpoints() -> Json {
    let (_, log) = sample::log();
    let vectors = log.iter().map(|(_, batch)| {
        let checkpoint = batch.checkpoint();
        let claim = checkpoint.claim();
        json!({
            "cose": hex(&checkpoint.to_bytes()),
            "stream": claim.stream.to_string(),
            "epoch": claim.epoch.get(),
            "size": claim.size.get(),
            "root": claim.root().to_string(),
            "timestamp": claim.timestamp.as_ms(),
            "frontier": claim.frontier.peaks().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "next_commit": claim.client.as_ref().map(|client| client.next.get()),
            "last_digest": claim.client.as_ref().map(|client| client.last.to_string()),
            "state": claim.client.as_ref().map(|client| client.state.to_string()),
            "key": checkpoint.key().to_string(),
        })
    });
    json!({
        "about": "Checkpoints: a COSE_Sign1 over the claim.",
        "external_aad": "synddb/checkpoint/v1",
        "signer": signer(7),
        "epoch_record": hex(&sample::record(1, &sample::key(7)).to_bytes()),
        "vectors": vectors.collect::<Vec<_>>(),
    })
}

fn manifests() -> Json {
    let vectors = [("runs alone", false), ("runs and patches", true)].map(|(name, patched)| {
        let signed = sample::signed_manifest(patched);
        let manifest = signed.manifest();
        let claim = manifest.checkpoint.claim();
        let chunk = |chunk: &Chunk| json!([chunk.hash.to_string(), chunk.pages, chunk.stored_bytes]);
        json!({
            "name": name,
            "cose": hex(&signed.to_bytes()),
            "stream": claim.stream.to_string(),
            "epoch": claim.epoch.get(),
            "sequence": manifest.sequence().get(),
            "state": manifest.state().map(|state| state.to_string()),
            "checkpoint": hex(&manifest.checkpoint.to_bytes()),
            "encoding": manifest.encoding.code(),
            "page_size": manifest.page_size.get(),
            "runs": manifest.runs.iter().map(chunk).collect::<Vec<_>>(),
            "patches": manifest.patches.iter().map(|patch| json!({
                "chunk": chunk(&patch.chunk),
                "places": patch.places.iter().map(|place| (place.first, place.pages)).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "key": signed.key().to_string(),
        })
    });
    json!({
        "about": "Manifests of snapshots: a COSE_Sign1 of whoever took it. A place is [first page, or null for nowhere, pages].",
        "external_aad": "synddb/manifest/v1",
        "signer": signer(9),
        "vectors": vectors,
    })
}

fn endorsements() -> Json {
    let cases = [
        ("for no chain", sample::endorsement(0, Domain::NONE, 9)),
        ("for a contract", sample::endorsement(1, sample::DOMAIN, 9)),
        ("no field is zero", sample::endorsement_with_inbox(sample::DOMAIN, 9)),
    ];
    let vectors = cases.map(|(name, signed)| {
        let domain = signed.endorsement().domain;
        let claim = signed.endorsement().checkpoint.claim();
        json!({
            "name": name,
            "endorsement": hex(&signed.to_bytes()),
            "checkpoint": hex(&signed.endorsement().checkpoint.to_bytes()),
            "chain_id": domain.chain_id,
            "contract": domain.contract.to_string(),
            "message": {
                "stream": claim.stream.to_string(),
                "epoch": claim.epoch.get(),
                "sequence": claim.size.get(),
                "timestamp": claim.timestamp.as_ms(),
                "root": claim.root().to_string(),
                "stateHash": claim.client.as_ref().map(|client| client.state.to_string()),
                "inboxConsumed": claim.inbox_consumed,
            },
            "digest": signed.digest().to_string(),
            "signature": signed.signature().to_string(),
        })
    });
    json!({
        "about": "Endorsements: EIP-712 signatures of a validator, over what the checkpoint of a leader claims.",
        "signer": signer(9),
        "vectors": vectors,
    })
}

fn refusals() -> Json {
    let vectors = [("open", false), ("resolved", true)].map(|(name, resolved)| {
        let signed = sample::signed_refusal(resolved);
        let refusal = signed.refusal();
        json!({
            "name": name,
            "cose": hex(&signed.to_bytes()),
            "stream": refusal.stream.to_string(),
            "epoch": refusal.epoch.get(),
            "sequence": refusal.sequence.get(),
            "timestamp": refusal.timestamp.as_ms(),
            "rule": refusal.rule,
            "incarnation": refusal.incarnation.get(),
            "commit": refusal.commit.map(|commit| commit.get()),
            "detail": refusal.detail,
            "rows": refusal.rows,
            "further": refusal.further,
            "because": refusal.resolution.as_ref().map(|resolution| &resolution.because),
            "key": signed.key().to_string(),
        })
    });
    json!({
        "about": "Refusals: a COSE_Sign1 of a validator that will not endorse.",
        "external_aad": "synddb/refusal/v1",
        "signer": signer(9),
        "vectors": vectors,
    })
}

fn epochs() -> Json {
    let proofs = [
        ("unattested", KeyProof::Unattested),
        (
            "registration",
            KeyProof::Registration {
                chain_id: 31337,
                registry: synddb_protocol::id::Address::from_bytes([0x5e; 20]),
                block_number: 12,
            },
        ),
        ("evidence", KeyProof::Evidence(b"a token".to_vec())),
    ];
    let vectors = (1..).zip(proofs).map(|(epoch, (name, proof))| {
        let epoch = Epoch::new(epoch).expect("it starts at 1");
        let record = EpochRecord { stream: sample::stream(), epoch, proof }.sign(&sample::key(7));
        json!({
            "name": name,
            "cose": hex(&record.to_bytes()),
            "stream": sample::stream().to_string(),
            "epoch": epoch.get(),
            "hash": record.hash().to_string(),
            "key": record.key().to_string(),
        })
    });
    json!({
        "about": "Epoch records: a COSE_Sign1 by the epoch's own key over what proves that key.",
        "external_aad": "synddb/epoch/v1",
        "signer": signer(7),
        "vectors": vectors.collect::<Vec<_>>(),
    })
}

fn batches() -> Json {
    let (_, log) = sample::log();
    let vectors = log.iter().map(|(_, batch)| {
        json!({
            "first": batch.first().get(),
            "last": batch.last().get(),
            "cbor": hex(&batch.to_cbor()),
            "stored": hex(&batch.to_stored().expect("it is small")),
        })
    });
    json!({
        "about": "A log of two batches from its first message on. stored is zstd over cbor.",
        "stream": sample::stream().to_string(),
        "signer": signer(7),
        "epoch_record": hex(&sample::record(1, &sample::key(7)).to_bytes()),
        "vectors": vectors.collect::<Vec<_>>(),
    })
}

/// The newest rules that any reader of `upgrade.json` knows.
const NEWEST: Versions = Versions { protocol: PROTOCOL_VERSION + 1, apply: APPLY_VERSION + 2 };

/// What a real database was captured as: `the_log_of_the_vectors_carries_what_is_captured` of `synddb-validator` writes it anew.
const CAPTURED: &str = include_str!("captured.json");

fn upgrade() -> Json {
    let captured: Json = serde_json::from_str(CAPTURED).expect("it is JSON");
    let now = Versions { protocol: PROTOCOL_VERSION, apply: APPLY_VERSION };
    let before = Versions { protocol: now.protocol - 1, ..now };
    let after = Versions { apply: now.apply + 1, ..now };
    let next = Versions { protocol: now.protocol + 1, ..now };
    json!({
        "about": "Logs in which the second epoch follows other rules than the first, and where a reader of each version stops: \
                  at the first epoch message that it does not know, with upgrade_required. The commits are those of a real \
                  database. versions, supports and found are [protocol version, apply version].",
        "stream": sample::stream().to_string(),
        "signers": [signer(7), signer(9)],
        "newest": versions(NEWEST),
        "chunks": captured["chunks"],
        "snapshot": captured["snapshot"],
        "submissions": captured["submissions"],
        "logs": [
            rolling("protocol", &captured, [before, now], &[before, now, next]),
            rolling("apply", &captured, [now, after], &[now, next, after, NEWEST]),
            rolling("back", &captured, [now, before], &[before, now, next]),
        ],
    })
}

fn versions(versions: Versions) -> Json {
    json!([versions.protocol, versions.apply])
}

/// A log of two epochs of these versions, in four batches, and where each reader stops.
fn rolling(name: &str, captured: &Json, rules: [Versions; 2], readers: &[Versions]) -> Json {
    let snapshot = Snapshot::from_bytes(&unhex(&captured["snapshot"])).expect("it is a snapshot");
    let submissions: Vec<Entry> = captured["submissions"]
        .as_array()
        .expect("it is a list")
        .iter()
        .map(|bytes| Entry::Submission(Submission::from_bytes(&unhex(bytes)).expect("it is a submission")))
        .collect();
    let mut batches = Vec::new();
    let mut first =
        Leader::begin_as(1, sample::key(7), Tip::start(sample::stream()).supporting(NEWEST), rules[0]);
    first.push(&Entry::Snapshot(snapshot));
    batches.push(first.cut());
    first.push(&submissions[0]);
    batches.push(first.cut());
    let mut second = Leader::begin_as(2, sample::key(9), first.tip.clone(), rules[1]);
    let upgraded_at = second.tip.last().expect("it has begun");
    for submission in &submissions[1..] {
        second.push(submission);
        batches.push(second.cut());
    }
    let client = second.tip.client().expect("it has begun");
    let epochs = [(&first, 1), (&second, upgraded_at.get())];
    json!({
        "name": name,
        "epochs": epochs.iter().zip(rules).map(|((leader, sequence), rules)| json!({
            "epoch": leader.epoch.get(),
            "record": hex(&leader.record().to_bytes()),
            "sequence": sequence,
            "versions": versions(rules),
        })).collect::<Vec<_>>(),
        "batches": batches.iter().map(|batch: &Batch| json!({
            "first": batch.first().get(),
            "last": batch.last().get(),
            "stored": hex(&batch.to_stored().expect("it is small")),
        })).collect::<Vec<_>>(),
        "end": { "size": second.tip.last().map(Sequence::get), "state": client.state.to_string() },
        "readers": readers.iter().map(|reader| {
            let stops = epochs.iter().zip(rules).find(|(_, rules)| !rules.are_known_to(*reader));
            json!({
                "supports": versions(*reader),
                "stops_at": stops.map(|((_, sequence), _)| sequence),
                "found": stops.map(|(_, rules)| versions(rules)),
            })
        }).collect::<Vec<_>>(),
    })
}

fn unhex(value: &Json) -> Vec<u8> {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x")).expect("it is hex");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("it is hex"))
        .collect()
}

fn log_tree() -> Json {
    let leaves: Vec<Vec<u8>> = (0u8..9).map(|n| vec![n; usize::from(n)]).collect();
    let hashes: Vec<TreeHash> = leaves.iter().map(|leaf| tree::leaf_hash(leaf)).collect();
    let root = |count: usize| {
        let mut frontier = Frontier::default();
        hashes[..count].iter().for_each(|hash| frontier.push(*hash));
        frontier.root().to_string()
    };
    let lookup = |node: Node| -> Result<TreeHash, NoSuchProof> {
        let mut frontier = Frontier::default();
        let from = usize::try_from(node.index << node.level).expect("a small tree");
        hashes[from..from + (1 << node.level)].iter().for_each(|hash| frontier.push(*hash));
        Ok(frontier.root())
    };
    let text = |path: Vec<TreeHash>| path.iter().map(ToString::to_string).collect::<Vec<_>>();
    let size = hashes.len() as u64;
    let inclusion = (0..size).map(|index| {
        let path = tree::inclusion_proof(index, size, lookup).expect("the leaf is inside");
        json!({ "index": index, "size": size, "path": text(path) })
    });
    let consistency = (1..=size).map(|from| {
        let path = tree::consistency_proof(from, size, lookup).expect("the size is inside");
        json!({ "from": from, "size": size, "path": text(path) })
    });
    json!({
        "about": "The log tree of RFC 9162 over these leaves; roots[n] is the root over the first n.",
        "leaves": leaves.iter().map(|leaf| hex(leaf)).collect::<Vec<_>>(),
        "roots": (0..=hashes.len()).map(root).collect::<Vec<_>>(),
        "inclusion": inclusion.collect::<Vec<_>>(),
        "consistency": consistency.collect::<Vec<_>>(),
    })
}

fn equivocation() -> Json {
    let header = MessageHeader {
        stream: sample::stream(),
        epoch: Epoch::FIRST,
        sequence: Sequence::FIRST,
        timestamp: Timestamp::from_ms(1000).expect("it is small"),
        message_type: MessageType::Status,
    };
    let [first, second] = [&b"one"[..], b"two"].map(|body| Receipt::sign(header, body, &sample::key(7)));
    let proof = Equivocation::of_receipts(&first, &second).expect("they differ");
    json!({
        "about": "Two receipts of one key for one place: the whole proof.",
        "first": hex(&first.to_bytes()),
        "second": hex(&second.to_bytes()),
        "key": proof.key.to_string(),
    })
}

fn value_json(value: Value<'_>) -> Json {
    match value {
        Value::Null => json!({ "null": null }),
        Value::Integer(value) => json!({ "integer": value.to_string() }),
        Value::Real(value) => json!({ "real_bits": hex(&value.to_bits().to_be_bytes()) }),
        Value::Text(bytes) => json!({ "text": hex(bytes) }),
        Value::Blob(bytes) => json!({ "blob": hex(bytes) }),
    }
}

fn state() -> Json {
    // 2^53 + 1 in a REAL column is rounded by SQLite before it is stored; a NaN is stored as NULL.
    #[expect(clippy::cast_precision_loss, reason = "the rounding is what the vector shows")]
    let rounded = ((1u64 << 53) + 1) as f64;
    let rows: [(&str, Option<i64>, Vec<Value<'_>>); 12] = [
        ("NULL, as a NaN is stored", Some(1), vec![Value::Null]),
        ("-0.0 in a REAL column or an untyped one", Some(1), vec![Value::Real(-0.0)]),
        ("0.0", Some(1), vec![Value::Real(0.0)]),
        ("2^53+1 in a REAL column", Some(1), vec![Value::Real(rounded)]),
        ("2^53+1 in an untyped column", Some(1), vec![Value::Integer((1 << 53) + 1)]),
        ("smallest integer", Some(i64::MIN), vec![Value::Integer(i64::MIN)]),
        ("infinity", Some(1), vec![Value::Real(f64::INFINITY)]),
        ("a lone surrogate in UTF-8", Some(1), vec![Value::Text(&[0xed, 0xa0, 0x80])]),
        ("a lone surrogate in UTF-16LE", Some(1), vec![Value::Text(&[0x00, 0xd8])]),
        ("an embedded NUL", Some(1), vec![Value::Text(b"a\0b")]),
        ("invalid UTF-8", Some(1), vec![Value::Text(&[0xff])]),
        ("WITHOUT ROWID, text and blob of equal bytes", None, vec![Value::Text(b"k"), Value::Blob(b"k")]),
    ];
    let mut all = TableHash::default();
    let vectors: Vec<Json> = rows
        .iter()
        .map(|(name, rowid, columns)| {
            let mut one = TableHash::default();
            one.add(*rowid, columns.iter().copied());
            all.add(*rowid, columns.iter().copied());
            json!({
                "name": name,
                "rowid": rowid.map(|rowid| rowid.to_string()),
                "columns": columns.iter().copied().map(value_json).collect::<Vec<_>>(),
                "digest": one.digest().to_string(),
            })
        })
        .collect();
    let row = |kind, name: &[u8], sql: Option<&[u8]>| SchemaRow {
        kind,
        name: name.to_vec(),
        table: b"t".to_vec(),
        sql: sql.map(<[u8]>::to_vec),
    };
    let state = State {
        schema: vec![
            row(ObjectKind::Table, b"t", Some(b"CREATE TABLE t(a)")),
            row(ObjectKind::Index, b"sqlite_autoindex_t_1", None),
        ],
        encoding: TextEncoding::Utf8,
        user_version: 7,
        application_id: -2,
        tables: [(b"t".to_vec(), all.digest())].into(),
    };
    json!({
        "about": "Row elements, table digests and the state hash. `integer` and `rowid` are decimal text.",
        "rows": vectors,
        "table_of_all_rows": all.digest().to_string(),
        "empty_table": TableHash::default().digest().to_string(),
        "state": {
            "schema": state.schema.iter().map(|row| hex(&row.to_bytes())).collect::<Vec<_>>(),
            "encoding": state.encoding.code(),
            "user_version": state.user_version,
            "application_id": state.application_id,
            "tables": [{ "name": hex(b"t"), "digest": all.digest().to_string() }],
            "hash": state.hash().to_string(),
        },
    })
}

/// Bytes that look right and are not; every one must be refused.
fn refused() -> Json {
    let (_, log) = sample::log();
    let (_, batch) = &log[0];
    let message = batch.messages()[0].receipt.to_bytes();
    let checkpoint = batch.checkpoint().to_bytes();
    let manifest = sample::signed_manifest(true).to_bytes();
    let submission = sample::commits(1, sample::first_snapshot().digest(), 2).to_bytes();
    let body = batch.messages()[2].body.clone();
    let cbor = batch.to_cbor();
    let edit = |bytes: &[u8], at: usize, value: u8| {
        let mut edited = bytes.to_vec();
        edited[at] = value;
        edited
    };
    let splice = |bytes: &[u8], at: usize, count: usize, with: &[u8]| {
        [&bytes[..at], with, &bytes[at + count..]].concat()
    };
    let find = |bytes: &[u8], part: &[u8]| {
        bytes.windows(part.len()).position(|window| window == part).expect("it is in there")
    };
    let signature = message.len() - 64;
    let key_id = message.len() - 64 - 2 - 34 - 20;
    let epoch = find(&message, &[0x3a, 0, 1, 0, 4]);
    let negated = splice(&message, signature + 32, 32, &sample::negated(&message[signature + 32..]));
    let endorsement = sample::endorsement(1, sample::DOMAIN, 9).to_bytes();
    let recoverable = endorsement.len() - 65;
    let refusal = sample::signed_refusal(false).to_bytes();
    let frame_twice = [body.clone(), body.clone()].concat();
    let unused_bit = edit(&body, 4, body[4] | 0x10);
    let longer_size = {
        assert_eq!(body[4], 0x60, "its size stands in two bytes, less 256");
        let size = u32::from(u16::from_le_bytes([body[5], body[6]])) + 256;
        splice(&edit(&body, 4, 0xa0), 5, 2, &size.to_le_bytes())
    };
    let vectors: [(&str, &str, Vec<u8>); 33] = [
        ("message", "s in the upper half of the order", negated),
        ("message", "r is zero", splice(&message, signature, 32, &[0; 32])),
        ("message", "r is the order or more", splice(&message, signature, 32, &[0xff; 32])),
        ("message", "another key id", edit(&message, key_id, message[key_id] ^ 1)),
        ("message", "another epoch than signed", edit(&message, epoch + 5, 2)),
        ("message", "another tag", edit(&message, 0, 0xd1)),
        ("message", "a head longer than needed", splice(&message, epoch + 5, 1, &[0x18, 1])),
        ("message", "an unknown label", edit(&message, epoch + 4, 5)),
        ("message", "a byte after it", [&message[..], &[0]].concat()),
        ("message", "signed as a checkpoint", checkpoint.clone()),
        ("checkpoint", "signed as a message", message.clone()),
        ("checkpoint", "another root than its frontier's", {
            let root = find(&checkpoint, batch.checkpoint().claim().root().as_bytes());
            edit(&checkpoint, root, checkpoint[root] ^ 1)
        }),
        ("checkpoint", "signed as a manifest", manifest.clone()),
        ("manifest", "signed as a checkpoint", checkpoint.clone()),
        ("manifest", "a byte after it", [&manifest[..], &[0]].concat()),
        ("manifest", "another size than its checkpoint's", {
            let size = find(&manifest, &[0x3a, 0, 1, 0, 0]) + 5;
            edit(&manifest, size, manifest[size] - 1)
        }),
        ("endorsement", "s in the upper half of the order, with the other v", {
            let high = sample::negated(&endorsement[recoverable + 32..recoverable + 64]);
            let other = 55 - endorsement[recoverable + 64];
            splice(&endorsement, recoverable + 32, 33, &[&high[..], &[other]].concat())
        }),
        ("endorsement", "v is a bare parity", {
            let v = endorsement.len() - 1;
            edit(&endorsement, v, endorsement[v] - 27)
        }),
        ("endorsement", "r is zero", splice(&endorsement, recoverable, 32, &[0; 32])),
        ("endorsement", "a proof that says nothing", {
            let head = edit(&endorsement[..recoverable - 3], 0, 0xa4);
            [&head[..], &[3, 0xa0], &endorsement[recoverable - 3..]].concat()
        }),
        ("endorsement", "its checkpoint is before the first snapshot", {
            let mut leader = Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
            let before = leader.cut().checkpoint().to_bytes();
            let endorsed = log[1].1.checkpoint().to_bytes();
            splice(&endorsement, 2, endorsed.len(), &before)
        }),
        ("endorsement", "a byte after it", [&endorsement[..], &[0]].concat()),
        ("refusal", "signed as a manifest", manifest.clone()),
        ("refusal", "a byte after it", [&refusal[..], &[0]].concat()),
        ("refusal", "another rule than signed", {
            let rule = find(&refusal, b"balance");
            edit(&refusal, rule, b'v')
        }),
        ("refusal", "a reason that nobody knows", {
            let why = find(&refusal, b"1 row") - 3;
            edit(&refusal, why, 5)
        }),
        ("submission", "a commit that does not name the one before", {
            let prev = find(&submission, sample_digest(&submission).as_slice());
            edit(&submission, prev, submission[prev] ^ 1)
        }),
        ("submission", "a key twice", edit(&submission, 1 + 1 + 34, 1)),
        ("body of type 0", "two frames", frame_twice),
        ("body of type 0", "a bit of its frame's head that is not in use", unused_bit),
        ("body of type 0", "its content size in more bytes than needed", longer_size),
        ("batch", "its newest version is unknown", edit(&cbor, cbor.len() - 1, 3)),
        ("batch", "a time that its checkpoint does not have", {
            let time = cbor.len() - 3 - 1;
            edit(&cbor, time, cbor[time] ^ 1)
        }),
    ];
    json!({
        "about": "A reader that accepts one of these, signature included, has a fault. The signer of all is key 7.",
        "signer": signer(7),
        "vectors": vectors.iter().map(|(kind, name, bytes)| json!({
            "as": kind, "name": name, "bytes": hex(bytes),
        })).collect::<Vec<_>>(),
    })
}

/// The digest that the second commit of the sample submission names.
fn sample_digest(submission: &[u8]) -> Vec<u8> {
    let read = Submission::from_bytes(submission).expect("it is the sample");
    let Content::Commits(commits) = &read.content else { unreachable!("it has commits") };
    commits.last().prev.as_bytes().to_vec()
}
