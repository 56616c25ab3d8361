//! What tests of several sequencer processes on one store share: processes with keys that are known before they start, an outbox that
//! sends the same commits to whoever takes them, and what all of them promised.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use synddb_protocol::Canonical as _;
use synddb_protocol::hash::CommitDigest;
use synddb_protocol::http::{Problem, Reason, Receipts};
use synddb_protocol::id::{Epoch, Sequence};
use synddb_protocol::log::{Receipt, VerifiedMessage};
use synddb_protocol::signing::VerifyingKey;
use synddb_protocol::submission::Commit;

use crate::killed::Process;
use crate::sample::{Client, PAGES, STREAM, noise, snapshot_body, submission_body};
use crate::sample_key;
use crate::server::config;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A number that the environment may set.
pub(crate) fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// Chance that repeats, and is not that of another test.
pub(crate) fn chance(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Lets others go on, until something is so or the patience ends.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: it does not come");
        pass_time(Duration::from_millis(2)).await;
    }
}

/// Lets a little time pass, which only shifts when things happen.
pub(crate) async fn pass_time(time: Duration) {
    tokio::time::timeout(time, std::future::pending::<()>()).await.ok();
}

/// Makes the key of the sequencer `name`.
pub(crate) fn make_key(folder: &Path, name: &str, random: &mut StdRng) -> VerifyingKey {
    let secret: [u8; 32] = random.random();
    synddb_service::secret::write_new_secret(&folder.join(format!("{name}.key")), &hex::encode(secret))
        .unwrap();
    sample_key(folder, name)
}

/// Writes the configuration of a process whose journals are in `journals`, and which signs with the key `name`.
pub(crate) fn configure(
    folder: &Path,
    journals: &str,
    name: &str,
    age_ms: u64,
    trusted: &[VerifyingKey],
) -> PathBuf {
    let config = config(folder, name);
    let file = folder.join(format!("{journals}.toml"));
    let trusted: Vec<String> = trusted.iter().map(|key| format!("\"{key}\"")).collect();
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstore = \"{}\"\ndir = \"{}\"\ncredentials_file = \"{}\"\nkey_file = \"{}\"\n\
         trusted_keys = [{}]\n[batch]\nage_ms = {age_ms}\n",
        config.store,
        folder.join(journals).display(),
        config.credentials_file.display(),
        config.key_file.display(),
        trusted.join(", "),
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Sends a signal.
pub(crate) fn signal(process: &Process, name: &str) {
    let told = Command::new("sh").args(["-c", &format!("kill -{name} {}", process.pid())]).status().unwrap();
    assert!(told.success(), "it is gone");
}

/// Whether a process stands still.
pub(crate) fn is_stopped(process: &Process) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

/// The commits of one application, in order, for whoever takes them.
pub(crate) struct Outbox {
    client: Client,
    commits: Vec<Commit>,
    random: StdRng,
}

impl Outbox {
    pub(crate) fn new(seed: u64) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { client: Client::new(STREAM), commits: Vec::new(), random: chance(seed) }))
    }

    pub(crate) fn len(&self) -> u64 {
        self.commits.len() as u64
    }

    /// A submission of so many commits from a number on. The application writes those that are missing.
    pub(crate) fn body(&mut self, first: u64, count: u64) -> Vec<u8> {
        while self.len() < first + count - 1 {
            let rows = noise(self.random.random_range(1..3000));
            let more = self.client.commits_with(1, &rows);
            self.commits.extend(more);
        }
        let at = usize::try_from(first - 1).unwrap();
        let end = at + usize::try_from(count).unwrap();
        submission_body(self.client.submit(&self.commits[at..end]))
    }

    /// All commits as they have to be in the log.
    pub(crate) fn expected(&self) -> Vec<(u64, CommitDigest)> {
        (1..).zip(self.commits.iter().map(Commit::digest)).collect()
    }
}

/// Everything that anybody promised. Two promises of one epoch for one place are the same.
#[derive(Debug, Default)]
pub(crate) struct Promises(BTreeMap<(Epoch, Sequence), Receipt>);

impl Promises {
    pub(crate) fn add(&mut self, receipts: &[Receipt]) {
        for receipt in receipts {
            let header = receipt.header();
            let earlier = self.0.insert((header.epoch, header.sequence), receipt.clone());
            assert!(
                earlier.as_ref().is_none_or(|earlier| earlier == receipt),
                "signed twice: {earlier:?} and {receipt:?}"
            );
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// No promise is of a place that the same epoch gave to something else. Gives those that did not come true.
    pub(crate) fn broken(mut self, log: &[VerifiedMessage]) -> Vec<Receipt> {
        let given: Vec<Receipt> = self.0.values().cloned().collect();
        for message in log {
            self.add(std::slice::from_ref(message.receipt()));
        }
        let is_stored = |receipt: &Receipt| {
            let at = usize::try_from(receipt.header().sequence.get() - 1).unwrap();
            log.get(at).is_some_and(|message| message.receipt() == receipt)
        };
        given.into_iter().filter(|receipt| !is_stored(receipt)).collect()
    }
}

/// What a process said to a submission.
#[derive(Debug)]
pub(crate) enum Said {
    Taken(Vec<Receipt>),
    Known(Vec<Receipt>),
    Refused(Reason),
    Nothing,
}

pub(crate) async fn submit(process: &Process, http: &reqwest::Client, body: Vec<u8>) -> Said {
    let answer = tokio::time::timeout(2 * PATIENCE, process.post(http, "submit", body)).await;
    said(answer.expect("it answers or is gone"))
}

pub(crate) fn said(answer: Option<(u16, Vec<u8>)>) -> Said {
    let receipts = |bytes: &[u8]| Receipts::from_bytes(bytes).unwrap().0;
    match answer {
        None => Said::Nothing,
        Some((201, bytes)) => Said::Taken(receipts(&bytes)),
        Some((200, bytes)) => Said::Known(receipts(&bytes)),
        Some((status, bytes)) => {
            let problem: Problem = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(problem.reason().status(), status);
            Said::Refused(problem.reason().clone())
        }
    }
}

/// Begins the stream as an agent does.
pub(crate) async fn begin(process: &Process, http: &reqwest::Client) {
    let hash = synddb_protocol::hash::ChunkHash::of(PAGES).to_key();
    let chunk = process.post(http, &format!("snapshot/chunks/{hash}"), PAGES.to_vec()).await.unwrap();
    assert_eq!(chunk.0, 201);
    let begun = snapshot_body(Client::new(STREAM).beginning());
    assert_eq!(process.post(http, "snapshot", begun).await.unwrap().0, 201);
}

/// Sends commits to a process from a number on, each once it has those before, and goes on where the process says. It rests up
/// to `pace` between two. Ends when `is_enough` says so, or when the process is gone.
pub(crate) async fn send(
    process: &Process,
    http: &reqwest::Client,
    outbox: &Mutex<Outbox>,
    mut next: u64,
    pace: Option<Duration>,
    mut is_enough: impl FnMut(&Sending) -> bool,
) -> Sending {
    let mut sending = Sending { next, ..Sending::default() };
    // Each process has its own.
    let mut random = chance(u64::from(process.pid()));
    let begun = Instant::now();
    while !is_enough(&sending) {
        assert!(begun.elapsed() < 2 * PATIENCE, "it takes no commit: {next} comes next");
        let count = random.random_range(1..4);
        let body = outbox.lock().unwrap().body(next, count);
        match submit(process, http, body).await {
            Said::Taken(receipts) => {
                sending.promised.extend(receipts);
                sending.taken += count;
                sending.is_resumed |= sending.refused > 0;
                next += count;
            }
            Said::Known(receipts) => {
                sending.promised.extend(receipts);
                next += count;
            }
            Said::Refused(Reason::Gap { expected }) => next = expected.commit.get(),
            Said::Refused(Reason::NotLeading) => sending.refused += 1,
            Said::Refused(Reason::Busy | Reason::Unavailable) => {}
            Said::Refused(reason) => panic!("{reason:?}"),
            Said::Nothing => {
                sending.is_gone = true;
                return sending;
            }
        }
        sending.next = next;
        if let Some(pace) = pace {
            pass_time(pace.mul_f64(random.random())).await;
        }
    }
    sending
}

/// Sends everything that is in the outbox, and waits until it is stored.
pub(crate) async fn send_all(
    process: &Process,
    http: &reqwest::Client,
    outbox: &Mutex<Outbox>,
    next: u64,
) -> Sending {
    let sent = send(process, http, outbox, next, None, |sent| sent.next > outbox.lock().unwrap().len()).await;
    stored(process, http, sent.last_place().unwrap()).await;
    sent
}

impl Sending {
    /// The last place that was promised.
    pub(crate) fn last_place(&self) -> Option<Sequence> {
        self.promised.iter().map(|receipt| receipt.header().sequence).max()
    }
}

/// What came of sending.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    pub(crate) promised: Vec<Receipt>,
    /// Commits that were taken as new.
    pub(crate) taken: u64,
    /// How often it was said that somebody else leads, or nobody yet.
    pub(crate) refused: u64,
    /// Something was taken after it was said that nobody takes anything.
    pub(crate) is_resumed: bool,
    /// Nothing was said: it is gone.
    pub(crate) is_gone: bool,
    /// The commit that comes next.
    pub(crate) next: u64,
}

/// Waits until a process has a place stored.
pub(crate) async fn stored(process: &Process, http: &reqwest::Client, place: Sequence) {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "{place} is not stored");
        let url = format!("{}/checkpoint?at_least={place}&wait_ms=5000", process.base);
        let answer = http.get(&url).send().await.unwrap().bytes().await.unwrap();
        let checkpoint = synddb_protocol::log::SignedCheckpoint::from_bytes(&answer);
        if checkpoint.is_ok_and(|checkpoint| checkpoint.claim().size >= place) {
            return;
        }
    }
}
