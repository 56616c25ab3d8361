//! Every decoder that reads bytes from outside, with the promises it keeps for all input.
//!
//! The fuzz targets run these without end, the test in `corpus` runs them over the kept inputs: none may
//! panic, and what is accepted must encode to the very bytes that were read.

use synddb_protocol::Canonical;
use synddb_protocol::http::{ConsistencyProof, InclusionProof, Problem, Receipts, StreamStatus};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::live::LogItem;
use synddb_protocol::log::{
    Batch, Body, Entry, EpochStart, Inbound, KeyProof, Leaders, MessageType, Quorum, Receipt,
    SignedCheckpoint, SignedEndorsement, SignedEpochRecord, SignedManifest, SignedRefusal, Status, Tip,
};
use synddb_protocol::proof::{Leaves, Proven};
use synddb_protocol::signing::{RegisteredSigner, TrustedKeys};
use synddb_protocol::submission::{Snapshot, Submission};

use crate::sample;

/// Reads input as one kind of thing; says whether it was accepted.
pub(crate) type Decoder = fn(&[u8]) -> bool;

/// The decoders by the name of their fuzz target.
pub(crate) const DECODERS: [(&str, Decoder); 17] = [
    ("batch", batch),
    ("fold", fold),
    ("batch_stored", batch_stored),
    ("receipt", receipt),
    ("checkpoint", checkpoint),
    ("epoch_record", epoch_record),
    ("manifest", manifest),
    ("endorsement", endorsement),
    ("refusal", refusal),
    ("submission", submission),
    ("snapshot", snapshot),
    ("entry", entry),
    ("body", body),
    ("receipts", receipts),
    ("log_item", log_item),
    ("proof", proof),
    ("json", json),
];

fn canonical<T: Canonical>(bytes: &[u8]) -> bool {
    T::from_bytes(bytes).map(|value| assert_eq!(value.to_bytes(), bytes)).is_ok()
}

fn batch(bytes: &[u8]) -> bool {
    let Ok(batch) = Batch::from_cbor(bytes) else { return false };
    assert_eq!(batch.to_cbor(), bytes);
    let stream = batch.checkpoint().claim().stream;
    let nobody = Leaders::new(stream, TrustedKeys::default());
    assert!(batch.verify(&nobody, &Tip::start(stream)).is_err(), "who trusts nobody accepts nothing");
    true
}

/// Most entries that one input of `fold` makes.
const FOLD_ENTRIES: usize = 16;

/// Runs entries through the fold under a leader of our own: input is a list of type, length (2 bytes) and
/// content. What the fold takes a reader must take, and what it refuses must change nothing.
fn fold(mut bytes: &[u8]) -> bool {
    let mut leader = sample::Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
    let mut taken = 0;
    for _ in 0..FOLD_ENTRIES {
        let [kind, high, low, rest @ ..] = bytes else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (content, rest) = rest.split_at(length);
        bytes = rest;
        let Some(mut entry) = read_entry(*kind, content) else { continue };
        match &mut entry {
            Entry::Submission(submission) => submission.stream = sample::stream(),
            Entry::Snapshot(snapshot) => snapshot.stream = sample::stream(),
            Entry::Epoch(start) => start.record = leader.record().hash(),
            Entry::Inbound(_) | Entry::Status(_) => {}
        }
        let before = leader.tip.clone();
        if leader.try_push(&entry).is_ok() {
            taken += 1;
        } else {
            assert_eq!(leader.tip, before, "a refused entry changes nothing");
        }
    }
    let cut = leader.cut();
    let verified = cut.verify(&leader.leaders(), &Tip::start(sample::stream()));
    assert_eq!(*verified.expect("what the fold took, a reader takes").tip(), leader.tip);
    taken > 0
}

fn read_entry(kind: u8, content: &[u8]) -> Option<Entry> {
    match kind {
        0 => Submission::from_bytes(content).map(Entry::Submission).ok(),
        1 => Snapshot::from_bytes(content).map(Entry::Snapshot).ok(),
        2 => Inbound::from_bytes(content).map(Entry::Inbound).ok(),
        3 => Status::from_bytes(content).map(Entry::Status).ok(),
        _ => EpochStart::from_bytes(content).map(Entry::Epoch).ok(),
    }
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

fn manifest(bytes: &[u8]) -> bool {
    let Ok(signed) = SignedManifest::from_bytes(bytes) else { return false };
    assert_eq!(signed.to_bytes(), bytes);
    // Written anew from what was read, it is the same but for the key and its signature.
    let key = sample::key(9);
    let again = signed.manifest().clone().sign(&key).expect("what was read can be signed");
    let mut again = again.to_bytes();
    let places =
        [again.windows(20).position(|part| part == key.id().as_bytes()), again.len().checked_sub(64)];
    for (at, length) in places.into_iter().zip([20, 64]) {
        let at = at.expect("it is signed");
        again[at..at + length].copy_from_slice(&bytes[at..at + length]);
    }
    assert_eq!(again, bytes);
    assert!(signed.manifest().state().is_some(), "it claims a state");
    true
}

fn endorsement(bytes: &[u8]) -> bool {
    let Ok(signed) = SignedEndorsement::from_bytes(bytes) else { return false };
    assert_eq!(signed.to_bytes(), bytes);
    assert_eq!(signed.endorsement().digest().unwrap(), *signed.digest());
    assert!(!matches!(signed.endorsement().proof, KeyProof::Evidence(_)));
    // Somebody signed it, or nobody: both are answers.
    let signer = signed.recover();
    let quorum = Quorum::new([sample::key(9).id()], 1).expect("one of one");
    let stream = signed.endorsement().stream();
    let gathered = quorum.gather(stream, signed.endorsement().domain, [signed]);
    assert_eq!(gathered.endorsed.len(), usize::from(signer == Some(sample::key(9).id())));
    true
}

fn refusal(bytes: &[u8]) -> bool {
    let Ok(signed) = SignedRefusal::from_bytes(bytes) else { return false };
    assert_eq!(signed.to_bytes(), bytes);
    let signer = RegisteredSigner::unattested(sample::key(9));
    let again = signed.refusal().clone().sign(&signer).expect("what was read can be signed");
    assert_eq!(again.refusal(), signed.refusal());
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
    let Ok(body) = Body::read(kind, bytes.to_vec(), BODY_BYTES_MAX) else { return false };
    assert_eq!(body.entry().message_type(), kind);
    let again = Body::of(body.entry()).expect("what was read can be written");
    assert_eq!(again.content_bytes(), body.content_bytes());
    true
}

fn receipts(bytes: &[u8]) -> bool {
    canonical::<Receipts>(bytes)
}

fn log_item(bytes: &[u8]) -> bool {
    canonical::<LogItem>(bytes)
}

fn proof(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    match kind {
        0 => canonical::<Proven<InclusionProof>>(bytes),
        1 => canonical::<Proven<ConsistencyProof>>(bytes),
        _ => canonical::<Leaves>(bytes),
    }
}

fn json(bytes: &[u8]) -> bool {
    [
        json_round_trip::<Problem>(bytes),
        json_round_trip::<StreamStatus>(bytes),
        json_round_trip::<InclusionProof>(bytes),
        json_round_trip::<ConsistencyProof>(bytes),
        json_round_trip::<Proven<InclusionProof>>(bytes),
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
