//! What the agent does about every answer it may get.

use std::time::{Duration, Instant};

use synddb_agent::{Config, Event, ProblemKind, PushError, Until};
use synddb_protocol::hash::CommitDigest;
use synddb_protocol::http::{Position, Reason};
use synddb_protocol::id::{CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce};
use synddb_protocol::signing::SigningKey;

use super::agent::{Place, Running};
use super::sequencer::{Asked, Trick};

/// A stream that has begun, everything stored.
fn begun() -> (Place, Running, synddb_sqlite::rusqlite::Connection) {
    let place = Place::new();
    let writer = place.open();
    let agent = place.start();
    agent.attached();
    agent.push(Until::Stored);
    (place, agent, writer)
}

/// What was sent since there were so many, and that it was the same all the while.
fn assert_same_since(place: &Place, from: usize, times: usize) {
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

/// Sending stops, capturing goes on, and nothing is forgotten.
fn assert_stops(reason: Reason) {
    let (place, agent, writer) = begun();
    place.sequencer.play(Asked::Submit, [Trick::Refuse(reason, None)]);
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.warned(ProblemKind::ShippingStopped);
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    let sent = place.sequencer.bodies(Asked::Submit).len();
    let pushed = agent.handle.push(Until::Sequenced, Instant::now() + Duration::from_secs(60));
    let Err(PushError::Stopped { status }) = pushed else { panic!("{pushed:?}") };
    assert_eq!((status.statistics.commits, status.pending.submissions), (2, 2));
    assert!(!status.problem.unwrap().fix.is_empty());
    assert_eq!(place.sequencer.bodies(Asked::Submit).len(), sent);
    let ended = agent.end();
    assert_eq!((ended.complete, ended.pending.submissions), (false, 2));
}

#[test]
fn a_log_that_contradicts_the_outbox_stops_the_sending_loudly() {
    let [expected, found] = [1, 2].map(|byte| CommitDigest::from_bytes([byte; 32]));
    assert_stops(Reason::ContentMismatch { expected, found });
    let other = Incarnation {
        counter: IncarnationCounter::new(7).unwrap(),
        nonce: IncarnationNonce::from_bytes([1; 16]),
    };
    assert_stops(Reason::IncarnationSuperseded { running: other });
    assert_stops(Reason::Gap {
        expected: Position { incarnation: other, commit: CommitNumber::FIRST, part: None },
    });
    // The snapshot was seen stored, so a log without it is another log.
    assert_stops(Reason::NotBegun);
}

#[test]
fn a_gap_that_was_forgotten_stops_the_sending() {
    let (place, agent, writer) = begun();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    let next = agent.push(Until::Stored).next.unwrap();
    let expected = Position { commit: CommitNumber::FIRST, ..next };
    place.sequencer.play(Asked::Submit, [Trick::Refuse(Reason::Gap { expected }, None)]);
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    agent.warned(ProblemKind::ShippingStopped);
    agent.end();
}

#[test]
fn only_the_pinned_key_makes_anything_forgotten() {
    let place = Place::new();
    let other = SigningKey::from_bytes([9; 32]).unwrap();
    let pinned =
        Config { sequencer_key: Some(*other.verifying_key()), drain_max: Duration::ZERO, ..place.config() };
    let agent = Running::start(pinned);
    agent.warned(ProblemKind::Untrusted);
    let status = agent.handle.status();
    assert_eq!((status.sequenced_next, status.stored_next), (None, None));
    agent.end();
    let agent = Running::start(Config { sequencer_key: Some(place.sequencer.key()), ..place.config() });
    agent.attached();
    agent.push(Until::Stored);
    agent.end();
}

#[test]
fn an_unreachable_sequencer_costs_nothing_but_time() {
    let place = Place::new();
    let writer = place.open();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let agent = Running::start(Config { sequencer: url, drain_max: Duration::ZERO, ..place.config() });
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.warned(ProblemKind::Unreachable);
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
