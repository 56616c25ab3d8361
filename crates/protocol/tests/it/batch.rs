//! Batches: only what every check accepts becomes a `VerifiedBatch`.

use synddb_protocol::hash::CommitDigest;
use synddb_protocol::id::{Epoch, Sequence, StreamId, Timestamp};
use synddb_protocol::limits::{BATCH_MESSAGES_MAX, RECEIPT_BYTES_MAX};
use synddb_protocol::log::{
    Batch, BatchError, Entry, LogError, Message, MessageError, MessageHeader, Receipt, SignedCheckpoint,
    Status, StatusLevel, Tip,
};
use synddb_protocol::signing::{SignatureError, TrustedKeys};
use synddb_protocol::submission::{Changes, Submission};

use crate::sample::{self, Leader};

#[test]
fn only_a_verified_batch_moves_the_tip() {
    let (keys, log) = sample::log();
    let mut tip = log[0].0.clone();
    for (before, batch) in log {
        assert_eq!(tip, before);
        let stored = batch.to_stored().unwrap();
        let verified = Batch::from_stored(&stored).unwrap().verify(&keys, &tip).unwrap();
        assert_eq!(verified.checkpoint().claim().size, batch.last());
        tip = verified.tip().clone();
    }
    assert_eq!(tip.last(), Some(Sequence::new(8).unwrap()));
    assert_eq!(tip.client().unwrap().next.get(), 6);
}

#[test]
fn a_log_can_be_joined_at_any_checkpoint() {
    let (keys, log) = sample::log();
    let first = log[0].1.clone().verify(&keys, &log[0].0).unwrap();
    let joined = Tip::at(first.checkpoint());
    assert_eq!(joined, *first.tip());
    assert!(log[1].1.clone().verify(&keys, &joined).is_ok());
}

#[test]
fn a_batch_of_unknown_keys_is_refused() {
    let (_, log) = sample::log();
    let (tip, batch) = &log[0];
    let other = TrustedKeys::pinned([*sample::key(8).verifying_key()]);
    assert!(matches!(
        batch.clone().verify(&other, tip),
        Err(BatchError::CheckpointSignature(SignatureError::UntrustedKey { .. }))
    ));
}

#[test]
fn a_batch_out_of_place_is_refused() {
    let (keys, log) = sample::log();
    let (start, first) = &log[0];
    let (_, second) = &log[1];
    let skipped = second.clone().verify(&keys, start);
    assert!(matches!(skipped, Err(BatchError::Log { source: LogError::Sequence { .. }, .. })));
    let again = first.clone().verify(&keys, &log[1].0);
    assert!(matches!(again, Err(BatchError::Log { source: LogError::Sequence { .. }, .. })));
    let elsewhere = Tip::start(StreamId::from_bytes([1; 32]));
    let foreign = first.clone().verify(&keys, &elsewhere);
    assert!(matches!(foreign, Err(BatchError::Message { source: MessageError::ForeignStream { .. }, .. })));
}

#[test]
fn a_body_that_was_not_signed_is_refused() {
    let (keys, log) = sample::log();
    let (tip, batch) = &log[0];
    let mut messages = batch.messages().to_vec();
    messages[2].body = Entry::Changeset(sample::commits(1, CommitDigest::from_bytes([0; 32]), 1)).to_body();
    let forged = Batch::new(messages, batch.checkpoint().clone()).unwrap();
    assert!(matches!(
        forged.verify(&keys, tip),
        Err(BatchError::Message { source: MessageError::BodyMismatch { .. }, .. })
    ));
}

#[test]
fn a_checkpoint_of_another_log_is_refused() {
    let (keys, log) = sample::log();
    let (tip, batch) = &log[0];
    // The same leader signs another history of the same size.
    let mut fork = Leader::begin(1, sample::key(7), tip.clone());
    fork.push(&Entry::Status(Status { level: StatusLevel::Halted, reason: String::new() }));
    fork.push(&Entry::Inbound(sample::inbound(1)));
    let forked = fork.cut().checkpoint().clone();
    let mixed = Batch::new(batch.messages().to_vec(), forked).unwrap();
    assert!(matches!(
        mixed.verify(&keys, tip),
        Err(BatchError::Checkpoint(LogError::Checkpoint { field: "root" }))
    ));
}

#[test]
fn a_checkpoint_may_count_only_inbound_messages_there_are_and_never_fewer_than_before() {
    let (keys, log) = sample::log();
    let (before, batch) = &log[1];
    let after = batch.clone().verify(&keys, before).unwrap();
    let sign = |consumed| {
        let checkpoint = after.tip().checkpoint(Epoch::FIRST, consumed).unwrap().sign(&sample::key(7));
        Batch::new(batch.messages().to_vec(), checkpoint).unwrap().verify(&keys, before)
    };
    assert!(matches!(sign(2), Err(BatchError::Checkpoint(LogError::Checkpoint { field: "inbox consumed" }))));
    let consumed = sign(1).unwrap();
    let mut leader = Leader { pending: vec![], ..leader_at(consumed.tip().clone()) };
    leader.push(&Entry::Status(Status { level: StatusLevel::Healthy, reason: String::new() }));
    let fewer = leader.tip.checkpoint(Epoch::FIRST, 0).unwrap().sign(&leader.key);
    let batch = Batch::new(std::mem::take(&mut leader.pending), fewer).unwrap();
    assert!(matches!(
        batch.verify(&keys, consumed.tip()),
        Err(BatchError::Checkpoint(LogError::Checkpoint { field: "inbox consumed" }))
    ));
}

fn leader_at(tip: Tip) -> Leader {
    Leader { key: sample::key(7), epoch: Epoch::FIRST, tip, pending: Vec::new() }
}

#[test]
fn every_claim_of_a_checkpoint_is_compared() {
    let (keys, log) = sample::log();
    let (before, batch) = &log[1];
    let honest = batch.checkpoint().claim().clone();
    let mut lies: Vec<(&str, SignedCheckpoint)> = Vec::new();
    let mut lie = |field, change: &dyn Fn(&mut synddb_protocol::log::Checkpoint)| {
        let mut claim = honest.clone();
        change(&mut claim);
        lies.push((field, claim.sign(&sample::key(7))));
    };
    lie("client", &|claim| claim.client = None);
    lie("client", &|claim| claim.client.as_mut().unwrap().state = sample::state(99));
    lie("next inbound nonce", &|claim| claim.next_inbound = claim.next_inbound.next().unwrap());
    lie("status", &|claim| claim.status = StatusLevel::Halted);
    lie("last leader", &|claim| claim.last_leader.key = sample::key(8).id());
    lie("stream", &|claim| claim.stream = StreamId::from_bytes([1; 32]));
    for (field, checkpoint) in lies {
        let lying = Batch::new(batch.messages().to_vec(), checkpoint).unwrap();
        let Err(BatchError::Checkpoint(LogError::Checkpoint { field: found })) = lying.verify(&keys, before)
        else {
            panic!("{field}: not refused as a false checkpoint");
        };
        assert_eq!(found, field);
    }
}

#[test]
fn a_batch_that_readers_would_refuse_cannot_be_made() {
    let (_, log) = sample::log();
    let (_, batch) = &log[0];
    let checkpoint = batch.checkpoint().clone();
    let messages = batch.messages().to_vec();
    assert!(Batch::new(vec![], checkpoint.clone()).is_err());
    assert!(Batch::new(messages[..2].to_vec(), checkpoint.clone()).is_err());
    assert!(Batch::new(vec![messages[0].clone(), messages[2].clone()], checkpoint.clone()).is_err());
    let many = vec![messages[0].clone(); BATCH_MESSAGES_MAX + 1];
    assert!(Batch::new(many, checkpoint).is_err());
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let (keys, log) = sample::log();
    let (tip, batch) = &log[0];
    let message = batch.messages()[2].clone();
    assert!(message.clone().verify(tip.stream(), &keys, 10).is_err(), "the room left in a batch is a bound");
    assert!(message.verify(tip.stream(), &keys, usize::MAX).is_ok());
}

#[test]
fn a_receipt_is_small_whatever_the_submission() {
    let rows: Vec<u8> =
        (0..8u64 << 17).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect();
    // Incompressible rows of nearly 8 MiB, as large as a body may be.
    let changes = Changes { rows: rows[..(8 << 20) - 4096].to_vec(), ..Changes::default() };
    let mut submission = sample::commits(1, CommitDigest::from_bytes([0; 32]), 1);
    let synddb_protocol::submission::Content::Commits { commits, .. } = &submission.content else { panic!() };
    let commit = synddb_protocol::submission::Commit { changes, ..commits.first().clone() };
    submission.content = synddb_protocol::submission::Content::Commits {
        commits: synddb_protocol::submission::Commits::new(vec![commit]).unwrap(),
        state: sample::state(2),
    };
    let body = submission.to_body();
    assert!(body.len() > (8 << 20) - 8192, "{}", body.len());
    let header = MessageHeader {
        stream: sample::stream(),
        epoch: Epoch::new(Epoch::MAX).unwrap(),
        sequence: Sequence::new(Sequence::MAX).unwrap(),
        timestamp: Timestamp::from_ms((1 << 53) - 1).unwrap(),
        message_type: synddb_protocol::log::MessageType::Changeset,
    };
    let message = Message::sign(header, body.clone(), &sample::key(7));
    let receipt = message.receipt.to_bytes();
    println!("receipt of a {} byte body: {} bytes", body.len(), receipt.len());
    assert!(receipt.len() <= RECEIPT_BYTES_MAX);
    assert_eq!(Receipt::from_bytes(&receipt).unwrap(), message.receipt);
    assert_eq!(Submission::from_body(&body).unwrap(), submission);
    let keys = TrustedKeys::pinned([*sample::key(7).verifying_key()]);
    assert!(message.verify(sample::stream(), &keys, usize::MAX).is_ok());
}
