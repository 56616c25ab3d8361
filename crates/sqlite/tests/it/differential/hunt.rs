//! The fuzzer: seed after seed for as long as it is told, on every core. What it finds is made smaller and written down.
//!
//! `cargo xtask fuzz capture` runs it. It reads `SYNDDB_HUNT_SECONDS`, `SYNDDB_HUNT_SEED` (the first seed; otherwise the clock draws one) and
//! `SYNDDB_HUNT_KEEP` (a folder for scripts of what it finds; xtask says `target/fuzz-capture`). A script that found a fault is kept in `found/`, where `found` runs it again
//! with every test; `cargo xtask fuzz capture --script FILE` runs one by itself.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::found::version_notes;
use super::harness::{self, Mismatch, Subject};
use super::minimise::minimise;
use super::report::Report;
use super::transactions;

/// How long one find is made smaller.
const MINIMISE_MAX: Duration = Duration::from_secs(90);
/// Finds after which it stops.
const FINDS_MAX: usize = 5;
/// How often it says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(30);

#[test]
fn hunts_as_long_as_it_is_told() {
    let Ok(seconds) = std::env::var("SYNDDB_HUNT_SECONDS") else { return };
    let first = match std::env::var("SYNDDB_HUNT_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() << 20,
    };
    let hunt = Hunt {
        started: Instant::now(),
        until: Duration::from_secs(seconds.parse().unwrap()),
        next: AtomicU64::new(first),
        seeds: AtomicU64::new(0),
        total: Mutex::new(Report::default()),
        finds: Mutex::new(Vec::new()),
        said: Mutex::new(Instant::now()),
    };
    println!("hunting from seed {first} on for {seconds} s, {} transactions a seed", transactions());
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(|| hunt.work()))));
    let total = hunt.total.into_inner().unwrap();
    print(hunt.seeds.into_inner(), hunt.started.elapsed(), &total);
    let finds = hunt.finds.into_inner().unwrap();
    println!("{} mismatches", finds.len());
    finds.iter().for_each(|find| println!("{find}"));
    assert!(finds.is_empty(), "{} mismatches", finds.len());
}

struct Hunt {
    started: Instant,
    until: Duration,
    next: AtomicU64,
    seeds: AtomicU64,
    total: Mutex<Report>,
    finds: Mutex<Vec<String>>,
    said: Mutex<Instant>,
}

impl Hunt {
    fn work(&self) {
        while self.started.elapsed() < self.until && self.finds.lock().unwrap().len() < FINDS_MAX {
            let seed = self.next.fetch_add(1, Ordering::SeqCst);
            match harness::run(seed, transactions(), Subject::Replicated) {
                Ok(report) => self.total.lock().unwrap().add(report),
                Err(mismatch) => {
                    let find = written_down(&mismatch);
                    self.finds.lock().unwrap().push(find);
                }
            }
            self.seeds.fetch_add(1, Ordering::SeqCst);
            self.say();
        }
    }

    fn say(&self) {
        let mut said = self.said.lock().unwrap();
        if said.elapsed() > SAY_EVERY {
            *said = Instant::now();
            let (committed, finds) = (self.total.lock().unwrap().committed, self.finds.lock().unwrap().len());
            let (seconds, seeds) = (self.started.elapsed().as_secs(), self.seeds.load(Ordering::SeqCst));
            println!("{seconds} s: {seeds} seeds, {committed} committed transactions, {finds} mismatches");
        }
    }
}

/// Makes the script smaller and writes it down; what to tell of it.
fn written_down(mismatch: &Mismatch) -> String {
    let Mismatch { seed, transaction, script, what } = mismatch;
    let least = minimise(script, MINIMISE_MAX);
    let (least, how) = match &least {
        Some(least) => {
            let how = format!(
                "{} events of {} after {} tries",
                least.script.events.len(),
                script.events.len(),
                least.tries
            );
            (&least.script, format!("{how}: {}", least.what))
        }
        None => (script, "not again when its script was done again; the whole script".to_owned()),
    };
    let text = format!(
        "# Seed {seed} differed at transaction {transaction}: {}\n# {}\n{}{least}",
        one_line(what),
        one_line(&how),
        version_notes(least)
    );
    let mut told = format!("seed {seed}, transaction {transaction}: {what}\n{how}");
    match std::env::var("SYNDDB_HUNT_KEEP") {
        Ok(folder) => {
            std::fs::create_dir_all(&folder).unwrap();
            let file = Path::new(&folder).join(format!("{seed}.script"));
            std::fs::write(&file, text).unwrap();
            told.push_str(&format!("\nkept as {}", file.display()));
        }
        Err(_) => told.push_str(&format!("\n{text}")),
    }
    told
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

fn print(seeds: u64, elapsed: Duration, total: &Report) {
    total.print(seeds);
    println!("\n{:40} committed transactions", "exercised");
    let mut often = 0;
    for (feature, count) in &total.exercised {
        println!("{feature:40} {count:8}");
        often += u64::from(*count >= 200);
    }
    let share = total.structural * 100 / total.committed.max(1);
    println!(
        "\n{} committed transactions over {seeds} schemas in {} s, {often} features in 200 or more, {share} % with a schema change, \
         overflow pages, or pages split or merged",
        total.committed,
        elapsed.as_secs()
    );
}
