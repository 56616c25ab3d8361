//! A schema that nobody vouches for costs nothing, and one that somebody vouches for no longer than it is wanted.

use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use synddb_sqlite::snapshot::restore_until;

use super::*;

/// Far more than any of these takes, and far less than one call of the function would.
const DEADLINE: Duration = Duration::from_secs(60);

/// A row for which `instr(a, b)` compares 4 TB. Nothing interrupts a call of a function.
const ROW: &str = "(a, b) VALUES(hex(zeroblob(2000000)), hex(zeroblob(1000000)) || '1')";

const COMPUTES: &str = "one of SQLite's own tables has an index or computes a column";

/// Runs something that must come to an end by itself.
fn ends<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (said, heard) = channel();
    std::thread::spawn(move || said.send(body()));
    heard.recv_timeout(DEADLINE).expect("it comes to an end")
}

/// The snapshot of a database with texts of the same length in the place of others, which only SQLite minds when it is made.
fn forged(sql: &str, texts: &[(&str, &str)]) -> (TempDir, Snapshot, Chunks) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(&source, sql);
    let (mut snapshot, good) = take(&source);
    fs::remove_file(source).unwrap();
    let mut chunks = Chunks::new();
    let mut found = 0;
    for chunk in &mut snapshot.chunks {
        let mut pages = zstd::bulk::decompress(&good[&chunk.hash], CHUNK_BYTES_MAX).unwrap();
        for (honest, forged) in texts {
            assert_eq!(honest.len(), forged.len());
            while let Some(at) = pages.windows(honest.len()).position(|bytes| bytes == honest.as_bytes()) {
                pages[at..at + forged.len()].copy_from_slice(forged.as_bytes());
                found += 1;
            }
        }
        let (sealed, bytes) = Chunk::seal(&pages, snapshot.page_size).unwrap();
        chunks.insert(sealed.hash, bytes);
        *chunk = sealed;
    }
    assert!(found >= texts.len(), "{found}");
    (folder, snapshot, chunks)
}

#[test]
fn indexes_are_not_rebuilt_before_the_state_is_right() {
    let indexes: String = (0..3).map(|at| format!("CREATE INDEX i{at} ON t(length(b  ));")).collect();
    let sql = format!("CREATE TABLE t(a, b); INSERT INTO t {ROW}; {indexes}");
    let (folder, snapshot, chunks) = forged(&sql, &[("length(b  )", "instr(a, b)")]);
    let error = ends(move || refused(&folder, &snapshot, &chunks));
    assert!(matches!(error, RestoreError::State { .. }), "{error}");
}

#[test]
fn statistics_are_not_computed_before_the_state_is_right() {
    let sql = format!(
        "CREATE TABLE sqlitezstat1(a, b, tbl AS (length(b  )), idx AS (1), stat AS (1));
         INSERT INTO sqlitezstat1 {ROW}"
    );
    let texts = [("length(b  )", "instr(a, b)"), ("sqlitezstat1", "sqlite_stat1")];
    let (folder, snapshot, chunks) = forged(&sql, &texts);
    let error = ends(move || refused(&folder, &snapshot, &chunks));
    assert!(matches!(error, RestoreError::Invalid { what: COMPUTES }), "{error}");
}

#[test]
fn what_is_dropped_is_not_computed() {
    // A row of `sqlite_sequence` goes with its table, and out of every index.
    let sql = "CREATE TABLE _zynddb_t(a INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO _zynddb_t VALUES(7);
         CREATE TABLE t(a); CREATE INDEX i ON t(a); PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET tbl_name = 'sqlite_sequence', sql = 'CREATE INDEX i ON sqlite_sequence(length(name))'
             WHERE name = 'i'";
    let texts = [("_zynddb_t", "_synddb_t"), ("length(name)", "printf(name)")];
    let (folder, snapshot, chunks) = forged(sql, &texts);
    let error = ends(move || refused(&folder, &snapshot, &chunks));
    assert!(matches!(error, RestoreError::Invalid { what: COMPUTES }), "{error}");
}

#[test]
fn a_schema_has_no_index() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(
        &source,
        "CREATE TABLE t(a); CREATE INDEX _synddb_i ON t(a) WHERE 0; PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET tbl_name = 'sqlite_master', sql = 'CREATE INDEX _synddb_i ON sqlite_master(length(sql))'
             WHERE name = '_synddb_i'",
    );
    let (snapshot, chunks) = take(&source);
    let error = refused(&folder, &snapshot, &chunks);
    assert!(matches!(error, RestoreError::Invalid { what: COMPUTES }), "{error}");
}

#[test]
fn a_long_rebuild_ends_when_nobody_wants_it_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    // Each row takes some milliseconds in each index.
    let indexes: String = (0..50).map(|at| format!("CREATE INDEX i{at} ON t(a);")).collect();
    make(
        &source,
        &format!(
            "CREATE TABLE t(a); {indexes}
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT i FROM n;
             PRAGMA writable_schema = ON; UPDATE sqlite_schema
             SET sql = 'CREATE INDEX ' || name || ' ON t(instr(hex(zeroblob(20000)), hex(zeroblob(10000)) || ''z'' || a))'
             WHERE type = 'index'"
        ),
    );
    let (snapshot, chunks) = take(&source);
    fs::remove_file(source).unwrap();
    let fetched = Arc::new(OnceLock::new());
    let (error, left) = ends(move || {
        let last = snapshot.chunks.last().unwrap().hash;
        let begun = Arc::clone(&fetched);
        let is_over =
            move || begun.get().is_some_and(|at: &Instant| at.elapsed() > Duration::from_millis(500));
        let target = folder.path().join("restored.db");
        let error = restore_until(&target, &Image::of_snapshot(&snapshot), is_over, |chunk| {
            if chunk.hash == last {
                fetched.set(Instant::now()).unwrap();
            }
            chunks.get(&chunk.hash).cloned().ok_or("no such chunk")
        });
        (error.unwrap_err(), names(folder.path()))
    });
    assert!(matches!(error, RestoreError::Interrupted), "{error}");
    assert!(error.is_of_machine(), "it says nothing about the snapshot");
    assert_eq!(left, Vec::<String>::new());
}
