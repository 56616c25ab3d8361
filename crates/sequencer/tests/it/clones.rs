//! Two copies of one journal, made while its sequencer was stopped, run on one store with one key: one leads, the other is fenced, and together
//! they sign no place twice, whatever was in the journal when it was copied.
//!
//! ```sh
//! SYNDDB_CLONES=20 SYNDDB_CLONES_SEED=1 cargo test --release -p synddb-sequencer --test it clones -- --nocapture
//! ```

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use synddb_protocol::log::Receipt;
use synddb_protocol::signing::VerifyingKey;
use synddb_sqlite::rusqlite;

use crate::killed::Process;
use crate::sample::{Reader, STREAM};
use crate::server::{file_store, http};
use crate::takeover::{
    Outbox, PATIENCE, Promises, Sending, begin, chance, configure, make_key, number, send, send_all, stored,
};

/// How often each case is run, unless the environment says.
const ROUNDS: u64 = 1;

/// Batches become this old, in milliseconds, and clients rest so long between two submissions: who claims the stream while another one leads it
/// has to store its first batch between two of the other one.
const AGE_MS: u64 = 20;
const PACE: Duration = Duration::from_millis(600);

/// A batch never becomes this old.
const NEVER_MS: u64 = 86_400_000;

/// A batch gathers for so long while the store is away, in milliseconds.
const GATHERED_MS: u64 = 300;

/// What the journal holds when it is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing that is not stored.
    None,
    /// Messages that were acknowledged and are in no batch.
    Uncut,
    /// A batch that the store did not take.
    Cut,
}

/// How the copies are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Together,
    /// The second one when the first one leads.
    InTurn,
}

/// Two copies, and what became of them.
struct Case {
    folder: tempfile::TempDir,
    http: reqwest::Client,
    outbox: Arc<Mutex<Outbox>>,
    key: VerifyingKey,
    promises: Promises,
    fenced: usize,
}

/// The names of the copies.
const COPIES: [&str; 2] = ["one", "two"];

impl Case {
    async fn begin(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let http = http();
        let key = make_key(folder.path(), "one", &mut chance(seed));
        let mut case =
            Self { folder, http, outbox: Outbox::new(seed), key, promises: Promises::default(), fenced: 0 };
        let process = Process::start(&case.configure("one", 2));
        begin(&process, &case.http).await;
        let sent = case.send(&process, |sent| sent.taken >= 5).await;
        stored(&process, &case.http, sent.last_place().unwrap()).await;
        case
    }

    fn configure(&self, journals: &str, age_ms: u64) -> PathBuf {
        configure(self.folder.path(), journals, "one", age_ms, &[])
    }

    async fn send(&mut self, process: &Process, is_enough: impl FnMut(&Sending) -> bool) -> Sending {
        let sent = send(process, &self.http, &self.outbox, 1, None, is_enough).await;
        self.promises.add(&sent.promised);
        sent
    }

    /// Has the journal hold what is to be copied, and copies it. Gives the receipts of what is not stored.
    async fn copy(&mut self, tail: Tail) -> Vec<Receipt> {
        let promised = match tail {
            Tail::None => Vec::new(),
            Tail::Uncut => {
                let process = Process::start(&self.configure("one", NEVER_MS));
                self.send(&process, |sent| sent.taken >= 8).await.promised
            }
            Tail::Cut => {
                let process = Process::start(&self.configure("one", GATHERED_MS));
                let sent = self.send(&process, |sent| sent.taken > 0).await;
                stored(&process, &self.http, sent.last_place().unwrap()).await;
                let (store, away) = (self.path("store"), self.path("away"));
                // Whatever is put goes nowhere from here on.
                std::fs::rename(&store, &away).unwrap();
                std::fs::write(&store, "").unwrap();
                let sent = self.send(&process, |sent| sent.taken > 0).await;
                // What was put, and was not taken, was cut before.
                let begun = Instant::now();
                while !self.ready(&process.base).await.contains("the store cannot") {
                    assert!(begun.elapsed() < PATIENCE, "nothing is cut");
                }
                drop(process);
                std::fs::remove_file(&store).unwrap();
                std::fs::rename(&away, &store).unwrap();
                assert!(sent.taken > 0, "nothing was acknowledged while the store was away");
                sent.promised
            }
        };
        copy(&self.path("one"), &self.path("two"));
        promised
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs both until one of them leads and knows no better, and the other one knows that. Gives the name of the one that was fenced.
    async fn run_both(&mut self, start: Start) -> &'static str {
        let files = COPIES.map(|name| self.configure(name, AGE_MS));
        let is_over = Arc::new(AtomicBool::new(false));
        let mut sending = Vec::new();
        let mut bases = Vec::new();
        let mut processes = match start {
            Start::Together => {
                let started = files.map(|file| std::thread::spawn(move || Process::start(&file)));
                Vec::from(started.map(|process| process.join().unwrap()))
            }
            Start::InTurn => vec![Process::start(&files[0])],
        };
        if start == Start::InTurn {
            self.send(&processes[0], |sent| sent.taken >= 5).await;
            processes.push(Process::start(&self.configure("two", AGE_MS)));
        }
        for process in processes {
            let (http, outbox, is_over) = (self.http.clone(), Arc::clone(&self.outbox), Arc::clone(&is_over));
            bases.push(process.base.clone());
            sending.push(tokio::spawn(async move {
                let newest = outbox.lock().unwrap().len();
                send(&process, &http, &outbox, newest, Some(PACE), |_| is_over.load(Ordering::SeqCst)).await
            }));
        }
        let begun = Instant::now();
        let fenced = loop {
            let [one, two] = [self.ready(&bases[0]).await, self.ready(&bases[1]).await];
            match (one.as_str(), two.as_str()) {
                (one, "") if one.contains(DEPOSED) => break COPIES[0],
                ("", two) if two.contains(DEPOSED) => break COPIES[1],
                _ => assert!(begun.elapsed() < PATIENCE, "neither leads alone: {one:?}, {two:?}"),
            }
        };
        is_over.store(true, Ordering::SeqCst);
        for sent in sending {
            self.promises.add(&sent.await.unwrap().promised);
        }
        fenced
    }

    /// What keeps a process from its work; nothing when it leads.
    async fn ready(&self, base: &str) -> String {
        let answer = self.http.get(format!("{base}/readyz")).send().await.unwrap();
        if answer.status().is_success() { String::new() } else { answer.text().await.unwrap() }
    }

    /// The files that nobody publishes.
    fn fenced_files(&self, journals: &str) -> Vec<PathBuf> {
        let folder = self.path(journals).join("streams").join(STREAM.to_key());
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|extension| extension == "fenced")).collect()
    }

    /// The one that was fenced starts again. What it could not store is kept in a file, also when it is killed on the way to begin anew.
    async fn restart_fenced(&mut self, fenced: &'static str) {
        let before = self.fenced_files(fenced).len();
        let file = self.configure(fenced, 2);
        for (place, copies) in [("tail fenced", 1), ("begun anew", 2)] {
            assert!(Process::dies_at(&file, &format!("{place}@1")), "it does not come by `{place}`");
            assert_eq!(self.fenced_files(fenced).len(), before + copies, "killed at `{place}`");
        }
        for file in self.fenced_files(fenced) {
            let kept = rusqlite::Connection::open(file).unwrap();
            let bodies: i64 = kept.query_row("SELECT count(*) FROM bodies", [], |row| row.get(0)).unwrap();
            assert!(bodies > 0, "what was not stored is kept");
        }
        let process = Process::start(&file);
        let sent = send_all(&process, &self.http, &self.outbox, 1).await;
        self.promises.add(&sent.promised);
        assert_eq!(self.fenced_files(fenced).len(), before + 2, "there was nothing more to keep");
        self.fenced += before + 2;
    }

    /// Everything is stored once, no place was signed twice, and what was acknowledged before the copies were made stands where it was said.
    async fn assert_one_log(self, tail: &[Receipt]) -> (usize, usize, usize) {
        let store = file_store(self.folder.path()).await;
        let log = Reader::read(&store, STREAM, &[self.key]).await;
        let commits: Vec<_> = log.commits().into_iter().map(|(number, digest, _)| (number, digest)).collect();
        assert_eq!(commits, self.outbox.lock().unwrap().expected());
        let promised = self.promises.len();
        let broken = self.promises.broken(&log.messages);
        assert!(!broken.is_empty(), "nobody promised what was fenced");
        for receipt in tail {
            assert!(!broken.contains(receipt), "it was promised before the copies were made: {receipt:?}");
        }
        (promised, broken.len(), self.fenced)
    }
}

/// How a process says that somebody else leads.
const DEPOSED: &str = "is led by another sequencer";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_of_a_journal_sign_no_place_twice() {
    let rounds = number("SYNDDB_CLONES", ROUNDS);
    let seed = number("SYNDDB_CLONES_SEED", 1);
    let mut random = chance(seed);
    let begun = Instant::now();
    for _ in 0..rounds {
        for tail in [Tail::None, Tail::Uncut, Tail::Cut] {
            for start in [Start::InTurn, Start::Together] {
                let mut case = Case::begin(random.random()).await;
                let kept = case.copy(tail).await;
                let fenced = case.run_both(start).await;
                if start == Start::InTurn && tail != Tail::None {
                    // One more for each epoch that it claimed and could not begin, while the first one was busy.
                    assert!(!case.fenced_files("two").is_empty(), "the second one found its tail taken");
                }
                case.restart_fenced(fenced).await;
                let (promised, broken, files) = case.assert_one_log(&kept).await;
                println!(
                    "{tail:?}, {start:?}: `{fenced}` was fenced; {promised} promises, {broken} of them fenced, in {files} files; {} promised \
                     before the copies were made",
                    kept.len()
                );
            }
        }
    }
    println!("seed {seed}: {} cases, {:.1} s", rounds * 6, begun.elapsed().as_secs_f64());
}
