//! Snapshots of a replica: taken beside its owner, stored, begun from, and refused.

mod begun;
pub(crate) mod checked;
mod forged;
mod killed;
mod revoked;
mod taken;

use std::path::Path;

use synddb_protocol::id::{Address, KeyId, Sequence};
use synddb_protocol::log::{Manifest, SignedCheckpoint, SignedManifest};
use synddb_sqlite::connection::{Connection, has_table};
use synddb_sqlite::rusqlite::OptionalExtension as _;
use synddb_storage::{BatchStore as _, Folder, Key, Kind, PageLimit, Start};
use synddb_validator::{Config, End, Event, FromSnapshot, Mode, SnapshotsConfig};

use super::log::{Log, STREAM};
use super::running::{Running, equal};

const SETUP: &str =
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE INDEX i ON t(v); INSERT INTO t(v) VALUES(1), (2)";
/// Rows that make a database of some pages.
const GROW: &str = "INSERT INTO t(v) SELECT hex(randomblob(200)) FROM (WITH RECURSIVE n(v) AS
    (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1000) SELECT v FROM n)";

/// A configuration that takes snapshots, so often.
fn taking(log: &Log, every_messages: u64) -> Config {
    let key_file = log.folder.path().join("validator.key");
    let snapshots = SnapshotsConfig { every_messages, every_ms: 0, key_file };
    Config { snapshots, ..log.config(Mode::Follow) }
}

/// A configuration that begins from the newest snapshot, in a place of its own.
fn beginning(log: &Log, name: &str) -> Config {
    let replica = log.folder.path().join(name);
    Config { replica, from_snapshot: FromSnapshot::Newest, ..log.config(Mode::Once) }
}

/// Has a validator take a snapshot of what is stored.
pub(crate) async fn take(log: &Log) -> Sequence {
    let mut running = Running::start(taking(log, 1));
    let taken = until_taken(&mut running, log.last()).await;
    running.stop().await.unwrap();
    taken
}

/// Waits for a snapshot of this place, or a later one.
async fn until_taken(running: &mut Running, wanted: Sequence) -> Sequence {
    let taken = |event: &Event| match event {
        Event::Snapshot { sequence, .. } if *sequence >= wanted => Some(*sequence),
        _ => None,
    };
    let events = running.until(|event| taken(event).is_some()).await;
    events.iter().find_map(taken).unwrap()
}

/// Begins from the newest snapshot, and comes to the end of the log.
async fn begin(log: &Log, name: &str) -> Option<(Sequence, KeyId)> {
    let config = beginning(log, name);
    let replica = config.replica.clone();
    let end = Running::start(config).end().await.unwrap();
    assert_eq!(end, End { sequence: Some(log.last()), state: Some(log.state()) });
    assert_eq!(
        synddb_sqlite::compare::first_difference(Path::new(log.app.path().unwrap()), &replica).unwrap(),
        None
    );
    started(&replica)
}

/// What a replica says that it began with.
fn started(replica: &Path) -> Option<(Sequence, KeyId)> {
    let connection = Connection::open_to_read(replica).unwrap();
    let sqlite = connection.sqlite();
    if !has_table(sqlite, "_synddb_started").unwrap() {
        return None;
    }
    let row = sqlite.query_row("SELECT checkpoint, signer FROM _synddb_started", [], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, [u8; 20]>(1)?))
    });
    let (checkpoint, signer) = row.optional().unwrap()?;
    Some((SignedCheckpoint::from_bytes(&checkpoint).unwrap().claim().size, Address::from_bytes(signer)))
}

/// The snapshots in the store, oldest first.
async fn stored(log: &Log) -> Vec<Key> {
    let start = Start::of(Folder { stream: STREAM, kind: Kind::Snapshot });
    log.store.list(&start, PageLimit::MAX).await.unwrap().keys
}

/// How many chunks are in the store.
async fn chunks(log: &Log) -> usize {
    let start = Start::of(Folder { stream: STREAM, kind: Kind::Chunk });
    log.store.list(&start, PageLimit::MAX).await.unwrap().keys.len()
}

async fn manifest(log: &Log, key: &Key) -> Manifest {
    let bytes = log.store.get(key).await.unwrap().unwrap();
    let signed = SignedManifest::from_bytes(&bytes).unwrap();
    signed.recover().unwrap();
    signed.manifest().clone()
}
