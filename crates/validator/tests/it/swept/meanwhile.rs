//! Others write while a store is swept, the store fails, and the sweeper is stopped.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use synddb_protocol::hash::ChunkHash;
use synddb_service::shutdown::Shutdown;
use synddb_storage::faulty::{Faults, FaultyStore, Loss, Verb};
use synddb_storage::{
    BatchStore, Folder, GetError, Key, Kind, ListError, ObjectBatchStore, Page, PageLimit, Put, PutError,
    Removable, RemoveError, Start, Sweeper,
};
use synddb_validator::gc::{Left, Problem, Report, run_over};

use super::store::{ONE, OTHER, Stored, files, id, keep, named, restores};
use crate::log::{STREAM, batch_key, key};

/// A store into which somebody puts something just before the manifests are told for the nth time.
struct Meddled {
    inner: Arc<ObjectBatchStore>,
    told: AtomicU32,
    at: u32,
    put: Mutex<Vec<(Key, Vec<u8>)>>,
    shutdown: Option<Shutdown>,
}

#[async_trait]
impl BatchStore for Meddled {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        self.inner.put(key, bytes).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        self.inner.get(key).await
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        self.inner.list(start, limit).await
    }
}

#[async_trait]
impl Sweeper for Meddled {
    async fn tell(
        &self,
        folder: Folder,
        each: &mut (dyn FnMut(synddb_storage::Stored) + Send),
    ) -> Result<(), ListError> {
        if folder.kind == Kind::Snapshot && self.told.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            let puts = std::mem::take(&mut *self.put.lock().unwrap());
            for (key, bytes) in puts {
                self.inner.put(&key, bytes.into()).await.unwrap();
            }
        }
        self.inner.tell(folder, each).await
    }

    fn now(&self) -> Option<SystemTime> {
        self.inner.now()
    }

    async fn remove(&self, objects: &[Removable]) -> Result<(), RemoveError> {
        if let Some(shutdown) = &self.shutdown {
            shutdown.ask();
        }
        self.inner.remove(objects).await
    }
}

async fn sweep(sweeper: Arc<dyn Sweeper>, shutdown: Shutdown) -> Result<Report, Problem> {
    run_over(sweeper, STREAM, keep(1), false, SystemTime::now(), shutdown, |_| ()).await
}

impl Stored {
    async fn meddled(&self, at: u32, put: Vec<(Key, Vec<u8>)>) -> Result<Report, Problem> {
        let (inner, told) = (Arc::clone(&self.log.store), AtomicU32::new(0));
        let meddled = Meddled { inner, told, at, put: Mutex::new(put), shutdown: None };
        sweep(Arc::new(meddled), Shutdown::new()).await
    }

    /// Chunks that only one snapshot has, which is old and not needed.
    fn chunks_of_none(&self, named_by_others: &BTreeSet<Key>) -> BTreeSet<Key> {
        named(&self.root(), "chunks").difference(named_by_others).copied().collect()
    }
}

/// A store with chunks that nobody names, and a manifest that names them, which is not there yet.
async fn with_a_manifest_to_come() -> (Stored, Key, Vec<u8>, BTreeSet<Key>) {
    let mut stored = Stored::begin().await;
    stored.commit().await;
    stored.snapshot(ONE, 40).await;
    let known = named(&stored.root(), "chunks");
    stored.commit().await;
    let name = stored.snapshot(OTHER, 30).await;
    let chunks = stored.chunks_of_none(&known);
    assert!(!chunks.is_empty());
    let file = stored.log.object(&name);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    (stored, name, bytes, chunks)
}

#[tokio::test]
async fn the_chunks_of_a_manifest_that_comes_meanwhile_stay() {
    // Told first when everything is read, and then before chunks are removed.
    for at in [1, 2] {
        let (stored, name, bytes, chunks) = with_a_manifest_to_come().await;
        let report = stored.meddled(at, vec![(name, bytes)]).await.unwrap();
        assert_eq!(report.chunks.removed.count, 0, "at {at}: {report:?}");
        assert!(chunks.is_subset(&named(&stored.root(), "chunks")));
        assert!(restores(&stored.root(), &name));
    }
}

#[tokio::test]
async fn a_manifest_that_comes_too_late_for_its_chunks_is_told_and_not_hidden() {
    let (stored, name, bytes, _) = with_a_manifest_to_come().await;
    let problem = stored.meddled(3, vec![(name, bytes)]).await.unwrap_err();
    let Problem::Partly { source, .. } = &problem else { panic!("{problem:?}") };
    assert!(matches!(&**source, Problem::Needed { by, .. } if *by == name.to_string()), "{problem:?}");
    assert!(problem.is_of_log());
}

#[tokio::test]
async fn a_manifest_that_comes_meanwhile_and_cannot_be_read_keeps_every_chunk() {
    let (stored, name, _, chunks) = with_a_manifest_to_come().await;
    let report = stored.meddled(2, vec![(name, b"what a later release writes".to_vec())]).await.unwrap();
    assert_eq!(report.left, Some(Left::Unreadable { manifest: name.to_string() }));
    assert!(chunks.is_subset(&named(&stored.root(), "chunks")));
}

#[tokio::test]
async fn the_chunks_of_a_message_that_comes_meanwhile_stay() {
    for at in [2, 3] {
        let mut stored = Stored::begin().await;
        stored.commit().await;
        let known = named(&stored.root(), "chunks");
        stored.log.snapshot_after().await;
        let batch = stored.log.cut();
        stored.make_all_older(30);
        assert!(!stored.chunks_of_none(&known).is_empty());
        let put = vec![(batch_key(batch.first().get()), batch.to_stored().unwrap())];
        let ended = stored.meddled(at, put).await;
        if at == 2 {
            let report = ended.unwrap();
            assert_eq!((report.chunks.removed.count, report.size), (0, batch.last()));
            stored.assert_whole(&BTreeSet::new()).await;
        } else {
            let Err(Problem::Partly { source, .. }) = ended else { panic!("{ended:?}") };
            assert!(
                matches!(&*source, Problem::Needed { by, .. } if by.starts_with("message ")),
                "{source:?}"
            );
        }
    }
}

#[tokio::test]
async fn asked_to_end_it_ends_between_removals_and_says_what_is_left() {
    let mut stored = Stored::begin().await;
    for days in [60, 50, 40] {
        stored.commit().await;
        stored.snapshot(ONE, days).await;
    }
    let (inner, told, shutdown) = (Arc::clone(&stored.log.store), AtomicU32::new(0), Shutdown::new());
    let put = Mutex::default();
    let stopped = Meddled { inner, told, at: 0, put, shutdown: Some(shutdown.clone()) };
    let report = sweep(Arc::new(stopped), shutdown.clone()).await.unwrap();
    assert_eq!((report.left, report.chunks.removed.count), (Some(Left::Asked), 0));
    assert_eq!(report.manifests.removed.count, 2);
    // Asked before it begins, it removes nothing.
    let before = files(&stored.root());
    let ended = sweep(Arc::clone(&stored.log.store) as Arc<dyn Sweeper>, shutdown).await.unwrap_err();
    assert!(ended.is_interrupted(), "{ended:?}");
    assert_eq!(files(&stored.root()), before);
    let report = sweep(Arc::clone(&stored.log.store) as Arc<dyn Sweeper>, Shutdown::new()).await.unwrap();
    assert!(report.left.is_none() && report.chunks.removed.count > 0, "{report:?}");
}

/// Requests and answers are lost, parts of removals are done, and after each try the store is whole; at last it is done.
#[tokio::test]
async fn a_store_that_fails_is_whole_after_every_try() {
    let mut stored = Stored::begin().await;
    for days in [90, 80, 70, 60, 50, 40] {
        stored.commit().await;
        stored.snapshot(ONE, days).await;
        stored.snapshot(OTHER, days).await;
    }
    for byte in 0..40 {
        let stray = Key::Chunk { stream: STREAM, hash: ChunkHash::from_bytes([byte; 32]) };
        stored.log.put(&stray, vec![byte; 10]).await;
        stored.make_older(&stray, 30);
    }
    let all = named(&stored.root(), "snapshots");
    let (mut random, mut failed) = (rand::rngs::StdRng::seed_from_u64(39), 0);
    let faults = Faults::new({
        let mut random = rand::rngs::StdRng::seed_from_u64(40);
        move || random.random()
    });
    let store = Arc::new(FaultyStore::new((*stored.log.store).clone(), faults.clone()));
    for verb in [Verb::List, Verb::Remove] {
        faults.lose_responses(verb, Loss::PerMille(150));
        faults.lose_requests(verb, Loss::PerMille(50));
    }
    loop {
        let ended = sweep(Arc::clone(&store) as Arc<dyn Sweeper>, Shutdown::new()).await;
        for name in &all {
            restores(&stored.root(), name);
        }
        // It gets better with time.
        match ended {
            Ok(report) if report.left.is_none() => break,
            Ok(report) => panic!("{report:?}"),
            Err(Problem::List(_) | Problem::Remove(_) | Problem::Partly { .. }) => failed += 1,
            Err(other) => panic!("{other:?}"),
        }
        if random.random_range(0..40) == 0 {
            faults.clear();
        }
    }
    assert!(failed > 0, "nothing failed, so nothing was shown");
    let left = named(&stored.root(), "snapshots");
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|name| restores(&stored.root(), name)));
    assert!(!files(&stored.root()).keys().any(|name| name.ends_with(&"27".repeat(32))));
    stored.assert_whole(&left).await;
    assert_eq!(id(ONE), key(ONE).verifying_key().id());
}
