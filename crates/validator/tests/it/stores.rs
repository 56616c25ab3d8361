//! Stores that do not answer, stores that are not there yet, and sequencers that know, do not know, or lie.

use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use synddb_protocol::id::Sequence;
use synddb_service::axum::Router;
use synddb_service::axum::extract::State;
use synddb_service::axum::http::StatusCode;
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::axum::routing::get;
use synddb_storage::faulty::{Faults, FaultyStore, Loss, Verb};
use synddb_storage::{BatchStore, GetError, Key, ListError, Page, PageLimit, Put, PutError, Start};
use synddb_validator::{Event, Mode, ValidatorError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::log::{Log, STREAM};
use super::running::{PATIENCE, Running, equal};

const SETUP: &str = "CREATE TABLE t(a); INSERT INTO t VALUES(1)";
/// Requests that wait for the test's answer.
const ASKED_MAX: usize = 64;
/// How often a sequencer says that more is stored than is.
const LIES: u64 = 5;

fn faulty(log: &Log) -> (Arc<FaultyStore<Arc<synddb_storage::ObjectBatchStore>>>, Faults) {
    let mut random = SmallRng::seed_from_u64(7);
    let faults = Faults::new(move || random.next_u64());
    (Arc::new(FaultyStore::new(Arc::clone(&log.store), faults.clone())), faults)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_loses_requests_and_answers_only_makes_it_slow() {
    let mut log = Log::begin(SETUP).await;
    log.run_and_publish_each("INSERT INTO t VALUES(2); INSERT INTO t VALUES(3); INSERT INTO t VALUES(4)")
        .await;
    let (store, faults) = faulty(&log);
    faults.lose_requests(Verb::Get, Loss::Next(2));
    faults.lose_responses(Verb::Get, Loss::PerMille(250));
    let end = Running::start_over(store, log.config(Mode::Once)).end().await.unwrap();
    assert_eq!(end.sequence, Some(log.last()));
    equal(&log);
    assert_eq!((faults.requests().list, faults.requests().put), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_a_while_is_no_halt() {
    let mut log = Log::begin(SETUP).await;
    let (store, faults) = faulty(&log);
    let mut running = Running::start_over(store, log.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    faults.lose_requests(Verb::Get, Loss::Next(4));
    log.run("INSERT INTO t VALUES(2)");
    let last = log.publish().await;
    running.until_applied(last).await;
    // Away for good: asked to end, it does not wait for it.
    faults.lose_requests(Verb::Get, Loss::PerMille(1000));
    assert_eq!(running.stop().await.unwrap().sequence, Some(last));
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_yet_is_waited_for() {
    let log = Log::begin(SETUP).await;
    let (here, away) = (log.folder.path().join("store"), log.folder.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    let mut running = Running::start(config);
    let (status, problem) = running.get_json("/readyz").await;
    assert_eq!((status, &problem["code"]), (503, &"unavailable".into()));
    assert_eq!(running.get_json("/status").await.1["sequence"], serde_json::Value::Null);
    std::fs::rename(&away, &here).unwrap();
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    assert_eq!(running.get("/readyz").await.0, 200);
    running.stop().await.unwrap();
    equal(&log);
}

/// A store whose reader meets a fault of its own at one batch.
struct Panics {
    store: Arc<synddb_storage::ObjectBatchStore>,
    at: Sequence,
}

#[async_trait::async_trait]
impl BatchStore for Panics {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        self.store.put(key, bytes).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        assert!(!matches!(key, Key::Batch { first, .. } if *first == self.at), "a fault");
        self.store.get(key).await
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        self.store.list(start, limit).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_a_stage_is_no_end_of_the_log() {
    let mut log = Log::begin(SETUP).await;
    log.run_and_publish_each("INSERT INTO t VALUES(2); INSERT INTO t VALUES(3)").await;
    // In the middle of the log, and behind its end.
    for (at, mode) in [
        (log.last(), Mode::Once),
        (log.last(), Mode::Follow),
        (log.last().next().unwrap(), Mode::Once),
        (log.last().next().unwrap(), Mode::Follow),
    ] {
        let store = Arc::new(Panics { store: Arc::clone(&log.store), at });
        let ended = Running::start_over(store, log.config(mode)).end().await;
        assert!(matches!(ended, Err(ValidatorError::Fault { part: "stages" })), "{at} {mode:?}: {ended:?}");
    }
    // Where everything was read, and the process is asked to end, the same stages end in order.
    let mut running = Running::start(log.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    assert_eq!(running.stop().await.unwrap().sequence, Some(log.last()));
    equal(&log);
}

/// A sequencer whose answers the test gives.
pub(crate) struct Sequencer {
    pub(crate) url: String,
    asked: mpsc::Receiver<oneshot::Sender<Response>>,
}

#[derive(Clone)]
struct Asking(mpsc::Sender<oneshot::Sender<Response>>);

impl Sequencer {
    pub(crate) async fn start() -> Self {
        let (to, asked) = mpsc::channel(ASKED_MAX);
        let path = format!("/streams/{}/checkpoint", STREAM.to_key());
        let router = Router::new().route(&path, get(ask)).with_state(Asking(to));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { synddb_service::axum::serve(listener, router).await });
        Self { url, asked }
    }

    /// Waits for a request, and gives it to be answered.
    pub(crate) async fn next(&mut self) -> oneshot::Sender<Response> {
        tokio::time::timeout(PATIENCE, self.asked.recv()).await.unwrap().unwrap()
    }
}

async fn ask(State(Asking(to)): State<Asking>) -> Response {
    let (answer, answered) = oneshot::channel();
    to.send(answer).await.unwrap();
    answered.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The checkpoint of the last batch, as a sequencer answers it.
pub(crate) fn checkpoint(log: &Log) -> Response {
    let signed = log.tip.checkpoint(log.epoch, 0).unwrap().sign(&log.key).unwrap();
    signed.to_bytes().into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_log_costs_the_store_nothing_while_a_sequencer_tells_news() {
    let mut log = Log::begin(SETUP).await;
    let mut sequencer = Sequencer::start().await;
    let (store, faults) = faulty(&log);
    let mut config = log.config(Mode::Follow);
    config.sequencer = Some(sequencer.url.clone());
    let mut running = Running::start_over(store, config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let mut asked = sequencer.next().await;
    let idle = faults.requests().get;
    for _ in 0..3 {
        asked.send(checkpoint(&log)).unwrap();
        asked = sequencer.next().await;
    }
    assert_eq!((faults.requests().get, faults.requests().list), (idle, 0));
    log.run("INSERT INTO t VALUES(2)");
    let last = log.publish().await;
    asked.send(checkpoint(&log)).unwrap();
    running.until_applied(last).await;
    drop(sequencer.next().await);
    // The batch, and the absence behind it.
    assert!(faults.requests().get <= idle + 3, "{}", faults.requests().get - idle);
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_sequencer_it_looks_into_the_store() {
    let mut log = Log::begin(SETUP).await;
    for url in ["http://127.0.0.1:1", "https://127.0.0.1:1/"] {
        let mut config = log.config(Mode::Follow);
        config.sequencer = Some(url.to_owned());
        let mut running = Running::start(config);
        running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
        log.run("INSERT INTO t VALUES(2)");
        let last = log.publish().await;
        running.until_applied(last).await;
        running.stop().await.unwrap();
    }
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequencer_that_lies_is_not_believed() {
    let mut log = Log::begin(SETUP).await;
    let mut ahead = Log::begin(SETUP).await;
    ahead
        .run_and_publish_each("INSERT INTO t VALUES(2); INSERT INTO t VALUES(3); INSERT INTO t VALUES(4)")
        .await;
    let mut sequencer = Sequencer::start().await;
    let (store, faults) = faulty(&log);
    let mut config = log.config(Mode::Follow);
    (config.sequencer, config.lag_max) = (Some(sequencer.url.clone()), 1);
    let mut running = Running::start_over(store, config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let before = faults.requests().get;
    let mut asked = sequencer.next().await;
    for _ in 0..LIES {
        asked.send(checkpoint(&ahead)).unwrap();
        asked = sequencer.next().await;
    }
    // Each time it looked, found nothing, and looked once more on its own account before it asked again: no busy loop.
    assert_eq!(faults.requests().get - before, 2 * LIES);
    for answer in ["no checkpoint".into_response(), vec![0u8; 1 << 20].into_response()] {
        asked.send(answer).unwrap();
        asked = sequencer.next().await;
    }
    assert_eq!(faults.requests().get - before, 2 * LIES + 2);
    log.run("INSERT INTO t VALUES(2)");
    let last = log.publish().await;
    asked.send(checkpoint(&log)).unwrap();
    running.until_applied(last).await;
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequencer_that_does_not_lead_the_stream_is_none() {
    let mut log = Log::begin(SETUP).await;
    let mut sequencer = Sequencer::start().await;
    let mut config = log.config(Mode::Follow);
    config.sequencer = Some(sequencer.url.clone());
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let asked = sequencer.next().await;
    log.run("INSERT INTO t VALUES(2)");
    let last = log.publish().await;
    // Its next request stays without an answer: only a look into the store finds what another one stored.
    asked.send(StatusCode::NOT_FOUND.into_response()).unwrap();
    running.until_applied(last).await;
    running.stop().await.unwrap();
    equal(&log);
}
