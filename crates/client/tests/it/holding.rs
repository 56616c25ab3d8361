//! What holds when the application, its disk, its folder or somebody else does what nobody expects.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use synddb_client::rusqlite::{Connection, Result};
use synddb_client::{Because, Error, Event, Forbidden, How, Options, outbox};

use super::sequencer::PATIENCE;
use super::{Opened, Place, nowhere};

/// An agent that keeps next to nothing.
fn full(place: &Place) -> Options {
    let outbox = outbox::Options { bytes_max: 1, ..outbox::Options::default() };
    Options { outbox, patience: Duration::from_millis(20), ..nowhere(place.options()) }
}

/// Runs a statement that stays compiled.
fn run(sqlite: &Connection, sql: &str) -> Result<usize> {
    sqlite.prepare_cached(sql)?.execute([])
}

/// Waits until the agent keeps something.
fn wait_until_kept(opened: &Opened) {
    let until = Instant::now() + PATIENCE;
    while opened.database.status().unwrap().agent.pending.bytes == 0 {
        assert!(Instant::now() < until, "nothing is kept");
        std::thread::yield_now();
    }
}

/// Goes on exactly, and so many commits arrive at a replica that equals the database.
fn resumes_with(place: &Place, commits: usize) {
    let opened = place.open();
    assert_eq!(opened.how(), How::Resumed);
    opened.push();
    assert_eq!(place.sequencer.commits(), commits);
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn a_database_whose_outbox_is_full_is_opened_again_and_loses_nothing() {
    let place = Place::new();
    let mut opened = Opened::open(&place.location(), &full(&place)).unwrap();
    opened.schema("CREATE TABLE t(a)");
    // What its agent keeps first fills it; the rest waits in the database.
    wait_until_kept(&opened);
    for number in 0..5 {
        opened.write(&format!("INSERT INTO t VALUES({number})"));
    }
    assert!(!opened.database.close().unwrap().complete);
    // Still nobody is there, and still there is no room.
    for _ in 0..2 {
        let opened = Opened::open(&place.location(), &full(&place)).unwrap();
        assert_eq!(opened.how(), How::Resumed);
        opened.database.close().unwrap();
    }
    resumes_with(&place, 6);
}

#[test]
fn closing_ends_in_its_time_when_the_agent_cannot_keep_what_is_committed() {
    let place = Place::new();
    let mut opened = Opened::open(&place.location(), &nowhere(place.options())).unwrap();
    opened.schema("CREATE TABLE t(a)");
    opened.database.close().unwrap();
    // From now on the agent's outbox takes nothing, as on a full disk.
    let outbox = place.folder.path().join("app.db-synddb/incarnations/000000000001/outbox.db");
    let sick = |sql: &str| Connection::open(&outbox).unwrap().execute_batch(sql).unwrap();
    sick("CREATE TRIGGER sick BEFORE INSERT ON submissions BEGIN SELECT RAISE(ABORT, 'full'); END");
    let options = Options { drain_max: Duration::from_millis(300), ..nowhere(place.options()) };
    let mut opened = Opened::open(&place.location(), &options).unwrap();
    opened.write("INSERT INTO t VALUES(1)");
    let (told, ended) = channel();
    let Opened { database, events } = opened;
    let closing = std::thread::spawn(move || told.send(database.close().unwrap()).unwrap());
    let ended = ended.recv_timeout(PATIENCE).expect("close does not return");
    closing.join().unwrap();
    assert!(!ended.complete);
    drop(events);
    sick("DROP TRIGGER sick");
    let opened = place.open();
    assert_eq!(opened.how(), How::Resumed);
    opened.push();
    assert_eq!(place.sequencer.commits(), 2);
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn a_read_that_ends_its_transaction_commits_nothing() {
    for last in ["INSERT OR IGNORE INTO t VALUES(3)", "PRAGMA user_version = 7"] {
        let place = Place::new();
        let mut opened = place.open();
        opened.schema("CREATE TABLE t(a UNIQUE); INSERT INTO t VALUES(1)");
        // Compiled where it may be.
        opened.database.write(|sqlite| Ok::<_, Error>(run(sqlite, last)?)).unwrap();
        let ended = opened.database.write(|sqlite| {
            assert!(run(sqlite, "INSERT OR ROLLBACK INTO t VALUES(1)").is_err());
            Ok::<_, Error>(())
        });
        assert!(matches!(ended, Err(Error::RolledBack)), "{ended:?}");
        opened.write("DELETE FROM t WHERE a = 3; PRAGMA user_version = 1");
        let read = opened.database.read(|sqlite| {
            assert!(run(sqlite, "INSERT OR ROLLBACK INTO t VALUES(1)").is_err());
            // The application may not look at what this says.
            run(sqlite, last).ok();
            Ok::<_, Error>(())
        });
        assert!(matches!(read, Err(Error::Forbidden(Forbidden::ReadOnly))), "{last}: {read:?}");
        assert_eq!(opened.number("SELECT count(*) FROM t"), 1, "{last}");
        assert_eq!(opened.number("PRAGMA user_version"), 1, "{last}");
        assert!(matches!(opened.try_write("INSERT INTO t VALUES(4)"), Err(Error::Broken)));
        opened.database.close().unwrap();
        let opened = place.open();
        assert_eq!(opened.how(), How::Resumed, "{last}");
        opened.push();
        place.sequencer.assert_replica_equals(&place.path());
        opened.close();
    }
}

#[test]
fn full_text_and_spatial_tables_are_read_after_reopening() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema(
        "CREATE VIRTUAL TABLE r USING rtree(id, a, b, +c); CREATE VIRTUAL TABLE f USING fts5(x);
         CREATE VIRTUAL TABLE g USING fts4(x)",
    );
    opened.write("INSERT INTO r VALUES(1, 0, 1, 2); INSERT INTO f VALUES('a'); INSERT INTO g VALUES('a')");
    opened.close();
    for sql in [
        "SELECT count(*) FROM r WHERE a < 5",
        "SELECT count(*) FROM f WHERE f MATCH 'a'",
        "SELECT count(*) FROM g WHERE g MATCH 'a'",
    ] {
        let mut opened = place.open();
        assert_eq!(opened.number(sql), 1, "{sql}");
        // One that is made while it is open, and connected anew after a schema that was taken back.
        opened.schema("CREATE VIRTUAL TABLE late USING rtree(id, a, b)");
        assert!(opened.database.schema(|_| Err::<(), _>(Error::Broken)).is_err());
        assert_eq!(opened.number("SELECT count(*) FROM late"), 0);
        opened.schema("DROP TABLE late");
        for table in ["r_node", "r_rowid", "r_parent"] {
            let changed = opened
                .database
                .read(|sqlite| Ok::<_, Error>(sqlite.execute(&format!("DELETE FROM {table}"), [])?));
            assert!(changed.is_err(), "{table}");
        }
        opened.close();
    }
}

#[test]
fn what_is_written_right_behind_the_opening_is_noticed() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a)");
    opened.close();
    let mut noticed = 0;
    let until = Instant::now() + PATIENCE;
    while noticed < 3 {
        assert!(Instant::now() < until, "nobody came between");
        let other = Connection::open(place.path()).unwrap();
        let stop = &AtomicBool::new(false);
        let opened = std::thread::scope(|scope| {
            // Writes once, as soon as the opening has begun and has let go.
            scope.spawn(move || {
                let is_stopped = || stop.load(Ordering::SeqCst);
                other.busy_timeout(Duration::ZERO).unwrap();
                while !is_stopped() && other.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
                    std::thread::yield_now();
                }
                while !is_stopped() && other.execute("INSERT INTO t VALUES('theirs')", []).is_err() {}
            });
            let opened = Opened::open(&place.location(), &nowhere(place.options()));
            stop.store(true, Ordering::SeqCst);
            opened
        });
        let Ok(mut opened) = opened else { continue };
        let written = opened.try_write("INSERT INTO t VALUES('ours')");
        opened.database.close().unwrap();
        if written.is_err() {
            assert!(matches!(written, Err(Error::WrittenByOthers)), "{written:?}");
            noticed += 1;
            continue;
        }
        // Either it came before, or not at all: what was captured is what is there.
        let again = Opened::open(&place.location(), &nowhere(place.options())).unwrap();
        assert_eq!(again.how(), How::Resumed);
        again.database.close().unwrap();
    }
}

#[test]
fn another_folder_takes_nothing_of_what_waits() {
    let place = Place::new();
    let mut opened = Opened::open(&place.location(), &full(&place)).unwrap();
    opened.schema("CREATE TABLE t(a)");
    wait_until_kept(&opened);
    for _ in 0..5 {
        opened.write("INSERT INTO t VALUES(1)");
    }
    opened.database.close().unwrap();
    for name in ["typo", "typo"] {
        let options = Options { folder: place.folder.path().join(name), ..nowhere(place.options()) };
        let refused = Opened::open(&place.location(), &options).err();
        assert!(
            matches!(&refused, Some(Error::OtherFolder { folder }) if folder.ends_with(name)),
            "{refused:?}"
        );
    }
    resumes_with(&place, 6);
}

#[test]
fn a_database_that_is_dropped_is_opened_again_at_once() {
    let place = Place::new();
    let options = Options { drain_max: 2 * PATIENCE, ..nowhere(place.options()) };
    let began = Instant::now();
    let mut opened = Opened::open(&place.location(), &options).unwrap();
    opened.schema("CREATE TABLE t(a)");
    drop(opened);
    let opened = Opened::open(&place.location(), &options).unwrap();
    assert_eq!(opened.how(), How::Resumed);
    drop(opened);
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn an_interrupted_transaction_fails_alone() {
    let place = Place::new();
    let mut opened = Opened::open(&place.location(), &nowhere(place.options())).unwrap();
    opened.schema("CREATE TABLE t(a)");
    let handle = opened.database.read(|sqlite| Ok::<_, Error>(sqlite.get_interrupt_handle())).unwrap();
    let stop = AtomicBool::new(false);
    let (mut written, mut interrupted) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                handle.interrupt();
                std::thread::yield_now();
            }
        });
        let until = Instant::now() + PATIENCE;
        while (written < 20 || interrupted < 20) && Instant::now() < until {
            match opened.try_write("INSERT INTO t VALUES(1)") {
                Ok(()) => written += 1,
                Err(Error::Broken) => break,
                Err(_) => interrupted += 1,
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(interrupted >= 20, "{written} written, {interrupted} interrupted");
    opened.write("INSERT INTO t VALUES(1)");
    assert_eq!(opened.number("SELECT count(*) FROM t"), written + 1);
    opened.database.close().unwrap();
    let opened = place.open();
    assert_eq!(opened.how(), How::Resumed);
    opened.push();
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn nothing_is_put_on_the_table_of_what_waits() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a)");
    for sql in [
        "CREATE TRIGGER x AFTER INSERT ON _synddb_outbox BEGIN DELETE FROM t; END",
        "CREATE TEMP TRIGGER x AFTER INSERT ON main._synddb_outbox BEGIN DELETE FROM t; END",
        "CREATE UNIQUE INDEX x ON _synddb_outbox(counter)",
    ] {
        for in_schema in [false, true] {
            let run = |sqlite: &Connection| Ok::<_, Error>(sqlite.execute_batch(sql)?);
            let made = if in_schema { opened.database.schema(run) } else { opened.database.write(run) };
            assert!(matches!(made, Err(Error::Forbidden(Forbidden::Reserved { .. }))), "{sql}: {made:?}");
        }
    }
    opened.close();
    // Somebody else does it while nobody is there.
    let other = Connection::open(place.path()).unwrap();
    for (make, take) in [
        ("CREATE TRIGGER x AFTER INSERT ON _synddb_outbox BEGIN DELETE FROM t; END", "DROP TRIGGER x"),
        ("CREATE INDEX x ON _SYNDDB_outbox(counter)", "DROP INDEX x"),
    ] {
        other.execute_batch(make).unwrap();
        let refused = Opened::open(&place.location(), &place.options()).err();
        assert!(matches!(&refused, Some(Error::Crowded { name }) if name == "x"), "{make}: {refused:?}");
        other.execute_batch(take).unwrap();
    }
    drop(other);
    let opened = place.open();
    assert_eq!(opened.how(), How::Resumed);
    opened.close();
}

#[test]
fn a_commit_that_waits_and_is_taken_away_is_noticed() {
    let place = Place::new();
    let mut opened = Opened::open(&place.location(), &full(&place)).unwrap();
    opened.schema("CREATE TABLE t(a)");
    wait_until_kept(&opened);
    for _ in 0..3 {
        opened.write("INSERT INTO t VALUES(1)");
    }
    let other = Connection::open(place.path()).unwrap();
    // A checkpoint is nothing of the kind.
    other.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    opened.write("INSERT INTO t VALUES(1)");
    let newest = "DELETE FROM _synddb_outbox WHERE number = (SELECT max(number) FROM _synddb_outbox)";
    assert_eq!(other.execute(newest, []).unwrap(), 1);
    drop(other);
    let written = opened.try_write("INSERT INTO t VALUES(1)");
    assert!(matches!(written, Err(Error::WrittenByOthers)), "{written:?}");
    opened.database.close().unwrap();
    let opened = place.open();
    assert_eq!(opened.how(), How::New { because: Because::CommittedMeanwhile });
    opened.push();
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn an_agent_that_has_ended_is_named_when_no_more_may_wait() {
    let place = Place::new();
    let options = Options { patience: Duration::from_millis(20), ..nowhere(place.options()) };
    let mut opened = Opened::open(&place.location(), &options).unwrap();
    opened.schema("CREATE TABLE t(a)");
    opened.database.close().unwrap();
    // The agent's outbox takes nothing, and is gone when it is to be opened again.
    let outbox = place.folder.path().join("app.db-synddb/incarnations/000000000001/outbox.db");
    let sick = "CREATE TRIGGER sick BEFORE INSERT ON submissions BEGIN SELECT RAISE(ABORT, 'full'); END";
    Connection::open(&outbox).unwrap().execute_batch(sick).unwrap();
    let mut opened = Opened::open(&place.location(), &options).unwrap();
    std::fs::rename(&outbox, outbox.with_extension("away")).unwrap();
    opened.write("INSERT INTO t VALUES(1)");
    let has_ended = |event| matches!(event, Event::Ended { .. });
    while !has_ended(opened.events.lock().unwrap().recv_timeout(PATIENCE).unwrap()) {}
    let mut taken = 0;
    let refused = loop {
        match opened.try_write("INSERT INTO t VALUES(randomblob(1 << 20))") {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "it takes everything");
    };
    assert!(matches!(refused, Error::AgentEnded), "{refused:?}");
    let closed = opened.database.close();
    assert!(matches!(closed, Err(Error::Agent(_))), "{closed:?}");
}
