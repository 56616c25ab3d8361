//! A client that sends to whoever answers, and keeps what is not stored: an agent with two sequencers.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::http::{Problem, Reason};
use synddb_protocol::log::SignedCheckpoint;
use tokio::sync::watch;

use super::WAIT_MAX;
use crate::killed::Process;
use crate::sample::{Client, PAGES, STREAM, snapshot_body};
use crate::server::http;

/// The client, its outbox, and how far it is.
pub(crate) struct Sender {
    client: Client,
    pub(crate) http: reqwest::Client,
    /// The body of each commit from 1 on.
    outbox: Vec<Vec<u8>>,
    /// How many of them were accepted, as far as the last answer told.
    accepted: usize,
    /// Which process is asked next.
    turn: usize,
    /// How many commits that were accepted it had to send again.
    pub(crate) resent: usize,
    /// How many answers accepted something, for whoever waits for one.
    progress: watch::Sender<usize>,
}

impl Sender {
    pub(crate) fn new() -> Self {
        let client = Client::new(STREAM);
        let progress = watch::Sender::new(0);
        Self { client, http: http(), outbox: Vec::new(), accepted: 0, turn: 0, resent: 0, progress }
    }

    /// How many answers accepted something until now, and from now on.
    pub(crate) fn progress(&self) -> watch::Receiver<usize> {
        self.progress.subscribe()
    }

    /// How many commits it has made.
    pub(crate) fn commits(&self) -> u64 {
        self.outbox.len() as u64
    }

    /// Begins the stream with whoever leads, and waits until that is stored.
    pub(crate) async fn begin(&mut self, processes: &[&Process]) {
        let until = Instant::now() + WAIT_MAX;
        let chunk = format!("snapshot/chunks/{}", ChunkHash::of(PAGES).to_key());
        loop {
            assert!(Instant::now() < until, "nobody leads");
            let process = processes[self.turn % processes.len()];
            process.post(&self.http, &chunk, PAGES.to_vec()).await;
            let begun = snapshot_body(self.client.beginning());
            match process.post(&self.http, "snapshot", begun).await {
                Some((200 | 201, _)) => break,
                Some((503, _)) | None => self.turn += 1,
                Some((status, body)) => panic!("{status}: {}", String::from_utf8_lossy(&body)),
            }
        }
        self.stored(processes, 2).await;
    }

    /// Makes `count` commits, and sends until every commit was accepted. Says of each answer that
    /// accepted one which process gave it, and when.
    pub(crate) async fn send(&mut self, processes: &[&Process], count: usize) -> Vec<(usize, Instant)> {
        for _ in 0..count {
            self.outbox.push(self.client.next_body(1));
        }
        let until = Instant::now() + WAIT_MAX;
        let mut answered = Vec::new();
        while self.accepted < self.outbox.len() {
            assert!(Instant::now() < until, "nobody accepts anything");
            let process = processes[self.turn % processes.len()];
            let body = self.outbox[self.accepted].clone();
            match process.post(&self.http, "submit", body).await {
                Some((200 | 201, _)) => {
                    answered.push((self.turn % processes.len(), Instant::now()));
                    self.accepted += 1;
                    self.progress.send_modify(|answers| *answers += 1);
                }
                Some((503, _)) | None => self.turn += 1,
                Some((409, problem)) => self.rewind(&problem),
                Some((status, body)) => panic!("{status}: {}", String::from_utf8_lossy(&body)),
            }
        }
        answered
    }

    /// Sends on from behind this many commits.
    fn go_back(&mut self, commits: u64) {
        let commits = usize::try_from(commits).unwrap();
        self.resent += self.accepted.saturating_sub(commits);
        self.accepted = commits;
    }

    /// Goes back to what whoever leads now expects.
    fn rewind(&mut self, problem: &[u8]) {
        let problem: Problem = serde_json::from_slice(problem).unwrap();
        let Reason::Gap { expected } = problem.reason() else { panic!("{:?}", problem.reason()) };
        self.go_back(expected.commit.get() - 1);
    }

    /// Waits until this many messages are stored, as whoever leads says.
    pub(crate) async fn stored(&mut self, processes: &[&Process], messages: u64) {
        let until = Instant::now() + WAIT_MAX;
        loop {
            assert!(Instant::now() < until, "it is not stored");
            let process = processes[self.turn % processes.len()];
            let path = format!("checkpoint?at_least={messages}&wait_ms=1000");
            let size = match get(&self.http, process, &path).await {
                Some((200, checkpoint)) => {
                    SignedCheckpoint::from_bytes(&checkpoint).unwrap().claim().size.get()
                }
                _ => 0,
            };
            if size >= messages {
                return;
            }
            self.turn += 1;
        }
    }

    /// Waits until every commit is stored, and sends again what was lost with another leader.
    pub(crate) async fn finish(&mut self, processes: &[&Process]) {
        let until = Instant::now() + WAIT_MAX;
        loop {
            assert!(Instant::now() < until, "it is not stored");
            let process = processes[self.turn % processes.len()];
            match get(&self.http, process, "status").await {
                Some((200, status)) => {
                    let status: synddb_protocol::http::StreamStatus =
                        serde_json::from_slice(&status).unwrap();
                    let next = status.sequenced_next.map_or(1, |next| next.commit.get());
                    let stored = status.stored_next.map_or(1, |next| next.commit.get());
                    if stored > self.commits() {
                        return;
                    }
                    if next <= self.commits() {
                        self.go_back(next - 1);
                        self.send(processes, 0).await;
                    }
                    pause(&self.http, process).await;
                }
                _ => self.turn += 1,
            }
        }
    }
}

/// Asks, and on another connection where the one that was kept is ended, as a service may end those that say nothing.
async fn asked(http: &reqwest::Client, url: &str) -> Option<reqwest::Response> {
    match http.get(url).send().await {
        Err(error) if !error.is_timeout() && !error.is_connect() => http.get(url).send().await.ok(),
        answered => answered.ok(),
    }
}

/// Asks a process something about the stream. `None` when no answer came.
pub(crate) async fn get(http: &reqwest::Client, process: &Process, path: &str) -> Option<(u16, Vec<u8>)> {
    let url = format!("{}/streams/{}/{path}", process.base, STREAM.to_key());
    let answer = asked(http, &url).await?;
    Some((answer.status().as_u16(), answer.bytes().await.ok()?.to_vec()))
}

/// Whether a process is ready, and what it says otherwise.
pub(crate) async fn readiness(http: &reqwest::Client, process: &Process) -> (u16, String) {
    let answer = asked(http, &format!("{}/readyz", process.base)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Lets a little time pass, without a clock of its own: whoever leads answers late, for a message that never comes.
pub(crate) async fn pause(http: &reqwest::Client, leader: &Process) {
    let never = synddb_protocol::id::Sequence::MAX;
    get(http, leader, &format!("checkpoint?at_least={never}&wait_ms=20")).await;
}

/// Waits until a process stands by for the stream.
pub(crate) async fn stands_by(http: &reqwest::Client, process: &Process, leader: &Process) {
    let until = Instant::now() + WAIT_MAX;
    loop {
        match get(http, process, "status").await.unwrap() {
            (503, body) if String::from_utf8_lossy(&body).contains("stands by") => return,
            // It does not know of the stream yet, or not that it leads no more.
            (200 | 404, _) => {}
            (status, body) => panic!("{status}: {}", String::from_utf8_lossy(&body)),
        }
        assert!(Instant::now() < until, "it does not stand by");
        pause(http, leader).await;
    }
}

/// Kills a process while `sender` sends `count` commits to it and another one, and returns how long it took until the next was accepted.
pub(crate) async fn kill_under_load(
    sender: &mut Sender,
    killed: &Process,
    left: &Process,
    count: usize,
) -> Duration {
    let mut progress = sender.progress();
    let half = *progress.borrow() + count / 2;
    let kill = async {
        progress.wait_for(|answers| *answers >= half).await.unwrap();
        // The next request is on its way by then, or is about to be.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        killed.signal(Signal::KILL);
        Instant::now()
    };
    let processes = [killed, left];
    let (answered, died) = tokio::join!(sender.send(&processes, count), kill);
    // An answer of the killed one may still have been on its way.
    let (_, first) = answered.iter().find(|(process, answer)| *process == 1 && *answer > died).unwrap();
    *first - died
}

/// Milliseconds, to be read by people.
pub(crate) fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
