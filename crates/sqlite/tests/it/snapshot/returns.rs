//! What is restored is what was there.

use std::os::unix::fs::FileExt;

use super::*;

#[test]
fn every_kind_of_file_returns() {
    for page_size in [512, 1024, 4096, 65536] {
        for auto_vacuum in ["NONE", "FULL", "INCREMENTAL"] {
            for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
                // Every value of each with every value of another, and not all of all.
                if encoding != "UTF-8" && (page_size == 1024 || auto_vacuum == "FULL") {
                    continue;
                }
                let folder = tempfile::tempdir().unwrap();
                let source = folder.path().join("source.db");
                make(
                    &source,
                    &format!(
                        "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum};
                         PRAGMA encoding = '{encoding}'; PRAGMA journal_mode = WAL; BEGIN; {CONTENT} COMMIT;"
                    ),
                );
                let target = assert_returns(folder.path(), &source);
                // It can be used: by its virtual tables, and by writers.
                let restored = open(&target);
                let found: i64 = restored
                    .query_row("SELECT count(*) FROM f WHERE f MATCH 'row'", [], |row| row.get(0))
                    .unwrap();
                assert_eq!(found, 400);
                restored
                    .execute_batch("PRAGMA incremental_vacuum; DELETE FROM t; INSERT INTO r VALUES(-1, 2)")
                    .unwrap();
                drop(restored);
                assert_eq!(integrity(&target), "ok", "{page_size} {auto_vacuum} {encoding}");
            }
        }
    }
}

#[test]
fn many_runs_return_and_large_values_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(
        &source,
        "CREATE TABLE t(a, b); INSERT INTO t VALUES(1, randomblob(7000000)), (2, zeroblob(3000000));
         INSERT INTO t SELECT 3, randomblob(1000) FROM t; CREATE INDEX tb ON t(b);",
    );
    let (snapshot, _) = take(&source);
    assert!(snapshot.chunks.len() > 4);
    assert_returns(folder.path(), &source);
}

#[test]
fn a_database_without_anything_returns() {
    for sql in ["", "PRAGMA user_version = 3", "CREATE TABLE t(a); DROP TABLE t"] {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.db");
        make(&source, sql);
        assert_returns(folder.path(), &source);
    }
}

#[test]
fn rowids_without_an_index_stay() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(
        &source,
        "CREATE TABLE t(a); INSERT INTO t(rowid, a) VALUES(5, 'a'), (-7, 'b'), (9223372036854775807, 'c')",
    );
    let target = assert_returns(folder.path(), &source);
    let sum: i64 =
        open(&target).query_row("SELECT rowid FROM t WHERE a = 'b'", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, -7);
}

#[test]
fn the_page_of_the_locks_is_skipped() {
    const PAGE: u64 = 65_536;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(&source, "PRAGMA page_size = 65536; CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(100000))");
    // Nobody has to write a gibibyte: the file gets a hole up to just before the page that holds the locks, and its header
    // says so.
    let pages = (1_u64 << 30) / PAGE - 1;
    let file = fs::OpenOptions::new().write(true).open(&source).unwrap();
    file.set_len(pages * PAGE).unwrap();
    file.write_all_at(&u32::try_from(pages).unwrap().to_be_bytes(), 28).unwrap();
    make(
        &source,
        "INSERT INTO t SELECT zeroblob(100000) FROM t; INSERT INTO t SELECT randomblob(300000) FROM t",
    );
    assert!(fs::metadata(&source).unwrap().len() > (1 << 30) + 5 * PAGE);
    let (snapshot, chunks) = take(&source);
    let target = folder.path().join("restored.db");
    put_back(&target, &snapshot, &chunks).unwrap();
    assert_eq!(first_difference(&source, &target).unwrap(), None);
}

#[test]
fn equal_content_gives_equal_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let (source, copy) = (folder.path().join("source.db"), folder.path().join("copy.db"));
    make(&source, CONTENT);
    let (first, _) = take(&source);
    assert_eq!(first, take(&source).0);
    fs::copy(&source, &copy).unwrap();
    // Another journal mode and another change counter, and one commit that was taken back.
    make(&copy, "PRAGMA journal_mode = WAL; PRAGMA user_version = 1; PRAGMA user_version = 7");
    assert_eq!(first, take(&copy).0);
    // A small change leaves the runs before it as they are.
    let large = folder.path().join("large.db");
    make(&large, "CREATE TABLE t(a); INSERT INTO t VALUES(randomblob(6000000)); CREATE TABLE u(a)");
    let (before, _) = take(&large);
    make(&large, "INSERT INTO u VALUES(1)");
    let (after, _) = take(&large);
    let same = before.chunks.iter().zip(&after.chunks).filter(|(one, other)| one == other).count();
    assert_eq!(same, before.chunks.len() - 1);
}

#[test]
fn a_snapshot_is_of_its_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(&source, &format!("PRAGMA journal_mode = WAL; BEGIN; {CONTENT} COMMIT"));
    let frozen = folder.path().join("frozen.db");
    fs::copy(&source, &frozen).unwrap();
    let reader = begin(&source);
    let mut writer = Writer::new(&reader).unwrap();
    let mut stored = Vec::new();
    let other = open(&source);
    other.execute_batch("PRAGMA wal_autocheckpoint = 10; DELETE FROM r; DROP TABLE w").unwrap();
    stored.push(writer.next().unwrap().unwrap());
    for round in 0..50 {
        other
            .execute_batch(&format!("INSERT INTO t(a) VALUES('new {round}'); CREATE TABLE n{round}(a)"))
            .unwrap();
    }
    stored.extend(writer.map(Result::unwrap));
    let state = RunningState::scan(&reader).unwrap().hash();
    let mut snapshot = manifest(PageSize::new(4096).unwrap(), TextEncoding::Utf8, state);
    snapshot.chunks = stored.iter().map(|stored| stored.chunk).collect();
    let chunks = stored.into_iter().map(|stored| (stored.chunk.hash, stored.bytes)).collect();
    let target = folder.path().join("restored.db");
    put_back(&target, &snapshot, &chunks).unwrap();
    assert_eq!(first_difference(&target, &frozen).unwrap(), None);
    assert!(first_difference(&target, &source).unwrap().is_some());
}

#[test]
fn a_transaction_that_does_not_stand_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(&source, "PRAGMA journal_mode = WAL; CREATE TABLE t(a); INSERT INTO t VALUES(randomblob(5000000))");
    let connection = Connection::open(&source).unwrap();
    assert!(matches!(Writer::new(&connection), Err(SnapshotError::NoTransaction)));
    connection.execute("BEGIN").unwrap();
    let mut writer = Writer::new(&connection).unwrap();
    assert!(writer.next().unwrap().is_ok());
    connection.execute("COMMIT").unwrap();
    assert!(matches!(writer.next(), Some(Err(SnapshotError::NoTransaction))));
    assert!(writer.next().is_none());
    connection.execute("BEGIN").unwrap();
    let mut writer = Writer::new(&connection).unwrap();
    assert!(writer.next().unwrap().is_ok());
    connection.execute("COMMIT").unwrap();
    make(&source, "INSERT INTO t VALUES(1)");
    connection.execute("BEGIN").unwrap();
    assert!(matches!(writer.next(), Some(Err(SnapshotError::Moved))));
}
