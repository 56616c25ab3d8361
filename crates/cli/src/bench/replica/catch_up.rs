//! A replica catches up with a stored log, in turn with SQLite's own means of applying the same rows.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use synddb_sqlite::compare::first_difference;

use super::changesets;
use super::stored::Stored;
use crate::bench::pairs::{median, number, ratio};
use crate::bench::scenario::{APPLIED_MAX, said, synddb};
use crate::bench::usage::{Usage, memory_peak_bytes};
use crate::bench::writer::Workload;
use crate::bench::{Bench, BenchError, Ratio};
use crate::exit::CommandError;
use crate::output::Event;

/// How fast a replica caught up. Medians over the runs, but the most of what is a maximum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatchUp {
    /// The scenario's name.
    pub scenario: String,
    /// Transactions in the log.
    pub transactions: u64,
    /// Rows that they inserted, updated or deleted.
    pub row_changes: u64,
    /// The store, in bytes.
    pub stored_bytes: u64,
    /// Row changes a second of the application alone.
    pub app_per_second: f64,
    /// Row changes a second of the replica, from its start as a process until it had everything.
    pub replica_per_second: f64,
    /// Row changes a second of `sqlite3changeset_apply`.
    pub changeset_per_second: f64,
    /// Replica through `sqlite3changeset_apply`, of each pair.
    pub ratio: Ratio,
    /// Processor time of the replica's process, in microseconds a row change.
    pub cpu_us_per_row_change: f64,
    /// The most memory that the replica's process had, in bytes.
    pub memory_bytes_max: u64,
}

/// What one replica took.
pub(super) struct Run {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    memory_bytes_max: u64,
}

/// Who catches up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Process<'p> {
    /// A read replica.
    Replica,
    /// A validator, with rules or without.
    Validator { rules: Option<&'p Path> },
}

/// Measures it.
pub(super) fn run(bench: &Bench, scenario: &str, workload: Workload) -> Result<CatchUp, BenchError> {
    let stored = Stored::make(bench, scenario, workload)?;
    let (replica, applied) = (stored.room.path().join("replica.db"), stored.room.path().join("applied.db"));
    let (mut runs, mut changesets_seconds) = (Vec::new(), Vec::new());
    for pair in 0..bench.pairs {
        let mut sides = [true, false];
        if pair % 2 == 1 {
            sides.reverse();
        }
        for is_replica in sides {
            bench.go_on()?;
            let what = if is_replica { "replica" } else { "changeset_apply" };
            bench.progress.set(format!("{scenario}, pair {} of {}, {what}", pair + 1, bench.pairs));
            bench.sync()?;
            if is_replica {
                remove(&replica)?;
                runs.push(catch_up(bench, &stored, &replica, Process::Replica)?);
            } else {
                remove(&applied)?;
                let took = changesets::apply(bench, &stored, &applied)?;
                changesets_seconds.push(took.as_secs_f64());
            }
        }
    }
    for other in [&stored.database, &applied] {
        let different = first_difference(&replica, other).map_err(CommandError::from)?;
        if let Some(difference) = different {
            let difference = difference.to_string();
            return Err(BenchError::Different { scenario: scenario.to_owned(), difference });
        }
    }
    let rows = number(stored.row_changes);
    let per_second = |seconds: f64| rows / seconds;
    let ratios = runs.iter().zip(&changesets_seconds).map(|(run, changesets)| changesets / run.seconds);
    Ok(CatchUp {
        scenario: scenario.to_owned(),
        transactions: stored.transactions,
        row_changes: stored.row_changes,
        stored_bytes: stored.bytes,
        app_per_second: stored.app_per_second,
        replica_per_second: median(runs.iter().map(|run| per_second(run.seconds))),
        changeset_per_second: median(changesets_seconds.iter().copied().map(per_second)),
        ratio: ratio(ratios.collect()),
        cpu_us_per_row_change: median(runs.iter().map(|run| run.cpu_seconds * 1e6 / rows)),
        memory_bytes_max: runs.iter().map(|run| run.memory_bytes_max).max().unwrap_or_default(),
    })
}

/// Rebuilds the database from the store alone.
pub(super) fn catch_up(
    bench: &Bench,
    stored: &Stored,
    replica: &Path,
    who: Process<'_>,
) -> Result<Run, BenchError> {
    let since = Instant::now();
    let stream = stored.stream.to_string();
    // It stays until it is told to end, so that its figures can be read.
    let more =
        ["--store", &stored.store, "--stream", &stream, "--sequencer-key", &stored.key, "--stop-on-eof"];
    let file = replica.to_string_lossy();
    let mut process = match who {
        Process::Replica => synddb(bench, "replica", "replica", &[replica], &more)?,
        Process::Validator { rules } => {
            let rules = rules.map(Path::to_string_lossy);
            let rules = rules.iter().flat_map(|rules| ["--rules", rules]);
            let more: Vec<&str> = more.into_iter().chain(["--replica", &file]).chain(rules).collect();
            synddb(bench, "validator", "validator", &[], &more)?
        }
    };
    while !matches!(said(&mut process, "catch up", APPLIED_MAX)?, Event::CaughtUp { .. }) {}
    let seconds = since.elapsed().as_secs_f64();
    let failed = || BenchError::system("read what a process used");
    let used = Usage::of(&[process.id()]).map_err(failed())?;
    let memory_bytes_max = memory_peak_bytes(process.id()).map_err(failed())?;
    process.end()?;
    let cpu_seconds = used.since(&Usage::default()).cpu.as_secs_f64();
    Ok(Run { seconds, cpu_seconds, memory_bytes_max })
}

/// Removes a database and what lies beside it.
pub(super) fn remove(database: &Path) -> Result<(), BenchError> {
    for suffix in ["", "-wal", "-shm", ".lock"] {
        match std::fs::remove_file(synddb_sqlite::name::beside(database, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BenchError::system("remove a database")(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
