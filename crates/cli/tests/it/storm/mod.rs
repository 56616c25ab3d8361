//! A storm: one sequencer leads many streams, is killed with `kill -9` again and again, and has clients that do everything that retries, races and
//! bad luck can do. It never takes back a stored word: at the end each stored log holds exactly what was sent, once, in order; every receipt that was
//! ever given is the stored one; and a replica of each log is its application's database.
//!
//! Every second kill comes at a labelled place (`labels.rs`), one after the other; the storm lasts until all of them came. The choices repeat with
//! the seed, the races do not.
//!
//! ```sh
//! SYNDDB_STORM_SECONDS=60 SYNDDB_STORM_STREAMS=64 SYNDDB_STORM_LABELS=16 SYNDDB_STORM_KILL_MS=5000 SYNDDB_STORM_SEED=1 \
//!     cargo test --release -p synddb-cli --test it storm -- --nocapture
//! ```

#![allow(clippy::wildcard_enum_match_arm, reason = "a test asks for one answer of many")]

mod client;
mod labels;
mod log;
pub(crate) mod source;
pub(crate) mod wire;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use synddb_protocol::signing::VerifyingKey;
use synddb_servers::Port;
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_sqlite::compare::first_difference;
use synddb_storage::StoreUrl;
use synddb_validator::{Config, Mode};

use super::processes::synddb;
use super::roles::{Role, write_token};
use crate::chance::Chance;
use client::{Client, Injected, Sent};
use labels::{CUT_JOURNALLED, LABELS, Label, Needs, Times};
use log::Log;
use wire::Counted;

/// How long the storm lasts at least, in seconds, unless the environment says.
const SECONDS: u64 = 8;

/// Streams, one client each, unless the environment says.
const STREAMS: u64 = 6;

/// Labels at which the sequencer is killed, unless the environment says.
const LABELS_HIT: u64 = 4;

/// The time between two kills that no label names, on average, in milliseconds, unless the environment says.
const KILL_MS: u64 = 1500;

/// How old a batch becomes, in milliseconds.
const BATCH_AGE_MS: &str = "10";

/// How often a process may come by a place before it is killed there, where it comes by often.
const OFTEN_MAX: u64 = 60;

/// How long a process may go without acknowledging anything, or without coming by the place where it is to die.
const LABEL_PATIENCE: Duration = Duration::from_secs(60);

/// How long the clients may take to have everything acknowledged and stored.
const END_PATIENCE: Duration = Duration::from_secs(180);

/// How often a label may fail to come in time.
const MISSES_MAX: u64 = 8;

/// Of a hundred kills at random times, so many must find submissions in flight. At a place of its beginning a process has heard nobody yet.
const IN_FLIGHT_MIN: u64 = 80;

/// From so many such kills on it is judged how many found submissions in flight.
const JUDGED_MIN: u64 = 10;

/// How often the sequencer was killed.
#[derive(Debug, Default, Clone, Copy)]
struct Kills {
    all: u64,
    /// Those that found submissions in flight.
    in_flight: u64,
}

/// What clients and the killer share.
#[derive(Debug, Default)]
struct Shared {
    counted: Arc<Counted>,
    /// Nothing new is written.
    is_over: AtomicBool,
    /// The place where the sequencer is to die needs snapshots.
    wants_snapshots: AtomicBool,
    acknowledged: AtomicU64,
}

/// Lets a little time pass, between two looks at something that nobody tells of.
fn pause(time: Duration) {
    std::thread::park_timeout(time);
}

/// A place where a process dies by itself, and at which time that it comes by.
type At = (&'static str, u64);

struct Storm {
    folder: PathBuf,
    shared: Arc<Shared>,
    chance: Chance,
    clients: Vec<JoinHandle<Sent>>,
    sequencer: Role,
    /// Where it listens; nobody else does while it does not run.
    port: Port,
    key: VerifyingKey,
    /// Requests that had no answer when the running process began.
    unanswered: u64,
    timed: Kills,
    labelled: Kills,
    /// The process that ran last died at a place.
    died_at_label: bool,
    /// The labels at which a process died.
    hit: Vec<&'static str>,
}

impl Storm {
    fn begin(folder: &Path, seed: u64, streams: u64) -> Self {
        std::fs::create_dir(folder.join("store")).unwrap();
        write_token(folder);
        let port = Port::take().unwrap();
        let address = port.address();
        let sequencer = Role::start(command(folder, &address.to_string(), None));
        let listening = sequencer.event("listening", |_| true);
        let text = |name: &str| listening[name].as_str().unwrap().to_owned();
        let key = text("key").parse().unwrap();
        let shared = Arc::new(Shared::default());
        let clients = (0..streams).map(|number| {
            let (folder, shared) = (folder.to_owned(), Arc::clone(&shared));
            std::thread::spawn(move || Client::new(&folder, number, seed, address, &shared).run())
        });
        Self {
            folder: folder.to_owned(),
            clients: clients.collect(),
            shared,
            chance: Chance::new(seed),
            sequencer,
            port,
            key,
            unanswered: 0,
            timed: Kills::default(),
            labelled: Kills::default(),
            died_at_label: false,
            hit: Vec::new(),
        }
    }

    /// Kills until it lasted long enough and each of the labels came.
    fn rage(&mut self, time: Duration, kill_ms: u64, labels: &[Label]) {
        let begun = Instant::now();
        let (mut next, mut missed) = (0, 0);
        while begun.elapsed() < time || next < labels.len() {
            // The clients are at work again.
            let before = self.shared.acknowledged.load(Ordering::SeqCst);
            let is_busy = |storm: &mut Self| storm.shared.acknowledged.load(Ordering::SeqCst) > before;
            assert!(self.until(LABEL_PATIENCE, is_busy), "nothing is acknowledged any more");
            let wait = kill_ms / 2 + self.chance.below(kill_ms);
            self.until(Duration::from_millis(wait), |_| false);
            let in_flight = self.shared.counted.in_flight.load(Ordering::SeqCst);
            self.sequencer.kill();
            self.died_at_label = false;
            println!("kill after {wait} ms, {in_flight} in flight");
            let Some(label) = labels.get(next) else {
                self.restart(None);
                continue;
            };
            if self.kill_at(label) {
                next += 1;
            } else {
                missed += 1;
                assert!(missed <= MISSES_MAX, "`{}` does not come", label.name);
            }
            self.restart(None);
        }
    }

    /// Has the next process die at a place, and gives whether it did. Where it does not come by in time, it is killed where it is.
    fn kill_at(&mut self, label: &Label) -> bool {
        let streams = self.clients.len() as u64;
        if label.needs == Needs::Cut {
            let count = 1 + self.chance.below(OFTEN_MAX);
            self.restart(Some((CUT_JOURNALLED, count)));
            self.await_death(CUT_JOURNALLED);
        }
        // The first streams are opened before anybody is heard; at a later one clients are.
        let (least, most) = match label.times {
            Times::Once => (1, 1),
            Times::Often => (1, OFTEN_MAX),
            Times::EachStream => (streams - streams / 16, streams),
        };
        let count = least + self.chance.below(most - least + 1);
        self.shared.wants_snapshots.store(label.needs == Needs::Snapshots, Ordering::SeqCst);
        self.restart(Some((label.name, count)));
        if label.needs == Needs::End {
            self.until(Duration::from_secs(1), |_| false);
            self.sequencer.signal("TERM");
        }
        let is_hit = self.await_death(label.name);
        self.shared.wants_snapshots.store(false, Ordering::SeqCst);
        println!(
            "kill at `{}`, time {count}{}",
            label.name,
            if is_hit { "" } else { ", which did not come" }
        );
        is_hit
    }

    /// Waits until the process has died at a place.
    fn await_death(&mut self, label: &'static str) -> bool {
        let has_ended = |storm: &mut Self| storm.sequencer.has_ended();
        let died = self.until(LABEL_PATIENCE, |storm| has_ended(storm).is_some());
        let is_hit = died && has_ended(self).is_some_and(|status| status.signal() == Some(9));
        if is_hit {
            self.hit.push(label);
        }
        self.sequencer.kill();
        self.died_at_label = is_hit;
        is_hit
    }

    /// Starts the next process in place of the one that was killed.
    fn restart(&mut self, at: Option<At>) {
        self.sequencer = Role::start(command(&self.folder, &self.port.address().to_string(), at));
        self.count_kill();
    }

    /// Counts what had no answer when the process before died. Whoever sent to it knows at once, and the next one does not listen yet.
    fn count_kill(&mut self) {
        pause(Duration::from_millis(20));
        let unanswered = self.shared.counted.unanswered.load(Ordering::SeqCst);
        let kills = if self.died_at_label { &mut self.labelled } else { &mut self.timed };
        kills.all += 1;
        kills.in_flight += u64::from(unanswered > self.unanswered);
        self.unanswered = unanswered;
    }

    /// Waits until something is so, for a time at most. A client that found something wrong ends the storm.
    fn until(&mut self, time: Duration, is_so: impl Fn(&mut Self) -> bool) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if is_so(self) {
                return true;
            }
            if let Some(at) = self.clients.iter().position(JoinHandle::is_finished) {
                self.shared.is_over.store(true, Ordering::SeqCst);
                let found = self.clients.swap_remove(at).join();
                std::panic::resume_unwind(found.err().unwrap());
            }
            pause(Duration::from_millis(5));
        }
        false
    }

    /// Lets the clients finish, and gives what each of them sent.
    fn end(&mut self) -> Vec<Sent> {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        while !self.clients.iter().all(JoinHandle::is_finished) {
            assert!(begun.elapsed() < END_PATIENCE, "the clients do not come to an end");
            assert_eq!(self.sequencer.has_ended(), None, "the sequencer ended by itself");
            pause(Duration::from_millis(20));
        }
        let sent = self.clients.drain(..).map(|client| match client.join() {
            Ok(sent) => sent,
            Err(found) => std::panic::resume_unwind(found),
        });
        sent.collect()
    }
}

/// The command that runs the sequencer, and where it is to die.
fn command(folder: &Path, address: &str, at: Option<At>) -> Command {
    let mut command = synddb(["sequencer", "--listen", address, "--batch-age-ms", BATCH_AGE_MS, "--json"]);
    command.arg("--store").arg(format!("file://{}", folder.join("store").display()));
    command.arg("--dir").arg(folder.join("sequencer"));
    command.arg("--credentials-file").arg(super::roles::credentials(folder));
    command.arg("--key-file").arg(folder.join("sequencer.key"));
    command.env("SYNDDB_LOG", "off");
    if let Some((label, count)) = at {
        command.env("SYNDDB_KILL_AT", format!("{label}@{count}"));
    }
    command
}

/// Makes a replica of a log, and compares it with the application's database: row by row, and by its state.
async fn assert_replica_equals(folder: &Path, sent: &Sent, key: VerifyingKey, log: &Log) {
    let replica = folder.join("replica.db");
    let config = Config {
        store: StoreUrl::folder(&folder.join("store")).unwrap(),
        stream: Some(sent.stream),
        replica: replica.clone(),
        sequencer_keys: vec![key],
        mode: Mode::Once,
        ..Config::default()
    };
    let end = synddb_validator::run(config, Metrics::detached(), Shutdown::new(), |_| {}).await.unwrap();
    assert_eq!(end.sequence, log.messages.last().map(|message| message.header().sequence));
    assert_eq!(end.state, Some(sent.state), "stream {}", sent.stream);
    assert_eq!(first_difference(&sent.app, &replica).unwrap(), None, "stream {}", sent.stream);
    for name in ["replica.db", "replica.db-wal", "replica.db-shm"] {
        std::fs::remove_file(folder.join(name)).ok();
    }
}

#[test]
fn no_stored_word_is_taken_back() {
    let parameter =
        |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let seconds = parameter("SYNDDB_STORM_SECONDS", SECONDS);
    let streams = parameter("SYNDDB_STORM_STREAMS", STREAMS);
    let kill_ms = parameter("SYNDDB_STORM_KILL_MS", KILL_MS);
    let seed = parameter("SYNDDB_STORM_SEED", 1);
    let count = usize::try_from(parameter("SYNDDB_STORM_LABELS", LABELS_HIT)).unwrap();
    // Another seed begins with other labels.
    let first = usize::try_from(seed).unwrap() * count;
    let labels: Vec<Label> = LABELS.iter().cycle().skip(first % LABELS.len()).take(count).copied().collect();

    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let mut storm = Storm::begin(folder.path(), seed, streams);
    storm.rage(Duration::from_secs(seconds), kill_ms, &labels);
    let raged = begun.elapsed();
    let sent = storm.end();
    let (timed, labelled) = (storm.timed, storm.labelled);
    let acknowledged = storm.shared.acknowledged.load(Ordering::SeqCst);
    let (key, hit) = (storm.key, storm.hit.clone());
    // What is stored is stored.
    storm.sequencer.kill();
    drop(storm);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (mut commits, mut messages, mut batches, mut epochs, mut promised) = (0, 0, 0, 0, 0);
    let mut injected = Injected::default();
    for sent in &sent {
        let log = Log::read(&folder.path().join("store"), sent.stream, key);
        commits += log.assert_holds(sent);
        runtime.block_on(assert_replica_equals(folder.path(), sent, key, &log));
        messages += log.messages.len();
        batches += log.batches;
        epochs += log.epochs;
        promised += sent.promised.len();
        injected.add(&sent.injected);
    }
    println!(
        "seed {seed}: {streams} streams, {:.1} s, {} kills at random times, {} of them with submissions in flight, and {} at labels, {} of them so, at {hit:?}",
        raged.as_secs_f64(),
        timed.all,
        timed.in_flight,
        labelled.all,
        labelled.in_flight
    );
    println!("{acknowledged} commits acknowledged, {promised} receipts given; {injected:?}");
    println!(
        "stored: {commits} commits in {messages} messages, {batches} batches, {epochs} epochs; {streams} replicas are equal; {:.1} s in all",
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(acknowledged, commits, "what was acknowledged is what is stored");
    assert!(labels.iter().all(|label| hit.contains(&label.name)), "{hit:?}");
    // Of a few, how many find something in flight is chance, and the less so the busier the machine is with something else.
    let least = if timed.all < JUDGED_MIN { 1 } else { timed.all * IN_FLIGHT_MIN / 100 };
    assert!(timed.in_flight >= least, "only so many kills found submissions in flight: {timed:?}");
}
