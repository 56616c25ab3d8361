//! The fold over messages: what follows a log, and what does not.

use synddb_protocol::hash::CommitDigest;
use synddb_protocol::id::{CommitNumber, Epoch, Timestamp};
use synddb_protocol::log::{
    Batch, BatchError, ContinuityError, Entry, EpochStart, LogError, Message, MessageHeader,
    PROTOCOL_VERSION, Status, StatusLevel, Tip,
};
use synddb_protocol::signing::{SigningKey, TrustedKeys};
use synddb_protocol::submission::{Content, Place, Predecessor, Snapshot};

use crate::sample::{self, Leader};

/// A leader whose stream has begun and has commits 1 to 3.
fn running() -> Leader {
    let mut leader = Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
    leader.push(&Entry::Snapshot(sample::first_snapshot()));
    leader.push(&Entry::Changeset(sample::commits(1, leader.last(), 3)));
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
    let keys = TrustedKeys::pinned([*key.verifying_key()]);
    let message = Message::sign(header, entry.to_body(), key);
    leader.tip.after(&message.verify(leader.tip.stream(), &keys, usize::MAX).unwrap())
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
    let commits = Entry::Changeset(sample::commits(1, sample::first_snapshot().digest(), 1));
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
    let entry = Entry::Changeset(sample::commits(4, leader.last(), 1));
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
    let entry = Entry::Changeset(sample::commits(4, leader.last(), 1));
    let header = leader.header(&entry);
    let later = MessageHeader { epoch: Epoch::new(2).unwrap(), ..header };
    assert!(matches!(try_header(&leader, later, &entry, &leader.key), Err(LogError::Epoch { .. })));
    let thief = sample::key(8);
    assert!(matches!(try_header(&leader, header, &entry, &thief), Err(LogError::Key { .. })));
    let start = Entry::Epoch(EpochStart {
        record: leader.record().hash(),
        protocol_version: PROTOCOL_VERSION,
        apply_version: 1,
    });
    let again = MessageHeader { message_type: start.message_type(), ..header };
    assert!(matches!(try_header(&leader, again, &start, &leader.key), Err(LogError::Epoch { .. })));

    let next = Leader::begin(2, thief, leader.tip.clone());
    assert_eq!(next.tip.last_leader().unwrap().key, next.key.id());
    let deposed =
        MessageHeader { sequence: next.tip.next().unwrap(), timestamp: next.tip.timestamp(), ..header };
    assert!(matches!(try_header(&next, deposed, &entry, &leader.key), Err(LogError::Epoch { .. })));
}

#[test]
fn a_newer_protocol_asks_for_an_upgrade() {
    let leader = running();
    let start = Entry::Epoch(EpochStart {
        record: leader.record().hash(),
        protocol_version: PROTOCOL_VERSION + 1,
        apply_version: 1,
    });
    let header = MessageHeader { epoch: Epoch::new(2).unwrap(), ..leader.header(&start) };
    assert_eq!(
        try_header(&leader, header, &start, &leader.key),
        Err(LogError::UpgradeRequired { found: PROTOCOL_VERSION + 1 })
    );
}

#[test]
fn a_restarted_leader_publishes_old_messages_under_its_new_key() {
    // Epoch 1 signed two more messages before its process ended; epoch 2 has its journal.
    let mut old = running();
    let published = old.cut();
    let start = Tip::start(sample::stream());
    let new_key = sample::key(9);
    let keys = TrustedKeys::pinned([*old.key.verifying_key(), *new_key.verifying_key()]);
    let tip = published.verify(&keys, &start).unwrap().tip().clone();
    old.push(&Entry::Changeset(sample::commits(4, old.last(), 1)));
    let epoch = Epoch::new(2).unwrap();
    let checkpoint = old.tip.checkpoint(epoch, 0).unwrap().sign(&new_key);
    let batch = Batch::new(std::mem::take(&mut old.pending), checkpoint).unwrap();
    let verified = batch.verify(&keys, &tip).unwrap();

    // The rest of the journal may follow, the old key's checkpoints may not.
    let mut rest = Leader { tip: verified.tip().clone(), ..old };
    rest.push(&Entry::Changeset(sample::commits(5, rest.last(), 1)));
    let before = verified.tip().clone();
    let by_old = rest.tip.checkpoint(Epoch::FIRST, 0).unwrap().sign(&rest.key);
    let deposed = Batch::new(rest.pending.clone(), by_old).unwrap().verify(&keys, &before);
    assert!(matches!(deposed, Err(BatchError::Checkpoint(LogError::Epoch { .. }))));
    let by_new = rest.tip.checkpoint(epoch, 0).unwrap().sign(&new_key);
    let tip = Batch::new(rest.pending, by_new).unwrap().verify(&keys, &before).unwrap().tip().clone();

    // Then its own epoch message, with the key that already signed checkpoints, and no other.
    let mut thief = Leader { pending: vec![], key: sample::key(8), epoch, tip: tip.clone() };
    let start =
        EpochStart { record: thief.record().hash(), protocol_version: PROTOCOL_VERSION, apply_version: 1 };
    assert!(matches!(try_entry(&thief, &Entry::Epoch(start)), Err(LogError::Key { .. })));
    thief = Leader::begin(2, new_key, tip);
    assert_eq!(thief.tip.last_leader().unwrap().epoch, epoch);
}

#[test]
fn commits_follow_by_number_and_digest() {
    let leader = running();
    let try_commits =
        |first, prev| continuity(try_entry(&leader, &Entry::Changeset(sample::commits(first, prev, 1))));
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
        continuity(try_entry(&leader, &Entry::Changeset(submission))),
        ContinuityError::Incarnation { .. }
    ));
}

#[test]
fn a_huge_commit_is_whole_or_open_and_nothing_comes_between() {
    let mut leader = running();
    let part = |leader: &Leader, index, last| {
        Entry::Changeset(sample::submission(Content::Part(sample::part(4, index, leader.last(), last))))
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
    let whole = Entry::Changeset(sample::commits(4, leader.last(), 1));
    assert!(matches!(continuity(try_entry(&leader, &whole)), ContinuityError::PartGap { found: None, .. }));
    for index in [0, 2] {
        assert!(matches!(
            continuity(try_entry(&leader, &part(&leader, index, None))),
            ContinuityError::PartGap { .. }
        ));
    }
    leader.push(&Entry::Inbound(sample::inbound(1)));
    leader.push(&part(&leader, 1, Some(sample::state(9))));
    let client = leader.tip.client().unwrap();
    assert_eq!((client.next.get(), client.group, client.state), (5, None, sample::state(9)));
    leader.push(&Entry::Changeset(sample::commits(5, leader.last(), 1)));
}

#[test]
fn a_new_incarnation_follows_the_running_one_and_names_what_it_gives_up() {
    let mut leader = running();
    // A group is open when continuity is lost.
    let open = sample::part(4, 0, leader.last(), None);
    leader.push(&Entry::Changeset(sample::submission(Content::Part(open))));
    let begins = |counter, last, abandoned: Option<u64>| {
        let predecessor = Predecessor {
            incarnation: sample::incarnation(1),
            last,
            abandoned_through: abandoned.map(|number| CommitNumber::new(number).unwrap()),
        };
        Entry::Snapshot(Snapshot {
            incarnation: sample::incarnation(counter),
            place: Place::Begins { predecessor: Some(predecessor) },
            ..sample::first_snapshot()
        })
    };
    let last = leader.last();
    for wrong in [1, 3] {
        assert!(matches!(
            continuity(try_entry(&leader, &begins(wrong, last, None))),
            ContinuityError::NoSuccessor { .. }
        ));
    }
    assert!(matches!(
        continuity(try_entry(&leader, &begins(2, CommitDigest::from_bytes([9; 32]), None))),
        ContinuityError::ContentMismatch { .. }
    ));
    assert!(matches!(
        continuity(try_entry(&leader, &begins(2, last, Some(3)))),
        ContinuityError::AbandonedKnown { .. }
    ));
    leader.push(&begins(2, last, Some(4)));
    let client = leader.tip.client().unwrap();
    assert_eq!((client.incarnation, client.next.get()), (sample::incarnation(2), 1));
    assert_eq!(client.group, None, "the open group is aborted");
    let old = Entry::Changeset(sample::commits(4, last, 1));
    assert!(matches!(continuity(try_entry(&leader, &old)), ContinuityError::Incarnation { .. }));
}

#[test]
fn a_snapshot_inside_an_incarnation_stands_exactly_at_the_last_commit() {
    let leader = running();
    let client = leader.tip.client().unwrap().clone();
    let at = |commit, digest, state| {
        let commit = CommitNumber::new(commit).unwrap();
        let place = Place::After { commit, digest };
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
fn inbound_messages_are_dense() {
    let mut leader = running();
    assert!(matches!(try_entry(&leader, &Entry::Inbound(sample::inbound(2))), Err(LogError::Inbound { .. })));
    leader.push(&Entry::Inbound(sample::inbound(1)));
    assert!(matches!(try_entry(&leader, &Entry::Inbound(sample::inbound(1))), Err(LogError::Inbound { .. })));
    leader.push(&Entry::Inbound(sample::inbound(2)));
}
