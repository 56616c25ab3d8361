//! Whole files under a follower: copied over, copied from, two in one transaction, of another encoding, spilled, shrunk.
//!
//! What SQLite allows is captured, or ends the follower with an error that says what to do; nothing wrong is captured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use synddb_sqlite::capture::{CaptureError, Options};
use synddb_sqlite::rusqlite::backup::{Backup, StepResult};
use synddb_sqlite::rusqlite::{self, ErrorCode};
use tempfile::TempDir;

use super::mirrored::Mirrored;

/// Rows of every kind of table, some of them on overflow pages.
const CONTENT: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, b);
    CREATE TABLE r(a UNIQUE, b);
    CREATE TABLE w(k, n, v, PRIMARY KEY(n, k)) WITHOUT ROWID;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
        INSERT INTO t(a, b) SELECT 'row ' || i, zeroblob(i * 7) FROM n;
    INSERT INTO r SELECT 'r' || id, zeroblob(20000 * (id % 50 = 7)) FROM t;
    INSERT INTO w SELECT 'key' || (id % 50), id, a || a FROM t;";

fn open(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}

fn made(folder: &TempDir, name: &str, sql: &str) -> (PathBuf, rusqlite::Connection) {
    let path = folder.path().join(name);
    let connection = open(&path);
    connection.execute_batch(sql).unwrap();
    (path, connection)
}

fn followed(folder: &TempDir, name: &str, sql: &str) -> (rusqlite::Connection, Mirrored) {
    let (path, connection) = made(folder, name, sql);
    (connection, Mirrored::attach(&path, Options::default()).unwrap())
}

/// Copies a whole database over another one.
fn copy_over(from: &rusqlite::Connection, to: &mut rusqlite::Connection) -> rusqlite::Result<()> {
    Backup::new(from, to)?.run_to_completion(1000, Duration::ZERO, None)
}

#[test]
fn a_backup_into_the_database_is_one_commit() {
    let other = [
        ("larger", format!("{CONTENT} INSERT INTO t(a, b) SELECT a, zeroblob(3000) FROM t")),
        ("smaller", "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, b); INSERT INTO t VALUES(7, 'x', 'y')".to_owned()),
        ("empty", String::new()),
        ("of other tables", "CREATE TABLE w(v, k); INSERT INTO w VALUES(1, 2); CREATE VIRTUAL TABLE t USING fts5(x); INSERT INTO t VALUES('one')".to_owned()),
        ("with names in other places", "CREATE TABLE w(k, n, v, PRIMARY KEY(n, k)) WITHOUT ROWID; CREATE TABLE r(a UNIQUE, b); INSERT INTO r VALUES(1, zeroblob(9999)); INSERT INTO w VALUES(1, 2, 3)".to_owned()),
        ("with pointer maps", format!("PRAGMA auto_vacuum = FULL; {CONTENT} DELETE FROM t WHERE id < 200")),
        ("with header values", format!("{CONTENT} PRAGMA user_version = -5; PRAGMA application_id = 77")),
    ];
    for (name, sql) in other {
        let folder = tempfile::tempdir().unwrap();
        let (mut application, mut mirrored) = followed(&folder, "app.db", CONTENT);
        let (_, source) = made(&folder, "other.db", &sql);
        copy_over(&source, &mut application).unwrap();
        assert_eq!(mirrored.catch_up(name), 1, "{name}");
        application.execute_batch("CREATE TABLE later(x); INSERT INTO later VALUES(1)").unwrap();
        mirrored.catch_up(name);
        // And back to what there was, which the first backup overwrote.
        let (_, original) = made(&folder, "original.db", CONTENT);
        copy_over(&original, &mut application).unwrap();
        mirrored.catch_up(name);
        application.execute_batch("DELETE FROM t WHERE id % 3 = 0; VACUUM").unwrap();
        mirrored.catch_up(name);
    }
}

#[test]
fn a_backup_in_steps_is_seen_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (mut application, mut mirrored) = followed(&folder, "app.db", CONTENT);
    let (_, source) = made(&folder, "other.db", &format!("{CONTENT} UPDATE t SET b = 'other'; DROP TABLE r"));
    let second = open(&mirrored.path);
    second.busy_timeout(Duration::ZERO).unwrap();
    {
        let backup = Backup::new(&source, &mut application).unwrap();
        let mut steps = 0;
        while backup.step(5).unwrap() == StepResult::More {
            steps += 1;
            assert_eq!(mirrored.catch_up("between steps"), 0);
            // The whole backup is one transaction, which keeps others from writing.
            let refused = second.execute_batch("INSERT INTO r VALUES('between', 1)").unwrap_err();
            assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
            // What changes in the source meanwhile is copied again.
            source.execute_batch("UPDATE t SET a = a || 'x' WHERE id % 40 = 0").unwrap();
        }
        assert!(steps > 3, "{steps}");
    }
    assert_eq!(mirrored.catch_up("at the end"), 1);
    second.execute_batch("INSERT INTO t(a) VALUES('after')").unwrap();
    assert_eq!(mirrored.catch_up("after it"), 1);
    // One that is given up half way is rolled back.
    let backup = Backup::new(&source, &mut application).unwrap();
    assert_eq!(backup.step(5).unwrap(), StepResult::More);
    drop(backup);
    assert_eq!(mirrored.catch_up("given up"), 0);
    second.execute_batch("INSERT INTO t(a) VALUES('after that')").unwrap();
    assert_eq!(mirrored.catch_up("after giving up"), 1);
}

#[test]
fn a_backup_of_another_form_is_refused_or_ends_the_follower() {
    let folder = tempfile::tempdir().unwrap();
    let (mut application, mut mirrored) = followed(&folder, "app.db", CONTENT);
    // SQLite itself refuses another page size: the database is in WAL mode.
    let (_, source) = made(&folder, "pages.db", &format!("PRAGMA page_size = 1024; {CONTENT}"));
    let refused = copy_over(&source, &mut application).unwrap_err();
    assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::ReadOnly));
    assert_eq!(mirrored.catch_up("another page size"), 0);
    application.execute_batch("INSERT INTO t(a) VALUES('still here')").unwrap();
    assert_eq!(mirrored.catch_up("after a refused backup"), 1);
    // Another encoding it does not refuse.
    let (_, source) = made(&folder, "text.db", &format!("PRAGMA encoding = 'UTF-16le'; {CONTENT}"));
    copy_over(&source, &mut application).unwrap();
    let error = mirrored.fails();
    assert!(matches!(error, CaptureError::EncodingChanged), "{error}");
    assert!(error.to_string().contains("attach again"), "{error}");
    assert!(matches!(mirrored.fails(), CaptureError::Stopped));
    // Which is the fix.
    drop(mirrored);
    let path = folder.path().join("app.db");
    let mut mirrored = Mirrored::attach(&path, Options::default()).unwrap();
    open(&path).execute_batch("INSERT INTO t(a) VALUES('söme täxt')").unwrap();
    assert_eq!(mirrored.catch_up("attached again"), 1);
}

#[test]
fn a_backup_of_other_reserved_bytes_ends_the_follower() {
    let folder = tempfile::tempdir().unwrap();
    let (mut application, mut mirrored) = followed(&folder, "app.db", CONTENT);
    let (path, source) = made(&folder, "reserved.db", CONTENT);
    super::capture_matrix::reserve(&source, 32);
    source.execute_batch("VACUUM").unwrap();
    assert_eq!(std::fs::read(path).unwrap()[20], 32);
    copy_over(&source, &mut application).unwrap();
    let error = mirrored.fails();
    assert!(matches!(error, CaptureError::PageSizeChanged), "{error}");
    assert!(error.to_string().contains("attach again"), "{error}");
}

#[test]
fn a_backup_from_the_database_takes_nothing_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let (application, mut mirrored) = followed(&folder, "app.db", CONTENT);
    let path = folder.path().join("copy.db");
    let mut copy = open(&path);
    {
        let reader = open(&mirrored.path);
        let backup = Backup::new(&reader, &mut copy).unwrap();
        let mut steps = 0;
        loop {
            // Commits of another connection make it begin again.
            if steps < 5 {
                application.execute_batch("UPDATE t SET a = a || 'y' WHERE id % 90 = 0").unwrap();
                assert_eq!(mirrored.catch_up("between steps"), 1);
            }
            steps += 1;
            if backup.step(10).unwrap() == StepResult::Done {
                break;
            }
        }
    }
    copy.close().unwrap();
    assert_eq!(mirrored.catch_up("at the end"), 0);
    assert_eq!(
        synddb_sqlite::compare::first_difference(&mirrored.path, &path)
            .unwrap()
            .map(|found| found.to_string()),
        None
    );
}

#[test]
fn a_transaction_over_two_databases_is_captured_in_both() {
    let folder = tempfile::tempdir().unwrap();
    let (application, mut one) = followed(&folder, "one.db", CONTENT);
    let (_, mut two) = followed(&folder, "two.db", &format!("PRAGMA page_size = 1024; {CONTENT}"));
    let attach = format!("ATTACH '{}' AS two", two.path.display());
    application.execute_batch(&attach).unwrap();
    for (sql, commits) in [
        ("BEGIN; INSERT INTO t(a) VALUES('both'); INSERT INTO two.t(a) VALUES('both'); COMMIT", (1, 1)),
        ("BEGIN; UPDATE t SET b = 1 WHERE id < 9; SELECT 1 FROM two.t; COMMIT", (1, 0)),
        ("BEGIN; DELETE FROM two.r WHERE rowid % 2; UPDATE w SET v = 5 WHERE n % 3 = 0; ROLLBACK", (0, 0)),
        ("BEGIN; CREATE TABLE two.moved AS SELECT * FROM main.t; DROP TABLE main.r; COMMIT", (1, 1)),
        (
            "BEGIN; SAVEPOINT s; DELETE FROM t; INSERT INTO two.w SELECT k, -n, v FROM main.w; ROLLBACK TO s; \
             INSERT INTO two.moved(a) VALUES('kept'); COMMIT",
            // What was taken back is written all the same, as it was.
            (1, 1),
        ),
        (
            "CREATE TEMP TRIGGER across AFTER INSERT ON main.t BEGIN INSERT INTO moved(a) VALUES(new.a); END",
            (0, 0),
        ),
        ("INSERT INTO main.t(a) VALUES('over the temporary trigger')", (1, 1)),
        ("PRAGMA two.user_version = 8", (0, 1)),
        ("VACUUM two", (0, 1)),
    ] {
        application.execute_batch(sql).unwrap();
        assert_eq!((one.catch_up(sql), two.catch_up(sql)), commits, "{sql}");
    }
}

#[test]
fn the_encoding_of_an_empty_database_may_change_and_ends_the_follower() {
    let folder = tempfile::tempdir().unwrap();
    let (application, mirrored) = followed(&folder, "app.db", "PRAGMA user_version = 3");
    drop(application);
    let mut mirrored = mirrored;
    let application = open(&mirrored.path);
    application.execute_batch("PRAGMA encoding = 'UTF-16be'; CREATE TABLE t(a)").unwrap();
    let error = mirrored.fails();
    assert!(matches!(error, CaptureError::EncodingChanged), "{error}");
    // With tables, SQLite does not change it.
    let (_, mut mirrored) = followed(&folder, "other.db", CONTENT);
    let application = open(&mirrored.path);
    application
        .execute_batch("PRAGMA encoding = 'UTF-16be'; DELETE FROM t; VACUUM; CREATE TABLE u(a)")
        .unwrap();
    mirrored.catch_up("an encoding that is not taken");
    application.execute_batch("DROP TABLE r; DROP TABLE t; DROP TABLE w; DROP TABLE u; VACUUM").unwrap();
    mirrored.catch_up("an empty database that had tables");
    let application = open(&mirrored.path);
    application
        .execute_batch("PRAGMA encoding = 'UTF-16be'; CREATE TABLE v(a); INSERT INTO v VALUES('text')")
        .unwrap();
    mirrored.catch_up("an encoding that stays with the file");
}

#[test]
fn the_page_size_cannot_change_under_a_follower() {
    let folder = tempfile::tempdir().unwrap();
    let (application, mut mirrored) = followed(&folder, "app.db", CONTENT);
    application.busy_timeout(Duration::ZERO).unwrap();
    // It has not noticed yet that the follower switched to WAL mode, so that this does nothing.
    application
        .execute_batch("PRAGMA journal_mode = DELETE; INSERT INTO t(a) VALUES('into the WAL')")
        .unwrap();
    assert_eq!(mirrored.catch_up("a mode that is left already"), 1);
    // The only way to another one is to leave WAL mode, which SQLite refuses while anybody else has the database open.
    let refused = application.execute_batch("PRAGMA journal_mode = DELETE").unwrap_err();
    assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    let mode: String = application.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    application.execute_batch("PRAGMA page_size = 8192; VACUUM").unwrap();
    assert_eq!(mirrored.catch_up("a page size that is not taken"), 1);
    let size: u32 = application.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    assert_eq!(size, 4096);
}

fn wal_bytes(mirrored: &Mirrored) -> u64 {
    std::fs::metadata(format!("{}-wal", mirrored.path.display())).unwrap().len()
}

/// Makes a cache of a few pages, which spills early.
const SPILL: &str = "PRAGMA cache_size = 5; PRAGMA cache_spill = 1; PRAGMA wal_autocheckpoint = 0";

#[test]
fn what_the_cache_spilled_is_captured_as_it_was_committed() {
    let transactions = [
        // Rolled back to a save point after its changes have left the cache.
        "BEGIN; UPDATE w SET v = 'one' WHERE n % 5 = 0; SAVEPOINT s; UPDATE t SET b = zeroblob(4000); DELETE FROM w WHERE n % 2; \
         ROLLBACK TO s; UPDATE t SET a = 'kept' WHERE id % 7 = 0;",
        // The same, and then the same pages with something else.
        "BEGIN; UPDATE t SET b = 1; SAVEPOINT s; UPDATE t SET b = 2; SAVEPOINT q; UPDATE t SET b = 3; ROLLBACK TO q; \
         UPDATE t SET b = 4 WHERE id % 2; RELEASE s;",
        // A statement that fails in its middle, and the transaction goes on.
        "BEGIN; UPDATE r SET b = zeroblob(900); INSERT OR IGNORE INTO r SELECT a, 1 FROM r; DELETE FROM r WHERE rowid % 4 = 0;",
    ];
    for sql in transactions {
        let folder = tempfile::tempdir().unwrap();
        let (application, mut mirrored) =
            followed(&folder, "app.db", &format!("PRAGMA page_size = 1024; {CONTENT}"));
        application.execute_batch(SPILL).unwrap();
        let before = wal_bytes(&mirrored);
        application.execute_batch(sql).unwrap();
        assert!(wal_bytes(&mirrored) > before, "nothing was spilled: {sql}");
        assert_eq!(mirrored.catch_up("spilled and not committed"), 0);
        application.execute_batch("COMMIT").unwrap();
        assert_eq!(mirrored.catch_up(sql), 1);
        #[cfg(feature = "probes")]
        assert!(mirrored.follower.footprints()[0].spilled_frames > 0, "{sql}");
    }
}

#[test]
fn what_was_spilled_and_rolled_back_is_never_captured() {
    let folder = tempfile::tempdir().unwrap();
    let (application, mut mirrored) =
        followed(&folder, "app.db", &format!("PRAGMA page_size = 1024; {CONTENT}"));
    application.execute_batch(SPILL).unwrap();
    for round in 0..3 {
        let before = wal_bytes(&mirrored);
        application
            .execute_batch("BEGIN; UPDATE t SET b = zeroblob(5000); DELETE FROM r; DROP TABLE w")
            .unwrap();
        assert!(wal_bytes(&mirrored) > before, "nothing was spilled");
        application.execute_batch("ROLLBACK").unwrap();
        assert_eq!(mirrored.catch_up("frames that no commit made valid"), 0);
        // Overwrites some of them; the others stay behind it, with the running generation's salts.
        application.execute_batch("INSERT INTO t(a) VALUES('small')").unwrap();
        assert_eq!(mirrored.catch_up("a small commit before them"), 1);
        application.execute_batch(&format!("UPDATE t SET b = zeroblob(30{round}) WHERE id % 2")).unwrap();
        assert_eq!(mirrored.catch_up("a large commit over them"), 1, "{round}");
    }
}

#[test]
fn blobs_that_are_written_in_place_are_captured() {
    let setup = "PRAGMA page_size = 1024; CREATE TABLE t(id INTEGER PRIMARY KEY, a, b); CREATE TABLE r(b, c UNIQUE);
        INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) SELECT i, zeroblob(10), zeroblob(i * 900) FROM n;
        INSERT INTO r SELECT b, 'c' || id FROM t";
    let folder = tempfile::tempdir().unwrap();
    let (application, mut mirrored) = followed(&folder, "app.db", setup);
    // Where in the blob, and how much: on the leaf, over the edge of the leaf, inside one overflow page, over several, the last bytes.
    for (table, row, offset, length) in [
        ("t", 3, 0, 5),
        ("t", 20, 0, 2000),
        ("t", 20, 9000, 10),
        ("r", 19, 3000, 5000),
        ("r", 20, 17_990, 10),
        ("t", 1, 0, 900),
    ] {
        {
            let mut blob = application.blob_open("main", table, "b", row, false).unwrap();
            blob.write_at(&vec![7; length], offset).unwrap();
        }
        assert_eq!(mirrored.catch_up(&format!("{table} {row} {offset} {length}")), 1);
    }
    // The rows move to other pages, and are written there.
    application.execute_batch("INSERT INTO t SELECT id + 100, zeroblob(300), zeroblob(3000) FROM t; UPDATE t SET a = zeroblob(600) WHERE id < 10").unwrap();
    mirrored.catch_up("rows that move");
    for row in [5, 9, 18, 105] {
        let transaction = application.unchecked_transaction().unwrap();
        {
            let mut blob = application.blob_open("main", "t", "b", row, false).unwrap();
            blob.write_at(&[9; 50], 2500).unwrap();
        }
        transaction.commit().unwrap();
        assert_eq!(mirrored.catch_up(&format!("after it moved: {row}")), 1);
    }
}

#[test]
fn commits_that_are_padded_to_whole_sectors_are_captured() {
    let folder = tempfile::tempdir().unwrap();
    let (application, mut mirrored) =
        followed(&folder, "app.db", &format!("PRAGMA page_size = 512; {CONTENT}"));
    drop(application);
    // On a disk that may spoil what lies beside what it writes, SQLite writes the last frame of a synced commit again up to the end of
    // the sector: each copy looks like a commit of its own, in which nothing changed.
    let uri = format!("file:{}?psow=0", mirrored.path.display());
    let application = rusqlite::Connection::open(uri).unwrap();
    application.execute_batch("PRAGMA synchronous = FULL").unwrap();
    for sql in [
        "INSERT INTO t(a) VALUES('padded')",
        "UPDATE r SET b = zeroblob(2000) WHERE rowid % 9 = 0",
        "DELETE FROM w WHERE n % 2",
    ] {
        application.execute_batch(sql).unwrap();
        let commits = mirrored.catch_up(sql);
        assert!(commits > 1, "{sql}: nothing was padded");
        assert_eq!(mirrored.catch_up("nothing is left"), 0);
    }
}
