//! What another process reads of a WAL, and what a follower says of it.

use std::time::{Duration, Instant};

use synddb_agent::{Because, Captured, Config, Event, How, ProblemKind, Until, outbox};
use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::{
    CommittedState, Follower, Options, Reach, Sink, WalPosition, committed_position,
};
use synddb_sqlite::state::RunningState;

use super::agent::{Place, Running};

/// Takes everything and keeps nothing.
struct Nothing;

impl Sink for Nothing {
    type Error = std::convert::Infallible;

    fn piece(&mut self, _: Changes) -> Result<(), Self::Error> {
        Ok(())
    }

    fn commit(&mut self, _: Changes, _: &mut CommittedState<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    fn persist(&mut self, _: &WalPosition, _: &RunningState) -> Result<(), Self::Error> {
        Ok(())
    }
}

fn follow(follower: &mut Follower) {
    while follower.poll(&mut Nothing).unwrap() > 0 {}
}

#[test]
fn a_position_is_read_without_changing_anything() {
    let place = Place::new();
    let path = place.database();
    let of_journal = place.folder.path().join("journal.db");
    let journal = synddb_sqlite::rusqlite::Connection::open(&of_journal).unwrap();
    journal.execute_batch("CREATE TABLE t(a)").unwrap();
    assert_eq!(committed_position(&of_journal).unwrap(), None);
    assert!(committed_position(&place.folder.path().join("missing.db")).is_err());
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 2, "no file was made");

    let writer = place.open();
    assert_eq!(committed_position(&path).unwrap(), None, "nothing was written to the WAL yet");
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    let wal = std::fs::read(place.folder.path().join("app.db-wal")).unwrap();
    let one = committed_position(&path).unwrap().unwrap();
    assert!(one.frame > 0);
    assert_eq!(committed_position(&path).unwrap(), Some(one));
    assert_eq!(std::fs::read(place.folder.path().join("app.db-wal")).unwrap(), wal);
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    assert!(committed_position(&path).unwrap().unwrap().frame > one.frame);

    let text = one.to_string();
    assert_eq!((text.len(), text.parse()), (48, Ok(one)));
    assert!(text.to_uppercase().parse::<WalPosition>().is_err() || text == text.to_uppercase());
    assert!("12".parse::<WalPosition>().is_err());
}

#[test]
fn a_follower_knows_the_generations_that_it_captured_to_their_end() {
    let place = Place::new();
    let path = place.database();
    let writer = place.open();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    let before = committed_position(&path).unwrap().unwrap();
    // Another generation, of which this follower has seen nothing.
    writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    let mut follower = Follower::attach(&path, Options::default()).unwrap();
    let attached = committed_position(&path).unwrap().unwrap();
    assert_eq!(follower.position(), attached);
    assert_eq!(follower.reach(&attached), Reach::Captured);
    assert_eq!(follower.reach(&before), Reach::Unknown);

    writer.execute_batch("INSERT INTO t VALUES(3, 1)").unwrap();
    let next = committed_position(&path).unwrap().unwrap();
    assert_eq!(follower.reach(&next), Reach::NotYet);
    follow(&mut follower);
    assert_eq!(follower.reach(&next), Reach::Captured);
    assert_eq!(follower.reach(&WalPosition { checksum: [1, 2], ..next }), Reach::Unknown);

    drop(follower);
    // Small, so that the WAL begins anew all the time.
    let mut follower = Follower::attach(&path, Options::for_wal(16 << 10)).unwrap();
    let mut seen = Vec::new();
    for number in 10..200 {
        writer.execute("INSERT INTO t VALUES(?, randomblob(3000))", [number]).unwrap();
        let position = committed_position(&path).unwrap().unwrap();
        assert_ne!(follower.reach(&position), Reach::Captured, "{number}");
        follow(&mut follower);
        assert_eq!(follower.reach(&position), Reach::Captured, "{number}");
        seen.push(position);
    }
    let generations = follower.statistics().wal_resets;
    assert!(generations > 64, "{generations}");
    // A bounded number is remembered; of an older one a newer position is to be asked for.
    assert!(seen.iter().rev().take(64).all(|position| follower.reach(position) == Reach::Captured));
    assert_eq!(follower.reach(&seen[0]), Reach::Unknown);
}

#[test]
fn a_wal_that_began_anew_has_a_position_before_its_first_frame() {
    let place = Place::new();
    let path = place.database();
    let writer = place.open();
    writer.busy_timeout(Duration::ZERO).unwrap();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    let restart =
        || writer.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(restart(), 0);
    // A transaction that is too large for memory begins the WAL anew, and is taken back.
    let taken_back = "PRAGMA cache_size = 2; BEGIN;
        WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
        INSERT INTO t SELECT i, randomblob(3000) FROM n; ROLLBACK";
    writer.execute_batch(taken_back).unwrap();
    let position = committed_position(&path).unwrap();
    assert_eq!(position.map(|position| position.frame), Some(0));
    let agent = place.start();
    agent.attached();
    let captured = |position| matches!(agent.handle.captured(position), Captured::Yes { .. });
    assert!(captured(position), "{position:?}");
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    let next = committed_position(&path).unwrap();
    assert!(captured(next) && captured(position) && captured(None));
    // However that ends while the agent reads, what was committed is captured.
    restart();
    assert!(captured(committed_position(&path).unwrap()) && captured(next));
    agent.end();
}

#[test]
fn whoever_rings_ends_a_wait() {
    let place = Place::new();
    let writer = place.open();
    let mut follower = Follower::attach(&place.database(), Options::default()).unwrap();
    let waker = follower.waker();
    let (started, long) = (Instant::now(), Duration::from_secs(600));
    // Rung before the wait is as good as rung in it.
    waker.wake();
    waker.wake();
    follower.wait(long).unwrap();
    let ringing = std::thread::spawn(move || waker.wake());
    follower.wait(long).unwrap();
    ringing.join().unwrap();
    // A bell rings once.
    follower.wait(Duration::from_millis(20)).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(20));
    let writing = std::thread::spawn(move || writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap());
    follower.wait(long).unwrap();
    writing.join().unwrap();
    assert!(follower.poll(&mut Nothing).unwrap() <= 1);
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn an_agent_lets_go_of_the_wal_rather_than_fill_the_disk() {
    let place = Place::new();
    let writer = place.open();
    place.sequencer.state().stores = false;
    let bounds = outbox::Options { bytes_max: 20_000, ..outbox::Options::default() };
    let wal = || std::fs::metadata(place.folder.path().join("app.db-wal")).unwrap().len();
    let agent = Running::start(Config { outbox: bounds, wal_bytes_detach: 2 << 20, ..place.config() });
    agent.attached();
    let mut number = 0;
    let mut write = |rows: u32| {
        for _ in 0..rows {
            number += 1;
            writer.execute("INSERT INTO t VALUES(?, randomblob(3000))", [number]).unwrap();
        }
    };
    write(20);
    agent.warned(ProblemKind::OutboxFull);
    while wal() < 3 << 20 {
        write(10);
    }
    let again = agent.told("let go", |event| match event {
        Event::Interrupted { again_ms } => Some(again_ms),
        _ => None,
    });
    assert!(again < 60_000);
    // Nothing holds the WAL any more, so that the application's own checkpoint begins it anew.
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    assert_eq!(writer.query_row(truncate, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    assert_eq!(wal(), 0);
    write(50);
    // Attached again only when there is room for what is captured then.
    place.sequencer.store_all();
    assert_eq!(agent.attached(), How::New { because: Because::WalBeganAnew });
    write(5);
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}
