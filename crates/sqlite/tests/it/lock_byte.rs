//! Files that reach over the page on which SQLite's file locks sit.
//!
//! That page holds nothing, and nothing may lead to it; usually it lies at 1 GiB. SQLite lets a test have it lower, for a whole
//! process, before the first file is opened: so a child process does all of this, which is this test binary, started again.

#![allow(unsafe_code, reason = "where the lock byte lies is set by a call that rusqlite has no function for")]

use std::path::Path;
use std::process::Command;

use synddb_sqlite::capture::Options;
use synddb_sqlite::rusqlite::{self, ffi};

use super::mirrored::Mirrored;

/// Where a child has its lock byte. Without it, this binary is the parent.
const LOCK_BYTE: &str = "SYNDDB_SQLITE_TEST_LOCK_BYTE";
const PAGE_SIZES: [u32; 4] = [512, 1024, 4096, 65_536];
const AUTO_VACUUM: [&str; 3] = ["NONE", "FULL", "INCREMENTAL"];

/// `ROWS` rows of a quarter of `LOCK` together; the longest payload alone reaches from one side of the lock page to the other.
const LIFE: [&str; 12] = [
    "INSERT INTO t(b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ROWS) SELECT zeroblob(LOCK / 4 / ROWS) FROM n",
    "INSERT INTO w SELECT id, id % 7, b FROM t",
    "INSERT INTO r SELECT id, zeroblob(LOCK) FROM t WHERE id = 3",
    "INSERT INTO t(b) SELECT b FROM t; INSERT INTO w SELECT -id, id % 7, b FROM t",
    "UPDATE r SET b = b || 'the end'",
    "UPDATE t SET b = zeroblob(LOCK / ROWS) WHERE id % 3 = 0",
    "BEGIN; CREATE TABLE more(a, b); INSERT INTO more SELECT id, b FROM t; DROP TABLE r; COMMIT",
    "DELETE FROM w WHERE a < 0; DELETE FROM t WHERE id % 2",
    "PRAGMA incremental_vacuum(7)",
    "BEGIN; INSERT INTO t(b) SELECT b FROM more; DELETE FROM more; COMMIT",
    "VACUUM",
    "DROP TABLE t; PRAGMA incremental_vacuum; CREATE TABLE t(id INTEGER PRIMARY KEY, b); INSERT INTO t(b) SELECT w.b FROM w, w AS v",
];

/// A life on both sides of the lock page.
fn lives(path: &Path, page_size: u32, auto_vacuum: &str, lock_byte: u32) {
    let what = format!("lock byte {lock_byte}, page size {page_size}, auto_vacuum {auto_vacuum}");
    let application = rusqlite::Connection::open(path).unwrap();
    let setup = format!(
        "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum}; PRAGMA synchronous = OFF;
         CREATE TABLE t(id INTEGER PRIMARY KEY, b); CREATE TABLE r(a UNIQUE, b);
         CREATE TABLE w(a, g, b, PRIMARY KEY(g, a)) WITHOUT ROWID;"
    );
    application.execute_batch(&setup).unwrap();
    let mut mirrored = Mirrored::attach(path, Options::default()).unwrap();
    let mut largest = 0;
    for sql in LIFE {
        let sql = sql.replace("LOCK", &lock_byte.to_string()).replace("ROWS", "24");
        application.execute_batch(&sql).unwrap();
        mirrored.catch_up(&format!("{what}: {sql}"));
        let pages: u32 = application.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        largest = largest.max(pages);
    }
    assert!(u64::from(largest) * u64::from(page_size) > 2 * u64::from(lock_byte), "{what}: {largest} pages");
    #[cfg(feature = "probes")]
    {
        drop(mirrored);
        let folder = tempfile::tempdir().unwrap();
        super::snapshot::assert_returns(folder.path(), path);
    }
}

/// What a child does; in the parent, nothing.
#[test]
fn lives_around_its_lock_page() {
    let Ok(lock_byte) = std::env::var(LOCK_BYTE) else { return };
    let lock_byte: u32 = lock_byte.parse().unwrap();
    // SAFETY: this control takes one unsigned int, and this process has not opened any file with SQLite yet.
    unsafe { ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_PENDING_BYTE, lock_byte) };
    let folder = tempfile::tempdir().unwrap();
    for (at, page_size) in PAGE_SIZES.into_iter().enumerate() {
        for (number, auto_vacuum) in AUTO_VACUUM.into_iter().enumerate() {
            lives(&folder.path().join(format!("{at}{number}.db")), page_size, auto_vacuum, lock_byte);
        }
    }
    println!("\nlived");
}

#[test]
fn the_lock_page_is_never_captured_and_nothing_behind_it_is_lost() {
    if std::env::var(LOCK_BYTE).is_ok() {
        return;
    }
    // With the first one, the lock page of the largest pages stands where a pointer map would.
    for lock_byte in [65_536, 262_144] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["lock_byte::lives_around_its_lock_page", "--exact", "--nocapture"])
            .env(LOCK_BYTE, lock_byte.to_string())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && told.lines().any(|line| line == "lived"),
            "{told}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
