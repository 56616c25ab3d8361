//! Batches: only what every check accepts becomes a `VerifiedBatch`.

use synddb_protocol::DecodeError;
use synddb_protocol::hash::{CommitDigest, TreeHash};
use synddb_protocol::id::{CommitNumber, Epoch, PartIndex, Sequence, StreamId, Timestamp};
use synddb_protocol::limits::{
    BATCH_BODIES_MAX, BATCH_MESSAGES_MAX, BODY_BYTES_MAX, REASON_BYTES_MAX, RECEIPT_BYTES_MAX,
    SCHEMA_CHANGES_MAX,
};
use synddb_protocol::log::{
    Batch, BatchError, Body, Checkpoint, Entry, Frontier, Leaders, LogError, Message, MessageError,
    MessageHeader, MessageType, OpenGroup, Receipt, Status, StatusLevel, Tip,
};
use synddb_protocol::signing::{SignatureError, TrustedKeys};
use synddb_protocol::submission::{
    Changes, Commit, CommitKind, Commits, Content, ObjectKind, SchemaChange, Submission,
};

use crate::sample::{self, Leader};

#[test]
fn a_log_verifies_batch_by_batch() {
    let (leaders, log) = sample::log();
    let mut tip = log[0].0.clone();
    for (before, batch) in log {
        assert_eq!(tip, before);
        let stored = batch.to_stored().unwrap();
        let verified = Batch::from_stored(&stored).unwrap().verify(&leaders, &tip).unwrap();
        assert_eq!(verified.checkpoint().claim().size, batch.last());
        tip = verified.tip().clone();
    }
    assert_eq!(tip.last(), Some(Sequence::new(8).unwrap()));
    assert_eq!(tip.client().unwrap().next.get(), 6);
}

#[test]
fn a_log_can_be_joined_at_any_checkpoint() {
    let (leaders, log) = sample::log();
    let first = log[0].1.clone().verify(&leaders, &log[0].0).unwrap();
    let joined = Tip::trusting(first.checkpoint()).unwrap();
    assert_eq!(joined, *first.tip());
    assert!(log[1].1.clone().verify(&leaders, &joined).is_ok());
}

#[test]
fn a_batch_of_unknown_keys_is_refused() {
    let (_, log) = sample::log();
    let (tip, batch) = &log[0];
    let other = sample::leaders([&sample::record(1, &sample::key(8))], [&sample::key(8)]);
    let nobody = Leaders::new(sample::stream(), TrustedKeys::default());
    assert!(matches!(
        batch.clone().verify(&nobody, tip),
        Err(BatchError::CheckpointSignature(SignatureError::UnknownEpoch { .. }))
    ));
    assert!(matches!(
        batch.clone().verify(&other, tip),
        Err(BatchError::CheckpointSignature(SignatureError::UntrustedKey { .. }))
    ));
}

#[test]
fn a_batch_out_of_place_is_refused() {
    let (leaders, log) = sample::log();
    let (start, first) = &log[0];
    let (_, second) = &log[1];
    let skipped = second.clone().verify(&leaders, start);
    assert!(matches!(skipped, Err(BatchError::Log { source: LogError::Sequence { .. }, .. })));
    let again = first.clone().verify(&leaders, &log[1].0);
    assert!(matches!(again, Err(BatchError::Log { source: LogError::Sequence { .. }, .. })));
    let elsewhere = Tip::start(StreamId::from_bytes([1; 32]));
    let foreign = first.clone().verify(&leaders, &elsewhere);
    assert!(matches!(foreign, Err(BatchError::Log { source: LogError::ForeignStream { .. }, .. })));
    let abroad = Leaders::new(StreamId::from_bytes([1; 32]), TrustedKeys::default());
    assert!(matches!(
        first.clone().verify(&abroad, start),
        Err(BatchError::CheckpointSignature(SignatureError::ForeignStream { .. }))
    ));
}

#[test]
fn a_body_that_was_not_signed_is_refused() {
    let (leaders, log) = sample::log();
    let (tip, batch) = &log[0];
    let mut messages = batch.messages().to_vec();
    let other = Entry::Submission(sample::commits(1, CommitDigest::from_bytes([0; 32]), 1));
    messages[2].body = sample::body(&other).into_stored();
    let forged = Batch::new(messages, batch.checkpoint().clone()).unwrap();
    assert!(matches!(
        forged.verify(&leaders, tip),
        Err(BatchError::Message { source: MessageError::BodyMismatch { .. }, .. })
    ));
}

#[test]
fn a_checkpoint_of_another_log_is_refused() {
    let (leaders, log) = sample::log();
    let (tip, batch) = &log[0];
    // The same leader signs another history of the same size.
    let mut fork = Leader::begin(1, sample::key(7), tip.clone());
    fork.push(&Entry::Status(Status { level: StatusLevel::Halted, reason: String::new() }));
    fork.push(&Entry::Inbound(sample::inbound(1)));
    let forked = fork.cut().checkpoint().clone();
    let mixed = Batch::new(batch.messages().to_vec(), forked).unwrap();
    assert!(matches!(
        mixed.verify(&leaders, tip),
        Err(BatchError::Checkpoint(LogError::Checkpoint { field: "root" }))
    ));
}

#[test]
fn a_checkpoint_may_count_only_inbound_messages_there_are_and_never_fewer_than_before() {
    let (leaders, log) = sample::log();
    let (before, batch) = &log[1];
    let after = batch.clone().verify(&leaders, before).unwrap();
    let key = sample::key(7);
    let sign = |consumed| after.tip().checkpoint(Epoch::FIRST, consumed).unwrap().sign(&key);
    assert!(sign(2).is_err(), "there is one inbound message");
    let consumed = Batch::new(batch.messages().to_vec(), sign(1).unwrap()).unwrap();
    let tip = consumed.verify(&leaders, before).unwrap().tip().clone();

    let mut leader = Leader { key, epoch: Epoch::FIRST, tip: tip.clone(), pending: Vec::new() };
    leader.push(&Entry::Status(Status { level: StatusLevel::Healthy, reason: String::new() }));
    let fewer = leader.tip.checkpoint(Epoch::FIRST, 0).unwrap().sign(&leader.key).unwrap();
    let batch = Batch::new(std::mem::take(&mut leader.pending), fewer).unwrap();
    assert!(matches!(
        batch.verify(&leaders, &tip),
        Err(BatchError::Checkpoint(LogError::Checkpoint { field: "inbox consumed" }))
    ));
}

#[test]
fn every_claim_of_a_checkpoint_is_compared() {
    let (leaders, log) = sample::log();
    let (before, batch) = &log[1];
    let honest = batch.checkpoint().claim().clone();
    type Lie = fn(&mut Checkpoint);
    let lies: [(&str, Lie); 13] = [
        ("root", |claim| {
            let mut peaks = claim.frontier.peaks().to_vec();
            peaks[0] = TreeHash::from_bytes([9; 32]);
            claim.frontier = Frontier::new(claim.frontier.size(), peaks).unwrap();
        }),
        ("client", |claim| claim.client = None),
        ("client", |claim| claim.client.as_mut().unwrap().state = sample::state(99)),
        ("client", |claim| claim.client.as_mut().unwrap().next = CommitNumber::FIRST),
        ("client", |claim| claim.client.as_mut().unwrap().last = CommitDigest::from_bytes([9; 32])),
        ("client", |claim| claim.client.as_mut().unwrap().incarnation = sample::incarnation(2)),
        ("client", |claim| {
            let next = PartIndex::new(1).unwrap();
            let group = OpenGroup { next, kind: CommitKind::Transaction, bytes: 1 };
            claim.client.as_mut().unwrap().group = Some(group);
        }),
        ("inbound", |claim| claim.inbound = None),
        ("inbound", |claim| claim.inbound.as_mut().unwrap().chain_id = 1),
        ("inbound", |claim| {
            let inbound = claim.inbound.as_mut().unwrap();
            inbound.next = inbound.next.next().unwrap();
        }),
        ("status", |claim| claim.status = StatusLevel::Halted),
        ("versions", |claim| claim.versions.apply = 99),
        ("last leader", |claim| {
            claim.epoch = Epoch::new(2).unwrap();
            claim.last_leader.key = sample::key(8).id();
        }),
    ];
    let key = sample::key(7);
    let second = [sample::record(1, &key), sample::record(2, &key)];
    let leaders = [leaders, sample::leaders(&second, [&key])];
    for (field, lie) in lies {
        let mut claim = honest.clone();
        lie(&mut claim);
        let leaders = &leaders[usize::from(claim.epoch != Epoch::FIRST)];
        let lying = Batch::new(batch.messages().to_vec(), claim.sign(&key).unwrap()).unwrap();
        match lying.verify(leaders, before) {
            Err(BatchError::Checkpoint(LogError::Checkpoint { field: found })) => assert_eq!(found, field),
            other => panic!("{field}: not refused as a false checkpoint: {:?}", other.err()),
        }
    }
    // The timestamp, size and epoch are refused before: by the batch around it, and by its own key.
    let mut late = honest.clone();
    late.timestamp = Timestamp::from_ms(late.timestamp.as_ms() + 1).unwrap();
    assert!(Batch::new(batch.messages().to_vec(), late.sign(&key).unwrap()).is_err());
    let mut foreign = honest;
    foreign.last_leader.key = sample::key(8).id();
    assert!(foreign.sign(&key).is_err(), "one key signs one epoch");
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

/// A submission of one commit with these changes.
fn with_changes(changes: Changes) -> Submission {
    let number = CommitNumber::FIRST;
    let prev = sample::first_snapshot().digest();
    let commit = Commit { number, prev, kind: CommitKind::Transaction, changes, state: sample::claim(2) };
    sample::submission(Content::Commits(Commits::new(vec![commit]).unwrap()))
}

fn with_rows(rows: Vec<u8>) -> Submission {
    with_changes(Changes { rows, ..Changes::default() })
}

#[test]
fn bodies_that_open_to_too_much_make_no_batch() {
    // Each body is a few kilobytes in the store and nearly 32 MiB opened.
    let submission = Entry::Submission(with_rows(vec![0; BODY_BYTES_MAX - 1024]));
    let body = sample::body(&submission);
    assert!(body.as_stored().len() < 16 << 10);
    let (_, log) = sample::log();
    let checkpoint = |size| {
        let mut frontier = Frontier::default();
        (0..size).for_each(|_| frontier.push(TreeHash::from_bytes([1; 32])));
        let mut claim = log[0].1.checkpoint().claim().clone();
        (claim.size, claim.frontier) = (Sequence::new(size).unwrap(), frontier);
        claim.sign(&sample::key(7)).unwrap()
    };
    let batch = |size: u64| {
        let timestamp = log[0].1.checkpoint().claim().timestamp;
        let message = |sequence| {
            let sequence = Sequence::new(sequence).unwrap();
            let header = *log[0].1.messages()[2].receipt.header();
            Message::sign(MessageHeader { sequence, timestamp, ..header }, body.clone(), &sample::key(7))
        };
        Batch::new((1..=size).map(message).collect(), checkpoint(size))
    };
    let fit = (BATCH_BODIES_MAX / body.content_bytes()) as u64;
    assert!(batch(fit).is_ok());
    assert!(matches!(batch(fit + 1), Err(DecodeError::OverLimit { what: "bodies of a batch", .. })));
    let message = batch(1).unwrap().messages()[0].clone();
    let (leaders, _) = sample::log();
    let room = body.content_bytes();
    assert!(message.clone().verify(&leaders, room).is_ok());
    assert!(matches!(
        message.verify(&leaders, room - 1),
        Err(MessageError::Decode(DecodeError::OverLimit { .. }))
    ));
}

#[test]
fn a_small_body_cannot_take_much_memory() {
    let change = SchemaChange::Drop { kind: ObjectKind::Index, name: Vec::new() };
    let changes = |count| Changes { schema: vec![change.clone(); count], ..Changes::default() };
    assert!(Body::of(&Entry::Submission(with_changes(changes(SCHEMA_CHANGES_MAX)))).is_ok());
    let over = Body::of(&Entry::Submission(with_changes(changes(SCHEMA_CHANGES_MAX + 1))));
    assert!(matches!(over, Err(DecodeError::OverLimit { .. })));
    // Nor by spreading them over commits.
    let mut commits = sample::commits(1, sample::first_snapshot().digest(), 2);
    let Content::Commits(list) = &commits.content else { panic!("it has commits") };
    let mut list = list.as_slice().to_vec();
    list[0].changes = changes(SCHEMA_CHANGES_MAX);
    list[1].changes = changes(1);
    list[1].prev = list[0].digest();
    commits.content = Content::Commits(Commits::new(list).unwrap());
    assert!(matches!(Body::of(&Entry::Submission(commits)), Err(DecodeError::OverLimit { .. })));
}

#[test]
fn what_no_reader_opens_cannot_be_signed() {
    let reason = "x".repeat(REASON_BYTES_MAX + 1);
    assert!(Body::of(&Entry::Status(Status { level: StatusLevel::Halted, reason })).is_err());
    let (_, log) = sample::log();
    let mut claim = log[0].1.checkpoint().claim().clone();
    claim.size = claim.size.next().unwrap();
    assert!(claim.sign(&sample::key(7)).is_err());
}

#[test]
fn a_newer_batch_asks_for_an_upgrade() {
    let (_, log) = sample::log();
    let mut newer = log[0].1.to_cbor();
    *newer.last_mut().unwrap() = 3;
    assert!(matches!(Batch::from_cbor(&newer), Err(DecodeError::UpgradeRequired { found: 3, .. })));
}

#[test]
fn a_receipt_is_small_whatever_the_submission() {
    let rows = (0u64..1 << 20).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    // Incompressible rows of nearly 8 MiB: as large as a body may be.
    let submission = with_rows(rows.take((8 << 20) - 4096).collect());
    let body = sample::body(&Entry::Submission(submission));
    let size = body.as_stored().len();
    assert!(size > (8 << 20) - 8192, "{size}");
    let header = MessageHeader {
        stream: sample::stream(),
        epoch: Epoch::new(Epoch::MAX).unwrap(),
        sequence: Sequence::new(Sequence::MAX).unwrap(),
        timestamp: Timestamp::from_ms((1 << 53) - 1).unwrap(),
        message_type: MessageType::Submission,
    };
    let key = sample::key(7);
    let message = Message::sign(header, body, &key);
    let receipt = message.receipt.to_bytes();
    println!("receipt of a {size} byte body: {} bytes", receipt.len());
    assert!(receipt.len() <= RECEIPT_BYTES_MAX);
    assert_eq!(Receipt::from_bytes(&receipt).unwrap(), message.receipt);
    let leaders = sample::leaders([&sample::record(Epoch::MAX, &key)], [&key]);
    assert!(message.verify(&leaders, usize::MAX).is_ok());
}
