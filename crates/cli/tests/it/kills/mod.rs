//! `kill -9` of everything that stands between an application and its outbox, and of the application, while all of it works: the replica
//! is the application's database after each kill, and where a resume is not exact, that is told.
//!
//! An agent dies at a random time, or at a labelled place of its way (`killable::reached`), which its environment names. As long as
//! the process that keeps its place lives, its next agent goes on exactly.
//!
//! ```sh
//! SYNDDB_KILLS=200 SYNDDB_KILLS_SEED=1 cargo test --release -p synddb-cli --test it kills -- --nocapture
//! ```

mod writer;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use synddb_sqlite::capture::committed_position;

use super::cases::EXACTLY;
use super::roles::{Role, System, signal, status};
use writer::Writer;

/// How many kills, unless the environment says.
const KILLS: &str = "8";

/// The limit of the WAL, so small that it begins anew all the time.
const WAL_MIB: &str = "1";

/// Most commits that are acknowledged before a random kill.
const COMMITS_MAX: u64 = 120;

/// How long an agent may go without coming by the place where it is to die.
const LABEL_PATIENCE: Duration = Duration::from_secs(4);

/// Of a hundred kills, so many must find work in flight.
const IN_FLIGHT_MIN: usize = 80;

/// Where an agent may be killed, and the highest count at which it is, so that the place is reached in time.
const LABELS: [(&str, u64); 10] = [
    ("polled", 40),
    ("captured", 20),
    ("synced", 20),
    ("kept", 20),
    ("swapped", 8),
    ("locked", 6),
    ("copied back", 6),
    ("unlocked", 6),
    ("sent", 20),
    ("forgotten", 20),
];

/// The same of what keeps its place. The agent is killed right afterwards.
const PIN_LABELS: [(&str, u64); 2] = [("pin opened", 8), ("pin closed", 8)];

/// Where what keeps the place comes by when the next agent has found it.
const PIN_ASKED: (&str, u64) = ("pin asked", 1);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Agent,
    Pin,
    AgentAndPin,
    /// What keeps its place dies when the next agent asks for it.
    AgentThenPin,
    Writer,
}

/// How it went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    /// The agent lives.
    NotInterrupted,
    Exactly,
    Reconciled,
    Anew,
}

impl How {
    fn of(text: &str) -> Self {
        match text {
            text if text.contains(EXACTLY) => Self::Exactly,
            text if text.contains("after a gap") => Self::Reconciled,
            text if text.contains("begins") => Self::Anew,
            text => panic!("neither exactly, nor reconciled, nor anew: {text}"),
        }
    }
}

/// Chance that repeats: xorshift64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// When somebody is killed.
#[derive(Debug, Clone, Copy)]
enum When {
    /// After so many more commits, while something is captured and not stored.
    After(u64),
    /// An agent, when it comes by a place for the n-th time.
    At(&'static str, u64),
}

struct Campaign {
    system: System,
    agent: Role,
    /// Between two kills it pauses.
    writer: Writer,
    chance: Chance,
    /// How often each victim went on in each way.
    tally: BTreeMap<(Victim, How), usize>,
    in_flight: usize,
}

/// What was seen of an agent right before it died.
#[derive(Debug, Default)]
struct Before {
    told: Value,
    wal: String,
}

impl Before {
    fn look(system: &System) -> Option<Self> {
        let told = status(&system.home)?;
        let position = committed_position(&system.app).ok().flatten();
        let wal = position.map_or("empty".to_owned(), |at| {
            format!("{:08x}{:08x} frame {}", at.salts[0], at.salts[1], at.frame)
        });
        Some(Self { told, wal })
    }

    fn pending(&self) -> u64 {
        self.told["pending"]["submissions"].as_u64().unwrap_or(0)
    }
}

impl Campaign {
    fn start(folder: &std::path::Path, seed: u64) -> Self {
        Writer::prepare(&folder.join("app.db"));
        let system = System::start(folder);
        let agent = Role::start(agent(&system, None));
        agent.how();
        let writer = Writer::start(&system.app);
        // A state of zero would stay so.
        let chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut campaign = Self { system, agent, writer, chance, tally: BTreeMap::new(), in_flight: 0 };
        campaign.writer.pause();
        campaign
    }

    /// One kill, the start of what died, and the comparison.
    fn kill(&mut self, number: usize) {
        let (victim, when) = self.choose();
        if let When::At(label, count) = when {
            // Nothing is written now, so this one goes on exactly and does not show.
            self.agent.end();
            self.agent = Role::start(agent(&self.system, Some((label, count))));
        }
        self.writer.go_on();
        let (place, before) = match when {
            When::At(label, count) if victim != Victim::AgentThenPin => self.die_at(label, count),
            When::At(..) => ("and then its pin, asked by the next".to_owned(), self.await_work(COMMITS_MAX)),
            When::After(commits) => (format!("after {commits} commits"), self.await_work(commits)),
        };
        let in_flight = before.pending() > 0 || place.starts_with("at ");
        self.in_flight += usize::from(in_flight);
        let pin = self.agent.pin();
        let how = self.strike(victim, pin);
        self.writer.pause();
        let state = self.system.assert_equal();
        self.writer.assert_acknowledged();
        println!(
            "kill {number}: {victim:?} {place}, commit {}, WAL {}, {} in flight -> {how:?}, equal at {state}",
            before.told["next"]["commit"],
            before.wal,
            before.pending()
        );
        *self.tally.entry((victim, how)).or_default() += 1;
        if victim == Victim::Agent && pin.is_some() {
            assert_eq!(how, How::Exactly, "its place was kept: {:?}", self.agent.attached());
        }
    }

    fn choose(&mut self) -> (Victim, When) {
        let victim = match self.chance.below(if self.agent.pin().is_some() { 10 } else { 6 }) {
            0 | 1 => Victim::Writer,
            2..=5 => Victim::Agent,
            6 => Victim::Pin,
            7 => Victim::AgentThenPin,
            _ => Victim::AgentAndPin,
        };
        let labels = if victim == Victim::AgentAndPin { &PIN_LABELS[..] } else { &LABELS[..] };
        let (label, most) = labels[usize::try_from(self.chance.below(labels.len() as u64)).unwrap()];
        let (count, commits) = (1 + self.chance.below(most), 1 + self.chance.below(COMMITS_MAX));
        // Half of them die where they are told to.
        let is_told = matches!(victim, Victim::Agent | Victim::AgentAndPin) && self.chance.below(2) == 0;
        if victim == Victim::AgentThenPin {
            return (victim, When::At(PIN_ASKED.0, PIN_ASKED.1));
        }
        (victim, if is_told { When::At(label, count) } else { When::After(commits) })
    }

    /// Has the writer come on, and looks for a moment at which something is captured and not stored.
    fn await_work(&mut self, commits: u64) -> Before {
        self.writer.advance(usize::try_from(commits).unwrap());
        let looks = (0..200).filter_map(|_| Before::look(&self.system));
        let mut last = Before::default();
        for look in looks {
            last = look;
            if last.pending() > 0 {
                break;
            }
        }
        last
    }

    /// Waits until the agent, or what keeps its place, comes by the place where it dies. Where it does not in time, it is killed where it is.
    fn die_at(&mut self, label: &str, count: u64) -> (String, Before) {
        let deadline = Instant::now() + LABEL_PATIENCE;
        let mut last = Before::default();
        while Instant::now() < deadline {
            if self.agent.has_ended().is_some() || self.agent.pin().is_some_and(is_dead) {
                return (format!("at `{label}`, time {count}"), last);
            }
            last = Before::look(&self.system).unwrap_or(last);
        }
        (format!("before `{label}`, time {count}, which did not come"), last)
    }

    /// Kills, starts again what died, and says how that went on.
    fn strike(&mut self, victim: Victim, pin: Option<u32>) -> How {
        match victim {
            Victim::Writer => {
                self.writer.kill();
                return How::NotInterrupted;
            }
            Victim::Pin => {
                let pinned = |events: &[Value]| {
                    let told = events.iter().rev().find(|event| event["event"] == "pinned")?;
                    (told["pid"].as_u64() != pin.map(u64::from)).then_some(())
                };
                signal(pin.unwrap(), "KILL");
                assert!(self.agent.wait(pinned).is_some(), "no other process keeps the place");
                return How::NotInterrupted;
            }
            Victim::AgentAndPin => pin.into_iter().for_each(|pin| signal(pin, "KILL")),
            Victim::Agent | Victim::AgentThenPin => {}
        }
        self.agent.kill();
        // Without a store a gap begins an incarnation; with one it is closed.
        let mut command = agent(&self.system, None);
        if self.chance.below(2) == 0 {
            command.args(["--store", &self.system.store()]);
        }
        self.agent = Role::start(command);
        How::of(&self.agent.how())
    }
}

/// Whether a process has died; its agent may not have noticed yet.
pub(crate) fn is_dead(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    state.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// The command, with the place where it or its pin is to die.
fn agent(system: &System, label: Option<(&str, u64)>) -> std::process::Command {
    let mut command = system.agent();
    command.args(["--wal-limit", WAL_MIB]);
    if let Some((label, count)) = label {
        command.env("SYNDDB_KILL_AT", format!("{label}@{count}"));
    }
    command
}

/// From so many kills on it is judged how many found work in flight.
const JUDGED_MIN: usize = 50;

#[test]
fn whoever_is_killed_the_replica_is_the_application() {
    let parameter = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let kills: usize = parameter("SYNDDB_KILLS", KILLS).parse().unwrap();
    let seed: u64 = parameter("SYNDDB_KILLS_SEED", "1").parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut campaign = Campaign::start(folder.path(), seed);
    for number in 1..=kills {
        campaign.kill(number);
    }
    let Campaign { system, writer, tally, in_flight, .. } = campaign;
    system.assert_replica_equals();
    println!(
        "seed {seed}: {kills} kills, {in_flight} of them with work in flight, {} commits",
        writer.acknowledged()
    );
    for ((victim, how), count) in &tally {
        println!("{victim:?} {how:?}: {count}");
    }
    // Of a few, how many find work is chance, and the less so the busier the machine is with something else.
    let least = if kills < JUDGED_MIN { 1 } else { kills * IN_FLIGHT_MIN / 100 };
    assert!(in_flight >= least, "only {in_flight} of {kills} kills found work in flight");
}
