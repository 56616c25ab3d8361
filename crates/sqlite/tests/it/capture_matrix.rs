//! Every page size, with and without reserved bytes, in every mode of auto_vacuum: the same life of a small database.

#![allow(
    unsafe_code,
    reason = "reserved bytes are set by a file control, which rusqlite has no function for"
)]

use std::path::Path;

use synddb_sqlite::capture::Options;
use synddb_sqlite::rusqlite::{self, ffi};

use super::mirrored::Mirrored;

/// SQLite needs 480 usable bytes, so a page of 512 can spare 32.
const RESERVED: [i32; 3] = [0, 8, 32];
const PAGE_SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];
const AUTO_VACUUM: [&str; 3] = ["NONE", "FULL", "INCREMENTAL"];
const ENCODINGS: [&str; 3] = ["UTF-8", "UTF-16le", "UTF-16be"];

/// Asks for so many bytes at the end of each page, which the next VACUUM outside of WAL mode gives.
pub(crate) fn reserve(connection: &rusqlite::Connection, bytes: i32) {
    let mut reserved = bytes;
    // SAFETY: the connection is open, the name ends with a NUL, and this control reads and writes one int.
    let code = unsafe {
        let argument = (&raw mut reserved).cast();
        let control = ffi::SQLITE_FCNTL_RESERVE_BYTES;
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), control, argument)
    };
    assert_eq!(code, ffi::SQLITE_OK);
}

/// What happens to each database. `PAGE` stands for the size of a page.
const LIFE: [&str; 12] = [
    "INSERT INTO t(a, b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) \
     SELECT 'text ' || i, zeroblob(i * PAGE / 10) FROM n",
    "INSERT INTO w SELECT id % 7, 'k' || id, substr(hex(zeroblob(PAGE)), 1, id * PAGE / 40) FROM t",
    "INSERT INTO r SELECT a, b FROM t",
    // Payloads around every length at which SQLite begins to spill.
    "INSERT INTO r SELECT i, zeroblob(PAGE - i) FROM (WITH RECURSIVE n(i) AS (SELECT -20 UNION ALL SELECT i + 1 FROM n WHERE i < 60) SELECT i FROM n)",
    "INSERT INTO w SELECT 9, i, zeroblob(PAGE / 4 - i) FROM (WITH RECURSIVE n(i) AS (SELECT -20 UNION ALL SELECT i + 1 FROM n WHERE i < 60) SELECT i FROM n)",
    "UPDATE r SET b = b || 'y' WHERE rowid % 3 = 0",
    "UPDATE w SET v = 'short' WHERE g % 2 = 0",
    "BEGIN; DROP TABLE first; CREATE TABLE last(a PRIMARY KEY, b); INSERT INTO last SELECT id, b FROM t; COMMIT",
    "DELETE FROM r WHERE rowid % 5 > 1",
    "PRAGMA incremental_vacuum(3)",
    "DELETE FROM t WHERE id > 2",
    "VACUUM",
];

fn lives(path: &Path, page_size: u32, reserved: i32, auto_vacuum: &str, encoding: &str) {
    let what = format!("page size {page_size}, reserved {reserved}, auto_vacuum {auto_vacuum}, {encoding}");
    let application = rusqlite::Connection::open(path).unwrap();
    let settings = format!(
        "PRAGMA page_size = {page_size}; PRAGMA encoding = '{encoding}'; PRAGMA auto_vacuum = {auto_vacuum}; PRAGMA synchronous = OFF; \
         CREATE TABLE first(a, b)"
    );
    application.execute_batch(&settings).unwrap();
    reserve(&application, reserved);
    let tables = "VACUUM; INSERT INTO first VALUES(1, 2);
        CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b); CREATE TABLE r(a UNIQUE, b);
        CREATE TABLE w(g, k, v, PRIMARY KEY(k, g)) WITHOUT ROWID; PRAGMA journal_mode = WAL";
    application.execute_batch(tables).unwrap();
    let header = std::fs::read(path).unwrap();
    assert_eq!(i32::from(header[20]), reserved, "{what}");
    let mut mirrored = Mirrored::attach(path, Options::default()).unwrap();
    for (at, sql) in LIFE.iter().enumerate() {
        let sql = sql.replace("PAGE", &page_size.to_string());
        application.execute_batch(&sql).unwrap();
        // The applier's state is compared after every commit, the files themselves where much has changed.
        let caught_up = mirrored.follow().and_then(|_| if at % 4 == 3 { mirrored.agrees() } else { Ok(()) });
        assert!(caught_up.is_ok(), "{what}: {sql}: {}", caught_up.unwrap_err());
    }
}

#[test]
fn every_form_of_file_is_captured() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = 0;
    for page_size in PAGE_SIZES {
        for reserved in RESERVED {
            for auto_vacuum in AUTO_VACUUM {
                let path = folder.path().join(format!("{files}.db"));
                lives(&path, page_size, reserved, auto_vacuum, ENCODINGS[files % ENCODINGS.len()]);
                files += 1;
            }
        }
    }
    assert_eq!(files, 72);
}
