//! Every decoder that reads bytes from outside, with the promises it keeps for all input.
//!
//! The fuzz targets run these without end, the test in `corpus` runs them over the kept inputs: none may
//! panic, and what is accepted must encode to the very bytes that were read.

use synddb_protocol::Canonical;
use synddb_protocol::http::{ConsistencyProof, InclusionProof, Problem, Receipts, StreamStatus};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{
    Batch, Body, Entry, EpochStart, Inbound, KeyProof, Leaders, MessageType, Receipt, SignedCheckpoint,
    SignedEpochRecord, Status, Tip,
};
use synddb_protocol::signing::TrustedKeys;
use synddb_protocol::submission::{Snapshot, Submission};

use crate::sample;

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

/// Besides reading, the keys that the input itself names are trusted, so that the fuzzer also reaches
/// what a signer that is trusted can do: the fold over messages.
fn batch(bytes: &[u8]) -> bool {
    let Ok(batch) = Batch::from_cbor(bytes) else { return false };
    assert_eq!(batch.to_cbor(), bytes);
    let stream = batch.checkpoint().claim().stream;
    let tip = Tip::start(stream);
    let nobody = Leaders::new(stream, TrustedKeys::default());
    assert!(batch.clone().verify(&nobody, &tip).is_err(), "a reader that trusts nobody accepts nothing");
    fold(&batch);
    true
}

/// Runs the entries of a batch through the fold, under a leader of our own, whatever their signatures.
fn fold(batch: &Batch) {
    let mut leader = sample::Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
    for message in batch.messages() {
        let message_type = message.receipt.header().message_type;
        let Ok((body, mut entry)) = Body::read(message_type, message.body.clone(), 1 << 20) else { return };
        assert_eq!(body.as_stored(), message.body);
        match &mut entry {
            Entry::Submission(submission) => submission.stream = sample::stream(),
            Entry::Snapshot(snapshot) => snapshot.stream = sample::stream(),
            Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => {}
        }
        let before = leader.tip.clone();
        match leader.try_push(&entry) {
            Ok(()) => {
                assert_eq!(leader.tip.last().map(|last| last.get()), before.last().map(|last| last.get() + 1))
            }
            Err(_) => assert_eq!(leader.tip, before, "a refused message changes nothing"),
        }
    }
    let cut = leader.cut();
    let leaders = leader.leaders();
    let verified =
        cut.verify(&leaders, &Tip::start(sample::stream())).expect("what the fold took, a reader takes");
    assert_eq!(*verified.tip(), leader.tip);
}

fn batch_stored(bytes: &[u8]) -> bool {
    let Ok(batch) = Batch::from_stored(bytes) else { return false };
    let again = batch.to_stored().expect("it was read within the limits");
    assert_eq!(Batch::from_stored(&again).expect("what was written reads"), batch);
    true
}

fn receipt(bytes: &[u8]) -> bool {
    let Ok(receipt) = Receipt::from_bytes(bytes) else { return false };
    assert_eq!(receipt.to_bytes(), bytes);
    if let Ok(key) = receipt.recover() {
        assert_eq!(key.id(), receipt.key());
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
        MessageType::Submission,
        MessageType::Snapshot,
        MessageType::Inbound,
        MessageType::Status,
        MessageType::Epoch,
    ];
    let kind = kinds[usize::from(*kind) % kinds.len()];
    let Ok((body, entry)) = Body::read(kind, bytes.to_vec(), BODY_BYTES_MAX) else { return false };
    assert_eq!(entry.message_type(), kind);
    let again = Body::of(&entry).expect("what was read can be written");
    assert_eq!(again.content_bytes(), body.content_bytes());
    true
}

fn receipts(bytes: &[u8]) -> bool {
    canonical::<Receipts>(bytes)
}

fn json(bytes: &[u8]) -> bool {
    [
        json_round_trip::<Problem>(bytes),
        json_round_trip::<StreamStatus>(bytes),
        json_round_trip::<InclusionProof>(bytes),
        json_round_trip::<ConsistencyProof>(bytes),
    ]
    .contains(&true)
}

fn json_round_trip<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return false };
    let again = serde_json::to_vec(&value).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<T>(&again).expect("what was written reads"), value);
    true
}
