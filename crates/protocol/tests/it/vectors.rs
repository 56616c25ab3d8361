//! The vectors in `spec/`, read as another language would read them.

use std::path::Path;

use serde_json::Value as Json;
use synddb_protocol::Canonical;
use synddb_protocol::hash::TreeHash;
use synddb_protocol::id::StreamId;
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::tree::{verify_consistency, verify_inclusion};
use synddb_protocol::log::{
    Batch, Entry, Equivocation, Receipt, SignedCheckpoint, SignedEpochRecord, Tip, tree::leaf_hash,
};
use synddb_protocol::signing::{TrustedKeys, VerifyingKey};
use synddb_protocol::submission::{Commit, Part, Snapshot, Submission};

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

#[test]
fn messages_read_and_verify() {
    let file = read("messages.json");
    let keys = keys(&file);
    for vector in list(&file["vectors"]) {
        let receipt = Receipt::from_bytes(&bytes(&vector["cose"])).unwrap();
        receipt.verify(&keys).unwrap();
        assert_eq!(receipt.header().sequence.get(), vector["sequence"]);
        assert_eq!(receipt.header().message_type.code(), vector["type"]);
        assert_eq!(receipt.leaf().to_string(), vector["leaf"]);
        if vector["body"].is_string() {
            let body = bytes(&vector["body"]);
            Entry::from_body(receipt.header().message_type, &body, BODY_BYTES_MAX).unwrap();
        }
    }
}

#[test]
fn checkpoints_and_epochs_read_and_verify() {
    let file = read("checkpoints.json");
    for vector in list(&file["vectors"]) {
        let checkpoint = SignedCheckpoint::from_bytes(&bytes(&vector["cose"])).unwrap();
        let verified = checkpoint.verify(&keys(&file)).unwrap();
        assert_eq!(verified.claim().root().to_string(), vector["root"]);
    }
    let file = read("epochs.json");
    for vector in list(&file["vectors"]) {
        let record = SignedEpochRecord::from_bytes(&bytes(&vector["cose"])).unwrap();
        assert_eq!(record.verify(&keys(&file)).unwrap().epoch.get(), vector["epoch"]);
        assert_eq!(record.hash().to_string(), vector["hash"]);
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
        tip = batch.verify(&keys(&file), &tip).unwrap().tip().clone();
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
