//! Whether an agent goes on exactly or begins anew, and that it says so.

use std::io::{BufRead as _, BufReader, Write as _};
use std::time::{Duration, Instant};

use synddb_agent::{AgentError, Because, Config, Event, How, Until, stream_of};
use synddb_sqlite::rusqlite::Connection;

use super::agent::{Place, Running};
use super::child::{Role, spawn_asking};
use super::sequencer::PATIENCE;

fn anew(because: Because) -> How {
    How::New { because }
}

#[test]
fn nothing_committed_in_between_goes_on_exactly() {
    let place = Place::new();
    let writer = place.open();
    for round in 0..4 {
        let agent = place.start();
        let how = agent.attached();
        assert_eq!(how, if round == 0 { anew(Because::FirstAttach) } else { How::Resumed }, "{round}");
        writer.execute("INSERT INTO t VALUES(?, 1)", [round]).unwrap();
        // The end captures what is committed.
        assert!(agent.end().complete);
    }
    assert_eq!((place.sequencer.commits(), place.sequencer.snapshots().len()), (4, 1));
    place.sequencer.assert_replica_equals(&place.database());
}

/// The connection of an application of which an agent captured a commit, and ended.
fn left(place: &Place) -> Connection {
    let writer = place.open();
    let agent = place.start();
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.end();
    writer
}

#[test]
fn something_committed_in_between_is_captured_after_all() {
    let place = Place::new();
    let writer = left(&place);
    writer.execute_batch("INSERT INTO t VALUES(2, 'nobody saw it')").unwrap();
    writer.execute_batch("INSERT INTO t VALUES(3, 'nor that')").unwrap();
    let agent = place.start();
    assert_eq!(agent.attached(), How::Resumed);
    writer.execute_batch("INSERT INTO t VALUES(4, 1)").unwrap();
    let status = agent.push(Until::Stored);
    assert_eq!(status.next.unwrap().incarnation.counter.get(), 1);
    assert_eq!((place.sequencer.commits(), place.sequencer.snapshots().len()), (4, 1));
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn something_copied_back_in_between_begins_anew() {
    let place = Place::new();
    let writer = left(&place);
    writer.execute_batch("INSERT INTO t VALUES(2, 'nobody saw it'); PRAGMA wal_checkpoint").unwrap();
    let agent = place.start();
    assert_eq!(agent.attached(), anew(Because::CommittedMeanwhile));
    writer.execute_batch("INSERT INTO t VALUES(3, 1)").unwrap();
    let status = agent.push(Until::Stored);
    assert_eq!(status.next.unwrap().incarnation.counter.get(), 2);
    assert!(!place.home().join("incarnations/000000000001").exists(), "everything of it is stored");
    let snapshots = place.sequencer.snapshots();
    assert_eq!(snapshots.len(), 2);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn a_wal_that_the_application_took_away_begins_anew() {
    let place = Place::new();
    let writer = left(&place);
    // The last connection to close takes the WAL away. Nothing proves that nothing was committed.
    drop(writer);
    let agent = place.start();
    assert_eq!(agent.attached(), anew(Because::WalBeganAnew));
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn a_replaced_database_begins_anew() {
    let place = Place::new();
    let writer = left(&place);
    drop(writer);
    // Kept under another name, so that the new file cannot be given the inode of the old one.
    std::fs::rename(place.database(), place.folder.path().join("old.db")).unwrap();
    place.open().execute_batch("CREATE TABLE other(x); INSERT INTO other VALUES(1)").unwrap();
    let agent = place.start();
    assert_eq!(agent.attached(), anew(Because::Replaced));
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn a_database_overwritten_in_its_place_begins_anew() {
    let place = Place::new();
    let writer = left(&place);
    drop(writer);
    let other = place.folder.path().join("other.db");
    let connection = Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE other(x); INSERT INTO other VALUES(1)").unwrap();
    drop(connection);
    // The inode is the same. What tells is that the last connection took the WAL away; what is sent is the other content.
    std::fs::write(place.database(), std::fs::read(&other).unwrap()).unwrap();
    let agent = place.start();
    assert_eq!(agent.attached(), anew(Because::WalBeganAnew));
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn older_incarnations_are_sent_first_and_in_order() {
    let place = Place::new();
    let writer = place.open();
    let nowhere = || Config {
        sequencers: vec!["http://127.0.0.1:9".to_owned()],
        drain_max: Duration::ZERO,
        ..place.config()
    };
    for round in 0..3 {
        let agent = Running::start(nowhere());
        agent.attached();
        writer.execute("INSERT INTO t VALUES(?, 'seen')", [10 * round]).unwrap();
        agent.end();
        writer.execute("INSERT INTO t VALUES(?, 'unseen')", [10 * round + 1]).unwrap();
        writer.execute_batch("PRAGMA wal_checkpoint").unwrap();
    }
    let agent = place.start();
    let status = agent.push(Until::Stored);
    assert_eq!(status.next.unwrap().incarnation.counter.get(), 4);
    // The log takes them only in this order: each snapshot names what the incarnation before ended with.
    assert_eq!((place.sequencer.snapshots().len(), place.sequencer.commits()), (4, 3));
    place.sequencer.assert_replica_equals(&place.database());
    let left = std::fs::read_dir(place.home().join("incarnations")).unwrap().count();
    assert_eq!(left, 1);
    assert!(agent.end().complete);
}

/// An agent that pushes whenever its parent says something, until it is killed.
pub(crate) fn follow_until_killed(config: Config) {
    let mut awaited = 1 + u8::from(config.pin.is_some());
    let agent = Running::start(config);
    agent.told("attached, and pinned", |event| {
        match event {
            Event::Attached { how, .. } => println!("\nattached {} {how}", how == How::Resumed),
            Event::Pinned { pid } => println!("\npinned {pid}"),
            _ => return None,
        }
        awaited -= 1;
        (awaited == 0).then_some(())
    });
    for _ in std::io::stdin().lines().map_while(Result::ok) {
        agent.push(Until::Sequenced);
        println!("\npushed");
    }
}

#[test]
fn a_killed_agent_goes_on_where_it_was_or_says_that_it_does_not() {
    let place = Place::new();
    let writer = place.open();
    let mut number = 0;
    let mut has_pushed = false;
    for round in 0..6 {
        let mut child = spawn_asking(Role::Follow, place.folder.path(), &place.sequencer.url());
        let mut input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let has_resumed =
            lines.find_map(|line| Some(line.strip_prefix("attached ")?.starts_with("true"))).unwrap();
        assert!(has_resumed || !has_pushed, "everything was captured, and nothing committed since");
        for _ in 0..20 {
            number += 1;
            writer.execute("INSERT INTO t VALUES(?, 1)", [number]).unwrap();
        }
        // In every second round it is killed in the middle of its work.
        has_pushed = round % 2 == 0;
        if has_pushed {
            input.write_all(b"push\n").unwrap();
            lines.find(|line| line == "pushed").unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let agent = place.start();
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn an_incarnation_that_did_not_begin_is_begun_again() {
    let place = Place::new();
    let writer = place.open();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
                INSERT INTO t SELECT i, randomblob(1000) FROM n";
    writer.execute_batch(fill).unwrap();
    let unfinished = place.home().join("incarnations/000000000001.new/chunks");
    let begun = place.home().join("incarnations/000000000001");
    let mut child = spawn_asking(Role::Follow, place.folder.path(), &place.sequencer.url());
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_dir(&unfinished).is_ok_and(|chunks| chunks.count() > 0) {
        assert!(Instant::now() < deadline && !begun.exists(), "it was too fast to be killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!begun.exists());

    let agent = place.start();
    assert_eq!(agent.attached(), anew(Because::FirstAttach));
    agent.push(Until::Stored);
    assert_eq!(place.sequencer.snapshots().len(), 1);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn what_an_agent_cannot_read_is_not_begun_anew() {
    let place = Place::new();
    let agent = place.start();
    agent.attached();
    agent.end();
    let outbox = place.home().join("incarnations/000000000001/outbox.db");
    std::fs::write(&outbox, vec![0; 8192]).unwrap();
    let refused = synddb_agent::start(place.config(), |_| {}).map(drop);
    assert!(matches!(refused, Err(AgentError::Outbox(_))), "{refused:?}");
    std::fs::remove_file(&outbox).unwrap();
    let refused = synddb_agent::start(place.config(), |_| {}).map(drop);
    assert!(matches!(refused, Err(AgentError::Outbox(_))), "{refused:?}");
}

#[test]
fn a_stream_is_named_once() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("app.db-synddb");
    let stream = stream_of(&home).unwrap();
    assert_eq!(stream_of(&home).unwrap(), stream);
    let text = std::fs::read_to_string(home.join("stream")).unwrap();
    assert_eq!(text, format!("{}\n", stream.to_key()));
    std::fs::write(home.join("stream"), "half").unwrap();
    assert!(matches!(stream_of(&home), Err(AgentError::Stream { .. })));
}
