//! Two sequencers on one store: one leads, the other learns of it at its next put, and nothing is stored twice.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use synddb_protocol::http::Reason;
use synddb_protocol::id::Epoch;
use synddb_protocol::log::{EpochRecord, KeyProof};
use synddb_sequencer::Config;
use synddb_storage::faulty::{Loss, Verb};
use synddb_storage::{BatchStore, GetError, Key, Kind, ListError, Page, PageLimit, Put, PutError, Start};
use tokio::sync::watch;

use crate::sample::{Client, Reader, STREAM, key, submission_body};
use crate::sample_key;
use crate::server::{Server, config, faulty_store, file_store};

/// The configuration of a sequencer that trusts the other one's epochs.
fn rival(folder: &Path, name: &str, other: &Server) -> Config {
    let mut config = config(folder, name);
    config.trusted_keys.push(other.key);
    config
}

/// Asks until the sequencer has learnt that it was deposed.
async fn deposed(server: &Server, body: &[u8]) {
    loop {
        let answer = server.submit(STREAM, body.to_vec()).await;
        if answer.status == 503 {
            assert_eq!((answer.reason(), answer.retry_after), (Reason::NotLeading, Some(1)));
            return;
        }
        server.pass_time(STREAM).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_sequencer_refuses_for_ever_and_fences_what_it_could_not_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let old = Server::start(&store, config(folder.path(), "old")).await;
    let mut client = Client::new(STREAM);
    old.begin(&client).await.receipt();
    let first = old.submit(STREAM, client.next_body(1)).await.sequence();
    old.stored(STREAM, first).await;

    let new = Server::start(&store, rival(folder.path(), "new", &old)).await;
    let mut lost = client.clone();
    let taken = new.submit(STREAM, client.next_body(1)).await;
    // The epoch message of the new leader stands between.
    assert_eq!((taken.status, taken.sequence()), (201, first + 2));

    // The old one does not know yet: what it promises now is provisional, and never comes true.
    let commits = lost.commits_with(1, b"never stored");
    let body = submission_body(lost.submit(&commits));
    assert_eq!(old.submit(STREAM, body.clone()).await.sequence(), first + 1);
    deposed(&old, &body).await;
    assert_eq!(old.submit(STREAM, lost.next_body(1)).await.reason(), Reason::NotLeading);
    // It still shows what is stored.
    assert_eq!(old.get("batches/1_1").await.status, 200);
    assert_eq!(old.get("readyz").await.reason(), Reason::Unavailable);
    let trusting = rival(folder.path(), "old", &new);
    old.stop().await;

    // Started again, it leads again; what it could not store is kept, and published by nobody.
    let old = Server::start(&store, trusting).await;
    let next = client.next_body(1);
    let taken = loop {
        let answer = old.submit(STREAM, next.clone()).await;
        if answer.status != 503 {
            break answer;
        }
    };
    assert_eq!(taken.status, 201);
    assert!(matches!(old.submit(STREAM, body).await.reason(), Reason::ContentMismatch { .. }));
    let journals = folder.path().join("old").join("streams").join(STREAM.to_key());
    let fenced = std::fs::read_dir(journals).unwrap().filter(|file| {
        file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "fenced")
    });
    let modes: Vec<u32> =
        fenced.map(|file| file.unwrap().metadata().unwrap().permissions().mode() & 0o777).collect();
    assert_eq!(modes, [0o600]);
    // The other one learns of it in turn, as soon as it has something to store.
    deposed(&new, &next).await;
    old.stored(STREAM, taken.sequence()).await;
    let log = Reader::read(&store, STREAM, &[old.key, new.key]).await;
    let numbers: Vec<u64> = log.commits().iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    old.stop().await;
    new.stop().await;
}

/// A store that takes epochs at once, and batches only while its gate is open.
struct Gated {
    inner: Arc<dyn BatchStore>,
    is_open: watch::Receiver<bool>,
}

#[async_trait]
impl BatchStore for Gated {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        if key.kind() == Kind::Batch {
            self.is_open.clone().wait_for(|is_open| *is_open).await.unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_the_fence_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    server.stop().await;

    let (gate, is_open) = watch::channel(false);
    let gated: Arc<dyn BatchStore> = Arc::new(Gated { inner: Arc::clone(&store), is_open });
    let server = Server::start(&gated, config(folder.path(), "one")).await;
    // The second epoch is claimed, and its message is signed and journalled; only the batch is missing.
    let status = loop {
        match server.get("status").await {
            answer if answer.status == 200 => break server.status(STREAM).await,
            _ => server.pass_time(STREAM).await,
        }
    };
    assert_eq!((status.epoch.get(), status.sequence.unwrap().get()), (2, begun + 1));
    let body = client.next_body(1);
    for _ in 0..5 {
        assert_eq!(server.submit(STREAM, body.clone()).await.reason(), Reason::NotLeading);
        server.pass_time(STREAM).await;
    }
    gate.send(true).unwrap();
    server.stored(STREAM, begun + 1).await;
    let taken = server.submit(STREAM, body).await;
    assert_eq!((taken.status, taken.sequence()), (201, begun + 2));
    server.stop().await;
    let log = Reader::read(&store, STREAM, &[sample_key(folder.path(), "one")]).await;
    assert_eq!(log.messages.len() as u64, begun + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_taken_while_fencing_costs_an_epoch_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let first = Server::start(&store, config(folder.path(), "first")).await;
    let mut client = Client::new(STREAM);
    let begun = first.begin(&client).await.sequence();
    first.stored(STREAM, begun).await;

    // The second one claims epoch 2 and signs its message for a place that the first one then fills.
    let (gate, is_open) = watch::channel(false);
    let gated: Arc<dyn BatchStore> = Arc::new(Gated { inner: Arc::clone(&store), is_open });
    let second = Arc::new(Server::start(&gated, rival(folder.path(), "second", &first)).await);
    let body = client.next_body(1);
    let waiting = {
        let (second, body) = (Arc::clone(&second), body.clone());
        tokio::spawn(async move { second.submit(STREAM, body).await })
    };
    while !matches!(second.get("status").await.status, 200) {
        second.get("livez").await;
    }
    let taken = first.submit(STREAM, body).await;
    assert_eq!(taken.sequence(), begun + 1);
    first.stored(STREAM, begun + 1).await;
    gate.send(true).unwrap();
    // The third epoch goes on behind it, and knows what the first one stored.
    let known = waiting.await.unwrap();
    assert_eq!((known.status, &known.body), (200, &taken.body));
    assert_eq!(second.status(STREAM).await.epoch.get(), 3);
    assert_eq!(second.submit(STREAM, client.next_body(1)).await.sequence(), begun + 3);
    let key = second.key;
    Arc::into_inner(second).unwrap().stop().await;
    let log = Reader::read(&store, STREAM, &[first.key, key]).await;
    assert_eq!(log.messages.len() as u64, begun + 3);
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lossy_store_makes_no_gap_and_no_double() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    faults.lose_requests(Verb::Put, Loss::PerMille(200));
    faults.lose_responses(Verb::Put, Loss::PerMille(200));
    let mut receipts = Vec::new();
    for _ in 0..40 {
        receipts.push(server.submit(STREAM, client.next_body(1)).await.receipt());
        server.pass_time(STREAM).await;
    }
    faults.clear();
    let last = receipts.last().unwrap().header().sequence.get();
    server.stored(STREAM, last).await;
    let log = Reader::read(&store, STREAM, &[server.key]).await;
    assert_eq!(log.messages.len() as u64, last);
    let stored: Vec<_> = log.messages.iter().skip(2).map(|message| message.receipt().clone()).collect();
    assert_eq!(stored, receipts);
    server.stop().await;
}

/// A store in which another process with the same key is quicker, the first two times that an epoch is claimed.
struct Outrun {
    inner: Arc<dyn BatchStore>,
    races: AtomicU32,
}

#[async_trait]
impl BatchStore for Outrun {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        if key.kind() == Kind::Epoch && self.races.fetch_add(1, Ordering::SeqCst) < 2 {
            self.inner.put(key, bytes.clone()).await?;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_somebody_else_may_have_claimed_with_this_key_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let inner = file_store(folder.path()).await;
    let store: Arc<dyn BatchStore> = Arc::new(Outrun { inner, races: AtomicU32::new(0) });
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let begun = server.begin(&Client::new(STREAM)).await.receipt();
    // The bytes are the same, so the store says unchanged; two leaders of one epoch would sign one place twice.
    assert_eq!((begun.key(), begun.header().epoch.get()), (server.key.id(), 3));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_admits_nobody_is_passed() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let stranger =
        EpochRecord { stream: STREAM, epoch: Epoch::FIRST, proof: KeyProof::Unattested }.sign(&key(8));
    for (epoch, object) in [(1, stranger.to_bytes()), (2, b"no record".to_vec())] {
        let key = Key::Epoch { stream: STREAM, epoch: Epoch::new(epoch).unwrap() };
        store.put(&key, Bytes::from(object)).await.unwrap();
    }
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let begun = server.begin(&Client::new(STREAM)).await.receipt();
    assert_eq!(begun.header().epoch.get(), 3);
    server.stored(STREAM, 2).await;
    assert_eq!(Reader::read(&store, STREAM, &[server.key]).await.messages.len(), 2);
    server.stop().await;
}
