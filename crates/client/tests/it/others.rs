//! Others at the same file: followers, other processes, programs that write.

use std::process::{Command, Stdio};

use std::time::Instant;

use synddb_client::{AgentError, Because, Error, How, Options, Until};
use synddb_sqlite::capture::{CaptureError, Follower};
use synddb_sqlite::rusqlite::Connection;
use synddb_sqlite::schema::SchemaError;

use super::sequencer::PATIENCE;
use super::{Opened, Place};

#[test]
fn a_followed_database_is_not_embedded_and_the_other_way_round() {
    let place = Place::new();
    let writer = Connection::open(place.path()).unwrap();
    writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(a)").unwrap();
    let follower = Follower::attach(&place.path(), synddb_sqlite::capture::Options::default()).unwrap();
    let refused = Opened::open(&place.location(), &place.options()).err();
    assert!(matches!(refused, Some(Error::Followed { .. })), "{refused:?}");
    drop((follower, writer));
    let opened = place.open();
    let refused = Follower::attach(&place.path(), synddb_sqlite::capture::Options::default()).err();
    assert!(matches!(refused, Some(CaptureError::Followed { .. })), "{refused:?}");
    opened.close();
    // Nobody has it open, and it still says whose it is.
    let refused = Follower::attach(&place.path(), synddb_sqlite::capture::Options::default()).err();
    assert!(matches!(refused, Some(CaptureError::Schema(SchemaError::Reserved { .. }))), "{refused:?}");
}

#[test]
fn one_database_is_embedded_once() {
    let place = Place::new();
    let opened = place.open();
    let refused = Opened::open(&place.location(), &place.options()).err();
    assert!(matches!(refused, Some(Error::Agent(AgentError::Locked { .. }))), "{refused:?}");
    let elsewhere = Options { folder: place.folder.path().join("elsewhere"), ..place.options() };
    let refused = Opened::open(&place.location(), &elsewhere).err();
    assert!(matches!(refused, Some(Error::Followed { .. })), "{refused:?}");
    opened.close();
}

/// Another process writes with a program of its own.
fn by_another_process(place: &Place, sql: &str) {
    let told = Command::new(std::env::current_exe().unwrap())
        .args(["others::writes_for_its_parent", "--exact"])
        .env("SYNDDB_CLIENT_TEST_WRITE", place.path())
        .env("SYNDDB_CLIENT_TEST_SQL", sql)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(told.success());
}

#[test]
fn writes_for_its_parent() {
    let Some(path) = std::env::var_os("SYNDDB_CLIENT_TEST_WRITE") else { return };
    let sqlite = Connection::open(path).unwrap();
    sqlite.execute_batch(&std::env::var("SYNDDB_CLIENT_TEST_SQL").unwrap()).unwrap();
}

#[test]
fn what_another_process_writes_is_noticed_before_the_next_transaction() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a)");
    opened.write("INSERT INTO t VALUES(1)");
    // A checkpoint changes nothing that counts.
    by_another_process(&place, "SELECT count(*) FROM t; PRAGMA wal_checkpoint(TRUNCATE)");
    opened.write("INSERT INTO t VALUES(2)");
    by_another_process(&place, "INSERT INTO t VALUES('theirs')");
    assert!(matches!(opened.try_write("INSERT INTO t VALUES(3)"), Err(Error::WrittenByOthers)));
    assert!(matches!(opened.try_write("INSERT INTO t VALUES(3)"), Err(Error::Broken)));
    // Nobody knows what is in it, so nobody says that all of it is stored.
    let pushed = opened.database.push(Until::Stored, Instant::now() + PATIENCE);
    assert!(matches!(pushed, Err(Error::Broken)), "{pushed:?}");
    assert!(!opened.database.close().unwrap().complete);
    let opened = place.open();
    assert_eq!(opened.how(), How::New { because: Because::CommittedMeanwhile });
    opened.push();
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn what_was_written_while_nobody_was_there_begins_anew() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a)");
    opened.close();
    by_another_process(&place, "INSERT INTO t VALUES('theirs')");
    let mut opened = place.open();
    assert_eq!(opened.how(), How::New { because: Because::CommittedMeanwhile });
    opened.write("INSERT INTO t VALUES(1)");
    opened.push();
    assert_eq!(place.sequencer.snapshots().len(), 2);
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}
