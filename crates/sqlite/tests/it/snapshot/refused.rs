//! What is not the snapshot that its manifest claims is not restored, and leaves nothing.

use super::*;

#[test]
fn wrong_chunks_are_refused() {
    let (folder, snapshot, chunks) = sample();
    let hash = snapshot.chunks[0].hash;
    let with = |bytes: Vec<u8>| Chunks::from([(hash, bytes)]);
    let good = &chunks[&hash];
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for bytes in [flipped, good[..good.len() - 1].to_vec(), Vec::new(), [&good[..], &[0]].concat()] {
        let error = refused(&folder, &snapshot, &with(bytes));
        assert!(matches!(error, RestoreError::Chunk { .. }), "{error}");
    }
    assert!(matches!(refused(&folder, &snapshot, &Chunks::new()), RestoreError::Fetch { .. }));
    // A manifest whose chunk hashes right and holds another number of pages, or no pages.
    let lists = |pages, bytes: &[u8]| {
        let mut wrong = snapshot.clone();
        wrong.chunks[0].pages = pages;
        wrong.chunks[0].stored_bytes = bytes.len() as u64;
        wrong.chunks[0].hash = ChunkHash::of(bytes);
        (wrong.clone(), Chunks::from([(wrong.chunks[0].hash, bytes.to_vec())]))
    };
    for pages in [1, snapshot.chunks[0].pages - 1, snapshot.chunks[0].pages + 1, 8192, 1 << 31] {
        let (wrong, chunks) = lists(pages, good);
        assert!(matches!(refused(&folder, &wrong, &chunks), RestoreError::Chunk { .. }));
    }
    let (wrong, chunks) = lists(0, good);
    assert!(matches!(refused(&folder, &wrong, &chunks), RestoreError::Invalid { .. }));
    let (wrong, chunks) = lists(u64::MAX, good);
    assert!(matches!(refused(&folder, &wrong, &chunks), RestoreError::Invalid { .. }));
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    let (wrong, chunks) = lists(1, &bomb);
    assert!(matches!(refused(&folder, &wrong, &chunks), RestoreError::Chunk { .. }));
    let (wrong, chunks) = lists(4, &zstd::bulk::compress(&[7; 4096], 3).unwrap());
    assert!(matches!(refused(&folder, &wrong, &chunks), RestoreError::Invalid { .. }));
}

#[test]
fn a_manifest_that_lies_is_refused() {
    let (folder, snapshot, chunks) = sample();
    let mut wrong = snapshot.clone();
    wrong.state = StateHash::from_bytes([7; 32]);
    let error = refused(&folder, &wrong, &chunks);
    assert!(matches!(error, RestoreError::State { found, .. } if found == snapshot.state), "{error}");
    let mut wrong = snapshot.clone();
    wrong.encoding = TextEncoding::Utf16Le;
    assert!(matches!(refused(&folder, &wrong, &chunks), RestoreError::Invalid { .. }));
    let mut wrong = snapshot.clone();
    wrong.page_size = PageSize::new(2048).unwrap();
    refused(&folder, &wrong, &chunks);
    let mut wrong = snapshot.clone();
    wrong.chunks.clear();
    assert!(matches!(refused(&folder, &wrong, &chunks), RestoreError::Invalid { .. }));
    let mut wrong = snapshot.clone();
    wrong.chunks.push(snapshot.chunks[0]);
    assert!(matches!(refused(&folder, &wrong, &chunks), RestoreError::Invalid { .. }));
    put_back(&folder.path().join("restored.db"), &snapshot, &chunks).unwrap();
}

#[test]
fn a_file_that_is_there_is_not_replaced() {
    let (folder, snapshot, chunks) = sample();
    for name in ["restored.db", "restored.db-wal", "restored.db-journal", "restored.db.restoring"] {
        let path = folder.path().join(name);
        fs::write(&path, "precious").unwrap();
        let error = refused(&folder, &snapshot, &chunks);
        assert!(matches!(error, RestoreError::Exists { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn an_index_that_lies_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(
        &source,
        "CREATE TABLE t(a, b); CREATE INDEX i ON t(a); INSERT INTO t VALUES(1, 2), (2, 1);
         PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON t(b)' WHERE name = 'i'",
    );
    assert_ne!(integrity(&source), "ok");
    let target = assert_returns(folder.path(), &source);
    let sql = "SELECT a FROM t INDEXED BY i WHERE b = 1";
    assert_eq!(open(&target).query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
}

#[test]
fn rows_that_break_a_unique_index_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(
        &source,
        "CREATE TABLE t(a, b); CREATE INDEX i ON t(a); INSERT INTO t VALUES(1, 2), (1, 1);
         PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE UNIQUE INDEX i ON t(a)' WHERE name = 'i'",
    );
    let (snapshot, chunks) = take(&source);
    let error = refused(&folder, &snapshot, &chunks);
    assert!(matches!(&error, RestoreError::Index { name, .. } if name == "i"), "{error}");
}

#[test]
fn what_the_application_brings_is_not_needed_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(
        &source,
        "CREATE TABLE t(a CHECK(a < 5)); PRAGMA ignore_check_constraints = ON; INSERT INTO t VALUES(7);
         CREATE TRIGGER tt AFTER INSERT ON t BEGIN SELECT no_such_function(1); END;
         CREATE VIEW v AS SELECT no_such_function(a) FROM t;
         PRAGMA writable_schema = ON;
         INSERT INTO sqlite_schema VALUES('table', 'm', 'm', 0, 'CREATE VIRTUAL TABLE m USING no_such_module(x)');
         INSERT INTO sqlite_schema VALUES('table', 'broken', 'broken', 0, 'CREATE VIRTUAL TABLE broken USING fts5(x)');",
    );
    let (snapshot, chunks) = take(&source);
    let target = folder.path().join("restored.db");
    put_back(&target, &snapshot, &chunks).unwrap();
    assert_eq!(first_difference(&source, &target).unwrap(), None);
    fs::remove_file(target).unwrap();
    make(
        &source,
        "CREATE INDEX i ON t(a COLLATE rtrim); PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'rtrim', 'odd')",
    );
    let (snapshot, chunks) = take(&source);
    let error = refused(&folder, &snapshot, &chunks);
    assert!(matches!(&error, RestoreError::Index { name, .. } if name == "i"), "{error}");
}
