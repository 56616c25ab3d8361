//! The sequencer as a process that keeps its logs in real object stores, behind a proxy that is slow, breaks, or is away.
//!
//! The stores are read back without the proxy, by a reader that believes nothing but a key.

mod away;
mod denied;
mod lossy;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use synddb_protocol::Canonical as _;
use synddb_protocol::hash::CommitDigest;
use synddb_protocol::http::{Problem, Reason, Receipts};
use synddb_protocol::id::StreamId;
use synddb_protocol::log::{Receipt, SignedCheckpoint};
use synddb_protocol::signing::VerifyingKey;
use synddb_servers::{ObjectServer, Platform, Proxy};
use synddb_storage::{BatchStore, ObjectBatchStore, StoreUrl, Variables};
use tempfile::TempDir;

use crate::killed::Process;
use crate::sample::{Client, PAGES, Reader, noise, snapshot_body, submission_body};
use crate::sample_key;
use crate::server::{TOKEN, config, http};
use crate::takeover::{PATIENCE, pass_time};
use synddb_protocol::hash::ChunkHash;

/// How long a client waits before it asks again.
const RETRY: Duration = Duration::from_millis(50);

/// What a sequencer is told beside where things are.
struct Settings {
    age_ms: u64,
    journal_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { age_ms: 20, journal_bytes_max: 1 << 30 }
    }
}

/// A real store, a proxy before it, and the files of a sequencer that reaches it through the proxy.
struct Place {
    server: ObjectServer,
    proxy: Proxy,
    folder: TempDir,
    url: StoreUrl,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.log()).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(20).collect();
            println!("the sequencer said last, newest first: {last:#?}\n{:#?}", self.proxy.counts());
        }
    }
}

impl Place {
    /// `None` where the server's program is not here.
    fn start(platform: Platform, seed: u64) -> Option<Self> {
        if !platform.is_here() {
            return None;
        }
        let server = ObjectServer::start(platform).unwrap();
        server.bucket("logs").unwrap();
        let proxy = Proxy::before(server.address(), seed).unwrap();
        let url = format!("{}/of/tests", server.url("logs")).parse().unwrap();
        Some(Self { server, proxy, folder: tempfile::tempdir().unwrap(), url })
    }

    /// Writes the configuration of the sequencer, and starts it.
    fn sequencer(&self, settings: &Settings) -> Process {
        let config = config(self.folder.path(), "one");
        let file = self.folder.path().join("sequencer.toml");
        let text = format!(
            "listen = \"127.0.0.1:0\"\nstore = \"{}\"\ndir = \"{}\"\ncredentials_file = \"{}\"\nkey_file = \"{}\"\n\
             journal_bytes_max = {}\n[batch]\nage_ms = {}\n",
            self.url,
            config.dir.display(),
            config.credentials_file.display(),
            config.key_file.display(),
            settings.journal_bytes_max,
            settings.age_ms,
        );
        std::fs::write(&file, text).unwrap();
        Process::start_logged(&file, &self.server.variables_at(self.proxy.address()), &self.log())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("sequencer.log")
    }

    /// What sequencers said so far, line by line.
    fn said(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log()).unwrap();
        log.lines().map(str::to_owned).collect()
    }

    fn key(&self) -> VerifyingKey {
        sample_key(self.folder.path(), "one")
    }

    /// Reads a log from the store itself, and verifies every byte of it.
    async fn read(&self, stream: StreamId) -> Reader {
        let variables: Variables = self.server.variables().into_iter().collect();
        let store = ObjectBatchStore::open_existing_with(&self.url, &variables).await.unwrap();
        let store: Arc<dyn BatchStore> = Arc::new(store);
        Reader::read(&store, stream, &[self.key()]).await
    }
}

/// The client of one stream, which sends each commit until it is acknowledged, and remembers what it was promised.
struct Sender {
    client: Client,
    base: String,
    http: reqwest::Client,
    commits: Vec<(u64, CommitDigest)>,
    promised: Vec<Receipt>,
    /// How long each answer took that took something.
    took: Vec<Duration>,
    /// Commits that were sent and are not acknowledged.
    waiting: Option<Vec<u8>>,
}

/// What came of sending once.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Taken,
    Refused(Reason),
    /// Nobody answered.
    Nobody,
}

impl Sender {
    fn new(number: u8, base: &str) -> Self {
        let client = Client::new(StreamId::from_bytes([number; 32]));
        Self {
            client,
            base: base.to_owned(),
            http: http(),
            commits: Vec::new(),
            promised: Vec::new(),
            took: Vec::new(),
            waiting: None,
        }
    }

    fn stream(&self) -> StreamId {
        self.client.stream
    }

    async fn ask(&self, method: reqwest::Method, path: &str, body: Vec<u8>) -> Option<(u16, Vec<u8>)> {
        let url = format!("{}/streams/{}/{path}", self.base, self.stream().to_key());
        let answer = self.http.request(method, url).bearer_auth(TOKEN).body(body).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.bytes().await.ok()?.to_vec()))
    }

    /// Begins the stream, however often that takes.
    async fn begin(&mut self) {
        let begun = Instant::now();
        let chunk = format!("snapshot/chunks/{}", ChunkHash::of(PAGES).to_key());
        while !matches!(self.ask(reqwest::Method::PUT, &chunk, PAGES.to_vec()).await, Some((200 | 201, _))) {
            assert!(begun.elapsed() < 2 * PATIENCE, "the chunk is not taken");
            pass_time(RETRY).await;
        }
        let snapshot = snapshot_body(self.client.beginning());
        loop {
            if let Some((200 | 201, receipts)) =
                self.ask(reqwest::Method::POST, "snapshot", snapshot.clone()).await
            {
                self.promised.extend(Receipts::from_bytes(&receipts).unwrap().0);
                return;
            }
            assert!(begun.elapsed() < 2 * PATIENCE, "the stream does not begin");
            pass_time(RETRY).await;
        }
    }

    /// Sends the next commit once, or the one that waits again.
    async fn send(&mut self, bytes: usize) -> Sent {
        let body = self.waiting.take().unwrap_or_else(|| {
            let commits = self.client.commits_with(1, &noise(bytes));
            self.commits.extend(commits.iter().map(|commit| (commit.number.get(), commit.digest())));
            submission_body(self.client.submit(&commits))
        });
        let asked = Instant::now();
        let answer = self.ask(reqwest::Method::POST, "submit", body.clone()).await;
        if let Some((200 | 201, receipts)) = &answer {
            self.took.push(asked.elapsed());
            self.promised.extend(Receipts::from_bytes(receipts).unwrap().0);
            return Sent::Taken;
        }
        self.waiting = Some(body);
        answer.map_or(Sent::Nobody, |(_, body)| {
            let problem: Problem = serde_json::from_slice(&body).unwrap();
            Sent::Refused(problem.reason().clone())
        })
    }

    /// Sends the next commit until it is acknowledged.
    async fn send_until_taken(&mut self, bytes: usize) {
        let begun = Instant::now();
        while self.send(bytes).await != Sent::Taken {
            assert!(begun.elapsed() < 2 * PATIENCE, "it is not taken");
            pass_time(RETRY).await;
        }
    }

    /// Waits until everything is stored that was acknowledged.
    async fn stored(&self, patience: Duration) {
        let last = self.promised.last().unwrap().header().sequence;
        let (begun, path) = (Instant::now(), format!("checkpoint?at_least={last}&wait_ms=5000"));
        loop {
            if let Some((200, checkpoint)) = self.ask(reqwest::Method::GET, &path, Vec::new()).await
                && SignedCheckpoint::from_bytes(&checkpoint).unwrap().claim().size >= last
            {
                return;
            }
            assert!(begun.elapsed() < patience, "it is not stored");
            pass_time(RETRY).await;
        }
    }

    /// What the log holds is what was sent, each commit once and in order, and every receipt that was given is the stored one.
    fn assert_held_by(&self, log: &Reader) {
        let stream = self.stream();
        let held: Vec<_> = log.commits().into_iter().map(|(number, digest, _)| (number, digest)).collect();
        assert!(held == self.commits, "stream {stream}: {} of {}", held.len(), self.commits.len());
        for receipt in &self.promised {
            let at = usize::try_from(receipt.header().sequence.get() - 1).unwrap();
            assert_eq!(log.messages[at].receipt(), receipt, "stream {stream}");
        }
    }
}

/// What a process says of whether it is ready.
async fn readyz(base: &str) -> (u16, String) {
    let answer = http().get(format!("{base}/readyz")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Waits until a process is ready, or says this of why it is not.
async fn says(base: &str, wanted: Option<&str>) {
    let begun = Instant::now();
    loop {
        let (status, text) = readyz(base).await;
        let is_so = wanted.map_or(status == 200, |wanted| status == 503 && text.contains(wanted));
        if is_so {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{wanted:?} is not said: {status} {text}");
        pass_time(RETRY).await;
    }
}

/// How long something took, of many: the half of them, 99 of 100, and all took no longer than this.
fn spread(took: &[Duration]) -> String {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    let at = |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len() - 1)).copied();
    let of = |share| at(share).unwrap_or_default();
    format!("half within {:.1?}, 99 % within {:.1?}, all within {:.1?}", of(50), of(99), of(100))
}
