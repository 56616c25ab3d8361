//! The vectors in `spec/`, read as another language would read them.

use std::path::Path;

use serde_json::Value as Json;
use synddb_protocol::Canonical;
use synddb_protocol::hash::TreeHash;
use synddb_protocol::id::StreamId;
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::tree::{verify_consistency, verify_inclusion};
use synddb_protocol::log::{
    Batch, BatchError, Body, Equivocation, Leaders, LogError, MessageType, OutboundMessage, Receipt,
    SignedCheckpoint, SignedEndorsement, SignedEpochRecord, SignedManifest, SignedRefusal, Tip, Versions,
    tree::leaf_hash,
};
use synddb_protocol::signing::{Domain, RecoverableSignature, TrustedKeys, VerifyingKey};
use synddb_protocol::state::{State, TableHash, Value};
use synddb_protocol::submission::{Chunk, Commit, Part, SchemaRow, Snapshot, Submission, TextEncoding};

fn read(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn bytes(value: &Json) -> Vec<u8> {
    let digits = value.as_str().unwrap().strip_prefix("0x").unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn list(value: &Json) -> &[Json] {
    value.as_array().unwrap()
}

fn tree_hash(value: &Json) -> TreeHash {
    value.as_str().unwrap().parse().unwrap()
}

fn path(value: &Json) -> Vec<TreeHash> {
    list(value).iter().map(tree_hash).collect()
}

fn keys(file: &Json) -> TrustedKeys {
    let key: VerifyingKey = file["signer"]["public"].as_str().unwrap().parse().unwrap();
    assert_eq!(key.id().to_string(), file["signer"]["address"]);
    TrustedKeys::pinned([key])
}

/// The leaders that a reader admits by the record that the file gives.
fn leaders(file: &Json) -> Leaders {
    let record = SignedEpochRecord::from_bytes(&bytes(&file["epoch_record"])).unwrap();
    let (claim, _) = record.recover().unwrap();
    let mut leaders = Leaders::joining(claim.stream, keys(file), claim.epoch);
    leaders.admit(&record).unwrap();
    leaders
}

#[test]
fn messages_read_and_verify() {
    let file = read("messages.json");
    let leaders = leaders(&file);
    for vector in list(&file["vectors"]) {
        let receipt = Receipt::from_bytes(&bytes(&vector["cose"])).unwrap();
        if vector["body"].is_string() {
            receipt.verify(&leaders).unwrap();
        } else {
            assert_eq!(receipt.recover().unwrap().id().to_string(), vector["key"]);
        }
        assert_eq!(receipt.header().sequence.get(), vector["sequence"]);
        assert_eq!(receipt.header().message_type.code(), vector["type"]);
        assert_eq!(receipt.leaf().to_string(), vector["leaf"]);
        if vector["body"].is_string() {
            Body::read(receipt.header().message_type, bytes(&vector["body"]), BODY_BYTES_MAX).unwrap();
        }
    }
}

#[test]
fn checkpoints_and_epochs_read_and_verify() {
    let file = read("checkpoints.json");
    for vector in list(&file["vectors"]) {
        let checkpoint = SignedCheckpoint::from_bytes(&bytes(&vector["cose"])).unwrap();
        let verified = checkpoint.verify(&leaders(&file)).unwrap();
        let claim = verified.claim();
        assert_eq!(claim.root().to_string(), vector["root"]);
        let peaks: Vec<String> = claim.frontier.peaks().iter().map(ToString::to_string).collect();
        assert_eq!(serde_json::json!(peaks), vector["frontier"]);
        let client = claim.client.as_ref().unwrap();
        assert_eq!(client.next.get(), vector["next_commit"]);
        assert_eq!(client.last.to_string(), vector["last_digest"]);
        assert_eq!(client.state.to_string(), vector["state"]);
    }
    let file = read("epochs.json");
    for vector in list(&file["vectors"]) {
        let record = SignedEpochRecord::from_bytes(&bytes(&vector["cose"])).unwrap();
        assert_eq!(record.verify(&keys(&file)).unwrap().epoch.get(), vector["epoch"]);
        assert_eq!(record.hash().to_string(), vector["hash"]);
    }
}

#[test]
fn endorsements_read_and_recover() {
    let file = read("endorsements.json");
    let checkpoints = leaders(&read("checkpoints.json"));
    for vector in list(&file["vectors"]) {
        let signed = SignedEndorsement::from_bytes(&bytes(&vector["endorsement"])).unwrap();
        assert_eq!(signed.recover().unwrap().to_string(), file["signer"]["address"]);
        assert_eq!(signed.digest().to_string(), vector["digest"]);
        assert_eq!(signed.signature().to_string(), vector["signature"]);
        let endorsement = signed.endorsement();
        endorsement.checkpoint.clone().verify(&checkpoints).unwrap();
        assert_eq!(endorsement.checkpoint.to_bytes(), bytes(&vector["checkpoint"]));
        assert_eq!(endorsement.domain.chain_id, vector["chain_id"]);
        assert_eq!(endorsement.domain.contract.to_string(), vector["contract"]);
        assert_eq!(endorsement.sequence().get(), vector["message"]["sequence"]);
    }
}

#[test]
fn outbound_messages_digest_and_recover() {
    fn read_as<T: std::str::FromStr>(value: &Json) -> T {
        value.as_str().unwrap().parse().unwrap_or_else(|_| panic!("cannot read {value}"))
    }
    let file = read("outbound.json");
    for vector in list(&file["vectors"]) {
        let of = &vector["message"];
        let message = OutboundMessage {
            stream: read_as(&of["stream"]),
            nonce: read_as(&of["nonce"]),
            target: read_as(&of["target"]),
            value: read_as(&of["value"]),
            token: read_as(&of["token"]),
            amount: read_as(&of["amount"]),
            payload_hash: read_as(&of["payloadHash"]),
            gas_limit: read_as(&of["gasLimit"]),
            deadline: read_as(&of["deadline"]),
            inbox_consumed: read_as(&of["inboxConsumed"]),
        };
        let domain =
            Domain { chain_id: read_as(&vector["chain_id"]), contract: read_as(&vector["contract"]) };
        assert_eq!(message.digest(&domain).to_string(), vector["digest"], "{}", vector["name"]);
        let signature = RecoverableSignature::from_bytes(bytes(&vector["signature"]).try_into().unwrap());
        let signer = signature.recover(&message.digest(&domain)).unwrap();
        assert_eq!(signer.to_string(), file["signer"]["address"]);
    }
    assert_eq!(list(&file["vectors"]).len(), 15);
}

#[test]
fn refusals_read_and_verify() {
    let file = read("refusals.json");
    for vector in list(&file["vectors"]) {
        let signed = SignedRefusal::from_bytes(&bytes(&vector["cose"])).unwrap();
        assert_eq!(signed.recover().unwrap().to_string(), file["signer"]["public"]);
        let refusal = signed.refusal();
        assert_eq!(refusal.rule, vector["rule"]);
        assert_eq!(refusal.sequence.get(), vector["sequence"]);
        assert_eq!(refusal.rows, vector["rows"]);
        assert_eq!(
            refusal.resolution.as_ref().map_or(Json::Null, |by| by.because.clone().into()),
            vector["because"]
        );
    }
}

#[test]
fn manifests_read_and_verify() {
    let file = read("manifests.json");
    let checkpoints = leaders(&read("checkpoints.json"));
    for vector in list(&file["vectors"]) {
        let signed = SignedManifest::from_bytes(&bytes(&vector["cose"])).unwrap();
        assert_eq!(signed.recover().unwrap().to_string(), file["signer"]["public"]);
        let manifest = signed.manifest();
        manifest.checkpoint.clone().verify(&checkpoints).unwrap();
        assert_eq!(manifest.checkpoint.to_bytes(), bytes(&vector["checkpoint"]));
        assert_eq!(manifest.sequence().get(), vector["sequence"]);
        assert_eq!(manifest.state().unwrap().to_string(), vector["state"]);
        assert_eq!(u64::from(manifest.page_size.get()), vector["page_size"]);
        assert_eq!(manifest.encoding.code(), vector["encoding"]);
        let chunk =
            |chunk: &Chunk| serde_json::json!([chunk.hash.to_string(), chunk.pages, chunk.stored_bytes]);
        let runs: Vec<Json> = manifest.runs.iter().map(chunk).collect();
        assert_eq!(vector["runs"], Json::Array(runs));
        let patches = manifest.patches.iter().map(|patch| {
            let places: Vec<_> = patch.places.iter().map(|place| (place.first, place.pages)).collect();
            serde_json::json!({ "chunk": chunk(&patch.chunk), "places": places })
        });
        assert_eq!(vector["patches"], Json::Array(patches.collect()));
    }
}

#[test]
fn commits_form_one_chain() {
    let file = read("commits.json");
    let snapshot = Snapshot::from_bytes(&bytes(&file["snapshot"]["cbor"])).unwrap();
    let mut before = snapshot.digest().to_string();
    for entry in list(&file["entries"]) {
        let cbor = bytes(&entry["cbor"]);
        let (prev, digest) = match Commit::from_bytes(&cbor) {
            Ok(commit) => (commit.prev, commit.digest()),
            Err(_) => Part::from_bytes(&cbor).map(|part| (part.prev, part.digest())).unwrap(),
        };
        assert_eq!(prev.to_string(), before);
        assert_eq!(digest.to_string(), entry["digest"]);
        before = digest.to_string();
    }
    Submission::from_bytes(&bytes(&file["submission"])).unwrap();
}

#[test]
fn batches_verify_from_the_first_message_on() {
    let file = read("batches.json");
    let stream: StreamId = file["stream"].as_str().unwrap().parse().unwrap();
    let mut tip = Tip::start(stream);
    for vector in list(&file["vectors"]) {
        let batch = Batch::from_stored(&bytes(&vector["stored"])).unwrap();
        assert_eq!(batch.to_cbor(), bytes(&vector["cbor"]));
        tip = batch.verify(&leaders(&file), &tip).unwrap().tip().clone();
    }
    assert!(tip.last().is_some());
}

#[test]
fn tree_proofs_hold() {
    let file = read("tree.json");
    let leaves: Vec<TreeHash> = list(&file["leaves"]).iter().map(|leaf| leaf_hash(&bytes(leaf))).collect();
    let root = |size: u64| tree_hash(&file["roots"][usize::try_from(size).unwrap()]);
    for proof in list(&file["inclusion"]) {
        let (index, size) = (proof["index"].as_u64().unwrap(), proof["size"].as_u64().unwrap());
        let leaf = leaves[usize::try_from(index).unwrap()];
        assert!(verify_inclusion(leaf, index, size, &path(&proof["path"]), root(size)));
    }
    for proof in list(&file["consistency"]) {
        let (from, size) = (proof["from"].as_u64().unwrap(), proof["size"].as_u64().unwrap());
        assert!(verify_consistency(from, root(from), size, root(size), &path(&proof["path"])));
    }
}

#[test]
fn equivocation_is_proven() {
    let file = read("equivocation.json");
    let receipt = |name: &str| Receipt::from_bytes(&bytes(&file[name])).unwrap();
    let proof = Equivocation::of_receipts(&receipt("first"), &receipt("second")).unwrap();
    assert_eq!(proof.key.to_string(), file["key"]);
}

#[test]
fn state_hashes_are_these() {
    let file = read("state.json");
    let mut all = TableHash::default();
    for row in list(&file["rows"]) {
        let owned: Vec<(String, Vec<u8>)> = list(&row["columns"])
            .iter()
            .map(|column| {
                let (class, value) = column.as_object().unwrap().iter().next().unwrap();
                let stored = match class.as_str() {
                    "null" => vec![],
                    "integer" => value.as_str().unwrap().parse::<i64>().unwrap().to_be_bytes().to_vec(),
                    _ => bytes(value),
                };
                (class.clone(), stored)
            })
            .collect();
        let columns = || {
            owned.iter().map(|(class, stored)| match class.as_str() {
                "null" => Value::Null,
                "integer" => Value::Integer(i64::from_be_bytes(stored[..].try_into().unwrap())),
                "real_bits" => Value::Real(f64::from_be_bytes(stored[..].try_into().unwrap())),
                "text" => Value::Text(stored),
                "blob" => Value::Blob(stored),
                other => panic!("unknown storage class {other}"),
            })
        };
        let rowid = row["rowid"].as_str().map(|rowid| rowid.parse().unwrap());
        let mut one = TableHash::default();
        one.add(rowid, columns());
        all.add(rowid, columns());
        assert_eq!(one.digest().to_string(), row["digest"], "{}", row["name"]);
    }
    assert_eq!(all.digest().to_string(), file["table_of_all_rows"]);
    let state = State {
        schema: list(&file["state"]["schema"])
            .iter()
            .map(|row| SchemaRow::from_bytes(&bytes(row)).unwrap())
            .collect(),
        encoding: TextEncoding::Utf8,
        user_version: 7,
        application_id: -2,
        tables: [(b"t".to_vec(), all.digest())].into(),
    };
    assert_eq!(state.hash().to_string(), file["state"]["hash"]);
}

#[test]
fn refused_bytes_are_refused() {
    for vector in list(&read("refused.json")["vectors"]) {
        let input = bytes(&vector["bytes"]);
        let accepted = match vector["as"].as_str().unwrap() {
            "message" => Receipt::from_bytes(&input).is_ok_and(|receipt| receipt.recover().is_ok()),
            "checkpoint" => SignedCheckpoint::from_bytes(&input).is_ok_and(|signed| signed.recover().is_ok()),
            "manifest" => SignedManifest::from_bytes(&input).is_ok_and(|signed| signed.recover().is_ok()),
            "endorsement" => {
                SignedEndorsement::from_bytes(&input).is_ok_and(|signed| signed.recover().is_some())
            }
            "refusal" => SignedRefusal::from_bytes(&input).is_ok_and(|signed| signed.recover().is_ok()),
            "submission" => Submission::from_bytes(&input).is_ok(),
            "body of type 0" => Body::read(MessageType::Submission, input, BODY_BYTES_MAX).is_ok(),
            "batch" => Batch::from_cbor(&input).is_ok(),
            other => panic!("unknown kind {other}"),
        };
        assert!(!accepted, "accepted: {}", vector["name"]);
    }
}

fn versions(value: &Json) -> Versions {
    Versions { protocol: value[0].as_u64().unwrap(), apply: value[1].as_u64().unwrap() }
}

/// The leaders of a log in `upgrade.json`, of keys that a reader pins.
fn leaders_of(file: &Json, log: &Json) -> Leaders {
    let keys =
        list(&file["signers"]).iter().map(|signer| signer["public"].as_str().unwrap().parse().unwrap());
    let stream = file["stream"].as_str().unwrap().parse().unwrap();
    let mut leaders = Leaders::new(stream, TrustedKeys::pinned(keys));
    for epoch in list(&log["epochs"]) {
        leaders.admit(&SignedEpochRecord::from_bytes(&bytes(&epoch["record"])).unwrap()).unwrap();
    }
    leaders
}

#[test]
fn readers_of_adjacent_versions_replay_a_log_in_which_the_leader_is_upgraded() {
    let file = read("upgrade.json");
    for log in list(&file["logs"]) {
        let leaders = leaders_of(&file, log);
        let batches: Vec<Batch> = list(&log["batches"])
            .iter()
            .map(|batch| Batch::from_stored(&bytes(&batch["stored"])).unwrap())
            .collect();
        let newest = versions(&file["newest"]);
        let start = Tip::start(leaders.stream());
        // The tips after each batch, by a reader that knows everything.
        let tips: Vec<Tip> = batches
            .iter()
            .scan(start.clone().supporting(newest), |tip, batch| {
                *tip = batch.clone().verify(&leaders, tip).unwrap().tip().clone();
                Some(tip.clone())
            })
            .collect();
        let end = tips.last().unwrap();
        assert_eq!(end.last().unwrap().get(), log["end"]["size"]);
        assert_eq!(end.client().unwrap().state.to_string(), log["end"]["state"]);
        for reader in list(&log["readers"]) {
            let supported = versions(&reader["supports"]);
            let mut tip = start.clone().supporting(supported);
            let mut stopped = None;
            for (batch, expected) in batches.iter().zip(&tips) {
                match batch.clone().verify(&leaders, &tip) {
                    Ok(verified) => tip = verified.tip().clone(),
                    Err(error) => {
                        let BatchError::Log {
                            sequence,
                            source: LogError::UpgradeRequired { found, supported: known },
                        } = error
                        else {
                            panic!("{error}")
                        };
                        assert_eq!((found, known), (versions(&reader["found"]), supported));
                        assert_eq!(batch.first(), sequence, "an epoch begins a batch");
                        stopped = Some(sequence.get());
                        // Nothing of the batch was taken; after the upgrade the same tip goes on.
                        tip = batch.clone().verify(&leaders, &tip.supporting(newest)).unwrap().tip().clone();
                    }
                }
                assert_eq!(tip.clone().supporting(newest), *expected);
            }
            assert_eq!(stopped, reader["stops_at"].as_u64(), "{} {supported:?}", log["name"]);
            // Whoever joins at the last checkpoint is asked for what the last epoch needs.
            let checkpoint = batches.last().unwrap().checkpoint().clone().verify(&leaders).unwrap();
            let last = versions(&list(&log["epochs"]).last().unwrap()["versions"]);
            let joined = Tip::trusting_as(&checkpoint, supported);
            assert_eq!(joined.is_ok(), last.are_known_to(supported), "{joined:?}");
        }
    }
}
