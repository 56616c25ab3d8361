//! Epochs and fencing, batch by batch: what a leader that was deposed still signs is worth nothing.

use synddb_protocol::DecodeError;
use synddb_protocol::id::Epoch;
use synddb_protocol::log::{
    AdmissionError, Batch, BatchError, Checkpoint, Entry, EpochStart, Leaders, LogError, Message,
    MessageError, MessageHeader, Tip, VerifiedBatch, Versions,
};
use synddb_protocol::signing::{SignatureError, SigningKey};

use super::sample::{self, Leader};

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

/// Key 7 led epoch 1 and was deposed by key 9, whose fence is message 4. Both are admitted.
fn deposed() -> (Leader, Leader, Leaders, VerifiedBatch) {
    let mut old = Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
    old.push(&Entry::Snapshot(sample::first_snapshot()));
    old.push(&Entry::Submission(sample::commits(1, old.last(), 1)));
    let records = [old.record(), sample::record(2, &sample::key(9))];
    let leaders = sample::leaders(&records, [&sample::key(7), &sample::key(9)]);
    let tip = old.cut().verify(&leaders, &Tip::start(sample::stream())).unwrap().tip().clone();
    let new = Leader::begin(2, sample::key(9), tip.clone());
    let fence = batch(&new, new.epoch, &new.key).verify(&leaders, &tip).unwrap();
    (old, new, leaders, fence)
}

/// Everything pending of a leader, under a checkpoint of this epoch and key.
fn batch(leader: &Leader, epoch: Epoch, key: &SigningKey) -> Batch {
    let checkpoint = leader.tip.checkpoint(epoch, 0).unwrap().sign(key).unwrap();
    Batch::new(leader.pending.clone(), checkpoint).unwrap()
}

#[test]
fn a_deposed_leaders_batch_is_refused_wherever_it_puts_it() {
    let (old, _, leaders, fence) = deposed();
    // At the place where the fence stands: it follows the old tip, and not the log.
    let mut beside =
        Leader { pending: Vec::new(), tip: old.tip.clone(), key: sample::key(7), epoch: old.epoch };
    beside.push(&Entry::Submission(sample::commits(2, beside.last(), 1)));
    let refused = batch(&beside, beside.epoch, &beside.key).verify(&leaders, fence.tip());
    assert!(matches!(refused, Err(BatchError::Log { source: LogError::Sequence { .. }, .. })), "{refused:?}");
    // Behind the fence: signed by hand, since the fold does not sign it.
    let entry = Entry::Submission(sample::commits(2, old.last(), 1));
    let refused = old_message_behind(&fence, &old, &entry).verify(&leaders, fence.tip());
    assert!(
        matches!(refused, Err(BatchError::Log { source: LogError::Epoch { found, .. }, .. }) if found == epoch(1)),
        "{refused:?}"
    );
}

/// A message of the old epoch behind the fence, in a batch that the new leader's key closes: the most that a deposed key could hope for.
fn old_message_behind(fence: &VerifiedBatch, old: &Leader, entry: &Entry) -> Batch {
    let sequence = fence.tip().next().unwrap();
    let header = MessageHeader { sequence, timestamp: fence.tip().timestamp(), ..old.header(entry) };
    let message = Message::sign(header, sample::body(entry), &old.key);
    let claim = fence.checkpoint().claim();
    let mut frontier = claim.frontier.clone();
    frontier.push(message.receipt.leaf());
    let claim = Checkpoint { size: sequence, frontier, ..claim.clone() };
    Batch::new(vec![message], claim.sign(&sample::key(9)).unwrap()).unwrap()
}

#[test]
fn an_epoch_message_of_an_earlier_epoch_is_refused() {
    let (old, _, leaders, fence) = deposed();
    let start = EpochStart { record: old.record().hash(), versions: Versions::SUPPORTED };
    let refused = old_message_behind(&fence, &old, &Entry::Epoch(start)).verify(&leaders, fence.tip());
    let Err(BatchError::Log { source: LogError::Epoch { last, found }, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((last, found), (Some(epoch(2)), epoch(1)));
}

#[test]
fn a_checkpoint_stands_at_or_above_the_epoch_of_its_last_message() {
    let (_, new, leaders, fence) = deposed();
    let lower = Checkpoint { epoch: epoch(1), ..fence.checkpoint().claim().clone() };
    assert!(matches!(lower.clone().sign(&sample::key(7)), Err(DecodeError::Invalid { .. })));
    // Under its own epoch another key says nothing.
    let other = Checkpoint { epoch: epoch(2), ..lower };
    assert!(matches!(other.sign(&sample::key(7)), Err(DecodeError::Invalid { .. })));
    // Above it is a restart's, and its key must have claimed that epoch.
    let above = batch(&new, epoch(3), &sample::key(9));
    let refused = above.verify(&leaders, fence.tip());
    assert!(
        matches!(refused, Err(BatchError::CheckpointSignature(SignatureError::UnknownEpoch { epoch: found })) if found == epoch(3)),
        "{refused:?}"
    );
}

#[test]
fn one_epoch_has_one_key_whoever_else_is_trusted() {
    let (_, new, mut leaders, fence) = deposed();
    let entry = Entry::Submission(sample::commits(2, new.last(), 1));
    let sequence = fence.tip().next().unwrap();
    // Key 7 is trusted, and led epoch 1. In epoch 2 it is nobody.
    let header = MessageHeader { sequence, ..new.header(&entry) };
    let message = Message::sign(header, sample::body(&entry), &sample::key(7));
    let refused = message.verify(&leaders, usize::MAX);
    assert!(
        matches!(refused, Err(MessageError::Signature(SignatureError::UntrustedKey { .. }))),
        "{refused:?}"
    );
    let second = sample::record(2, &sample::key(7));
    assert!(matches!(leaders.admit(&second), Err(AdmissionError::Contradiction { .. })));
}

#[test]
fn a_claim_counts_under_its_own_number_alone() {
    let (_, _, mut leaders, _) = deposed();
    // Whoever finds it under 3 passes 3: it does not admit its key there, and not in 4 before 3 was read.
    let fourth = sample::record(4, &sample::key(7));
    assert!(matches!(leaders.admit(&fourth), Err(AdmissionError::Gap { .. })));
    leaders.pass(epoch(3)).unwrap();
    leaders.admit(&fourth).unwrap();
    assert!(leaders.is_passed(epoch(3)) && leaders.leads(epoch(4), sample::key(7).id()));
}
