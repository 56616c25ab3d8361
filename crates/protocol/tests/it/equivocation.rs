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

#[test]
fn nobody_else_can_make_a_second_signature_of_a_receipt() {
    let key = sample::key(7);
    let first = Receipt::sign(header(), b"one", &key);
    let bytes = first.to_bytes();
    let mut negated = bytes.clone();
    let (r, s) = (bytes.len() - 64, bytes.len() - 32);
    negated[s..].copy_from_slice(&negate(&bytes[s..]));
    assert_eq!(bytes[r..s], negated[r..s]);
    let negated = Receipt::from_bytes(&negated).unwrap();
    assert!(matches!(
        Equivocation::of_receipts(&first, &negated),
        Err(NotEquivocation::Signature(SignatureError::BadSignature { .. }))
    ));
}

/// The order of secp256k1 minus `scalar`.
fn negate(scalar: &[u8]) -> [u8; 32] {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba,
        0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
    ];
    let mut result = [0; 32];
    let mut borrow = 0;
    for index in (0..32).rev() {
        let digit = i16::from(ORDER[index]) - i16::from(scalar[index]) - borrow;
        borrow = i16::from(digit < 0);
        result[index] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    result
}

#[test]
fn two_signatures_over_one_content_are_proof() {
    // They make two leaves, and so two logs that say the same: the nonce was not RFC 6979's.
    let key = sample::key(7);
    let first = Receipt::sign(header(), b"one", &key);
    let mut bytes = first.to_bytes();
    let signature = bytes.len() - 64;
    let protected = &bytes[2..4 + usize::from(bytes[3])];
    let payload = &bytes[signature - 2 - 34..signature - 2];
    let aad = b"synddb/message/v1";
    let signed = [&[0x84, 0x6a][..], b"Signature1", protected, &[0x51], aad, payload].concat();
    let hash = <sha2::Sha256 as sha2::Digest>::digest(&signed).into();
    let secret = secp256k1::SecretKey::from_secret_bytes([7; 32]).unwrap();
    let other =
        secp256k1::ecdsa::sign_with_noncedata(secp256k1::Message::from_digest(hash), &secret, &[1; 32]);
    bytes[signature..].copy_from_slice(&other.serialize_compact());
    let second = Receipt::from_bytes(&bytes).unwrap();
    assert_ne!(first.leaf(), second.leaf());
    assert_eq!(Equivocation::of_receipts(&first, &second).unwrap().key, key.id());
}
