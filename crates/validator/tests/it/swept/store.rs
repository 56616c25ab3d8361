//! A log with snapshots of its replicas: real databases at their places, in chunks that they share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use synddb_protocol::id::{KeyId, Sequence};
use synddb_protocol::log::{Manifest, SignedManifest};
use synddb_protocol::signing::SigningKey;
use synddb_service::shutdown::Shutdown;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::snapshot::Writer;
use synddb_sqlite::state::RunningState;
use synddb_storage::{BatchStore as _, Key, Name, ObjectBatchStore};
use synddb_validator::fsck;
use synddb_validator::gc::{Problem, Question, Report, Retention, run};

use crate::log::{Log, STREAM, key};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
/// A signer of snapshots.
pub(crate) const ONE: u8 = 11;
/// Another one.
pub(crate) const OTHER: u8 = 12;

/// Rows that do not compress, so that the database has several chunks, of which each commit changes the last.
const SETUP: &str = "CREATE TABLE t (k INTEGER PRIMARY KEY, c); \
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) INSERT INTO t SELECT i, randomblob(100000) FROM n;";

pub(crate) fn keep(keep: u32) -> Retention {
    let keep = NonZeroU32::new(keep).unwrap();
    Retention { keep, keep_every: None, older_than: 7 * DAY, signers: Vec::new() }
}

pub(crate) fn id(number: u8) -> KeyId {
    key(number).verifying_key().id()
}

pub(crate) struct Stored {
    pub(crate) log: Log,
    commits: u64,
}

impl Stored {
    pub(crate) async fn begin() -> Self {
        Self { log: Log::begin(SETUP).await, commits: 0 }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.log.folder.path().join("store")
    }

    /// One commit more, in a batch of its own.
    pub(crate) async fn commit(&mut self) {
        self.commits += 1;
        let sql = format!("INSERT INTO t VALUES ({}, randomblob(5000))", 1000 + self.commits);
        self.log.run_and_publish_each(&sql).await;
    }

    /// A snapshot of the database at the last batch, so many days old, signed by `signer` and lying under the name of `named`.
    pub(crate) async fn snapshot_as(&mut self, signer: u8, named: u8, days: u32) -> Key {
        let manifest = self.manifest().await;
        let sequence = manifest.sequence();
        let hashes: Vec<_> = manifest.chunks().map(|chunk| chunk.hash).collect();
        let signed = manifest.sign(&key(signer)).unwrap();
        let key = Key::Snapshot { stream: STREAM, sequence, signer: id(named) };
        self.log.put(&key, signed.to_bytes()).await;
        self.make_older(&key, days);
        for hash in hashes {
            self.make_older(&Key::Chunk { stream: STREAM, hash }, days);
        }
        key
    }

    pub(crate) async fn snapshot(&mut self, signer: u8, days: u32) -> Key {
        self.snapshot_as(signer, signer, days).await
    }

    /// What a manifest of the database would say, whose chunks are stored.
    pub(crate) async fn manifest(&mut self) -> Manifest {
        let batch = last_batch(&self.root());
        let reader = Connection::open_to_read(Path::new(self.log.app.path().unwrap())).unwrap();
        let mut writer = Writer::new(&reader).unwrap();
        let stored: Vec<_> = writer.by_ref().map(Result::unwrap).collect();
        let (encoding, page_size) = (writer.encoding(), writer.page_size());
        drop(writer);
        drop(reader);
        let mut runs = Vec::new();
        for stored in stored {
            self.log.put(&Key::Chunk { stream: STREAM, hash: stored.chunk.hash }, stored.bytes).await;
            runs.push(stored.chunk);
        }
        Manifest { checkpoint: batch.checkpoint().clone(), encoding, page_size, runs, patches: Vec::new() }
    }

    /// Makes an object so many days old, unless it is older.
    pub(crate) fn make_older(&self, key: &Key, days: u32) {
        let path = self.log.object(key);
        let then = SystemTime::now() - DAY * days;
        if fs::metadata(&path).unwrap().modified().unwrap() > then {
            fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
        }
    }

    /// Makes everything that lies in the store so many days old.
    pub(crate) fn make_all_older(&self, days: u32) {
        for name in files(&self.root()).keys() {
            self.make_older(&name.parse().unwrap(), days);
        }
    }

    pub(crate) async fn sweep(&self, retention: Retention, dry_run: bool) -> Result<Report, Problem> {
        let store = format!("file://{}", self.root().display()).parse().unwrap();
        let question = Question { store, stream: None, retention, dry_run, now: SystemTime::now() };
        run(question, Shutdown::new(), |_| ()).await
    }

    /// The log is whole, replayed in full from its first snapshot; and of the manifests that were whole each is gone, or restores.
    pub(crate) async fn assert_whole(&self, were_whole: &BTreeSet<Key>) {
        assert_log_is_whole(&self.root(), key(1)).await;
        for name in were_whole {
            restores(&self.root(), name);
        }
    }
}

/// Makes a copy of a store in another one, object by object.
pub(crate) async fn copy_into(root: &Path, store: &ObjectBatchStore) {
    for name in files(root).keys() {
        let bytes = fs::read(root.join(name)).unwrap();
        store.put(&name.parse().unwrap(), bytes.into()).await.unwrap();
    }
}

/// The same backwards, of everything that a stream has there.
pub(crate) async fn copy_back(store: &ObjectBatchStore, root: &Path) {
    let mut names = Vec::new();
    store.names(STREAM, |name, _| names.push(name)).await.unwrap();
    for name in names {
        let Name::Key(key) = name else { panic!("{name} is no key") };
        let path = root.join(key.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, store.get(&key).await.unwrap().unwrap()).unwrap();
    }
}

/// Every file of a store by its name, with its size.
pub(crate) fn files(root: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, entry.metadata().unwrap().len());
            }
        }
    }
    found
}

/// The names in a store of one kind.
pub(crate) fn named(root: &Path, kind: &str) -> BTreeSet<Key> {
    let part = format!("/{kind}/");
    files(root).keys().filter(|name| name.contains(&part)).map(|name| name.parse().unwrap()).collect()
}

pub(crate) fn last_batch(root: &Path) -> synddb_protocol::log::Batch {
    let last = *named(root, "batches").last().unwrap();
    synddb_protocol::log::Batch::from_stored(&fs::read(root.join(last.to_string())).unwrap()).unwrap()
}

pub(crate) async fn assert_log_is_whole(root: &Path, key: SigningKey) {
    let scratch = tempfile::tempdir().unwrap();
    let question = fsck::Question {
        store: format!("file://{}", root.display()).parse().unwrap(),
        stream: Some(STREAM),
        keys: vec![*key.verifying_key()],
        rebuild_in: Some(scratch.path().to_owned()),
        replica: None,
        rules: None,
    };
    fsck::run(question, Shutdown::new(), |_| ()).await.unwrap();
}

/// Whether a manifest is there. If it is, the database that it names is put together and scanned.
pub(crate) fn restores(root: &Path, name: &Key) -> bool {
    let Ok(bytes) = fs::read(root.join(name.to_string())) else { return false };
    let signed = SignedManifest::from_bytes(&bytes).unwrap();
    signed.recover().unwrap();
    let manifest = signed.manifest();
    let mut pages = Vec::new();
    for chunk in manifest.chunks() {
        let file = root.join(Key::Chunk { stream: STREAM, hash: chunk.hash }.to_string());
        let stored = fs::read(file).unwrap_or_else(|_| panic!("{name} lacks a chunk: {}", chunk.hash));
        pages.extend(chunk.open(&stored, manifest.page_size).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("restored.db");
    fs::write(&file, pages).unwrap();
    let restored = RunningState::scan(&Connection::open_to_read(&file).unwrap()).unwrap().hash();
    assert_eq!(Some(restored), manifest.state(), "{name} is another database than it says");
    true
}

pub(crate) const fn sequence_of(name: &Key) -> Option<Sequence> {
    match name {
        Key::Snapshot { sequence, .. } => Some(*sequence),
        _ => None,
    }
}
