//! How soon a commit is captured, and durable in the outbox, after it returned to the application.
//!
//! Both times are taken where they happen: the writer, a process of its own, notes when each COMMIT returned, and the agent runs in this
//! process, where it says when it has a commit and when it is durable. One clock serves both. Commits are told apart by their numbers:
//! nobody else writes.
//!
//! What must stay true: every commit has both times, or the measure fails. What was done before a COMMIT returned took no time after it.

use std::fs::File;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use synddb_service::secret::write_new_secret;
use synddb_sqlite::name::beside;

use super::agent::TOKEN;
use super::inside::Inside;
use super::listener::{Listener, Moments};
use super::sequencer::Sequencer;
use super::writer::{Latency, Order, Synchronous, Writer};
use super::{Bench, BenchError};
use crate::exit::CommandError;

/// The scenario.
const SCENARIO: &str = "latency";

/// From the beginning of one commit to that of the next, by run: so long that each finds an agent at rest, and so short that it is at work.
/// Between both it may still gather what comes after the commit before.
pub(super) const EVERY_MS: [u64; 3] = [25, 10, 1];

/// How often the disk is asked for its own time, before and after.
const DISK_SYNCS: usize = 200;

/// What is appended each time, in bytes: a page.
const DISK_BYTES: usize = 4096;

/// How soon commits are captured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// What one `fdatasync` of a page takes that was appended to a file on this disk, before all runs.
    pub disk_before: Latency,
    /// The same after them.
    pub disk_after: Latency,
    /// One for each way to write.
    pub runs: Vec<Paced>,
}

/// How soon commits are captured that come at one pace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paced {
    /// The writer's `synchronous`.
    pub synchronous: Synchronous,
    /// From the beginning of one commit to that of the next.
    pub every_ms: u64,
    /// How many there were.
    pub commits: u64,
    /// What each took the writer.
    pub commit: Latency,
    /// From its return until the agent had its changeset.
    pub captured: Latency,
    /// From its return until it was durable in the outbox.
    pub kept: Latency,
}

/// Measures it. Once in a process.
pub(super) fn run(bench: &Bench) -> Result<Latencies, BenchError> {
    let listener = Listener::install()?;
    let disk_before = disk(bench)?;
    let mut runs = Vec::new();
    for synchronous in [Synchronous::Normal, Synchronous::Full] {
        for every_ms in EVERY_MS {
            runs.push(paced(bench, &listener, synchronous, every_ms)?);
        }
    }
    Ok(Latencies { disk_before, disk_after: disk(bench)?, runs })
}

fn paced(
    bench: &Bench,
    listener: &Listener,
    synchronous: Synchronous,
    every_ms: u64,
) -> Result<Paced, BenchError> {
    let room = bench.room()?;
    let database = room.path().join("app.db");
    let every = Duration::from_millis(every_ms);
    let order = Order::paced(bench, &database, synchronous, every);
    let mut writer = Writer::start(bench, &order)?;
    let token = beside(&database, "-token");
    write_new_secret(&token, TOKEN).map_err(CommandError::from)?;
    let sequencer = Sequencer::start(bench, room.path(), &token)?;
    let agent = Inside::start(bench, &database, sequencer.url(), &token)?;
    listener.take();
    writer.go()?;
    let wrote = writer.wrote()?;
    agent.converge(bench)?;
    let moments = listener.take();
    agent.check(bench, SCENARIO, wrote.transactions)?;
    let after = Delays::of(agent.first(), &wrote.committed_ns, &moments);
    agent.stop()?;
    sequencer.end()?;
    writer.end()?;
    let is_whole = |delays: &Delays| delays.kept.len() as u64 == wrote.transactions;
    let Some(Delays { captured, kept }) = after.filter(is_whole) else {
        let (captured, kept) = (moments.captured.len(), moments.kept.len());
        return Err(BenchError::Unseen { commits: wrote.transactions, captured, kept });
    };
    let (captured, kept) = (spread(captured), spread(kept));
    Ok(Paced { synchronous, every_ms, commits: wrote.transactions, commit: wrote.latency, captured, kept })
}

/// How long after the return of its COMMIT something became of each commit, in nanoseconds.
#[derive(Debug, PartialEq, Eq)]
struct Delays {
    captured: Vec<u64>,
    kept: Vec<u64>,
}

impl Delays {
    /// Of commits with dense numbers, from `first` on. `None` when something is missing.
    fn of(first: u64, committed_ns: &[u64], moments: &Moments) -> Option<Self> {
        let Moments { captured, kept } = moments;
        let mut delays = Self { captured: Vec::new(), kept: Vec::new() };
        let (mut here, mut durable) = (captured.iter().peekable(), kept.iter().peekable());
        for (commit, committed) in (first..).zip(committed_ns) {
            // Numbers only grow, since a poll that fails ends the run.
            while here.next_if(|(number, _)| *number < commit).is_some() {}
            while durable.next_if(|(last, _)| *last < commit).is_some() {}
            let &&(number, at) = here.peek()?;
            let &&(_, durable_at) = durable.peek()?;
            if number != commit {
                return None;
            }
            delays.captured.push(at.saturating_sub(*committed));
            delays.kept.push(durable_at.saturating_sub(*committed));
        }
        Some(delays)
    }
}

/// Median, 99th percentile and maximum.
pub(super) fn spread(mut nanoseconds: Vec<u64>) -> Latency {
    nanoseconds.sort_unstable();
    let at = |percent: usize| {
        let place = (nanoseconds.len() * percent).div_ceil(100).saturating_sub(1);
        nanoseconds.get(place).copied().unwrap_or_default()
    };
    Latency { p50_ns: at(50), p99_ns: at(99), max_ns: at(100) }
}

/// What the disk itself takes for the least that an outbox can do.
fn disk(bench: &Bench) -> Result<Latency, BenchError> {
    let room = bench.room()?;
    let measure = || -> io::Result<Vec<u64>> {
        let mut file = File::create(room.path().join("appended"))?;
        (0..DISK_SYNCS)
            .map(|_| {
                file.write_all(&[7; DISK_BYTES])?;
                let since = Instant::now();
                file.sync_data()?;
                Ok(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX))
            })
            .collect()
    };
    Ok(spread(measure().map_err(BenchError::system("measure the disk"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_commit_is_found_by_its_number() {
        // Commits 1 and 2 were there before; 3 was captured before its COMMIT returned; 4 and 5 share a sync.
        let moments = Moments {
            captured: vec![(2, 90), (3, 99), (4, 230), (5, 320)],
            kept: vec![(2, 95), (3, 150), (5, 400)],
        };
        let delays = Delays::of(3, &[100, 200, 300], &moments).unwrap();
        assert_eq!(delays, Delays { captured: vec![0, 30, 20], kept: vec![50, 200, 100] });
    }

    #[test]
    fn a_commit_without_a_moment_is_missed() {
        let whole = Moments { captured: vec![(1, 5), (2, 6), (3, 7)], kept: vec![(3, 9)] };
        assert!(Delays::of(1, &[1, 2, 3], &whole).is_some());
        let lost = Moments { captured: vec![(1, 5), (3, 7)], ..whole.clone() };
        assert_eq!(Delays::of(1, &[1, 2, 3], &lost), None);
        let not_kept = Moments { kept: vec![(2, 9)], ..whole };
        assert_eq!(Delays::of(1, &[1, 2, 3], &not_kept), None);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let of = |latency: Latency| (latency.p50_ns, latency.p99_ns, latency.max_ns);
        assert_eq!(of(spread((1..=200).rev().collect())), (100, 198, 200));
        assert_eq!(of(spread(vec![7])), (7, 7, 7));
        assert_eq!(of(spread(vec![])), (0, 0, 0));
    }
}
