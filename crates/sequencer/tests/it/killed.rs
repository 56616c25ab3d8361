//! A killed sequencer keeps every promise: what it acknowledged is stored, once, in the place that it said.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use synddb_protocol::Canonical as _;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::http::Receipts;
use synddb_protocol::id::Sequence;
use synddb_protocol::log::{Entry, Receipt};

use crate::sample::{Client, PAGES, Reader, STREAM, noise, snapshot_body, submission_body};
use crate::sample_key;
use crate::server::{TOKEN, config, file_store, http};

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_synddb-sequencer");

/// How many processes are killed.
const ROUNDS: usize = 12;

/// The sequencer as a process.
pub(crate) struct Process {
    child: Child,
    /// Where it listens.
    pub(crate) base: String,
}

impl Process {
    pub(crate) fn start(file: &Path) -> Self {
        Self::run(Command::new(BINARY).arg(file))
    }

    /// Starts one that is killed or stopped where a variable of its environment says (`synddb_sqlite::killable`).
    pub(crate) fn start_with(file: &Path, variable: &str, at: &str) -> Self {
        Self::run(Command::new(BINARY).arg(file).env(variable, at))
    }

    /// Runs one until it is killed at a place, or the patience ends. Gives whether it was killed.
    pub(crate) fn dies_at(file: &Path, at: &str) -> bool {
        let mut command = Command::new(BINARY);
        command.arg(file).env("SYNDDB_KILL_AT", at).env("SYNDDB_LOG", "off").stdout(Stdio::null());
        let mut process = Self { child: command.spawn().unwrap(), base: String::new() };
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if let Some(status) = process.child.try_wait().unwrap() {
                return status.signal() == Some(9);
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        false
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts one that may write no file larger than this many blocks of 512 bytes, so that a write fails half-way as on a broken disk.
    fn start_limited(file: &Path, blocks: u32) -> Self {
        let limited = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        Self::run(Command::new("sh").args(["-c", &limited]).arg(BINARY).arg(file).stderr(Stdio::null()))
    }

    /// Starts one with more in its environment, whose log goes to a file behind what stands there.
    pub(crate) fn start_logged(file: &Path, variables: &[(String, String)], log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(BINARY);
        command.arg(file).envs(variables.iter().map(|(name, value)| (name, value))).stderr(log);
        Self::begin(command.env("SYNDDB_LOG", "info"))
    }

    fn run(command: &mut Command) -> Self {
        Self::begin(command.env("SYNDDB_LOG", "off"))
    }

    fn begin(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let base = line.split(' ').nth(2).unwrap_or_else(|| panic!("it does not start: {line}")).to_owned();
        Self { child, base }
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it was killed.
    fn killed(mut self) {
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it ended by itself, and well.
    pub(crate) fn end(mut self) {
        assert!(self.child.wait().unwrap().success(), "it ended in trouble");
    }

    /// Posts once. `None` when no answer came.
    pub(crate) async fn post(
        &self,
        http: &reqwest::Client,
        path: &str,
        body: Vec<u8>,
    ) -> Option<(u16, Vec<u8>)> {
        let url = format!("{}/streams/{}/{path}", self.base, STREAM.to_key());
        let method = if path.contains("chunks") { reqwest::Method::PUT } else { reqwest::Method::POST };
        let answer = http.request(method, url).bearer_auth(TOKEN).body(body).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.bytes().await.ok()?.to_vec()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A test that fails leaves no process behind. One that was killed already is gone.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Writes the configuration of a process.
pub(crate) fn configure(folder: &Path) -> std::path::PathBuf {
    let config = config(folder, "one");
    let file = folder.join("sequencer.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstore = \"{}\"\ndir = \"{}\"\ncredentials_file = \"{}\"\nkey_file = \"{}\"\n[batch]\nage_ms = 2\n",
        config.store,
        config.dir.display(),
        config.credentials_file.display(),
        config.key_file.display(),
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Posts until it is answered with receipts; `None` when the process is gone.
async fn acknowledged(process: &Process, http: &reqwest::Client, body: &[u8]) -> Option<Vec<Receipt>> {
    loop {
        match process.post(http, "submit", body.to_vec()).await? {
            (200 | 201, receipts) => return Some(Receipts::from_bytes(&receipts).unwrap().0),
            (503, _) => {}
            (status, body) => panic!("{status}: {}", String::from_utf8_lossy(&body)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_sequencer_acknowledged_is_stored_once_where_it_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path());
    let http = http();
    let mut random = StdRng::seed_from_u64(7);
    let mut client = Client::new(STREAM);
    let mut promised: BTreeMap<u64, Receipt> = BTreeMap::new();
    let mut process = Process::start(&file);
    let hash = ChunkHash::of(PAGES).to_key();
    let chunk = process.post(&http, &format!("snapshot/chunks/{hash}"), PAGES.to_vec()).await.unwrap();
    assert_eq!(chunk.0, 201);
    let begun = process.post(&http, "snapshot", snapshot_body(client.beginning())).await.unwrap();
    assert_eq!(begun.0, 201);

    let mut unanswered: Option<(u64, Vec<u8>)> = None;
    for _ in 0..ROUNDS {
        for _ in 0..random.random_range(3..25) {
            let (number, body) = unanswered.take().unwrap_or_else(|| {
                let number = client.next;
                let commits = client.commits_with(1, &noise(random.random_range(1..20_000)));
                (number, submission_body(client.submit(&commits)))
            });
            let [receipt] = &acknowledged(&process, &http, &body).await.unwrap()[..] else { panic!() };
            promised.insert(number, receipt.clone());
        }
        // One more is under way when it dies, at another moment each time.
        let number = client.next;
        let body = client.next_body(1);
        let posted = {
            let (url, http, body) = (process.base.clone(), http.clone(), body.clone());
            tokio::spawn(async move {
                let url = format!("{url}/streams/{}/submit", STREAM.to_key());
                let answer = http.post(url).bearer_auth(TOKEN).body(body).send().await.ok()?;
                let is_taken = answer.status().is_success();
                answer.bytes().await.ok().filter(|_| is_taken)
            })
        };
        for _ in 0..random.random_range(0..2000) {
            tokio::task::yield_now().await;
        }
        process.kill();
        match posted.await.unwrap() {
            Some(receipts) => {
                promised.insert(number, Receipts::from_bytes(&receipts).unwrap().0[0].clone());
            }
            None => unanswered = Some((number, body)),
        }
        process = Process::start(&file);
    }
    if let Some((number, body)) = unanswered {
        promised.insert(number, acknowledged(&process, &http, &body).await.unwrap()[0].clone());
    }
    let last = promised.values().map(|receipt| receipt.header().sequence).max().unwrap();
    let url = format!("{}/checkpoint?at_least={last}&wait_ms=30000", process.base);
    loop {
        let answer = http.get(&url).send().await.unwrap().bytes().await.unwrap();
        let checkpoint = synddb_protocol::log::SignedCheckpoint::from_bytes(&answer);
        if checkpoint.is_ok_and(|checkpoint| checkpoint.claim().size >= last) {
            break;
        }
    }
    process.kill();

    let store = file_store(folder.path()).await;
    let log = Reader::read(&store, STREAM, &[sample_key(folder.path(), "one")]).await;
    // An epoch message that does not begin its batch stands behind what a killed process could not store.
    let epochs = log.messages.iter().filter(|message| matches!(message.entry(), Entry::Epoch(_)));
    let epochs: Vec<Sequence> = epochs.map(|message| message.header().sequence).collect();
    let taken_over =
        epochs.iter().filter(|epoch| log.batches.iter().all(|(first, _)| first != *epoch)).count();
    assert!(taken_over > 0, "no process died with something that it had not stored");
    assert_eq!(epochs.len(), ROUNDS + 1);
    let commits = log.commits();
    let numbers: Vec<u64> = commits.iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, Vec::from_iter(1..client.next), "each commit is stored exactly once, in order");
    for (number, _, sequence) in commits {
        let receipt = &promised[&number];
        assert_eq!(receipt.header().sequence.get(), sequence);
        assert_eq!(log.messages[usize::try_from(sequence - 1).unwrap()].receipt(), receipt);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_ends_the_process_and_takes_no_promise_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path());
    let http = http();
    let mut process = Process::start_limited(&file, 1200);
    let mut client = Client::new(STREAM);
    let hash = ChunkHash::of(PAGES).to_key();
    process.post(&http, &format!("snapshot/chunks/{hash}"), PAGES.to_vec()).await.unwrap();
    process.post(&http, "snapshot", snapshot_body(client.beginning())).await.unwrap();
    let mut promised = Vec::new();
    let unanswered = loop {
        let commits = client.commits_with(1, &noise(10_000));
        let body = submission_body(client.submit(&commits));
        match process.post(&http, "submit", body.clone()).await {
            Some((201, receipts)) => promised.push(Receipts::from_bytes(&receipts).unwrap().0.remove(0)),
            Some((503 | 507, _)) | None => break body,
            Some((status, body)) => panic!("{status}: {}", String::from_utf8_lossy(&body)),
        }
    };
    assert!(promised.len() > 3 && promised.len() < 200, "{}", promised.len());
    assert!(!process.child.wait().unwrap().success(), "it cannot know what the disk has");

    let process = Process::start(&file);
    promised.extend(acknowledged(&process, &http, &unanswered).await.unwrap());
    let last = promised.last().unwrap().header().sequence;
    let url = format!("{}/checkpoint?at_least={last}&wait_ms=30000", process.base);
    http.get(&url).send().await.unwrap();
    process.kill();
    let store = file_store(folder.path()).await;
    let log = Reader::read(&store, STREAM, &[sample_key(folder.path(), "one")]).await;
    let numbers: Vec<u64> = log.commits().iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, Vec::from_iter(1..client.next));
    for receipt in promised {
        let at = usize::try_from(receipt.header().sequence.get() - 1).unwrap();
        assert_eq!(*log.messages[at].receipt(), receipt);
    }
}

/// The snapshot is accepted, its chunk is removed by somebody to whom it is old and needless, and then it is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_snapshot_whose_chunks_are_gone_is_counted_and_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path());
    let http = http();
    let client = Client::new(STREAM);
    let chunk = ChunkHash::of(PAGES).to_key();
    // The first batch is the fence of its epoch.
    let process = Process::start_with(&file, "SYNDDB_KILL_AT", "cut@2");
    let put = process.post(&http, &format!("snapshot/chunks/{chunk}"), PAGES.to_vec()).await;
    assert_eq!(put.unwrap().0, 201);
    process.post(&http, "snapshot", snapshot_body(client.beginning())).await;
    process.killed();
    let path = folder.path().join("store").join(STREAM.to_key()).join("chunks").join(chunk);
    std::fs::remove_file(path).unwrap();
    let process = Process::start(&file);
    let counted = format!("synddb_sequencer_missing_chunks_total{{stream=\"{}\"}} 1", STREAM.to_key());
    let begun = Instant::now();
    loop {
        let metrics =
            http.get(format!("{}/metrics", process.base)).send().await.unwrap().text().await.unwrap();
        if metrics.contains(&counted) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{metrics}");
    }
    process.kill();
}
