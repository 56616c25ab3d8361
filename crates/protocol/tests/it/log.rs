//! The fold over messages: what follows a log, and what does not.

use synddb_protocol::hash::CommitDigest;
use synddb_protocol::id::{Address, CommitNumber, Epoch, PartIndex, StreamId, Timestamp};
use synddb_protocol::log::{
    AdmissionError, Batch, BatchError, ContinuityError, Entry, EpochStart, Inbound, InboundError, Leaders,
    LogError, Message, MessageError, MessageHeader, Receipt, Status, StatusLevel, Tip, Versions,
};
use synddb_protocol::signing::{SignatureError, SigningKey, TrustedKeys};
use synddb_protocol::submission::{Content, Predecessor, Snapshot, SnapshotPlace};

use crate::sample::{self, Leader};

/// A leader whose stream has begun and has commits 1 to 3.
fn running() -> Leader {
    let mut leader = Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
    leader.push(&Entry::Snapshot(sample::first_snapshot()));
    leader.push(&Entry::Submission(sample::commits(1, leader.last(), 3)));
    leader
}

/// What the tip says to `entry` in the next place, signed by the leader as it is.
fn try_entry(leader: &Leader, entry: &Entry) -> Result<Tip, LogError> {
    try_header(leader, leader.header(entry), entry, &leader.key)
}

fn try_header(
    leader: &Leader,
    header: MessageHeader,
    entry: &Entry,
    key: &SigningKey,
) -> Result<Tip, LogError> {
    let leaders = sample::leaders([&sample::record(header.epoch.get(), key)], [key]);
    let message = Message::sign(header, sample::body(entry), key);
    leader.tip.after(&message.verify(&leaders, usize::MAX).unwrap())
}

/// The message that begins `epoch` for the leader with this key.
fn epoch_start(epoch: u64, key: &SigningKey, versions: Versions) -> Entry {
    Entry::Epoch(EpochStart { record: sample::record(epoch, key).hash(), versions })
}

fn continuity(result: Result<Tip, LogError>) -> ContinuityError {
    match result {
        Err(LogError::Continuity(error)) => error,
        other => panic!("expected a refusal for continuity: {other:?}"),
    }
}

#[test]
fn a_log_begins_with_an_epoch_and_a_stream_with_a_snapshot() {
    let empty = Leader { pending: vec![], tip: Tip::start(sample::stream()), ..running() };
    let status = Entry::Status(Status { level: StatusLevel::Healthy, reason: String::new() });
    assert!(matches!(try_entry(&empty, &status), Err(LogError::Epoch { last: None, .. })));
    let begun = Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
    let commits = Entry::Submission(sample::commits(1, sample::first_snapshot().digest(), 1));
    assert_eq!(continuity(try_entry(&begun, &commits)), ContinuityError::NotBegun);
    let second = Snapshot { incarnation: sample::incarnation(2), ..sample::first_snapshot() };
    assert!(matches!(
        continuity(try_entry(&begun, &Entry::Snapshot(second))),
        ContinuityError::NoSuccessor { .. }
    ));
}

#[test]
fn time_and_sequence_never_go_back() {
    let leader = running();
    let entry = Entry::Submission(sample::commits(4, leader.last(), 1));
    let header = leader.header(&entry);
    let early = MessageHeader { timestamp: Timestamp::ZERO, ..header };
    assert!(matches!(try_header(&leader, early, &entry, &leader.key), Err(LogError::Timestamp { .. })));
    let same_time = MessageHeader { timestamp: leader.tip.timestamp(), ..header };
    assert!(try_header(&leader, same_time, &entry, &leader.key).is_ok());
    for sequence in [header.sequence.previous().unwrap(), header.sequence.next().unwrap()] {
        let elsewhere = MessageHeader { sequence, ..header };
        assert!(matches!(
            try_header(&leader, elsewhere, &entry, &leader.key),
            Err(LogError::Sequence { .. })
        ));
    }
}

#[test]
fn an_epoch_rises_only_with_its_message_and_has_one_key() {
    let leader = running();
    let entry = Entry::Submission(sample::commits(4, leader.last(), 1));
    let header = leader.header(&entry);
    let later = MessageHeader { epoch: Epoch::new(2).unwrap(), ..header };
    assert!(matches!(try_header(&leader, later, &entry, &leader.key), Err(LogError::Epoch { .. })));
    let thief = sample::key(8);
    assert!(matches!(try_header(&leader, header, &entry, &thief), Err(LogError::Key { .. })));
    let start = epoch_start(1, &leader.key, Versions::SUPPORTED);
    let again = MessageHeader { message_type: start.message_type(), ..header };
    assert!(matches!(try_header(&leader, again, &start, &leader.key), Err(LogError::Epoch { .. })));

    let next = Leader::begin(2, thief, leader.tip.clone());
    assert_eq!(next.tip.last_leader().unwrap().key, next.key.id());
    let deposed =
        MessageHeader { sequence: next.tip.next().unwrap(), timestamp: next.tip.timestamp(), ..header };
    assert!(matches!(try_header(&next, deposed, &entry, &leader.key), Err(LogError::Epoch { .. })));
}

#[test]
fn newer_rules_ask_for_an_upgrade() {
    let leader = running();
    let supported = Versions::SUPPORTED;
    let newer = [
        Versions { protocol: supported.protocol + 1, ..supported },
        Versions { apply: supported.apply + 1, ..supported },
    ];
    for found in newer {
        let start = epoch_start(2, &leader.key, found);
        let header = MessageHeader { epoch: Epoch::new(2).unwrap(), ..leader.header(&start) };
        let refused = try_header(&leader, header, &start, &leader.key);
        assert_eq!(refused, Err(LogError::UpgradeRequired { found, supported }));

        // Whoever joins at a checkpoint meets them there.
        let mut claim = leader.tip.checkpoint(Epoch::FIRST, 0).unwrap();
        claim.versions = found;
        let checkpoint = claim.sign(&leader.key).unwrap().verify(&leader.leaders()).unwrap();
        assert_eq!(Tip::trusting(&checkpoint), Err(LogError::UpgradeRequired { found, supported }));
    }
}

#[test]
fn a_restarted_leader_publishes_old_messages_under_its_new_key() {
    // Epoch 1 signed two more messages before its process ended; epoch 2 has its journal.
    let mut old = running();
    let published = old.cut();
    let start = Tip::start(sample::stream());
    let new_key = sample::key(9);
    let records = [old.record(), sample::record(2, &new_key)];
    let leaders = sample::leaders(&records, [&old.key, &new_key]);
    let tip = published.verify(&leaders, &start).unwrap().tip().clone();
    old.push(&Entry::Submission(sample::commits(4, old.last(), 1)));
    let epoch = Epoch::new(2).unwrap();
    let checkpoint = old.tip.checkpoint(epoch, 0).unwrap().sign(&new_key).unwrap();
    let batch = Batch::new(std::mem::take(&mut old.pending), checkpoint).unwrap();
    let verified = batch.verify(&leaders, &tip).unwrap();

    // The rest of the journal may follow, the old key's checkpoints may not.
    let mut rest = Leader { tip: verified.tip().clone(), ..old };
    rest.push(&Entry::Submission(sample::commits(5, rest.last(), 1)));
    let before = verified.tip().clone();
    let by_old = rest.tip.checkpoint(Epoch::FIRST, 0).unwrap().sign(&rest.key).unwrap();
    let deposed = Batch::new(rest.pending.clone(), by_old).unwrap().verify(&leaders, &before);
    assert!(matches!(deposed, Err(BatchError::Checkpoint(LogError::Epoch { .. }))));
    let by_new = rest.tip.checkpoint(epoch, 0).unwrap().sign(&new_key).unwrap();
    let tip = Batch::new(rest.pending, by_new).unwrap().verify(&leaders, &before).unwrap().tip().clone();

    // Then its own epoch message, with the key that already signed checkpoints, and no other.
    let mut thief = Leader { pending: vec![], key: sample::key(8), epoch, tip: tip.clone() };
    let start = epoch_start(2, &thief.key, Versions::SUPPORTED);
    assert!(matches!(try_entry(&thief, &start), Err(LogError::Key { .. })));
    thief = Leader::begin(2, new_key, tip);
    assert_eq!(thief.tip.last_leader().unwrap().epoch, epoch);
}

#[test]
fn commits_follow_by_number_and_digest() {
    let leader = running();
    let try_commits =
        |first, prev| continuity(try_entry(&leader, &Entry::Submission(sample::commits(first, prev, 1))));
    let expected = CommitNumber::new(4).unwrap();
    for found in [3, 5] {
        let found = CommitNumber::new(found).unwrap();
        assert_eq!(try_commits(found.get(), leader.last()), ContinuityError::Gap { expected, found });
    }
    let other = CommitDigest::from_bytes([1; 32]);
    assert!(matches!(try_commits(4, other), ContinuityError::ContentMismatch { .. }));
    let mut submission = sample::commits(4, leader.last(), 1);
    submission.incarnation = sample::incarnation(2);
    assert!(matches!(
        continuity(try_entry(&leader, &Entry::Submission(submission))),
        ContinuityError::Incarnation { .. }
    ));
}

#[test]
fn a_huge_commit_is_whole_or_open_and_nothing_comes_between() {
    let mut leader = running();
    let part = |leader: &Leader, index, last| {
        Entry::Submission(sample::submission(Content::Part(sample::part(4, index, leader.last(), last))))
    };
    assert!(matches!(
        continuity(try_entry(&leader, &part(&leader, 1, None))),
        ContinuityError::PartGap { .. }
    ));
    let state_before = leader.tip.client().unwrap().state;
    leader.push(&part(&leader, 0, None));
    assert_eq!(
        leader.tip.client().unwrap().state,
        state_before,
        "the state is the one from before the group"
    );
    let whole = Entry::Submission(sample::commits(4, leader.last(), 1));
    assert!(matches!(continuity(try_entry(&leader, &whole)), ContinuityError::PartGap { found: None, .. }));
    for index in [0, 2] {
        assert!(matches!(
            continuity(try_entry(&leader, &part(&leader, index, None))),
            ContinuityError::PartGap { .. }
        ));
    }
    leader.push(&Entry::Inbound(sample::inbound(1)));
    leader.push(&part(&leader, 1, sample::claim(9)));
    let client = leader.tip.client().unwrap();
    assert_eq!((client.next.get(), client.group, client.state), (5, None, sample::state(9)));
    leader.push(&Entry::Submission(sample::commits(5, leader.last(), 1)));
}

#[test]
fn a_new_incarnation_follows_the_running_one_and_names_what_it_gives_up() {
    let mut leader = running();
    // A group is open when continuity is lost.
    let open = sample::part(4, 0, leader.last(), None);
    leader.push(&Entry::Submission(sample::submission(Content::Part(open))));
    let honest = Predecessor {
        incarnation: sample::incarnation(1),
        next: CommitNumber::new(4).unwrap(),
        next_part: Some(PartIndex::new(1).unwrap()),
        last: leader.last(),
        abandoned_through: Some(CommitNumber::new(4).unwrap()),
    };
    let begins = |counter, predecessor: &Predecessor| {
        Entry::Snapshot(Snapshot {
            incarnation: sample::incarnation(counter),
            place: SnapshotPlace::Begins { predecessor: Some(predecessor.clone()) },
            ..sample::first_snapshot()
        })
    };
    let refused = |counter, predecessor| continuity(try_entry(&leader, &begins(counter, predecessor)));
    for wrong in [1, 3] {
        assert!(matches!(refused(wrong, &honest), ContinuityError::NoSuccessor { .. }));
    }
    let elsewhere = Predecessor { next_part: None, ..honest.clone() };
    assert!(matches!(refused(2, &elsewhere), ContinuityError::Gap { .. }));
    let forged = Predecessor { last: CommitDigest::from_bytes([9; 32]), ..honest.clone() };
    assert!(matches!(refused(2, &forged), ContinuityError::ContentMismatch { .. }));
    let known = Predecessor { abandoned_through: CommitNumber::new(3).ok(), ..honest.clone() };
    assert!(matches!(refused(2, &known), ContinuityError::AbandonedKnown { .. }));
    let silent = Predecessor { abandoned_through: None, ..honest.clone() };
    assert!(matches!(refused(2, &silent), ContinuityError::GroupNotAbandoned { .. }));
    let last = leader.last();
    leader.push(&begins(2, &honest));
    let client = leader.tip.client().unwrap();
    assert_eq!((client.incarnation, client.next.get()), (sample::incarnation(2), 1));
    assert_eq!(client.group, None, "the open group is aborted");
    let old = Entry::Submission(sample::commits(4, last, 1));
    assert!(matches!(continuity(try_entry(&leader, &old)), ContinuityError::Incarnation { .. }));
}

#[test]
fn a_snapshot_inside_an_incarnation_stands_exactly_at_the_last_commit() {
    let leader = running();
    let client = leader.tip.client().unwrap().clone();
    let at = |commit, digest, state| {
        let commit = CommitNumber::new(commit).unwrap();
        let place = SnapshotPlace::After { commit, digest };
        Entry::Snapshot(Snapshot { place, state, ..sample::first_snapshot() })
    };
    assert_eq!(try_entry(&leader, &at(3, client.last, client.state)).unwrap().client(), Some(&client));
    assert!(matches!(
        continuity(try_entry(&leader, &at(2, client.last, client.state))),
        ContinuityError::Gap { .. }
    ));
    assert!(matches!(
        continuity(try_entry(&leader, &at(3, CommitDigest::from_bytes([9; 32]), client.state))),
        ContinuityError::ContentMismatch { .. }
    ));
    assert!(matches!(
        continuity(try_entry(&leader, &at(3, client.last, sample::state(99)))),
        ContinuityError::StateMismatch { .. }
    ));
}

#[test]
fn inbound_messages_are_dense_and_of_one_bridge() {
    let mut leader = running();
    let gap =
        |result| assert!(matches!(result, Err(LogError::Inbound(InboundError::Gap { .. }))), "{result:?}");
    gap(try_entry(&leader, &Entry::Inbound(sample::inbound(2))));
    leader.push(&Entry::Inbound(sample::inbound(1)));
    gap(try_entry(&leader, &Entry::Inbound(sample::inbound(1))));
    let elsewhere = [
        Inbound { chain_id: 1, ..sample::inbound(2) },
        Inbound { bridge: Address::from_bytes([0xee; 20]), ..sample::inbound(2) },
    ];
    for inbound in elsewhere {
        let refused = try_entry(&leader, &Entry::Inbound(inbound));
        assert!(matches!(refused, Err(LogError::Inbound(InboundError::Foreign { .. }))));
    }
    leader.push(&Entry::Inbound(sample::inbound(2)));
}

#[test]
fn a_message_of_another_stream_moves_no_tip() {
    let leader = running();
    let message = leader.pending[0].clone().verify(&leader.leaders(), usize::MAX).unwrap();
    let elsewhere = Tip::start(StreamId::from_bytes([1; 32]));
    assert!(matches!(elsewhere.after(&message), Err(LogError::ForeignStream { .. })));
}

#[test]
fn a_deposed_key_cannot_put_itself_into_an_epoch() {
    let deposed = running();
    let heir = sample::key(9);
    let records = [deposed.record(), sample::record(2, &heir)];
    let leaders = sample::leaders(&records, [&deposed.key, &heir]);
    let next = Leader::begin(2, heir, deposed.tip.clone());
    for epoch in [2, 3, Epoch::MAX] {
        let start = epoch_start(epoch, &deposed.key, Versions::SUPPORTED);
        let header = MessageHeader { epoch: Epoch::new(epoch).unwrap(), ..next.header(&start) };
        let message = Message::sign(header, sample::body(&start), &deposed.key);
        let refused = message.verify(&leaders, usize::MAX);
        assert!(matches!(refused, Err(MessageError::Signature(_))), "epoch {epoch}: {refused:?}");
        let claim = synddb_protocol::log::Checkpoint {
            epoch: Epoch::new(epoch.max(3)).unwrap(),
            ..next.tip.checkpoint(Epoch::new(2).unwrap(), 0).unwrap()
        };
        assert!(claim.sign(&deposed.key).unwrap().verify(&leaders).is_err());
    }
}

#[test]
fn an_epoch_message_names_the_record_that_admitted_its_key() {
    let leader = running();
    let other = epoch_start(5, &leader.key, Versions::SUPPORTED);
    let message = Message::sign(leader.header(&other), sample::body(&other), &leader.key);
    assert!(matches!(message.verify(&leader.leaders(), usize::MAX), Err(MessageError::EpochRecord { .. })));
}

#[test]
fn leaders_are_admitted_one_epoch_after_the_other() {
    let key = sample::key(7);
    let pinned = || TrustedKeys::pinned([*key.verifying_key()]);
    let four = Epoch::new(4).unwrap();
    let mut leaders = Leaders::joining(sample::stream(), pinned(), four);
    assert!(matches!(leaders.admit(&sample::record(5, &key)), Err(AdmissionError::Gap { .. })));
    leaders.admit(&sample::record(4, &key)).unwrap();
    leaders.admit(&sample::record(4, &key)).unwrap();
    assert!(matches!(leaders.admit(&sample::record(6, &key)), Err(AdmissionError::Gap { .. })));
    leaders.admit(&sample::record(5, &key)).unwrap();
    assert_eq!(leaders.next(), Epoch::new(6).ok());
    let mut elsewhere = Leaders::joining(StreamId::from_bytes([1; 32]), pinned(), four);
    assert!(matches!(elsewhere.admit(&sample::record(4, &key)), Err(AdmissionError::ForeignStream { .. })));
    leaders.trust(*sample::key(8).verifying_key());
    let second = sample::record(4, &sample::key(8));
    assert!(matches!(leaders.admit(&second), Err(AdmissionError::Contradiction { .. })));
}

#[test]
fn an_epoch_that_nobody_trusted_claimed_is_passed_and_can_be_admitted_late() {
    let (key, stranger) = (sample::key(7), sample::key(8));
    let mut leaders = Leaders::new(sample::stream(), TrustedKeys::pinned([*key.verifying_key()]));
    leaders.admit(&sample::record(1, &key)).unwrap();
    let second = sample::record(2, &stranger);
    assert!(matches!(leaders.admit(&second), Err(AdmissionError::Signature(_))));
    assert!(matches!(leaders.pass(Epoch::new(3).unwrap()), Err(AdmissionError::Gap { .. })));
    leaders.pass(Epoch::new(2).unwrap()).unwrap();
    leaders.admit(&sample::record(3, &key)).unwrap();

    let by_stranger = Leader::begin(2, sample::key(8), running().tip);
    let message = by_stranger.pending[0].clone();
    assert!(message.clone().verify(&leaders, usize::MAX).is_err(), "a passed epoch has no leader");
    leaders.trust(*stranger.verifying_key());
    leaders.admit(&second).unwrap();
    assert!(message.verify(&leaders, usize::MAX).is_ok());
}

#[test]
fn nothing_of_another_stream_is_verified() {
    let leader = running();
    let record = leader.record();
    let checkpoint = leader.tip.checkpoint(Epoch::FIRST, 0).unwrap();
    let foreign = StreamId::from_bytes([1; 32]);
    let moved = synddb_protocol::log::Checkpoint { stream: foreign, ..checkpoint };
    let leaders = sample::leaders([&record], [&leader.key]);
    assert!(matches!(
        moved.sign(&leader.key).unwrap().verify(&leaders),
        Err(SignatureError::ForeignStream { .. })
    ));
    let header = MessageHeader { stream: foreign, ..*leader.pending[0].receipt.header() };
    let receipt = Receipt::sign(header, &leader.pending[0].body, &leader.key);
    assert!(matches!(receipt.verify(&leaders), Err(SignatureError::ForeignStream { .. })));
}

#[test]
fn a_leader_that_restarts_twice_publishes_journals_of_two_epochs() {
    // Epochs 1 and 2 signed into one journal while the store was away; epoch 3 publishes it in two batches.
    let keys = [sample::key(7), sample::key(8), sample::key(9)];
    let records: Vec<_> = (1..).zip(&keys).map(|(epoch, key)| sample::record(epoch, key)).collect();
    let leaders = sample::leaders(&records, &keys);
    let [one, two, three] = keys;
    let third = Epoch::new(3).unwrap();
    let mut first = Leader::begin(1, one, Tip::start(sample::stream()));
    first.push(&Entry::Snapshot(sample::first_snapshot()));
    let second = Leader::begin(2, two, first.tip.clone());
    let publish = |leader: &Leader, tip: &Tip| {
        let checkpoint = leader.tip.checkpoint(third, 0).unwrap().sign(&three).unwrap();
        let batch = Batch::new(leader.pending.clone(), checkpoint).unwrap();
        batch.verify(&leaders, tip).unwrap()
    };
    let batch = publish(&first, &Tip::start(sample::stream()));
    // Whoever joins at this checkpoint admits from its last message's leader on, not from its signer.
    let joined = Tip::trusting(batch.checkpoint()).unwrap();
    assert_eq!(joined.last_leader().unwrap().epoch, Epoch::FIRST);
    let batch = publish(&second, &joined);
    let tip = batch.tip().clone();
    assert_eq!(Leader::begin(3, three, tip).tip.last_leader().unwrap().epoch, third);
}
