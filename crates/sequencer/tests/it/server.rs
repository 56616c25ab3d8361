//! A sequencer in this process, on a free port, and requests to it as a client makes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use synddb_protocol::Canonical as _;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::http::{Problem, Reason, Receipts, StreamStatus};
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{Receipt, SignedCheckpoint};
use synddb_protocol::signing::VerifyingKey;
use synddb_sequencer::{Batching, Config, SequencerError, Started, run_over, run_with_leases};
use synddb_service::credentials::{self, Fingerprint, Kind, NewCredential};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_storage::faulty::{Faults, FaultyStore};
use synddb_storage::{BatchStore, Lease, ObjectBatchStore, StoreUrl};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::sample::{Client, PAGES, snapshot_body};

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A store of files, and the faults that it can have.
pub(crate) async fn faulty_store(folder: &Path) -> (Arc<dyn BatchStore>, Faults) {
    let store = file_store(folder).await;
    let mut chance = 0u64;
    let faults = Faults::new(move || {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chance >> 33
    });
    (Arc::new(FaultyStore::new(store, faults.clone())), faults)
}

pub(crate) async fn file_store(folder: &Path) -> Arc<dyn BatchStore> {
    let url = StoreUrl::folder(&folder.join("store")).unwrap();
    Arc::new(ObjectBatchStore::open(&url).await.unwrap())
}

/// The file by which a sequencer knows [`TOKEN`], in `folder`.
pub(crate) fn credentials(folder: &Path) -> PathBuf {
    let file = folder.join("credentials.toml");
    let sha256 = Fingerprint::of(TOKEN.as_bytes());
    let (kind, name) = (Kind::Token, "test".to_owned());
    let new = NewCredential { kind, name, sha256, streams: BTreeSet::new(), expires: None };
    credentials::write(&file, &new).unwrap();
    file
}

/// The configuration of a sequencer whose files are in `folder`.
pub(crate) fn config(folder: &Path, name: &str) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        store: StoreUrl::folder(&folder.join("store")).unwrap(),
        dir: folder.join(name),
        credentials_file: credentials(folder),
        key_file: folder.join(format!("{name}.key")),
        batch: Batching { age_ms: 5, ..Batching::default() },
        ..Config::default()
    }
}

/// A client of HTTP.
pub(crate) fn http() -> reqwest::Client {
    // Another test may have chosen already.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A sequencer, and how to speak to it.
pub(crate) struct Server {
    pub(crate) base: String,
    pub(crate) key: VerifyingKey,
    pub(crate) http: reqwest::Client,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), SequencerError>>,
}

/// What a request was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        assert!(matches!(self.status, 200 | 201), "{self:?}: {}", String::from_utf8_lossy(&self.body));
        Receipts::from_bytes(&self.body).unwrap().0
    }

    pub(crate) fn receipt(&self) -> Receipt {
        let [receipt] = <[Receipt; 1]>::try_from(self.receipts()).unwrap();
        receipt
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.receipt().header().sequence.get()
    }

    pub(crate) fn reason(&self) -> Reason {
        let problem: Problem = serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)));
        assert_eq!(problem.reason().status(), self.status);
        problem.reason().clone()
    }
}

impl Server {
    /// Starts a sequencer over a store.
    pub(crate) async fn start(store: &Arc<dyn BatchStore>, config: Config) -> Self {
        Self::try_start(store, config).await.unwrap()
    }

    pub(crate) async fn try_start(
        store: &Arc<dyn BatchStore>,
        config: Config,
    ) -> Result<Self, SequencerError> {
        let store = Arc::clone(store);
        Self::begin_to_run(|shutdown, tell| run_over(store, config, Metrics::detached(), shutdown, tell))
            .await
    }

    /// Starts a sequencer over a store with leases.
    pub(crate) async fn start_with_leases(
        objects: &Arc<ObjectBatchStore>,
        lease: Arc<dyn Lease>,
        config: Config,
    ) -> Self {
        Self::try_start_with_leases(objects, lease, config).await.unwrap()
    }

    pub(crate) async fn try_start_with_leases(
        objects: &Arc<ObjectBatchStore>,
        lease: Arc<dyn Lease>,
        config: Config,
    ) -> Result<Self, SequencerError> {
        let store = Arc::clone(objects);
        let running =
            |shutdown, tell| run_with_leases(store, lease, config, Metrics::detached(), shutdown, tell);
        Self::begin_to_run(running).await
    }

    async fn begin_to_run<F>(
        run: impl FnOnce(Shutdown, Box<dyn FnOnce(Started) + Send>) -> F,
    ) -> Result<Self, SequencerError>
    where
        F: Future<Output = Result<(), SequencerError>> + Send + 'static,
    {
        let (told, started) = tokio::sync::oneshot::channel::<Started>();
        let shutdown = Shutdown::new();
        let tell = move |started| told.send(started).unwrap();
        let task = tokio::spawn(run(shutdown.clone(), Box::new(tell)));
        match started.await {
            Ok(Started { address, key, .. }) => {
                Ok(Self { base: format!("http://{address}"), key, http: http(), shutdown, task })
            }
            Err(_) => Err(task.await.unwrap().unwrap_err()),
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(self) {
        self.shutdown.ask();
        self.task.await.unwrap().unwrap();
    }

    /// Waits until some stream is in this trouble, for all to see.
    pub(crate) async fn troubled(&self, trouble: &str) {
        loop {
            let answer = self.get("readyz").await;
            assert_ne!(answer.status, 200, "it leads");
            if String::from_utf8(answer.body).unwrap().contains(trouble) {
                return;
            }
            assert!(!self.task.is_finished(), "it ended");
        }
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        answer(request.send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, stream: StreamId, path: &str, body: Vec<u8>) -> Answer {
        let url = format!("{}/streams/{}/{path}", self.base, stream.to_key());
        self.send(self.http.post(url).bearer_auth(TOKEN).body(body)).await
    }

    pub(crate) async fn submit(&self, stream: StreamId, body: Vec<u8>) -> Answer {
        self.post(stream, "submit", body).await
    }

    /// Announces a body that never comes, and reads what is answered.
    pub(crate) async fn announce(
        &self,
        stream: StreamId,
        path: &str,
        token: Option<&str>,
        length: u64,
    ) -> Answer {
        let mut connection = TcpStream::connect(self.base.strip_prefix("http://").unwrap()).await.unwrap();
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "POST /streams/{}/{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{token}content-length: {length}\r\n\r\n",
            stream.to_key()
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, retry_after: None, body: body.as_bytes().to_vec() }
    }

    pub(crate) async fn put_chunk(&self, stream: StreamId, chunk: &[u8]) -> Answer {
        let hash = ChunkHash::of(chunk).to_key();
        let url = format!("{}/streams/{}/snapshot/chunks/{hash}", self.base, stream.to_key());
        self.send(self.http.put(url).bearer_auth(TOKEN).body(chunk.to_vec())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(format!("{}/{path}", self.base))).await
    }

    /// Begins a stream as an agent does.
    pub(crate) async fn begin(&self, client: &Client) -> Answer {
        let chunk = self.put_chunk(client.stream, PAGES).await;
        assert!(matches!(chunk.status, 200 | 201), "{chunk:?}");
        self.post(client.stream, "snapshot", snapshot_body(client.beginning())).await
    }

    /// Waits until a message is stored.
    pub(crate) async fn stored(&self, stream: StreamId, sequence: u64) -> SignedCheckpoint {
        let path = format!("streams/{}/checkpoint?at_least={sequence}&wait_ms=30000", stream.to_key());
        let answer = self.get(&path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let checkpoint = SignedCheckpoint::from_bytes(&answer.body).unwrap();
        assert!(checkpoint.claim().size >= Sequence::new(sequence).unwrap(), "not stored in time");
        checkpoint
    }

    pub(crate) async fn status(&self, stream: StreamId) -> StreamStatus {
        let answer = self.get(&format!("streams/{}/status", stream.to_key())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Lets a little time pass, without a clock of its own: the sequencer answers late, for a message that never comes.
    pub(crate) async fn pass_time(&self, stream: StreamId) {
        let never = Sequence::MAX;
        self.get(&format!("streams/{}/checkpoint?at_least={never}&wait_ms=20", stream.to_key())).await;
    }
}

pub(crate) async fn answer(response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let retry_after =
        response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    Answer { status, retry_after, body: response.bytes().await.unwrap().to_vec() }
}
