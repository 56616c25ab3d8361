//! Writes the first inputs of every fuzz target: `cargo run -p synddb-protocol --example seeds -- DIR`.
//!
//! For each decoder there is something it accepts, so that the fuzzer does not start blind, and
//! something it refuses.

#[path = "../tests/it/sample.rs"]
mod sample;

use std::path::Path;

use synddb_protocol::Canonical;
use synddb_protocol::http::{ConsistencyProof, InclusionProof, Position, Problem, Reason, Receipts};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::live::LogItem;
use synddb_protocol::log::{Batch, Body, Entry, EpochRecord, KeyProof, Status, StatusLevel, Tip};
use synddb_protocol::proof::{Leaves, Proven};
use synddb_protocol::signing::Domain;
use synddb_protocol::submission::Content;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: seeds DIR")?;
    for (target, inputs) in seeds()? {
        let folder = Path::new(&dir).join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, input) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), input)?;
        }
        std::fs::write(folder.join("cut"), &inputs[0][..1])?;
    }
    Ok(())
}

type Seeds = Vec<(&'static str, Vec<Vec<u8>>)>;

fn seeds() -> Result<Seeds, Box<dyn std::error::Error>> {
    let (_, log) = sample::log();
    let batches: Vec<_> = log.iter().map(|(_, batch)| batch.clone()).collect();
    let receipts: Vec<_> =
        batches.iter().flat_map(|batch| batch.messages()).map(|message| message.receipt.clone()).collect();
    let message = Box::new(batches[0].messages()[0].clone());
    let from = message.receipt.header().sequence;
    let items = [
        LogItem::Message { message, stored: true },
        LogItem::Stored(Box::new(batches[0].checkpoint().clone())),
        LogItem::Withdrawn { from },
        LogItem::Behind { from },
        LogItem::Idle,
    ];
    let root = sample::first_snapshot().digest();
    let submissions = [
        sample::commits(1, root, 3),
        sample::submission(Content::Part(sample::part(4, 0, root, None))),
        sample::submission(Content::Part(sample::part(4, 1, root, sample::claim(3)))),
    ];
    let stored = |entry| sample::body(&entry).into_stored();
    let record = |proof| {
        EpochRecord { stream: sample::stream(), epoch: 1.try_into().expect("it starts at 1"), proof }
            .sign(&sample::key(7))
            .to_bytes()
    };
    let status = Status { level: StatusLevel::Degraded, reason: "inbound 1 is late".to_owned() };
    let tagged = |tag: u8, bytes: Vec<u8>| [vec![tag], bytes].concat();
    let expected = Position { incarnation: sample::incarnation(1), commit: 4.try_into()?, part: None };
    Ok(vec![
        ("batch", batches.iter().map(|batch| batch.to_cbor()).collect()),
        ("fold", vec![fold(&log)]),
        ("batch_stored", batches.iter().map(|batch| batch.to_stored()).collect::<Result<_, _>>()?),
        ("receipt", receipts.iter().map(|receipt| receipt.to_bytes()).collect()),
        ("checkpoint", batches.iter().map(|batch| batch.checkpoint().to_bytes()).collect()),
        ("epoch_record", vec![record(KeyProof::Unattested), record(KeyProof::Evidence(b"token".to_vec()))]),
        ("manifest", [false, true].map(|patched| sample::signed_manifest(patched).to_bytes()).to_vec()),
        (
            "endorsement",
            vec![
                sample::endorsement(0, sample::DOMAIN, 9).to_bytes(),
                sample::endorsement(1, Domain::NONE, 9).to_bytes(),
                nobodys(sample::endorsement_with_inbox(sample::DOMAIN, 9).to_bytes()),
            ],
        ),
        ("refusal", [false, true].map(|resolved| sample::signed_refusal(resolved).to_bytes()).to_vec()),
        ("submission", submissions.iter().map(Canonical::to_bytes).collect()),
        ("snapshot", vec![sample::first_snapshot().to_bytes()]),
        (
            "entry",
            vec![tagged(0, sample::inbound(1).to_bytes()), tagged(1, status.to_bytes()), vec![3, 0xa0]],
        ),
        (
            "body",
            vec![
                tagged(0, stored(Entry::Submission(submissions[0].clone()))),
                tagged(1, stored(Entry::Snapshot(sample::first_snapshot()))),
                tagged(3, stored(Entry::Status(status))),
            ],
        ),
        ("log_item", items.iter().map(Canonical::to_bytes).collect()),
        ("proof", proofs(&batches)?),
        ("receipts", vec![Receipts(receipts).to_bytes()]),
        ("json", vec![serde_json::to_vec(&Problem::new(Reason::Gap { expected }, "expected=`4`"))?]),
    ])
}

/// An endorsement with an s in the upper half, which is nobody's.
fn nobodys(mut endorsement: Vec<u8>) -> Vec<u8> {
    let s = endorsement.len() - 33..endorsement.len() - 1;
    let negated = sample::negated(&endorsement[s.clone()]);
    endorsement[s].copy_from_slice(&negated);
    endorsement
}

/// Proofs over the first batch, as the proof target reads them.
fn proofs(batches: &[Batch]) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let checkpoint = batches[0].checkpoint().clone();
    let (from, size) = (1.try_into()?, checkpoint.claim().size);
    let path = checkpoint.claim().frontier.peaks().to_vec();
    let inclusion = InclusionProof { sequence: from, size, path: path.clone() };
    let consistency = ConsistencyProof { from, size, path: path.clone() };
    Ok(vec![
        [vec![0], Proven { proof: inclusion, checkpoint: checkpoint.clone() }.to_bytes()].concat(),
        [vec![1], Proven { proof: consistency, checkpoint }.to_bytes()].concat(),
        [vec![2], Leaves(path).to_bytes()].concat(),
    ])
}

/// The entries of the sample log as the fold target reads them.
fn fold(log: &[(Tip, Batch)]) -> Vec<u8> {
    let mut input = Vec::new();
    for message in log.iter().flat_map(|(_, batch)| batch.messages()) {
        let kind = message.receipt.header().message_type;
        let body = Body::read(kind, message.body.clone(), BODY_BYTES_MAX).expect("it was just made");
        let (code, content) = match body.entry() {
            Entry::Submission(value) => (0, value.to_bytes()),
            Entry::Snapshot(value) => (1, value.to_bytes()),
            Entry::Inbound(value) => (2, value.to_bytes()),
            Entry::Status(value) => (3, value.to_bytes()),
            Entry::Epoch(_) => continue,
        };
        input.push(code);
        input.extend(u16::try_from(content.len()).expect("samples are small").to_be_bytes());
        input.extend(content);
    }
    input
}
