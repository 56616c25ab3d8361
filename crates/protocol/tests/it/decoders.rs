//! Every decoder that reads bytes from outside, with the promises it keeps for all input.
//!
//! The fuzz targets run these without end, the test in `corpus` runs them over the kept inputs: none may
//! panic, and what is accepted must encode to the very bytes that were read.

use synddb_protocol::Canonical;
use synddb_protocol::http::{Problem, Receipts, StreamStatus};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{
    Batch, Entry, EpochStart, Inbound, KeyProof, MessageType, Receipt, SignedCheckpoint, SignedEpochRecord,
    Status,
};
use synddb_protocol::signing::TrustedKeys;
use synddb_protocol::submission::{Snapshot, Submission};

/// Reads input as one kind of thing; says whether it was accepted.
pub(crate) type Decoder = fn(&[u8]) -> bool;

/// The decoders by the name of their fuzz target.
pub(crate) const DECODERS: [(&str, Decoder); 11] = [
    ("batch", batch),
    ("batch_stored", batch_stored),
    ("receipt", receipt),
    ("checkpoint", checkpoint),
    ("epoch_record", epoch_record),
    ("submission", submission),
    ("snapshot", snapshot),
    ("entry", entry),
    ("body", body),
    ("receipts", receipts),
    ("json", json),
];

fn canonical<T: Canonical>(bytes: &[u8]) -> bool {
    T::from_bytes(bytes).map(|value| assert_eq!(value.to_bytes(), bytes)).is_ok()
}

fn batch(bytes: &[u8]) -> bool {
    let Ok(batch) = Batch::from_cbor(bytes) else { return false };
    assert_eq!(batch.to_cbor(), bytes);
    // Nothing is trusted, so nothing may be accepted, whatever the fuzzer made.
    let tip = synddb_protocol::log::Tip::start(batch.checkpoint().claim().stream);
    assert!(batch.verify(&TrustedKeys::default(), &tip).is_err());
    true
}

fn batch_stored(bytes: &[u8]) -> bool {
    Batch::from_stored(bytes).map(|batch| batch.to_stored().expect("it was read within the limits")).is_ok()
}

fn receipt(bytes: &[u8]) -> bool {
    let Ok(receipt) = Receipt::from_bytes(bytes) else { return false };
    assert_eq!(receipt.to_bytes(), bytes);
    if let Ok(key) = receipt.recover() {
        assert_eq!(key.id(), receipt.key());
        assert!(receipt.verify(&TrustedKeys::pinned([key])).is_ok());
    }
    true
}

fn checkpoint(bytes: &[u8]) -> bool {
    let Ok(checkpoint) = SignedCheckpoint::from_bytes(bytes) else { return false };
    assert_eq!(checkpoint.to_bytes(), bytes);
    true
}

fn epoch_record(bytes: &[u8]) -> bool {
    let Ok(record) = SignedEpochRecord::from_bytes(bytes) else { return false };
    assert_eq!(record.to_bytes(), bytes);
    true
}

fn submission(bytes: &[u8]) -> bool {
    canonical::<Submission>(bytes)
}

fn snapshot(bytes: &[u8]) -> bool {
    canonical::<Snapshot>(bytes)
}

fn entry(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    match kind {
        0 => canonical::<Inbound>(bytes),
        1 => canonical::<Status>(bytes),
        2 => canonical::<EpochStart>(bytes),
        _ => canonical::<KeyProof>(bytes),
    }
}

fn body(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    let kinds = [
        MessageType::Changeset,
        MessageType::Snapshot,
        MessageType::Inbound,
        MessageType::Status,
        MessageType::Epoch,
    ];
    let kind = kinds[usize::from(*kind) % kinds.len()];
    let Ok((entry, size)) = Entry::from_body(kind, bytes, BODY_BYTES_MAX) else { return false };
    assert_eq!(entry.message_type(), kind);
    let again = Entry::from_body(kind, &entry.to_body(), size).expect("what was read can be written");
    assert_eq!(again, (entry, size));
    true
}

fn receipts(bytes: &[u8]) -> bool {
    canonical::<Receipts>(bytes)
}

fn json(bytes: &[u8]) -> bool {
    let problem = serde_json::from_slice::<Problem>(bytes).map(|problem| {
        let again = serde_json::to_vec(&problem).expect("a problem is JSON");
        assert_eq!(serde_json::from_slice::<Problem>(&again).expect("what was written reads"), problem);
    });
    let status = serde_json::from_slice::<StreamStatus>(bytes).map(|status| {
        let again = serde_json::to_vec(&status).expect("a status is JSON");
        assert_eq!(serde_json::from_slice::<StreamStatus>(&again).expect("what was written reads"), status);
    });
    problem.is_ok() || status.is_ok()
}
