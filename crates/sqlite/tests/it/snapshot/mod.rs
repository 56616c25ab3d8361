//! A snapshot holds the whole database and nothing that was deleted; what is restored is the same database or nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use synddb_protocol::hash::{ChunkHash, StateHash};
use synddb_protocol::id::{Incarnation, IncarnationCounter, IncarnationNonce, StreamId};
use synddb_protocol::limits::{CHUNK_BYTES_MAX, CHUNK_STORED_MAX};
use synddb_protocol::submission::{Chunk, PageSize, Snapshot, SnapshotPlace, TextEncoding};
use synddb_sqlite::compare::first_difference;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::snapshot::{Image, RestoreError, SnapshotError, StoredChunk, Writer, restore};
use synddb_sqlite::state::RunningState;
use tempfile::TempDir;

mod chain;
mod cost;
mod damage;
mod deleted;
mod refused;
mod returns;
mod successive;
mod unproven;

/// A database of everything, in which much was deleted.
const CONTENT: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, b);
    CREATE TABLE r(a UNIQUE, b);
    CREATE TABLE w(k TEXT, n, v, PRIMARY KEY(k DESC, n)) WITHOUT ROWID;
    CREATE INDEX ta ON t(a);
    CREATE INDEX tb ON t(length(b)) WHERE b IS NOT NULL;
    CREATE INDEX wv ON w(v);
    CREATE TABLE log(x);
    CREATE TRIGGER tt AFTER DELETE ON t BEGIN INSERT INTO log VALUES(old.id); END;
    CREATE VIEW v AS SELECT a FROM t;
    CREATE VIRTUAL TABLE f USING fts5(x);
    CREATE VIRTUAL TABLE g USING rtree(id, x0, x1);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
        INSERT INTO t(a, b) SELECT 'row ' || i, randomblob(i * 7) FROM n;
    INSERT INTO r SELECT id, zeroblob(100000 * (id = 7)) FROM t;
    INSERT INTO w SELECT 'key' || (id % 50), id, a || a FROM t;
    INSERT INTO f SELECT a FROM t;
    INSERT INTO g SELECT id, id, id + 1 FROM t;
    CREATE TABLE gone AS SELECT * FROM t;
    DELETE FROM t WHERE id % 3 = 0;
    DELETE FROM r WHERE rowid % 5 < 3;
    DELETE FROM w WHERE n % 7 = 0;
    DROP TABLE gone;
    UPDATE t SET b = randomblob(50) WHERE id % 4 = 0;
    PRAGMA user_version = 7;
    PRAGMA application_id = 8;";

fn open(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}

fn make(path: &Path, sql: &str) {
    let connection = open(path);
    connection.execute_batch(sql).unwrap();
    connection.close().unwrap();
}

type Chunks = BTreeMap<ChunkHash, Vec<u8>>;

fn manifest(page_size: PageSize, encoding: TextEncoding, state: StateHash) -> Snapshot {
    Snapshot {
        stream: StreamId::from_bytes([1; 32]),
        incarnation: Incarnation {
            counter: IncarnationCounter::new(1).unwrap(),
            nonce: IncarnationNonce::from_bytes([2; 16]),
        },
        place: SnapshotPlace::Begins { predecessor: None },
        encoding,
        page_size,
        state,
        chunks: Vec::new(),
    }
}

/// The snapshot of what a read transaction sees.
fn take_in(connection: &Connection) -> Result<(Snapshot, Chunks), SnapshotError> {
    let writer = Writer::new(connection)?;
    let nothing = StateHash::from_bytes([0; 32]);
    let mut snapshot = manifest(writer.page_size(), writer.encoding(), nothing);
    let mut chunks = Chunks::new();
    for stored in writer {
        let StoredChunk { chunk, bytes } = stored?;
        assert!(bytes.len() <= CHUNK_STORED_MAX && bytes.len() as u64 == chunk.stored_bytes);
        snapshot.chunks.push(chunk);
        chunks.insert(chunk.hash, bytes);
    }
    if let Ok(state) = RunningState::scan(connection) {
        snapshot.state = state.hash();
    }
    Ok((snapshot, chunks))
}

fn begin(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute("BEGIN").unwrap();
    connection.sqlite().query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).unwrap();
    connection
}

fn take(path: &Path) -> (Snapshot, Chunks) {
    take_in(&begin(path)).unwrap()
}

/// All pages of a snapshot.
fn opened(snapshot: &Snapshot, chunks: &Chunks) -> Vec<u8> {
    let open = |chunk: &Chunk| zstd::bulk::decompress(&chunks[&chunk.hash], CHUNK_BYTES_MAX).unwrap();
    snapshot.chunks.iter().flat_map(open).collect()
}

fn put_back(target: &Path, snapshot: &Snapshot, chunks: &Chunks) -> Result<RunningState, RestoreError> {
    restore(target, &Image::of_snapshot(snapshot), |chunk| {
        chunks.get(&chunk.hash).cloned().ok_or("no such chunk")
    })
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

fn integrity(path: &Path) -> String {
    open(path).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// Takes a snapshot and restores it, and returns where.
pub(super) fn assert_returns(folder: &Path, source: &Path) -> PathBuf {
    let (snapshot, chunks) = take(source);
    let target = folder.join("restored.db");
    let state = put_back(&target, &snapshot, &chunks).unwrap();
    assert_eq!(state.hash(), snapshot.state);
    assert_eq!(first_difference(source, &target).unwrap(), None);
    assert_eq!(integrity(&target), "ok");
    assert!(!names(folder).iter().any(|name| name.starts_with("restored.db-") || name.contains("restoring")));
    target
}

fn sample() -> (TempDir, Snapshot, Chunks) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(&source, &format!("PRAGMA page_size = 1024; BEGIN; {CONTENT} COMMIT"));
    let (snapshot, chunks) = take(&source);
    fs::remove_file(source).unwrap();
    (folder, snapshot, chunks)
}

/// Restoring fails, and nothing is left.
fn refused(folder: &TempDir, snapshot: &Snapshot, chunks: &Chunks) -> RestoreError {
    let before = names(folder.path());
    let error = put_back(&folder.path().join("restored.db"), snapshot, chunks).unwrap_err();
    assert_eq!(names(folder.path()), before);
    error
}
