//! Two leaders, a store, a client and crashes, in an order that a seed decides.
//!
//! ```text
//! sea.rs      the store, and the puts that are on their way to it: they land late, twice, or after their sender died
//! process.rs  a leader: the core with its journal, and what its shell would do
//! client.rs   a client with an outbox: sends, sends again, cuts otherwise, forgets what it saw stored
//! oracle.rs   what must stay true (I3 to I6), and what is held against everything that was ever said
//! ```
//!
//! The core is the very one that leads streams; its journal is its own code over SQLite in memory. What stands in for the rest is here: no thread,
//! no clock, no disk. A schedule is a few dozen steps, each chosen at random among everything that could happen next, and then an end in which
//! one leader is left to itself and must bring everything to its place: a race may cost epochs, never the log.
//!
//! `SYNDDB_SCHEDULES=1000000 SYNDDB_SCHEDULES_SEED=1 cargo test --release -p synddb-sequencer --lib simulated -- --nocapture` takes more of them,
//! and with `RUSTFLAGS=--cfg=secp256k1_fuzz`, which makes signatures stand-ins that nobody need compute, four times as many in a time.

mod client;
mod oracle;
mod process;
mod sea;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use synddb_protocol::id::{StreamId, Timestamp};
use synddb_protocol::signing::SigningKey;

use super::Now;
use super::planted::Planted;
use client::{Client, Script};
use oracle::{Counts, Oracle, Violation};
use process::Process;
use sea::Sea;

const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);
/// Steps of a schedule before its end.
const STEPS: u32 = 45;
/// Steps in which one leader that is left to itself must bring everything to its place.
const END_STEPS: u32 = 400;
/// Schedules of a usual run.
const SCHEDULES: u64 = 1000;
/// Schedules in which a planted fault must be found.
const PLANTED_SCHEDULES: u64 = 3000;

/// A fault of the system that is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The core does it.
    Core(Planted),
    /// The journal forgets at a crash what was acknowledged.
    JournalForgets,
    /// The store takes a put under a name that is taken.
    StoreOverwrites,
    /// The client forgets at the receipt, and not when it is stored.
    ClientForgetsEarly,
}

const FAULTS: [Fault; 9] = [
    Fault::Core(Planted::LeadsUnfenced),
    Fault::Core(Planted::SharesAnEpoch),
    Fault::Core(Planted::TakesForeignForOwn),
    Fault::Core(Planted::RevivesTheTail),
    Fault::Core(Planted::FencesItsOwnTail),
    Fault::Core(Planted::PutsUnjournalled),
    Fault::JournalForgets,
    Fault::StoreOverwrites,
    Fault::ClientForgetsEarly,
];

/// Everything that is simulated.
struct World {
    chance: SmallRng,
    sea: Arc<Sea>,
    processes: [Process; 2],
    client: Client,
    oracle: Oracle,
    /// How much time has passed.
    elapsed: Duration,
    begun: Instant,
}

/// What happens in a step.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A process does what its core asked for, or hears what came of it.
    GoOn(usize),
    /// The client sends something to a process.
    Send(usize),
    /// A put arrives that nobody waits for any more.
    Land,
    /// Time passes until a process wakes.
    Wake(usize),
    Crash(usize),
    Start(usize),
    Finish(usize),
    /// The disk of a process becomes full, or has room again.
    Fill(usize),
}

impl World {
    fn new(seed: u64, script: &Arc<Script>, keys: &[Arc<SigningKey>; 2], fault: Option<Fault>) -> Self {
        let mut chance = SmallRng::seed_from_u64(seed);
        let sea = Arc::new(Sea::new(chance.random(), fault == Some(Fault::StoreOverwrites)));
        // Sometimes both have one key: a copied folder, or one that is restored beside its original.
        let shared = fault == Some(Fault::Core(Planted::SharesAnEpoch)) || chance.random_bool(0.3);
        let keys = if shared { [Arc::clone(&keys[0]), Arc::clone(&keys[0])] } else { keys.clone() };
        let trusted: Vec<_> = keys.iter().map(|key| *key.verifying_key()).collect();
        let processes = [0, 1].map(|at| {
            let mut process = Process::new(at, Arc::clone(&keys[at]), &trusted, Arc::clone(&sea));
            process.plant(fault);
            process
        });
        let forgets_early = fault == Some(Fault::ClientForgetsEarly);
        let client = Client::new(Arc::clone(script), forgets_early);
        let begun = Instant::now();
        Self { chance, sea, processes, client, oracle: Oracle::new(keys), elapsed: Duration::ZERO, begun }
    }

    fn now(&self) -> Now {
        let ms = 1_700_000_000_000 + u64::try_from(self.elapsed.as_millis()).unwrap();
        Now { instant: self.begun + self.elapsed, log_time: Timestamp::from_ms(ms).unwrap() }
    }

    /// Something that can happen now.
    fn choose(&mut self) -> Step {
        let at = self.chance.random_range(0..2);
        let process = &self.processes[at];
        if !process.is_up() {
            return if self.chance.random_bool(0.5) { Step::Start(at) } else { Step::Land };
        }
        match self.chance.random_range(0..100) {
            0..55 if process.has_work() => Step::GoOn(at),
            0..80 => Step::Send(at),
            80..90 => Step::Wake(at),
            90..94 => Step::Land,
            94..96 => Step::Crash(at),
            96 => Step::Finish(at),
            _ => Step::Fill(at),
        }
    }

    fn take(&mut self, step: Step) -> Result<(), Violation> {
        self.elapsed += Duration::from_millis(self.chance.random_range(0..3));
        let now = self.now();
        match step {
            Step::GoOn(at) => self.processes[at].go_on(now, &mut self.chance, &mut self.oracle)?,
            Step::Send(at) => {
                let commands = self.client.commands(&mut self.chance);
                self.processes[at].send(now, commands, &mut self.chance, &mut self.oracle)?;
            }
            Step::Land => self.sea.land_any(),
            Step::Wake(at) => {
                let begun = self.begun;
                if let Some(wake_at) = self.processes[at].wake_at() {
                    self.elapsed = self.elapsed.max(wake_at.saturating_duration_since(begun));
                    let now = self.now();
                    self.processes[at].wake(now, &mut self.chance, &mut self.oracle)?;
                }
            }
            Step::Crash(at) => self.processes[at].crash(&mut self.oracle)?,
            Step::Start(at) => self.processes[at].start(),
            Step::Fill(at) => self.processes[at].fill(&mut self.chance),
            Step::Finish(at) => self.processes[at].finish(now, &mut self.chance, &mut self.oracle)?,
        }
        let Self { processes, client, oracle, .. } = self;
        for process in processes {
            client.hear(process, oracle)?;
        }
        oracle.look_at(&self.sea)
    }

    /// One leader is left, and nothing fails any more.
    fn end(&mut self) -> Result<(), Violation> {
        let left = self.chance.random_range(0..2);
        self.processes[1 - left].crash(&mut self.oracle)?;
        self.processes[left].crash(&mut self.oracle)?;
        self.sea.calm();
        self.processes[left].make_room();
        self.processes[left].start();
        for _ in 0..END_STEPS {
            let step = if self.processes[left].has_work() {
                Step::GoOn(left)
            } else if self.processes[left].wake_at().is_some() && self.chance.random_bool(0.5) {
                Step::Wake(left)
            } else {
                Step::Send(left)
            };
            self.take(step)?;
            if self.client.has_forgotten_all() && self.processes[left].leads() {
                // Signatures are what takes the time, and what no order of events changes.
                let verifies = self.chance.random_bool(0.1);
                return self.oracle.judge(&self.sea, &self.client, left, verifies);
            }
        }
        Err(Violation::Halted(self.processes[left].ended_for()))
    }
}

/// Runs a schedule to its end.
fn run(
    seed: u64,
    script: &Arc<Script>,
    keys: &[Arc<SigningKey>; 2],
    fault: Option<Fault>,
) -> Result<Counts, Violation> {
    let mut world = World::new(seed, script, keys, fault);
    for _ in 0..STEPS {
        let step = world.choose();
        world.take(step)?;
    }
    world.end()?;
    Ok(world.oracle.counts())
}

fn keys() -> [Arc<SigningKey>; 2] {
    [3, 4].map(|byte| Arc::new(SigningKey::from_bytes([byte; 32]).unwrap()))
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn whatever_happens_no_word_is_taken_back() {
    let (schedules, seed) = (setting("SYNDDB_SCHEDULES", SCHEDULES), setting("SYNDDB_SCHEDULES_SEED", 1));
    let (script, keys) = (Arc::new(Script::new(STREAM)), keys());
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let begun = Instant::now();
    let counts: Vec<Counts> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let (script, keys) = (&script, &keys);
                scope.spawn(move || {
                    let mut sum = Counts::default();
                    for number in (worker..schedules).step_by(usize::try_from(threads).unwrap()) {
                        let seed = seed.wrapping_mul(1 << 32).wrapping_add(number);
                        match run(seed, script, keys, None) {
                            Ok(counts) => sum.add(&counts),
                            Err(found) => panic!("schedule {seed}: {found}"),
                        }
                    }
                    sum
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut sum = Counts::default();
    counts.iter().for_each(|counts| sum.add(counts));
    println!("{schedules} schedules in {:.1} s: I3 to I6 hold. {sum:?}", begun.elapsed().as_secs_f64());
    // Schedules in which nothing is promised, nobody is deposed and nothing is lost would show nothing.
    let least = [sum.taken_back, sum.deposed, sum.begun_anew, sum.full].into_iter().min().unwrap();
    assert!(sum.promised > schedules && sum.epochs > schedules * 2 && least > schedules / 100, "{sum:?}");
}

#[test]
fn every_planted_fault_is_found() {
    let (script, keys) = (Arc::new(Script::new(STREAM)), keys());
    let mut found = BTreeMap::new();
    for fault in FAULTS {
        let violations = (0..PLANTED_SCHEDULES)
            .filter_map(|seed| Some((seed, run(seed, &script, &keys, Some(fault)).err()?)));
        let first = violations.into_iter().next();
        if let Some((seed, violation)) = &first {
            println!("{fault:?}: schedule {seed}: {violation}");
        }
        found.insert(format!("{fault:?}"), first.is_some());
    }
    assert!(found.values().all(|is_found| *is_found), "not found: {found:?}");
}
