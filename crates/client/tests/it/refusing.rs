//! What is refused, and that it leaves nothing.

use std::time::Duration;

use synddb_client::{Error, Forbidden, How, Options, outbox};
use synddb_sqlite::schema::SchemaError;

use super::{Opened, Place, nowhere};

/// Runs what is refused, then makes sure that nothing of it is there and that the next transaction is well.
fn refused(opened: &mut Opened, sql: &str, in_schema: bool) -> Error {
    let before = (opened.database.status().unwrap().committed_next, opened.number("SELECT count(*) FROM t"));
    let sql = format!("INSERT INTO t VALUES('doomed'); {sql}");
    let run = |sqlite: &synddb_client::rusqlite::Connection| Ok(sqlite.execute_batch(&sql)?);
    let outcome = if in_schema { opened.database.schema(run) } else { opened.database.write(run) };
    let after = (opened.database.status().unwrap().committed_next, opened.number("SELECT count(*) FROM t"));
    assert_eq!(before, after, "{sql}");
    outcome.expect_err(&sql)
}

#[test]
fn what_cannot_be_captured_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a)");
    let schema = |found: &Error| matches!(found, Error::Forbidden(Forbidden::Schema));
    for sql in [
        "CREATE TABLE u(a)",
        "DROP TABLE t",
        "ALTER TABLE t ADD COLUMN b",
        "CREATE INDEX i ON t(a)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE VIRTUAL TABLE f USING fts5(a)",
    ] {
        let found = refused(&mut opened, sql, false);
        assert!(schema(&found), "{sql}: {found:?}");
    }
    for in_schema in [false, true] {
        for sql in ["COMMIT", "BEGIN", "END", "ROLLBACK"] {
            let found = refused(&mut opened, sql, in_schema);
            assert!(matches!(found, Error::Forbidden(Forbidden::Transaction)), "{sql}: {found:?}");
        }
        for sql in ["ATTACH ':memory:' AS other", "DETACH main"] {
            let found = refused(&mut opened, sql, in_schema);
            assert!(matches!(found, Error::Forbidden(Forbidden::Attach)), "{sql}: {found:?}");
        }
        for name in
            ["journal_mode = DELETE", "writable_schema = ON", "synchronous = OFF", "schema_version = 1"]
        {
            let found = refused(&mut opened, &format!("PRAGMA {name}"), in_schema);
            assert!(matches!(found, Error::Forbidden(Forbidden::Pragma { .. })), "{name}: {found:?}");
        }
        let found = refused(&mut opened, "DELETE FROM _synddb_outbox", in_schema);
        assert!(matches!(found, Error::Forbidden(Forbidden::Reserved { .. })), "{found:?}");
        let found = refused(
            &mut opened,
            "INSERT INTO sqlite_dbpage(pgno, data) VALUES(2, zeroblob(4096))",
            in_schema,
        );
        assert!(matches!(found, Error::Forbidden(Forbidden::Pages)), "{found:?}");
    }
    let found = refused(&mut opened, "CREATE TABLE _synddb_mine(a)", true);
    assert!(matches!(found, Error::Forbidden(Forbidden::Reserved { .. })), "{found:?}");
    let found = refused(&mut opened, "CREATE TABLE h(rowid, oid, _rowid_)", true);
    assert!(matches!(found, Error::Schema(SchemaError::HiddenRowid { .. })), "{found:?}");
    opened.write("INSERT INTO t VALUES(1)");
    opened.push();
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn a_refusal_that_the_closure_swallows_dooms_the_transaction() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a)");
    let swallowed = opened.database.write(|sqlite| {
        sqlite.execute("INSERT INTO t VALUES(1)", [])?;
        assert!(sqlite.execute_batch("COMMIT").is_err());
        Ok::<_, Error>(())
    });
    assert!(matches!(swallowed, Err(Error::Forbidden(Forbidden::Transaction))));
    assert_eq!(opened.number("SELECT count(*) FROM t"), 0);
    opened.close();
}

#[test]
fn a_compiled_statement_is_no_way_around() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a)");
    // Compiled where it may be run, kept in the cache, and run where it may not.
    let in_schema = opened.database.schema(|sqlite| {
        sqlite.prepare_cached("CREATE TABLE IF NOT EXISTS u(a)")?.execute([])?;
        sqlite.execute_batch("DROP TABLE u")?;
        Ok::<_, Error>(())
    });
    in_schema.unwrap();
    let in_write = opened.database.write(|sqlite| {
        sqlite.prepare_cached("CREATE TABLE IF NOT EXISTS u(a)")?.execute([])?;
        Ok::<_, Error>(())
    });
    assert!(matches!(in_write, Err(Error::Forbidden(Forbidden::Schema))), "{in_write:?}");
    opened
        .database
        .write(|sqlite| Ok::<_, Error>(sqlite.prepare_cached("INSERT INTO t VALUES(1)")?.execute([])?))
        .unwrap();
    let in_read = opened
        .database
        .read(|sqlite| Ok::<_, Error>(sqlite.prepare_cached("INSERT INTO t VALUES(1)")?.execute([])?));
    assert!(matches!(in_read, Err(Error::Forbidden(Forbidden::ReadOnly))), "{in_read:?}");
    let in_read = opened.database.read(|sqlite| Ok::<_, Error>(sqlite.execute("DELETE FROM t", [])?));
    assert!(matches!(in_read, Err(Error::Forbidden(Forbidden::ReadOnly))), "{in_read:?}");
    assert_eq!(opened.number("SELECT count(*) FROM t"), 1);
    opened.push();
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn a_statement_that_ends_the_transaction_commits_nothing_after_it() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema("CREATE TABLE t(a UNIQUE); INSERT INTO t VALUES(1)");
    let ended = opened.database.write(|sqlite| {
        sqlite.execute("INSERT INTO t VALUES(2)", [])?;
        assert!(sqlite.execute("INSERT OR ROLLBACK INTO t VALUES(1)", []).is_err());
        // There is no transaction any more: this would commit by itself.
        assert!(sqlite.execute("INSERT INTO t VALUES(3)", []).is_err());
        Ok::<_, Error>(())
    });
    assert!(matches!(ended, Err(Error::RolledBack)), "{ended:?}");
    assert_eq!(opened.number("SELECT count(*) FROM t"), 1);
    opened.write("INSERT INTO t VALUES(4)");
    opened.push();
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn a_deferred_constraint_that_does_not_hold_takes_the_commit_back() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema(
        "CREATE TABLE p(a PRIMARY KEY); CREATE TABLE c(a REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    );
    assert!(matches!(opened.try_write("INSERT INTO c VALUES(1)"), Err(Error::Sqlite(_))));
    opened.write("INSERT INTO c VALUES(1); INSERT INTO p VALUES(1)");
    opened.push();
    assert_eq!(place.sequencer.commits(), 2);
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn a_full_outbox_is_refused_before_anything_is_done_and_nothing_is_lost() {
    let place = Place::new();
    // The agent keeps nothing at all.
    let outbox = outbox::Options { bytes_max: 0, ..outbox::Options::default() };
    let options = Options { outbox, patience: Duration::from_millis(20), ..nowhere(place.options()) };
    let mut opened = Opened::open(&place.location(), &options).unwrap();
    opened.schema("CREATE TABLE t(a)");
    let mut written = 0;
    while opened.try_write("INSERT INTO t VALUES(randomblob(1 << 20))").is_ok() {
        written += 1;
        assert!(written < 100, "it takes everything");
    }
    assert!(written >= 60, "{written} commits fill what may wait");
    assert!(matches!(opened.try_write("INSERT INTO t VALUES(1)"), Err(Error::OutboxFull)));
    assert_eq!(opened.number("SELECT count(*) FROM t"), written);
    assert!(!opened.database.close().unwrap().complete);
    // What waited in the database is kept by the next process.
    let mut opened = place.open();
    assert_eq!(opened.how(), How::Resumed);
    opened.write("INSERT INTO t VALUES(1)");
    opened.push();
    assert_eq!(i64::try_from(place.sequencer.commits()).unwrap(), written + 2);
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}

#[test]
fn a_file_is_in_wal_mode_and_every_commit_is_synced() {
    let place = Place::new();
    let mut opened = place.open();
    assert_eq!(opened.number("PRAGMA synchronous"), 2, "2 is FULL");
    let mode: String = opened
        .database
        .read(|sqlite| Ok::<_, Error>(sqlite.query_row("PRAGMA journal_mode", [], |row| row.get(0))?))
        .unwrap();
    assert_eq!(mode, "wal");
    opened.close();
}
