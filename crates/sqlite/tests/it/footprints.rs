//! What capture says a commit did to the trees: tests that hunt go by it to know which ways they have taken.

use synddb_sqlite::capture::Options;
use synddb_sqlite::capture::probes::{Footprint, TableRows};
use synddb_sqlite::rusqlite;

use super::mirrored::Mirrored;

const TABLES: &str = "PRAGMA page_size = 512; PRAGMA auto_vacuum = FULL;
    CREATE TABLE first(a, b); CREATE TABLE t(id INTEGER PRIMARY KEY, b); CREATE TABLE r(a, b); CREATE TABLE w(k, b, PRIMARY KEY(b, k)) WITHOUT ROWID;
    INSERT INTO first VALUES(1, zeroblob(5000));";

/// What each statement's one commit did.
fn footprints(statements: &[&str]) -> Vec<Footprint> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let application = rusqlite::Connection::open(&path).unwrap();
    application.execute_batch(TABLES).unwrap();
    let mut mirrored = Mirrored::attach(&path, Options::default()).unwrap();
    for sql in statements {
        application.execute_batch(sql).unwrap();
        assert_eq!(mirrored.catch_up(sql), 1, "{sql}");
    }
    let footprints = mirrored.follower.footprints();
    assert_eq!(mirrored.follower.footprints(), [], "they are given out once");
    footprints
}

#[test]
fn a_footprint_tells_what_became_of_rows_and_pages() {
    let done = footprints(&[
        "INSERT INTO t VALUES(1, 'one')",
        "INSERT INTO r WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) SELECT i, zeroblob(100) FROM n",
        "INSERT INTO t VALUES(2, zeroblob(2000))",
        "DELETE FROM r WHERE a > 3",
        "INSERT INTO w VALUES(1, 2), (3, 4)",
        "PRAGMA user_version = 9",
        "CREATE TABLE more(x)",
        "DROP TABLE first",
        "UPDATE t SET b = 'short' WHERE id = 2",
    ]);
    let same = done[0].pages_after;
    let rows = |rowid, integer_key, without_rowid| TableRows { rowid, integer_key, without_rowid };
    let one_row =
        Footprint { rows: rows(0, 1, 0), pages_before: 0, pages_after: same, ..Footprint::default() };
    assert_eq!(done[0], one_row);
    let [_, split, overflow, merged, keyed, header, made, dropped, shrunk] = done[..] else {
        panic!("{done:?}");
    };
    assert!(split.pages_gained > 5 && split.pages_lost == 0 && !split.overflow, "{split:?}");
    assert_eq!(split.rows, rows(50, 0, 0));
    assert!(overflow.overflow && overflow.pages_gained == 0, "{overflow:?}");
    assert!(merged.pages_lost > 5 && merged.rows == rows(47, 0, 0), "{merged:?}");
    assert!(merged.pages_after < merged.pages_before, "{merged:?}");
    assert_eq!((keyed.rows, keyed.header_changed), (rows(0, 0, 2), false));
    assert!(header.header_changed && !header.schema_changed && header.rows == rows(0, 0, 0), "{header:?}");
    assert!(made.schema_changed && made.pages_gained == 1, "{made:?}");
    // The pages behind the end move to where the dropped table was.
    assert!(dropped.schema_changed && dropped.overflow && dropped.roots_moved > 0, "{dropped:?}");
    assert!(dropped.pages_lost > 0 && dropped.pages_after < dropped.pages_before, "{dropped:?}");
    assert!(shrunk.overflow && !shrunk.schema_changed && shrunk.rows == rows(0, 1, 0), "{shrunk:?}");
    assert!(done.iter().all(|footprint| footprint.spilled_frames == 0), "{done:?}");
}

#[test]
fn a_footprint_tells_of_a_cache_that_spilled() {
    let done = footprints(&[
        "PRAGMA cache_size = 5; PRAGMA cache_spill = 1; BEGIN; INSERT INTO r WITH RECURSIVE n(i) AS \
         (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT i, zeroblob(100) FROM n; \
         UPDATE r SET b = zeroblob(90); UPDATE r SET a = -a; COMMIT",
        "INSERT INTO r VALUES(1, 1)",
    ]);
    assert!(done[0].spilled_frames > 20, "{:?}", done[0]);
    assert_eq!((done[1].spilled_frames, done[1].repeated_frames), (0, 0));
}
