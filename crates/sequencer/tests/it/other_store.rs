//! A store that is not the one that a journal was written for, or not any more: it gets nothing, and nothing old is published in it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use synddb_protocol::http::Reason;
use synddb_protocol::id::Epoch;
use synddb_protocol::log::{Entry, EpochRecord, KeyProof, Receipt};
use synddb_sequencer::Config;
use synddb_storage::faulty::{Loss, Verb};
use synddb_storage::{BatchStore, GetError, Key, Kind, ListError, Page, PageLimit, Put, PutError, Start};

use crate::sample::{Client, Reader, STREAM, key, submission_body};
use crate::server::{Answer, Server, config, faulty_store, file_store};

/// How many epochs were claimed.
async fn claims(store: &Arc<dyn BatchStore>) -> u64 {
    let mut epoch = Epoch::FIRST;
    while store.get(&Key::Epoch { stream: STREAM, epoch }).await.unwrap().is_some() {
        epoch = epoch.next().unwrap();
    }
    epoch.get() - 1
}

/// Leads until `count` commits with these rows are stored.
async fn lead(store: &Arc<dyn BatchStore>, config: Config, count: u64, rows: &[u8]) -> (Client, Vec<u8>) {
    let server = Server::start(store, config).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    let mut body = Vec::new();
    for _ in 0..count {
        let commits = client.commits_with(1, rows);
        body = submission_body(client.submit(&commits));
        let taken = server.submit(STREAM, body.clone()).await.sequence();
        server.stored(STREAM, taken).await;
    }
    server.stop().await;
    (client, body)
}

/// Sends until the stream is led.
async fn answered(server: &Server, body: &[u8]) -> Answer {
    loop {
        let answer = server.submit(STREAM, body.to_vec()).await;
        if answer.status != 503 {
            return answer;
        }
        server.pass_time(STREAM).await;
    }
}

fn fenced(folder: &Path, name: &str) -> usize {
    let journals = folder.join(name).join("streams").join(STREAM.to_key());
    let files = std::fs::read_dir(journals).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "fenced")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ends_too_early_gets_no_claim_however_often_clients_ask() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let (mut client, _) = lead(&store, config(folder.path(), "one"), 3, b"rows").await;
    // A store of the same stream and key, with less in it.
    let elsewhere = tempfile::tempdir().unwrap();
    let shorter = file_store(elsewhere.path()).await;
    let mut other = config(elsewhere.path(), "other");
    other.key_file = folder.path().join("one.key");
    lead(&shorter, other, 1, b"rows").await;
    assert_eq!(claims(&shorter).await, 1);

    let server = Server::start(&shorter, config(folder.path(), "one")).await;
    server.troubled("the store ends before what was stored in it").await;
    let body = client.next_body(1);
    for _ in 0..20 {
        let answer = server.submit(STREAM, body.clone()).await;
        assert_eq!(answer.reason(), Reason::NotLeading);
        server.pass_time(STREAM).await;
    }
    server.stop().await;
    assert_eq!(claims(&shorter).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_lost_the_claim_of_the_journal_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    // The epoch is claimed and its message is signed; no batch ever comes into the store.
    let gate: Arc<dyn BatchStore> =
        Arc::new(Conflicting { inner: Arc::clone(&store), left: AtomicU32::new(u32::MAX) });
    let server = Server::start(&gate, Config { drain_ms: 0, ..config(folder.path(), "one") }).await;
    let client = Client::new(STREAM);
    let is_signed = async { while server.get("status").await.status != 200 {} };
    tokio::select! {
        begun = server.begin(&client) => panic!("{begun:?}"),
        () = is_signed => {}
    }
    server.stop().await;
    assert!(claims(&store).await >= 1);

    let elsewhere = tempfile::tempdir().unwrap();
    let empty = file_store(elsewhere.path()).await;
    let server = Server::start(&empty, config(folder.path(), "one")).await;
    server.troubled("the store lacks the claim of an epoch").await;
    server.stop().await;
    assert_eq!(claims(&empty).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_ended_rests_however_often_clients_ask() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let (mut client, _) = lead(&store, config(folder.path(), "one"), 1, b"rows").await;
    let next = Key::Batch { stream: STREAM, first: synddb_protocol::id::Sequence::new(4).unwrap() };
    store.put(&next, Bytes::from_static(b"no batch")).await.unwrap();
    let server = Server::start(&store, config(folder.path(), "one")).await;
    server.troubled("an object stands where the log goes on").await;
    let (body, before) = (client.next_body(1), faults.requests().total());
    for _ in 0..20 {
        let answer = server.submit(STREAM, body.clone()).await;
        assert_eq!(answer.reason(), Reason::NotLeading);
        assert!(answer.retry_after.is_some_and(|seconds| seconds >= 1), "{answer:?}");
    }
    // Not one of them cost the store a request.
    assert_eq!(faults.requests().total(), before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_equal_length_and_other_content_is_another_history() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let (_, old) = lead(&store, config(folder.path(), "one"), 2, b"of the journal").await;
    let elsewhere = tempfile::tempdir().unwrap();
    let twin = file_store(elsewhere.path()).await;
    let mut other = config(elsewhere.path(), "other");
    other.key_file = folder.path().join("one.key");
    let (mut client, stored) = lead(&twin, other, 2, b"of the store").await;

    let server = Server::start(&twin, config(folder.path(), "one")).await;
    // What the journal promised elsewhere is no promise here; what the store has is.
    let answer = answered(&server, &old).await;
    assert!(matches!(answer.reason(), Reason::ContentMismatch { .. }), "{answer:?}");
    assert_eq!(answered(&server, &stored).await.status, 200);
    let taken = answered(&server, &client.next_body(1)).await;
    assert_eq!((taken.status, taken.sequence()), (201, 6));
    server.stored(STREAM, 6).await;
    assert_eq!(Reader::read(&twin, STREAM, &[server.key]).await.messages.len(), 6);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_another_key_in_between_fences_what_was_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let hurried = || Config { drain_ms: 0, ..config(folder.path(), "one") };
    let server = Server::start(&store, hurried()).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    let body = client.next_body(1);
    let lost: Receipt = server.submit(STREAM, body.clone()).await.receipt();
    server.stop().await;
    faults.clear();
    // The rival claims an epoch, and has stored nothing yet.
    let rival = key(8);
    let epoch = Epoch::new(2).unwrap();
    let record = EpochRecord { stream: STREAM, epoch, proof: KeyProof::Unattested }.sign(&rival);
    let object = Bytes::from(record.to_bytes());
    store.put(&Key::Epoch { stream: STREAM, epoch }, object).await.unwrap();

    let mut trusting = hurried();
    trusting.trusted_keys.push(*rival.verifying_key());
    let server = Server::start(&store, trusting).await;
    let taken = answered(&server, &body).await;
    // Its old place went to the message of the third epoch.
    assert_eq!((taken.status, taken.sequence()), (201, begun + 2));
    assert_eq!(fenced(folder.path(), "one"), 1);
    server.stored(STREAM, begun + 2).await;
    let log = Reader::read(&store, STREAM, &[server.key, *rival.verifying_key()]).await;
    let at = usize::try_from(begun).unwrap();
    assert!(matches!(log.messages[at].entry(), Entry::Epoch(_)));
    assert!(log.messages.iter().all(|message| *message.receipt() != lost));
    server.stop().await;
}

/// A store that says of the first batches that something else is there, and has nothing.
struct Conflicting {
    inner: Arc<dyn BatchStore>,
    left: AtomicU32,
}

#[async_trait]
impl BatchStore for Conflicting {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        let is_left = |left: u32| left.checked_sub(1);
        let is_batch = key.kind() == Kind::Batch;
        if is_batch && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_left).is_ok() {
            return Err(PutError::ConflictTooLarge { key: *key, size: 1 << 40, size_max: 1 << 30 });
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
async fn a_store_that_refuses_every_batch_gets_claims_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let inner = file_store(folder.path()).await;
    let store: Arc<dyn BatchStore> = Arc::new(Conflicting { inner, left: AtomicU32::new(12) });
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let begun = Instant::now();
    server.begin(&Client::new(STREAM)).await;
    let status = loop {
        if server.get("status").await.status == 200 && server.get("readyz").await.status == 200 {
            break server.status(STREAM).await;
        }
    };
    // One epoch each, in fours; between them the halves of what is waited at least.
    assert_eq!(status.epoch.get(), 13);
    assert!(begun.elapsed() >= Duration::from_millis(50 + 100 + 200), "{:?}", begun.elapsed());
    server.stop().await;
}
