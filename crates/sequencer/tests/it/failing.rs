//! A store that denies access, is gone, is full or says nothing, for a while: no stream ends of it, no answer waits for it, and everything is stored by itself
//! when the store is well again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use synddb_protocol::http::Reason;
use synddb_sequencer::Config;
use synddb_storage::{
    BatchStore, Cause, Failure, GetError, Key, ListError, Page, PageLimit, Put, PutError, Start,
};
use tokio::sync::watch;

use crate::sample::{Client, Reader, STREAM, noise, submission_body};
use crate::server::{Server, config, file_store};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a failure of its cause.
type Fail = fn(Cause) -> Failure;

/// How a store is.
#[derive(Clone, Copy)]
enum Mood {
    Well,
    /// Every request fails so.
    Failing(Fail),
    /// No request is answered until the store is well.
    Silent,
}

/// A store with moods.
struct Moody {
    inner: Arc<dyn BatchStore>,
    mood: watch::Receiver<Mood>,
}

impl Moody {
    fn over(inner: Arc<dyn BatchStore>) -> (Arc<dyn BatchStore>, watch::Sender<Mood>) {
        let (set, mood) = watch::channel(Mood::Well);
        (Arc::new(Self { inner, mood }), set)
    }

    async fn meet(&self) -> Result<(), Failure> {
        let mut mood = self.mood.clone();
        let mood = *mood.wait_for(|mood| !matches!(mood, Mood::Silent)).await.unwrap();
        match mood {
            Mood::Failing(failure) => Err(failure("by the test".into())),
            Mood::Well | Mood::Silent => Ok(()),
        }
    }
}

#[async_trait]
impl BatchStore for Moody {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        self.meet().await.map_err(|failure| PutError::Failed { key: *key, failure })?;
        self.inner.put(key, bytes).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        self.meet().await.map_err(|failure| GetError::Failed { key: *key, failure })?;
        self.inner.get(key).await
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        let folder = start.key().folder();
        self.meet().await.map_err(|failure| ListError::Failed { folder, failure })?;
        self.inner.list(start, limit).await
    }
}

/// Waits until a sequencer is ready, or says this of why it is not.
async fn says(server: &Server, wanted: Option<&str>) {
    let begun = Instant::now();
    loop {
        let answer = server.get("readyz").await;
        let text = String::from_utf8(answer.body).unwrap();
        if wanted.map_or(answer.status == 200, |wanted| text.contains(wanted)) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{wanted:?} is not said: {text}");
    }
}

/// Ways to fail, and what is said of each.
const FAILURES: [(Fail, &str); 3] = [
    (Failure::Denied, "the store denies access"),
    (Failure::Misconfigured, "the store cannot do what a store must"),
    (Failure::Full, "the store has no room"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_ends_of_a_store_that_refuses_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let files = file_store(folder.path()).await;
    let (store, mood) = Moody::over(Arc::clone(&files));
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let mut last = server.begin(&client).await.sequence();
    server.stored(STREAM, last).await;
    for (failure, brief) in FAILURES {
        mood.send_replace(Mood::Failing(failure));
        for _ in 0..3 {
            server.submit(STREAM, client.next_body(1)).await.receipt();
        }
        says(&server, Some(brief)).await;
        last = server.submit(STREAM, client.next_body(1)).await.sequence();
        assert!(server.status(STREAM).await.stored.unwrap().get() < last);
        mood.send_replace(Mood::Well);
        // Nobody asks for anything meanwhile.
        server.stored(STREAM, last).await;
        says(&server, None).await;
    }
    let key = server.key;
    server.stop().await;
    let log = Reader::read(&files, STREAM, &[key]).await;
    assert_eq!(log.commits().len() as u64 + 1, client.next);
    assert_eq!(log.messages.len() as u64, last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_starts_over_a_store_that_refuses_leads_by_itself_when_it_does_not_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let files = file_store(folder.path()).await;
    let (store, mood) = Moody::over(Arc::clone(&files));
    let config = Config { drain_ms: 1, ..config(folder.path(), "one") };
    let mut client = Client::new(STREAM);
    let mut last = 0;
    for (failure, brief) in FAILURES {
        let server = Server::start(&store, config.clone()).await;
        if last == 0 {
            last = server.begin(&client).await.sequence();
        }
        server.stored(STREAM, last).await;
        says(&server, None).await;
        mood.send_replace(Mood::Failing(failure));
        last = server.submit(STREAM, client.next_body(1)).await.sequence();
        server.stop().await;
        let server = Server::start(&store, config.clone()).await;
        says(&server, Some(brief)).await;
        let status = server.get(&format!("streams/{}/status", STREAM.to_key())).await;
        assert_eq!(status.reason(), Reason::NotLeading);
        assert!(String::from_utf8(status.body).unwrap().contains(brief));
        assert_eq!(server.submit(STREAM, client.clone().next_body(1)).await.reason(), Reason::NotLeading);
        mood.send_replace(Mood::Well);
        // Nobody asks for it.
        says(&server, None).await;
        server.stored(STREAM, last).await;
        last = server.submit(STREAM, client.next_body(1)).await.sequence();
        server.stored(STREAM, last).await;
        server.stop().await;
    }
    let log = Reader::read(&files, STREAM, &[crate::sample_key(folder.path(), "one")]).await;
    assert_eq!(log.commits().len() as u64 + 1, client.next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_says_nothing_holds_up_no_answer_until_the_journal_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let files = file_store(folder.path()).await;
    let (store, mood) = Moody::over(Arc::clone(&files));
    let small = Config { journal_bytes_max: 2_000_000, ..config(folder.path(), "one") };
    let server = Server::start(&store, small).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    mood.send_replace(Mood::Silent);
    let rows = noise(10_000);
    let mut taken = 0;
    let refused = loop {
        let mut next = client.clone();
        let commits = next.commits_with(1, &rows);
        let body = submission_body(next.submit(&commits));
        let answer = server.submit(STREAM, body.clone()).await;
        if answer.status != 201 {
            assert_eq!(answer.reason(), Reason::DiskFull);
            break body;
        }
        (client, taken) = (next, taken + 1);
    };
    assert!(taken > 100, "{taken} were taken while nothing was stored");
    assert_eq!(server.status(STREAM).await.stored.unwrap().get(), begun);
    mood.send_replace(Mood::Well);
    let back = Instant::now();
    while server.submit(STREAM, refused.clone()).await.status != 201 {
        assert!(back.elapsed() < PATIENCE, "it takes nothing again");
    }
    server.stored(STREAM, begun + taken + 1).await;
    server.stop().await;
}
