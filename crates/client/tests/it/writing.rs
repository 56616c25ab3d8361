//! What is committed arrives, and what is not does not.

use synddb_client::{Because, Error, How, Locking, Options};

use super::{Opened, Place};

#[test]
fn rows_and_schema_arrive_as_they_are() {
    let place = Place::new();
    let mut opened = place.open();
    assert_eq!(opened.how(), How::New { because: Because::FirstAttach });
    opened.schema(
        "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b); CREATE TABLE k(n TEXT PRIMARY KEY, v) WITHOUT ROWID;
         CREATE TABLE r(v REAL, x TEXT PRIMARY KEY); CREATE INDEX i ON t(b);
         CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO r VALUES(new.a, NULL); END;
         CREATE VIRTUAL TABLE f USING fts5(words); INSERT INTO t(b) VALUES('with the schema')",
    );
    opened.write("INSERT INTO t(b) VALUES('a'), (x'00ff'), (NULL); INSERT INTO k VALUES('a', 1), ('b', 2)");
    opened.write("UPDATE k SET n = 'A' WHERE n = 'a'; DELETE FROM t WHERE b = 'a'; UPDATE t SET a = a + 100 WHERE a = 3");
    opened.write("INSERT INTO f VALUES('full text is told only at the end')");
    opened.write(
        "SAVEPOINT s; DELETE FROM t; DELETE FROM k; ROLLBACK TO s; RELEASE s; PRAGMA user_version = 7",
    );
    opened.schema("ALTER TABLE t ADD COLUMN c REAL DEFAULT 7; UPDATE t SET c = 1 WHERE a = 1");
    opened.schema(
        "CREATE TABLE n(n TEXT PRIMARY KEY, v, more DEFAULT 5) WITHOUT ROWID; INSERT INTO n(n, v) SELECT * FROM k; DROP TABLE k;
         ALTER TABLE n RENAME TO k",
    );
    let status = opened.push();
    assert_eq!(Some(status.committed_next), status.agent.stored_next);
    assert_eq!(status.committed_next.commit.get(), 8);
    place.sequencer.assert_replica_equals(&place.path());
    assert_eq!(place.sequencer.commits(), 7);
    opened.close();
}

#[test]
fn a_closure_that_fails_or_panics_leaves_nothing() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a UNIQUE)");
    let before = opened.database.status().unwrap().committed_next;
    let failed = opened.database.write(|sqlite| {
        sqlite.execute("INSERT INTO t VALUES(1)", [])?;
        Err::<(), _>(Error::Broken)
    });
    assert!(matches!(failed, Err(Error::Broken)));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        opened.database.write(|sqlite| {
            sqlite.execute("INSERT INTO t VALUES(2)", []).unwrap();
            panic!("in the middle");
            #[allow(unreachable_code, reason = "it gives the closure its type")]
            Ok::<(), Error>(())
        })
    }));
    assert!(panicked.is_err());
    let constraint = opened.try_write("INSERT INTO t VALUES(3); INSERT INTO t VALUES(3)");
    assert!(matches!(constraint, Err(Error::Sqlite(_))));
    assert_eq!(opened.number("SELECT count(*) FROM t"), 0);
    assert_eq!(opened.database.status().unwrap().committed_next, before);
    opened.write("INSERT INTO t VALUES(3)");
    opened.push();
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn a_transaction_that_changes_nothing_uses_no_number() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    let before = opened.database.status().unwrap().committed_next;
    opened.write("SELECT 1");
    opened.write("UPDATE t SET a = 2; UPDATE t SET a = 1");
    assert_eq!(opened.database.status().unwrap().committed_next, before);
    opened.close();
}

#[test]
fn exclusive_files_are_captured_too() {
    let place = Place::new();
    let options = Options { locking: Locking::Exclusive, ..place.options() };
    let mut opened = Opened::open(&place.location(), &options).unwrap();
    opened.schema("CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    opened.push();
    opened.close();
    place.sequencer.assert_replica_equals(&place.path());
}

#[test]
fn a_database_moves_between_threads() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a)");
    for number in 0..3 {
        opened = std::thread::spawn(move || {
            opened.write(&format!("INSERT INTO t VALUES({number})"));
            opened
        })
        .join()
        .unwrap();
    }
    assert_eq!(opened.number("SELECT count(*) FROM t"), 3);
    opened.push();
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn what_is_kept_is_forgotten_in_the_database() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a)");
    for number in 0..50 {
        opened.write(&format!("INSERT INTO t VALUES({number})"));
    }
    opened.push();
    opened.write("INSERT INTO t VALUES(50)");
    let waiting = "SELECT count(*) FROM _synddb_outbox";
    assert_eq!(opened.number(waiting), 1, "what was kept goes with the next transaction");
    opened.push();
    opened.close();
    let file = synddb_client::rusqlite::Connection::open(place.path()).unwrap();
    assert_eq!(file.query_row(waiting, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}
