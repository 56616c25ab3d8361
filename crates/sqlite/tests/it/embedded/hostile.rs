//! Transactions that mean to leave a recorder with something wrong: none of it reaches the next one, or the file.

use synddb_sqlite::capture::embedded::{RecordError, Scope, TRANSACTION_BYTES_MAX};
use synddb_sqlite::rusqlite::limits::Limit;
use synddb_sqlite::rusqlite::{self, ffi};

use super::{Pair, pair, refusal};

/// Blobs of 1 MiB that are together more than a transaction may change.
fn too_many_blobs(table: &str) -> String {
    let count = (TRANSACTION_BYTES_MAX >> 20) + 1;
    format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO {table} SELECT zeroblob(1 << 20) FROM n"
    )
}

fn rows(pair: &Pair, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    pair.writer.sqlite().query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_schema_that_fails_late_leaves_nothing_to_the_next_transaction() {
    for doomed in ["ALTER TABLE a ADD COLUMN y DEFAULT 5", "ALTER TABLE a RENAME COLUMN x TO y"] {
        let (_folder, mut pair) = pair("CREATE TABLE a(x); INSERT INTO a VALUES(1)");
        // `a` is looked at before a row of `z` is found to be longer than a row may be.
        let refused = pair.record(Scope::Schema, |sqlite| {
            sqlite.execute_batch(doomed)?;
            sqlite.execute_batch("CREATE TABLE z(x); INSERT INTO z VALUES(zeroblob(100000))")?;
            sqlite.set_limit(Limit::SQLITE_LIMIT_LENGTH, 50_000).map(drop)
        });
        match *refused.unwrap_err().downcast().unwrap() {
            RecordError::Sqlite(error) => assert_eq!(error.code(), ffi::SQLITE_TOOBIG, "{doomed}"),
            other => panic!("{doomed}: {other:?}"),
        }
        pair.writer.sqlite().set_limit(Limit::SQLITE_LIMIT_LENGTH, 1_000_000).unwrap();
        pair.step_in(Scope::Rows, "INSERT INTO a VALUES(77)").unwrap();
        pair.step_in(Scope::Rows, "UPDATE a SET x = x + 1").unwrap();
    }
}

#[test]
fn a_schema_that_its_caller_takes_back_leaves_nothing_to_the_next_transaction() {
    let (_folder, mut pair) = pair("CREATE TABLE a(x); INSERT INTO a VALUES(1)");
    pair.step("INSERT INTO a VALUES(2)").unwrap();
    // The transaction is over before anybody asks what it changed.
    for sql in ["ALTER TABLE a RENAME COLUMN x TO y; INSERT INTO a VALUES(3); nonsense", "ROLLBACK"] {
        pair.record(Scope::Schema, |sqlite| sqlite.execute_batch(sql)).unwrap_err();
        pair.step_in(Scope::Rows, "UPDATE a SET x = x + 1").unwrap();
    }
}

#[test]
fn names_of_columns_that_look_like_text_are_columns() {
    let (_folder, mut pair) = pair(
        r#"CREATE TABLE t("t" INTEGER PRIMARY KEY, "a""b", "rowid"); CREATE TABLE k("t.t" PRIMARY KEY, "t") WITHOUT ROWID;
           CREATE TABLE "t.x"("oid", 't'); INSERT INTO t VALUES(1, 2, 3); INSERT INTO k VALUES('a', 1)"#,
    );
    pair.step(r#"UPDATE t SET "a""b" = 5; INSERT INTO "t.x" VALUES(1, 2); UPDATE k SET t = 2"#).unwrap();
    pair.step(
        r#"ALTER TABLE "t.x" ADD COLUMN "q"; UPDATE "t.x" SET q = 3; DELETE FROM k; UPDATE t SET t = 9"#,
    )
    .unwrap();
}

#[test]
fn nothing_is_committed_while_only_reading_is_allowed() {
    let (_folder, mut pair) = pair("CREATE TABLE t(a UNIQUE); INSERT INTO t VALUES(1)");
    let run = |pair: &Pair, sql: &str| pair.writer.execute(sql).map_err(|error| error.code());

    pair.writer.execute("BEGIN").unwrap();
    pair.recorder.begin_reading();
    assert_eq!(rows(&pair, "t"), 1);
    assert!(!pair.recorder.end_reading(), "nothing but reading was done");
    pair.writer.execute("ROLLBACK").unwrap();
    assert!(!pair.recorder.end_reading(), "nobody reads");

    pair.writer.execute("BEGIN").unwrap();
    pair.recorder.begin_reading();
    assert_eq!(run(&pair, "INSERT OR ROLLBACK INTO t VALUES(1)"), Err(ffi::SQLITE_CONSTRAINT_UNIQUE));
    assert!(pair.writer.sqlite().is_autocommit());
    assert_eq!(run(&pair, "INSERT INTO t VALUES(2)"), Err(ffi::SQLITE_CONSTRAINT_COMMITHOOK));
    // No row changes, so that nobody is told but who is asked for the COMMIT.
    assert_eq!(run(&pair, "PRAGMA user_version = 7"), Err(ffi::SQLITE_CONSTRAINT_COMMITHOOK));
    assert!(pair.recorder.end_reading());
    assert_eq!(rows(&pair, "t"), 1);

    pair.writer.execute("BEGIN").unwrap();
    pair.recorder.begin_reading();
    assert_eq!(run(&pair, "PRAGMA user_version = 7; COMMIT"), Err(ffi::SQLITE_CONSTRAINT_COMMITHOOK));
    assert!(pair.recorder.end_reading());

    pair.writer.execute("BEGIN").unwrap();
    pair.recorder.begin_reading();
    pair.writer.execute("ROLLBACK").unwrap();
    assert!(pair.recorder.end_reading(), "the transaction that was read in is over");
    pair.step("INSERT INTO t VALUES(3)").unwrap();
}

#[test]
fn a_savepoint_after_a_rollback_does_not_commit_the_rest() {
    let (_folder, mut pair) = pair("CREATE TABLE t(a UNIQUE); INSERT INTO t VALUES(1)");
    let half = |sqlite: &rusqlite::Connection| {
        sqlite.execute("INSERT INTO t VALUES('debit')", [])?;
        sqlite.execute("INSERT OR ROLLBACK INTO t VALUES(1)", []).unwrap_err();
        sqlite.execute_batch("SAVEPOINT s; INSERT INTO t VALUES('credit')")
    };
    let refused = pair.record(Scope::Rows, half).unwrap_err();
    assert!(matches!(*refused.downcast().unwrap(), RecordError::NoTransaction));
    assert_eq!(rows(&pair, "t"), 1);
    // Nor does its end, which is a COMMIT.
    let ended = pair.record(Scope::Rows, |sqlite| {
        half(sqlite)?;
        sqlite.execute_batch("RELEASE s")
    });
    let code =
        ended.unwrap_err().downcast::<rusqlite::Error>().unwrap().sqlite_error().unwrap().extended_code;
    assert_eq!(code, ffi::SQLITE_CONSTRAINT_COMMITHOOK);
    assert_eq!(rows(&pair, "t"), 1);
    pair.step_in(Scope::Rows, "INSERT INTO t VALUES('whole')").unwrap();
}

#[test]
fn too_much_is_refused_before_it_is_held() {
    let (_folder, mut pair) = pair("CREATE TABLE t(a)");
    let before = peak_memory();
    // Three times what is allowed.
    let sql = too_many_blobs("t");
    let found = refusal(&mut pair, Scope::Rows, &format!("{sql}; {sql}; {sql}"));
    assert!(matches!(found, RecordError::TooLarge), "{found:?}");
    let grown = peak_memory().saturating_sub(before);
    // What SQLite itself keeps of the pages comes on top, and what other tests hold.
    assert!(grown < 2 * TRANSACTION_BYTES_MAX, "{grown} bytes");
    pair.step_in(Scope::Rows, "INSERT INTO t VALUES(1)").unwrap();
}

/// The most memory that this process held.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn a_table_without_rowids_that_is_made_again_otherwise_travels_whole() {
    let (_folder, mut pair) =
        pair("CREATE TABLE t(a, b, k PRIMARY KEY) WITHOUT ROWID; INSERT INTO t VALUES(1, 2, 3), (4, 5, 6)");
    pair.step(
        "UPDATE t SET a = 7 WHERE k = 3; CREATE TABLE n(k PRIMARY KEY, a) WITHOUT ROWID; INSERT INTO n SELECT k, a FROM t;
         DROP TABLE t; ALTER TABLE n RENAME TO t; INSERT INTO t VALUES(9, 9)",
    )
    .unwrap();
    pair.step("UPDATE t SET a = 10 WHERE k = 9").unwrap();
    // Made again narrower, written to, and then as it was.
    pair.step(
        "DROP TABLE t; CREATE TABLE t(k); INSERT INTO t VALUES(1); DROP TABLE t;
         CREATE TABLE t(k PRIMARY KEY, a) WITHOUT ROWID; INSERT INTO t VALUES(9, 11)",
    )
    .unwrap();
    pair.step("UPDATE t SET a = 12").unwrap();
}

#[test]
fn rows_of_a_table_that_a_savepoint_takes_with_it_are_not_taken_for_those_that_stay() {
    let (_folder, mut pair) = pair("CREATE TABLE t(a, b); INSERT INTO t VALUES(1, 1), (2, 2)");
    pair.step(
        "SAVEPOINT s; DROP TABLE t; CREATE TABLE t(a, b); INSERT INTO t VALUES('other', 'row');
         ROLLBACK TO s; RELEASE s; UPDATE t SET b = 5 WHERE a = 1",
    )
    .unwrap();
    pair.step("UPDATE t SET b = 6").unwrap();
}
