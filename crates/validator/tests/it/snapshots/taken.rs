//! Taking snapshots: what is stored, what it costs, and what never comes of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use synddb_protocol::id::Sequence;
use synddb_storage::faulty::{Faults, FaultyStore, Loss, Verb};
use synddb_storage::{BatchStore, GetError, ListError, ObjectBatchStore, Page, Put, PutError};
use synddb_validator::{Config, ConfigProblem, Event, FromSnapshot, Mode, ValidatorError};

use super::super::audited::shell;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn consecutive_snapshots_are_stored_and_cost_what_changed() {
    let mut log = Log::begin(SETUP).await;
    for _ in 0..12 {
        log.run(GROW);
    }
    log.publish().await;
    let config = Config { listen: Some("127.0.0.1:0".parse().unwrap()), ..taking(&log, 1) };
    let mut running = Running::start(config);
    let first = until_taken(&mut running, log.last()).await;
    assert_eq!(first, log.last());
    let whole = chunks(&log).await;
    // A row here and there, and the replica goes on meanwhile.
    log.run("UPDATE t SET v = 'changed' WHERE id = 5000");
    log.publish().await;
    let second = until_taken(&mut running, log.last()).await;
    assert!(second > first);
    let more = chunks(&log).await - whole;
    assert!(more < whole, "{more} new chunks after {whole}");
    let named: Vec<_> = stored(&log).await;
    // Of what was published at once it may have seen a part before the rest.
    assert!(named.len() >= 2, "{named:?}");
    for key in &named {
        let Key::Snapshot { sequence, signer, .. } = key else { panic!("{key}") };
        let manifest = manifest(&log, key).await;
        assert_eq!(manifest.sequence(), *sequence);
        for chunk in manifest.chunks() {
            let key = Key::Chunk { stream: STREAM, hash: chunk.hash };
            assert!(log.store.get(&key).await.unwrap().is_some(), "{key}");
        }
        assert_eq!(signer.to_string(), running.get_json("/status").await.1["snapshots"]["signer"]);
    }
    let listed = running.get_json("/snapshots").await.1;
    assert_eq!(listed[0]["sequence"], second.get());
    assert!(listed.as_array().unwrap().iter().any(|listed| listed["sequence"] == first.get()), "{listed}");
    assert_eq!(running.get_json("/status").await.1["snapshots"]["sequence"], second.get());
    running.stop().await.unwrap();
    equal(&log);
    // What is spooled is gone, and the same place is not taken again.
    let spooled = log.folder.path().join("replica.db.snapshot").join("chunks");
    assert_eq!(std::fs::read_dir(spooled).unwrap().count(), 0);
    let mut again = Running::start(taking(&log, 1));
    again.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    log.run("INSERT INTO t(v) VALUES('more')");
    log.publish().await;
    until_taken(&mut again, log.last()).await;
    again.stop().await.unwrap();
    assert!(stored(&log).await.len() > named.len());
    for (index, key) in stored(&log).await.iter().enumerate().rev() {
        // Newest first; each is begun from when the newer ones are gone.
        let Key::Snapshot { sequence, .. } = key else { panic!("{key}") };
        let began = begin(&log, &format!("begun{index}.db")).await;
        assert_eq!(began.map(|(sequence, _)| sequence), Some(*sequence));
        std::fs::remove_file(log.object(key)).unwrap();
    }
    assert_eq!(begin(&log, "replayed.db").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_nothing_holds_up_no_replica() {
    let mut log = Log::begin(SETUP).await;
    let mut random = SmallRng::seed_from_u64(7);
    let faults = Faults::new(move || random.next_u64());
    let store = Arc::new(FaultyStore::new(Arc::clone(&log.store), faults.clone()));
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    let config = Config { listen: Some("127.0.0.1:0".parse().unwrap()), ..taking(&log, 1) };
    let mut running = Running::start_over(store, config);
    running.until_applied(log.last()).await;
    // Its first try has failed by the time that the status says so, and the replica goes on.
    let deadline = std::time::Instant::now() + super::super::running::PATIENCE;
    loop {
        let status = running.get_json("/status").await.1;
        if status["snapshots"]["failing"].is_string() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{status}");
        tokio::task::yield_now().await;
    }
    log.run("INSERT INTO t(v) VALUES(3)");
    let last = log.publish().await;
    running.until_applied(last).await;
    assert!(stored(&log).await.is_empty());
    // Half of it is lost now and then; what is asked again is stored once.
    faults.lose_requests(Verb::Put, Loss::PerMille(300));
    faults.lose_responses(Verb::Put, Loss::PerMille(300));
    until_taken(&mut running, last).await;
    assert_eq!(running.get_json("/status").await.1["snapshots"]["failing"], serde_json::Value::Null);
    running.stop().await.unwrap();
    assert_eq!(begin(&log, "begun.db").await.map(|(sequence, _)| sequence), Some(last));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_of_a_replica_that_somebody_wrote_into() {
    let mut log = Log::begin(SETUP).await;
    super::super::running::rebuild(&log).await;
    let config = Config { poll_ms_max: 600_000, ..taking(&log, 1_000_000) };
    // It has scanned its file, and looks at nothing for a while.
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    running.stop().await.unwrap();
    shell(&log.replica(), "UPDATE t SET v = 'forged' WHERE id = 1");
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    let ended = Running::start(taking(&log, 1)).end().await;
    assert!(matches!(ended, Err(ValidatorError::Halted { .. })), "{ended:?}");
    assert!(stored(&log).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_forged_while_nobody_looks_is_found_before_it_is_signed() {
    let log = Log::begin(SETUP).await;
    let mut config = taking(&log, 0);
    // The owner looks at its file every ten seconds where nothing comes, and a snapshot is due before that.
    (config.snapshots.every_ms, config.poll_ms_max, config.audit_interval_ms) = (8000, 600_000, 0);
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    shell(&log.replica(), "UPDATE t SET v = 'forged' WHERE id = 1");
    let ended = running.end().await;
    assert!(matches!(ended, Err(ValidatorError::Halted { .. })), "{ended:?}");
    assert!(stored(&log).await.is_empty());
    assert_eq!(chunks(&log).await, 1, "that of the log's own snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_one_left_beside_the_replica_is_no_harm() {
    let mut log = Log::begin(SETUP).await;
    log.run(GROW);
    log.publish().await;
    let folder = log.folder.path().join("replica.db.snapshot");
    // Half a chunk, a chunk that is none, and what was not finished.
    std::fs::create_dir_all(folder.join("chunks")).unwrap();
    std::fs::write(folder.join("last"), [7; 100]).unwrap();
    std::fs::write(folder.join("chunks").join("ab.unfinished"), "half").unwrap();
    std::fs::write(folder.join("chunks").join("00".repeat(32)), "no chunk").unwrap();
    let first = take(&log).await;
    let key = stored(&log).await[0];
    // A chunk of the right length and with other bytes is found out, and taken anew.
    let made = manifest(&log, &key).await;
    let chunk = made.runs[0];
    std::fs::remove_file(log.object(&key)).unwrap();
    std::fs::remove_file(log.object(&Key::Chunk { stream: STREAM, hash: chunk.hash })).unwrap();
    std::fs::remove_file(folder.join("last")).unwrap();
    let bytes = vec![0; usize::try_from(chunk.stored_bytes).unwrap()];
    std::fs::write(folder.join("chunks").join(hex::encode(chunk.hash.as_bytes())), bytes).unwrap();
    assert_eq!(take(&log).await, first);
    assert_eq!(manifest(&log, &key).await, made, "the same place gives the same snapshot");
    assert_eq!(begin(&log, "begun.db").await.map(|(sequence, _)| sequence), Some(first));
    // Who remembers what the store has lost stores it again.
    std::fs::remove_file(log.object(&key)).unwrap();
    for chunk in made.chunks() {
        std::fs::remove_file(log.object(&Key::Chunk { stream: STREAM, hash: chunk.hash })).ok();
    }
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    let second = take(&log).await;
    assert_eq!(begin(&log, "again.db").await.map(|(sequence, _)| sequence), Some(second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_host_takes_no_snapshots_and_lists_none() {
    let log = Log::begin(SETUP).await;
    let store = "https://logs.example/ours".parse().unwrap();
    let ended = Running::start(Config { store, ..taking(&log, 1) }).end().await;
    assert!(matches!(ended, Err(ValidatorError::Config(ConfigProblem::NotWritable { .. }))), "{ended:?}");
    let store = "https://logs.example/ours".parse().unwrap();
    let config = Config { store, from_snapshot: FromSnapshot::Newest, ..log.config(Mode::Once) };
    let ended = Running::start(config).end().await;
    assert!(matches!(ended, Err(ValidatorError::Config(ConfigProblem::NotListed { .. }))), "{ended:?}");
    assert!(!log.folder.path().join("validator.key").exists());
    assert!(!log.replica().exists());
    let _: Sequence = log.last();
}

/// A store from which somebody removes chunks just before a manifest comes, once.
struct Swept {
    inner: Arc<ObjectBatchStore>,
    chunks: Mutex<Vec<PathBuf>>,
}

#[async_trait]
impl BatchStore for Swept {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        if matches!(key, Key::Snapshot { .. }) {
            for chunk in std::mem::take(&mut *self.chunks.lock().unwrap()) {
                std::fs::remove_file(chunk).unwrap();
            }
        }
        self.inner.put(key, bytes).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        self.inner.get(key).await
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        self.inner.list(start, limit).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_were_there_and_are_swept_before_the_manifest_comes_are_stored_again() {
    let mut log = Log::begin(SETUP).await;
    log.run(GROW);
    log.publish().await;
    take(&log).await;
    // Nobody names them any more, and whoever takes the same snapshot finds them there.
    let name = stored(&log).await[0];
    let named = manifest(&log, &name).await;
    std::fs::remove_file(log.object(&name)).unwrap();
    std::fs::remove_dir_all(log.folder.path().join("replica.db.snapshot")).unwrap();
    let keys: Vec<Key> =
        named.chunks().map(|chunk| Key::Chunk { stream: STREAM, hash: chunk.hash }).collect();
    let chunks = Mutex::new(keys.iter().map(|key| log.object(key)).collect());
    let store = Arc::new(Swept { inner: Arc::clone(&log.store), chunks });
    let mut running = Running::start_over(store, taking(&log, 1));
    until_taken(&mut running, log.last()).await;
    running.stop().await.unwrap();
    assert_eq!(stored(&log).await, [name]);
    for key in keys {
        assert!(log.store.get(&key).await.unwrap().is_some(), "{key}");
    }
}

/// Waits until the status says so of why no snapshot is stored, or that there is one of this place all the same.
async fn until_failing(running: &mut Running, wanted: &str, or_at: Option<Sequence>) {
    let deadline = std::time::Instant::now() + super::super::running::PATIENCE;
    loop {
        let status = running.get_json("/status").await.1;
        let snapshots = &status["snapshots"];
        if or_at.is_some_and(|at| snapshots["sequence"] == at.get())
            || snapshots["failing"].as_str().is_some_and(|failing| failing.contains(wanted))
        {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{status}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_a_snapshot_shares_with_the_last_one_and_are_gone_are_told_and_stored_again() {
    let mut log = Log::begin(SETUP).await;
    for _ in 0..12 {
        log.run(GROW);
    }
    log.publish().await;
    take(&log).await;
    let first = manifest(&log, &stored(&log).await[0]).await;
    log.run("UPDATE t SET v = 'changed' WHERE id = 5000");
    log.publish().await;
    // While the next one is on its way, its base goes from the store.
    let own = stored(&log).await[0];
    let shared: Vec<_> =
        first.chunks().map(|chunk| log.object(&Key::Chunk { stream: STREAM, hash: chunk.hash })).collect();
    let store = Arc::new(Swept { inner: Arc::clone(&log.store), chunks: Mutex::new(shared) });
    let config = Config { listen: Some("127.0.0.1:0".parse().unwrap()), ..taking(&log, 1) };
    let mut running = Running::start_over(store, config);
    // Of what was published at once it may see a part first, and be whole again at the end of it.
    until_failing(&mut running, "the next one is stored whole", Some(log.last())).await;
    // Where it was not, a manifest that is not whole lies in that place; the next place is free.
    log.run("UPDATE t SET v = 'again' WHERE id = 5000");
    log.publish().await;
    until_taken(&mut running, log.last()).await;
    running.stop().await.unwrap();
    // The first two are broken; the third is whole.
    std::fs::remove_file(log.object(&own)).unwrap();
    let begun = begin(&log, "begun.db").await;
    assert_eq!(begun.map(|(sequence, _)| sequence), Some(log.last()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_copied_to_another_place_is_none_of_that_place() {
    let mut log = Log::begin(SETUP).await;
    take(&log).await;
    let own = stored(&log).await[0];
    let Key::Snapshot { signer, .. } = own else { panic!("{own}") };
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    let next = Key::Snapshot { stream: STREAM, sequence: log.last(), signer };
    let copied = log.store.get(&own).await.unwrap().unwrap();
    log.store.put(&next, copied).await.unwrap();
    let config = Config { listen: Some("127.0.0.1:0".parse().unwrap()), ..taking(&log, 1) };
    let mut running = Running::start(config);
    until_failing(&mut running, "the snapshot cannot be stored", None).await;
    // Another place is free.
    log.run("INSERT INTO t(v) VALUES(4)");
    log.publish().await;
    until_taken(&mut running, log.last()).await;
    running.stop().await.unwrap();
    assert_eq!(begin(&log, "begun.db").await.map(|(sequence, _)| sequence), Some(log.last()));
}
