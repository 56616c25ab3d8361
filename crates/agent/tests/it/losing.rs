//! What the agent does when the sequencer or the store has lost what it promised or had.

use std::time::{Duration, Instant};

use synddb_agent::{Config, Event, ProblemKind, PushError, Until};
use synddb_protocol::http::Reason;
use synddb_protocol::id::CommitNumber;

use super::agent::{Place, Running};
use super::sequencer::{Asked, Trick};
use super::shipping::{assert_same_since, begun};

#[test]
fn what_was_promised_and_lost_with_the_whole_log_is_sent_again_although_nothing_is_new() {
    for rows in [0, 3] {
        let place = Place::new();
        let writer = place.open();
        place.sequencer.state().stores = false;
        let agent = place.start();
        agent.attached();
        for number in 0..rows {
            writer.execute("INSERT INTO t VALUES(?, 1)", [number]).unwrap();
        }
        agent.push(Until::Sequenced);
        place.sequencer.lose_everything();
        let status = agent.push(Until::Stored);
        assert_eq!((status.problem, status.pending.submissions), (None, 0));
        place.sequencer.assert_replica_equals(&place.database());
        agent.end();
    }
}

#[test]
fn a_log_that_nobody_leads_is_told_while_something_is_not_stored() {
    let (place, agent, writer) = begun();
    place.sequencer.state().stores = false;
    let absent = std::iter::repeat_n(Trick::Refuse(Reason::NotFound, None), 1000);
    place.sequencer.play(Asked::Checkpoint, absent);
    let sent = place.sequencer.bodies(Asked::Submit).len();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Sequenced);
    agent.handle.push(Until::Stored, Instant::now() + Duration::from_secs(2)).unwrap_err();
    agent.troubled(ProblemKind::Refused);
    agent.until("sent again", |_| place.sequencer.bodies(Asked::Submit).len() >= sent + 2);
    assert_same_since(&place, sent, 2);
    place.sequencer.forget_tricks();
    place.sequencer.store_all();
    assert_eq!(agent.push(Until::Stored).problem, None);
    agent.end();
}

#[test]
fn a_log_without_the_stream_is_told_when_what_is_left_cannot_begin_it() {
    let (place, agent, writer) = begun();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Stored);
    agent.end();
    writer.execute_batch("INSERT INTO t VALUES(2, 'unseen'); PRAGMA wal_checkpoint").unwrap();
    let nowhere = Config {
        sequencers: vec!["http://127.0.0.1:9".to_owned()],
        drain_max: Duration::ZERO,
        ..place.config()
    };
    let agent = Running::start(nowhere);
    agent.attached();
    agent.end();
    // All of the older one was stored, and somebody has tidied up.
    std::fs::remove_dir_all(place.home().join("incarnations/000000000001")).unwrap();
    let refusal = Trick::Refuse(Reason::NotBegun, None);
    place.sequencer.play(Asked::Snapshot, std::iter::repeat_n(refusal, 1000));
    let agent = place.start();
    agent.warned(ProblemKind::ShippingStopped);
    agent.end();
}

#[test]
fn a_store_that_lost_what_was_seen_stored_is_told_at_the_start_and_may_come_back() {
    let (place, agent, writer) = begun();
    let before = place.sequencer.roll(None);
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Stored);
    assert!(agent.end().complete);
    let whole = place.sequencer.roll(Some(before));
    let agent = place.start();
    agent.warned(ProblemKind::ShippingStopped);
    let pushed = agent.handle.push(Until::Stored, Instant::now() + Duration::from_secs(60));
    let Err(PushError::Stopped { status }) = pushed else { panic!("{pushed:?}") };
    assert_eq!(status.stored_next.unwrap().commit, CommitNumber::FIRST);
    assert_eq!(status.pending.submissions, 0, "nothing is left to be sent");
    place.sequencer.roll(Some(whole));
    agent.told("recovered", |event| matches!(event, Event::Recovered).then_some(()));
    agent.push(Until::Stored);
    assert!(agent.end().complete);
}
