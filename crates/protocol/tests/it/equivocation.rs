//! Two signed contents for one place are proof; anything else is none.

use synddb_protocol::id::{Sequence, Timestamp};
use synddb_protocol::log::{
    Entry, Equivocation, MessageHeader, MessageType, NotEquivocation, Receipt, SignedCheckpoint, Status,
    StatusLevel, Tip,
};
use synddb_protocol::signing::{Kind, SignatureError};

use crate::sample::{self, Leader};

fn header() -> MessageHeader {
    MessageHeader {
        stream: sample::stream(),
        epoch: 3.try_into().unwrap(),
        sequence: 5.try_into().unwrap(),
        timestamp: Timestamp::from_ms(1000).unwrap(),
        message_type: MessageType::Status,
    }
}

#[test]
fn two_messages_for_one_sequence_are_proof() {
    let key = sample::key(7);
    let first = Receipt::sign(header(), b"one", &key);
    let other_body = Receipt::sign(header(), b"two", &key);
    let later = MessageHeader { timestamp: Timestamp::from_ms(1001).unwrap(), ..header() };
    let other_time = Receipt::sign(later, b"one", &key);
    for second in [other_body, other_time] {
        let proof = Equivocation::of_receipts(&first, &second).unwrap();
        assert_eq!((proof.key, proof.kind, proof.sequence), (key.id(), Kind::Message, header().sequence));
    }
}

#[test]
fn honest_receipts_are_no_proof() {
    let key = sample::key(7);
    let first = Receipt::sign(header(), b"one", &key);
    assert_eq!(Equivocation::of_receipts(&first, &first.clone()), Err(NotEquivocation::SameContent));
    let places = [
        MessageHeader { sequence: Sequence::new(6).unwrap(), ..header() },
        MessageHeader { epoch: 4.try_into().unwrap(), ..header() },
        MessageHeader { stream: synddb_protocol::id::StreamId::from_bytes([1; 32]), ..header() },
    ];
    for place in places {
        let second = Receipt::sign(place, b"two", &key);
        assert_eq!(Equivocation::of_receipts(&first, &second), Err(NotEquivocation::DifferentPlaces));
    }
    let second = Receipt::sign(header(), b"two", &sample::key(8));
    assert!(matches!(Equivocation::of_receipts(&first, &second), Err(NotEquivocation::DifferentKeys { .. })));
}

#[test]
fn a_forged_receipt_frames_nobody() {
    let victim = Receipt::sign(header(), b"one", &sample::key(7));
    let mut forged = Receipt::sign(header(), b"two", &sample::key(8)).to_bytes();
    let at = forged.windows(20).position(|bytes| bytes == sample::key(8).id().as_bytes()).unwrap();
    forged[at..at + 20].copy_from_slice(sample::key(7).id().as_bytes());
    let forged = Receipt::from_bytes(&forged).unwrap();
    assert!(matches!(
        Equivocation::of_receipts(&victim, &forged),
        Err(NotEquivocation::Signature(SignatureError::BadSignature { .. }))
    ));
}

#[test]
fn two_checkpoints_of_one_size_are_proof() {
    let checkpoint = |level: StatusLevel| -> SignedCheckpoint {
        let mut leader = Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
        leader.push(&Entry::Status(Status { level, reason: String::new() }));
        leader.cut().checkpoint().clone()
    };
    let (first, second) = (checkpoint(StatusLevel::Healthy), checkpoint(StatusLevel::Halted));
    let proof = Equivocation::of_checkpoints(&first, &second).unwrap();
    assert_eq!((proof.kind, proof.sequence.get()), (Kind::Checkpoint, 2));
    assert_eq!(
        Equivocation::of_checkpoints(&first, &checkpoint(StatusLevel::Healthy)),
        Err(NotEquivocation::SameContent)
    );
}
