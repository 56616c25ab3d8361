//! What the agent does about every answer it may get.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use synddb_agent::{
    AgentError, Config, Event, FetchEvidence, ProblemKind, PushError, ReadError, Token, Until,
};
use synddb_protocol::Canonical as _;
use synddb_protocol::hash::{ChunkHash, CommitDigest};
use synddb_protocol::http::{Position, Reason, Receipts};
use synddb_protocol::id::{CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce};
use synddb_protocol::log::Receipt;
use synddb_protocol::signing::SigningKey;

use super::agent::{Place, Running};
use super::sequencer::{Asked, NOBODY, Recorded, TOKEN, Trick};

/// A stream that has begun, everything stored.
pub(crate) fn begun() -> (Place, Running, synddb_sqlite::rusqlite::Connection) {
    let place = Place::new();
    let writer = place.open();
    let agent = place.start();
    agent.attached();
    agent.push(Until::Stored);
    (place, agent, writer)
}

/// What was sent since there were so many, and that it was the same all the while.
pub(crate) fn assert_same_since(place: &Place, from: usize, times: usize) {
    let bodies = place.sequencer.bodies(Asked::Submit);
    let since = &bodies[from..];
    assert!(since.len() >= times, "{} of {times}", since.len());
    assert!(since.windows(2).all(|pair| pair[0] == pair[1]), "other bytes were sent again");
}

#[test]
fn what_passes_is_tried_again_with_the_same_bytes() {
    let (place, agent, writer) = begun();
    let tricks = [
        Trick::Vanish,
        Trick::LoseAnswer,
        Trick::Refuse(Reason::Busy, Some(1)),
        Trick::Refuse(Reason::NotLeading, None),
        Trick::Refuse(Reason::DiskFull, None),
        Trick::Refuse(Reason::Unavailable, None),
        Trick::Say(502, b"<html>a proxy</html>".to_vec()),
        Trick::Say(200, b"no receipts".to_vec()),
        Trick::Say(200, vec![0; 4 << 20]),
        Trick::Late(Duration::from_millis(300)),
    ];
    place.sequencer.play(Asked::Submit, tricks);
    let sent = place.sequencer.bodies(Asked::Submit).len();
    let started = Instant::now();
    writer.execute_batch("INSERT INTO t VALUES(1, 'once')").unwrap();
    agent.push(Until::Stored);
    assert!(started.elapsed() >= Duration::from_secs(1), "the server asked for a second");
    assert_same_since(&place, sent, 10);
    assert_eq!(place.sequencer.commits(), 1);
    place.sequencer.assert_replica_equals(&place.database());
    agent.told("recovered", |event| matches!(event, Event::Recovered).then_some(()));
    assert!(agent.end().complete);
}

#[test]
fn a_wrong_token_is_told_and_tried_again() {
    let (place, agent, writer) = begun();
    place.sequencer.play(Asked::Submit, [Trick::Refuse(Reason::Unauthorized, None)]);
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.warned(ProblemKind::Unauthorized);
    agent.push(Until::Stored);
    assert_eq!((place.sequencer.commits(), agent.handle.status().problem), (1, None));
    agent.end();
}

#[test]
fn a_refused_token_is_read_again_and_nobody_is_told_when_it_is_another_one() {
    // Who is closed upon while it sends may not see that it was refused.
    for refused in
        [Trick::Refuse(Reason::Unauthorized, None), Trick::Refuse(Reason::Forbidden, None), Trick::Vanish]
    {
        assert_is_read_again(refused);
    }
}

fn assert_is_read_again(refused: Trick) {
    let place = Place::new();
    let writer = place.open();
    let file = Arc::new(Mutex::new("the token of yesterday, long enough"));
    let read = Arc::clone(&file);
    let token = Token::read_by(move || Ok::<_, ReadError>((*read.lock().unwrap()).to_owned())).unwrap();
    let agent = Running::start(Config { token: Some(token), ..place.config() });
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Stored);
    *file.lock().unwrap() = TOKEN;
    place.sequencer.play(Asked::Submit, [refused]);
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    let status = agent.push(Until::Stored);
    assert_eq!(status.problem, None);
    let requests = place.sequencer.state().requests.clone();
    let sent: Vec<_> = requests.iter().filter(|request| request.path == Asked::Submit).collect();
    let [.., refused, taken] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((refused.body == taken.body, taken.token.as_str()), (true, TOKEN));
    assert_ne!(refused.token, TOKEN);
    let mut was_told = false;
    agent.told("the end of the news", |event| {
        was_told |= matches!(event, Event::Warning { .. });
        matches!(event, Event::Stored { next, .. } if Some(next) == status.next).then_some(())
    });
    assert!(!was_told, "somebody was warned");
    agent.end();
}

#[test]
fn evidence_is_fetched_anew_for_each_request_that_writes_and_for_no_other() {
    let place = Place::new();
    let writer = place.open();
    let fetched = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&fetched);
    let fetch = move || Ok::<_, ReadError>(format!("evidence-{}", counter.fetch_add(1, Ordering::Relaxed)));
    let evidence = Some(FetchEvidence::by(fetch));
    let agent = Running::start(Config { token: None, evidence, ..place.config() });
    agent.attached();
    for number in 1..=3 {
        writer.execute("INSERT INTO t VALUES(?, 1)", [number]).unwrap();
        agent.push(Until::Stored);
    }
    agent.end();
    let requests = place.sequencer.state().requests.clone();
    let writes = |request: &&Recorded| matches!(request.path, Asked::Submit | Asked::Snapshot | Asked::Chunk);
    let shown: BTreeSet<_> = requests.iter().filter(writes).map(|request| &request.evidence).collect();
    assert_eq!(shown.len(), requests.iter().filter(writes).count(), "each has its own: {shown:?}");
    assert_eq!(shown.len(), fetched.load(Ordering::Relaxed));
    assert!(shown.iter().all(|evidence| evidence.starts_with("evidence-")), "{shown:?}");
    for request in requests {
        assert_eq!(request.evidence.is_empty(), !writes(&&request), "{request:?}");
        assert!(request.token.is_empty());
    }
}

#[test]
fn an_agent_whose_evidence_cannot_be_had_sends_nothing_and_says_so() {
    let place = Place::new();
    place.open();
    let evidence = Some(FetchEvidence::by(|| Err::<String, _>("the hardware does not answer")));
    let agent = Running::start(Config { token: None, evidence, ..place.config() });
    agent.warned(ProblemKind::Unauthorized);
    let problem = agent.handle.status().problem.unwrap();
    assert!(problem.detail.contains("the hardware does not answer"), "{problem:?}");
    assert!(place.sequencer.state().requests.is_empty());
    agent.handle.stop_at_once();
}

#[test]
fn nothing_is_forgotten_before_it_is_stored_and_a_lost_promise_is_sent_again() {
    let (place, agent, writer) = begun();
    place.sequencer.state().stores = false;
    for number in 1..=3 {
        writer.execute("INSERT INTO t VALUES(?, 1)", [number]).unwrap();
        agent.push(Until::Sequenced);
    }
    let status = agent.handle.status();
    assert_eq!(status.pending.submissions, 3, "receipts alone make nothing forgotten");
    let sent = place.sequencer.bodies(Asked::Submit);
    // The agent has nothing new to send, and learns of the new leader all the same.
    place.sequencer.fail_over();
    let status = agent.push(Until::Stored);
    assert_eq!(status.pending.submissions, 0);
    assert_eq!(place.sequencer.bodies(Asked::Submit)[sent.len()..], sent[sent.len() - 3..]);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn a_lost_snapshot_is_sent_again_although_nothing_is_new() {
    let place = Place::new();
    let writer = place.open();
    place.sequencer.state().stores = false;
    let agent = place.start();
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Sequenced);
    place.sequencer.fail_over();
    assert!(place.sequencer.snapshots().is_empty());
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

/// An agent whose snapshot has a place and is not stored, and the chunks that somebody has removed meanwhile as old and needless.
fn swept() -> (Place, Running, synddb_sqlite::rusqlite::Connection, BTreeMap<ChunkHash, Vec<u8>>) {
    let place = Place::new();
    let writer = place.open();
    place.sequencer.state().stores = false;
    let agent = place.start();
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Sequenced);
    let chunks = std::mem::take(&mut place.sequencer.state().chunks);
    assert!(!chunks.is_empty());
    (place, agent, writer, chunks)
}

#[test]
fn chunks_that_went_before_their_snapshot_was_stored_are_put_again() {
    let (place, agent, _writer, chunks) = swept();
    place.sequencer.store_all();
    agent.told("snapshot stored", |event| matches!(event, Event::SnapshotStored { .. }).then_some(()));
    assert_eq!(place.sequencer.state().chunks, chunks);
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    assert!(agent.end().complete);
}

#[test]
fn a_snapshot_is_kept_until_somebody_says_that_its_chunks_are_stored_and_holds_up_nothing() {
    let (place, agent, writer, chunks) = swept();
    let asked = place.sequencer.bodies(Asked::Snapshot).len();
    place
        .sequencer
        .play(Asked::Snapshot, std::iter::repeat_n(Trick::Refuse(Reason::Unavailable, None), 1000));
    place.sequencer.store_all();
    agent.push(Until::Stored);
    for number in 2..5 {
        writer.execute("INSERT INTO t VALUES(?, 1)", [number]).unwrap();
        agent.push(Until::Stored);
    }
    agent.until("asked in vain", |_| place.sequencer.bodies(Asked::Snapshot).len() > asked + 2);
    agent.handle.stop_at_once();
    assert!(!agent.handle.join().unwrap().complete, "its snapshot may be lost");
    assert!(place.sequencer.state().chunks.is_empty());
    // The next agent finds it beside an outbox that is empty.
    place.sequencer.forget_tricks();
    let agent = place.start();
    agent.told("snapshot stored", |event| matches!(event, Event::SnapshotStored { .. }).then_some(()));
    assert_eq!(place.sequencer.state().chunks, chunks);
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    assert!(agent.end().complete);
}

#[test]
fn a_gap_inside_the_outbox_is_gone_back_to() {
    let (place, agent, writer) = begun();
    place.sequencer.state().stores = false;
    for number in 1..=3 {
        writer.execute("INSERT INTO t VALUES(?, 1)", [number]).unwrap();
        agent.push(Until::Sequenced);
    }
    // Nobody tells of the new leader but the refusal.
    let lost = std::iter::repeat_n(Trick::Refuse(Reason::Unavailable, None), 1000);
    place.sequencer.play(Asked::Checkpoint, lost);
    place.sequencer.fail_over();
    writer.execute_batch("INSERT INTO t VALUES(4, 1)").unwrap();
    agent.push(Until::Sequenced);
    assert_eq!(place.sequencer.commits(), 4);
    place.sequencer.assert_replica_equals(&place.database());
}

#[test]
fn a_log_without_the_snapshot_gets_it_again() {
    let place = Place::new();
    let writer = place.open();
    place.sequencer.state().stores = false;
    let agent = place.start();
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Sequenced);
    place.sequencer.play(Asked::Submit, [Trick::Refuse(Reason::NotBegun, None)]);
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    agent.push(Until::Sequenced);
    assert_eq!(place.sequencer.bodies(Asked::Snapshot).len(), 3, "for its chunks, whole, and once more");
    place.sequencer.store_all();
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

/// Nothing is sent and everybody is told so, capturing goes on, and then the same is tried again: a refusal is not signed.
fn assert_stops_until_tried_again(reason: impl FnOnce(&Place) -> Reason) {
    let (place, agent, writer) = begun();
    place.sequencer.play(Asked::Submit, [Trick::Refuse(reason(&place), None)]);
    let sent = place.sequencer.bodies(Asked::Submit).len();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.warned(ProblemKind::ShippingStopped);
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    let pushed = agent.handle.push(Until::Sequenced, Instant::now() + Duration::from_secs(60));
    let Err(PushError::Stopped { status }) = pushed else { panic!("{pushed:?}") };
    assert_eq!((status.statistics.commits, status.pending.submissions), (2, 2));
    assert!(!status.problem.unwrap().fix.is_empty());
    agent.told("recovered", |event| matches!(event, Event::Recovered).then_some(()));
    agent.push(Until::Stored);
    assert_eq!(place.sequencer.commits(), 2);
    let bodies = place.sequencer.bodies(Asked::Submit);
    assert_eq!((bodies.len() - sent, &bodies[sent]), (3, &bodies[sent + 1]), "other bytes were sent again");
    place.sequencer.assert_replica_equals(&place.database());
    assert!(agent.end().complete);
}

/// An incarnation that no agent here has.
fn foreign() -> Incarnation {
    Incarnation { counter: IncarnationCounter::new(7).unwrap(), nonce: IncarnationNonce::from_bytes([1; 16]) }
}

#[test]
fn a_refusal_that_contradicts_the_outbox_is_told_loudly_and_tried_again() {
    assert_stops_until_tried_again(|place| Reason::ContentMismatch {
        expected: CommitDigest::from_bytes([1; 32]),
        found: place.sequencer.last_digest(),
    });
    assert_stops_until_tried_again(|_| Reason::IncarnationSuperseded { running: foreign() });
    assert_stops_until_tried_again(|_| Reason::Gap {
        expected: Position { incarnation: foreign(), commit: CommitNumber::FIRST, part: None },
    });
    // The snapshot was seen stored, so a log without it is another log.
    assert_stops_until_tried_again(|_| Reason::NotBegun);
}

#[test]
fn a_refusal_about_what_was_not_sent_is_no_contradiction() {
    let (place, agent, writer) = begun();
    let [expected, found] = [1, 2].map(|byte| CommitDigest::from_bytes([byte; 32]));
    place.sequencer.play(Asked::Submit, [Trick::Refuse(Reason::ContentMismatch { expected, found }, None)]);
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.warned(ProblemKind::Refused);
    // Nobody who waits is turned away.
    agent.push(Until::Stored);
    assert_eq!(place.sequencer.commits(), 1);
    agent.end();
}

#[test]
fn an_agent_that_is_contradicted_ends_at_once_and_the_next_one_sends_what_it_kept() {
    let (place, agent, writer) = begun();
    let refusal = Trick::Refuse(Reason::IncarnationSuperseded { running: foreign() }, None);
    place.sequencer.play(Asked::Submit, std::iter::repeat_n(refusal, 1000));
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.warned(ProblemKind::ShippingStopped);
    let asked = Instant::now();
    let ended = agent.end();
    assert_eq!((ended.complete, ended.pending.submissions), (false, 1));
    assert!(asked.elapsed() < super::sequencer::PATIENCE / 2, "it waited for the time that it may take");
    place.sequencer.forget_tricks();
    let agent = place.start();
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn a_gap_that_was_forgotten_is_told_loudly_and_what_is_left_is_sent_again() {
    let (place, agent, writer) = begun();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    let next = agent.push(Until::Stored).next.unwrap();
    let expected = Position { commit: CommitNumber::FIRST, ..next };
    place.sequencer.play(Asked::Submit, [Trick::Refuse(Reason::Gap { expected }, None)]);
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    agent.warned(ProblemKind::ShippingStopped);
    agent.told("recovered", |event| matches!(event, Event::Recovered).then_some(()));
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn a_signed_checkpoint_that_contradicts_the_outbox_stops_the_sending_for_good() {
    let (place, agent, writer) = begun();
    place.sequencer.play(Asked::Checkpoint, [Trick::OtherDigest]);
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.warned(ProblemKind::ShippingStopped);
    let sent = place.sequencer.bodies(Asked::Submit).len();
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    let pushed = agent.handle.push(Until::Sequenced, Instant::now() + Duration::from_secs(60));
    let Err(PushError::Stopped { status }) = pushed else { panic!("{pushed:?}") };
    assert_eq!((status.statistics.commits, status.pending.submissions), (2, 2), "nothing is forgotten");
    assert_eq!(place.sequencer.bodies(Asked::Submit).len(), sent);
    let ended = agent.end();
    assert_eq!((ended.complete, ended.pending.submissions), (false, 2));
}

#[test]
fn a_snapshot_is_kept_until_the_store_has_that_very_one() {
    // The log holds another snapshot.
    let place = Place::new();
    let chunks = place.home().join("incarnations/000000000001/chunks");
    place.sequencer.play(Asked::Checkpoint, [Trick::OtherDigest]);
    let agent = place.start();
    agent.warned(ProblemKind::ShippingStopped);
    assert!(chunks.exists());
    assert_eq!(agent.handle.status().stored_next, None);
    assert!(!agent.end().complete);

    // It holds another commit behind it.
    let place = Place::new();
    let chunks = place.home().join("incarnations/000000000001/chunks");
    let writer = place.open();
    place.sequencer.state().stores = false;
    place.sequencer.play(Asked::Checkpoint, [Trick::OtherDigest]);
    let agent = place.start();
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Sequenced);
    place.sequencer.store_all();
    agent.warned(ProblemKind::ShippingStopped);
    assert!(chunks.exists());
    assert!(!agent.end().complete);
    // The next agent finds all of it.
    let agent = place.start();
    assert_eq!(agent.push(Until::Stored).problem, None);
    place.sequencer.assert_replica_equals(&place.database());
    // They are looked for once more behind the stored message, beside everything else.
    assert!(agent.end().complete);
    assert!(!chunks.exists());
}

#[test]
fn an_older_incarnation_is_kept_until_what_followed_it_is_stored() {
    let place = Place::new();
    let writer = place.open();
    place.sequencer.state().stores = false;
    let hasty = || Config { drain_max: Duration::ZERO, ..place.config() };
    let agent = Running::start(hasty());
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Sequenced);
    agent.end();
    writer.execute_batch("INSERT INTO t VALUES(2, 'unseen'); PRAGMA wal_checkpoint").unwrap();
    place.sequencer.play(Asked::Checkpoint, [Trick::OtherDigest]);
    let agent = place.start();
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(3, 1)").unwrap();
    agent.push(Until::Sequenced);
    place.sequencer.store_all();
    agent.warned(ProblemKind::ShippingStopped);
    let begun = ["000000000001", "000000000002"].map(|name| place.home().join("incarnations").join(name));
    assert!(begun.iter().all(|folder| folder.join("chunks").exists()));
    agent.end();
    let agent = place.start();
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    assert!(agent.end().complete);
    assert!(!begun[0].exists() && begun[1].exists());
}

#[test]
fn a_receipt_for_something_else_is_no_promise() {
    let (place, agent, writer) = begun();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    let mut before = agent.push(Until::Stored).sequenced_next;
    let [snapshot, submission] = &place.sequencer.receipts()[..] else { panic!("not two") };
    let say = |status, receipt: &Receipt| Trick::Say(status, Receipts(vec![receipt.clone()]).to_bytes());
    for trick in [say(201, submission), say(201, snapshot), say(200, snapshot)] {
        // Then it does not answer, until it was looked at.
        place.sequencer.play(Asked::Submit, [trick]);
        place.sequencer.play(Asked::Submit, std::iter::repeat_n(Trick::Vanish, 1000));
        writer.execute_batch("INSERT INTO t(b) VALUES(2)").unwrap();
        agent.warned(ProblemKind::Untrusted);
        agent.warned(ProblemKind::Unreachable);
        assert_eq!(agent.handle.status().sequenced_next, before, "it was taken for a promise");
        place.sequencer.forget_tricks();
        before = agent.push(Until::Stored).sequenced_next;
    }
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn whoever_signed_first_is_believed_and_nobody_else() {
    let place = Place::new();
    let writer = place.open();
    let hasty = || Config { drain_max: Duration::ZERO, ..place.config() };
    let agent = Running::start(hasty());
    agent.push(Until::Stored);
    let file = place.home().join("sequencer.pub");
    let first = place.sequencer.key();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{first}\n"));
    // Another one comes to the port, and promises and stores whatever it is sent.
    place.sequencer.sign_with(9);
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.warned(ProblemKind::Untrusted);
    let pushed = agent.handle.push(Until::Stored, Instant::now() + Duration::from_millis(200));
    assert!(matches!(pushed, Err(PushError::TimedOut { .. })), "{pushed:?}");
    assert_eq!(agent.handle.status().pending.submissions, 1, "it is kept");
    let problem = agent.handle.status().problem.unwrap();
    assert!(problem.fix.contains("sequencer.pub") && problem.fix.contains("--sequencer-key"), "{problem:?}");
    agent.end();

    // The next agent does not believe it either.
    let agent = Running::start(hasty());
    agent.warned(ProblemKind::Untrusted);
    assert_eq!(agent.end().pending.submissions, 1);
    // Not until somebody says so, in either way.
    let agent = Running::start(Config { sequencer_keys: vec![place.sequencer.key()], ..place.config() });
    agent.push(Until::Stored);
    agent.end();
    let kept = std::fs::read_to_string(&file).unwrap();
    assert_eq!(kept, format!("{first}\n"), "what is given once is for once");
    std::fs::remove_file(&file).unwrap();
    let agent = place.start();
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    agent.push(Until::Stored);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\n", place.sequencer.key()));
    agent.end();
    std::fs::write(&file, "half").unwrap();
    let refused = synddb_agent::start(place.config(), |_| {}).map(drop);
    assert!(matches!(refused, Err(AgentError::SequencerKey { .. })), "{refused:?}");
}

#[test]
fn only_the_pinned_key_makes_anything_forgotten() {
    let place = Place::new();
    let other = SigningKey::from_bytes([9; 32]).unwrap();
    let pinned =
        Config { sequencer_keys: vec![*other.verifying_key()], drain_max: Duration::ZERO, ..place.config() };
    let agent = Running::start(pinned);
    agent.warned(ProblemKind::Untrusted);
    let status = agent.handle.status();
    assert_eq!((status.sequenced_next, status.stored_next), (None, None));
    agent.end();
    let agent = Running::start(Config { sequencer_keys: vec![place.sequencer.key()], ..place.config() });
    agent.attached();
    agent.push(Until::Stored);
    agent.end();
}

#[test]
fn an_unreachable_sequencer_costs_nothing_but_time() {
    let place = Place::new();
    let writer = place.open();
    let sequencers = vec![NOBODY.to_owned()];
    let agent = Running::start(Config { sequencers, drain_max: Duration::ZERO, ..place.config() });
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.troubled(ProblemKind::Unreachable);
    agent.end();
    let agent = place.start();
    agent.push(Until::Stored);
    assert_eq!(place.sequencer.commits() + place.sequencer.snapshots().len(), 2);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn a_snapshot_goes_on_where_it_was_left() {
    let place = Place::new();
    let writer = place.open();
    writer
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)
             INSERT INTO t SELECT i, randomblob(1000) FROM n",
        )
        .unwrap();
    // Two chunks come through, then nothing does.
    let mut tricks = vec![Trick::Late(Duration::ZERO); 2];
    tricks.extend(std::iter::repeat_n(Trick::Refuse(Reason::Unavailable, None), 1000));
    place.sequencer.play(Asked::Chunk, tricks);
    let agent = Running::start(Config { drain_max: Duration::ZERO, ..place.config() });
    agent.warned(ProblemKind::Busy);
    assert!(!agent.end().complete);
    let refused = place.sequencer.bodies(Asked::Chunk).len();
    assert_eq!(place.sequencer.state().chunks.len(), 2);

    place.sequencer.forget_tricks();
    let agent = place.start();
    agent.push(Until::Stored);
    let snapshot = place.sequencer.snapshots().remove(0);
    assert!(snapshot.chunks.len() > 3, "{}", snapshot.chunks.len());
    let sent = place.sequencer.bodies(Asked::Chunk).len() - refused;
    assert_eq!(sent, snapshot.chunks.len() - 2, "what is stored is not sent again");
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}
