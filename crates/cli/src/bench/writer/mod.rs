//! The application of a benchmark: a process of its own that writes a database with the SQLite of the system.
//!
//! ```text
//! benchmark                      writer (`synddb bench write ORDER`)
//!     start ------------------->  makes the schema and the first rows
//!     ready <-------------------  {"said":"ready"}
//!     warm  ------------------->  writes until its WAL has been through a whole cycle (warming.rs)
//!     warm  <-------------------  {"said":"warm",...}
//!     go    ------------------->  writes
//!     wrote <-------------------  {"said":"wrote",...}, and keeps its connection
//!     end   ------------------->  closes it and ends
//! ```
//!
//! What must stay true: the writer is the same program with the same pragmas whether it is followed or not, and does not know which.
//!
//! Knows nothing of agents.

mod library;
mod reference;
mod run;
mod warming;
mod workload;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::child::Child;
use super::{Bench, BenchError};

use library::Library;

pub(super) use run::run;
pub(super) use workload::Workload;

/// Commit times that are kept of a paced writer.
pub(super) const COMMITTED_MAX: u64 = 100_000;

/// How long a writer may take for its schema and first rows.
const READY_MAX: Duration = Duration::from_secs(600);

/// How long a writer may take beyond the time that it was given: it waits for others' locks.
const WROTE_MAX: Duration = Duration::from_secs(600);

/// What a writer is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    /// The database that it makes.
    pub(super) database: PathBuf,
    /// The library that it writes with.
    pub(super) sqlite: PathBuf,
    pub(super) workload: Workload,
    pub(super) synchronous: Synchronous,
    pub(super) until: Until,
    /// How long it may take to get warm, in seconds.
    #[serde(default)]
    pub(super) warm_up: f64,
    /// What is captured by the writer itself, for comparison.
    pub(super) capture: Reference,
}

impl Order {
    /// One row a transaction, for as long as the benchmark writes, each begun so long after the one before began. Nothing gets warm.
    pub(super) fn paced(bench: &Bench, database: &Path, synchronous: Synchronous, every: Duration) -> Self {
        Self {
            database: database.to_owned(),
            sqlite: bench.sqlite.clone(),
            workload: Workload::Row,
            synchronous,
            until: Until::Paced { transactions: transactions(bench.seconds, every), every },
            warm_up: 0.0,
            capture: Reference::None,
        }
    }
}

/// How many commits of one pace there are in a time.
fn transactions(seconds: f64, every: Duration) -> u64 {
    let given = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let fit = u64::try_from(given.as_nanos() / every.as_nanos().max(1)).unwrap_or(COMMITTED_MAX);
    fit.clamp(1, COMMITTED_MAX)
}

/// When a commit waits for the disk: SQLite's `synchronous`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Synchronous {
    /// At checkpoints.
    Normal,
    /// At every commit.
    Full,
}

/// When a writer has written enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Until {
    /// After so many seconds.
    Seconds(f64),
    /// After so many transactions.
    Transactions(u64),
    /// After so many transactions, each begun so long after the one before began.
    Paced {
        /// How many; [`COMMITTED_MAX`] at most.
        transactions: u64,
        /// From one to the next.
        every: Duration,
    },
}

/// Another way to capture, inside the writer's own transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reference {
    /// None: what the agent has to compare with.
    None,
    /// Triggers that write every changed row into an outbox table.
    Triggers,
    /// SQLite's session extension, one session a transaction, whose changeset goes into an outbox table.
    Session,
}

/// The SQLite that a writer writes with.
pub(super) struct Sqlite {
    pub(super) version: String,
    /// Whether it has the session functions.
    pub(super) sessions: bool,
}

/// What a writer did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Wrote {
    /// Transactions committed.
    pub(super) transactions: u64,
    /// Rows inserted, updated and deleted, without those of references.
    pub(super) rows: u64,
    /// From `go` to the return of the last COMMIT.
    pub(super) seconds: f64,
    /// From the beginning of a transaction to the return of its COMMIT.
    pub(super) latency: Latency,
    /// When each COMMIT returned, in nanoseconds of CLOCK_MONOTONIC; of a paced writer only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) committed_ns: Vec<u64>,
}

/// What a writer did before what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Warmed {
    /// Transactions committed.
    pub(super) transactions: u64,
    /// Whether its WAL was through a whole cycle before the time was over.
    pub(super) is_warm: bool,
}

/// How long something took, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of them took no longer.
    pub p50_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// What a writer says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
enum Said {
    /// Schema and first rows are committed.
    Ready,
    Warm(Warmed),
    Wrote(Wrote),
}

/// What a writer is told to get warm.
const WARM_UP: &str = "\"warm\"";

/// What a writer is told to begin.
const GO: &str = "\"go\"";

/// What a writer is told to end. The end of its input ends it as well.
const END: &str = "\"end\"";

/// What a library is, without opening a database with it.
pub(super) fn look(sqlite: &Path) -> Result<Sqlite, BenchError> {
    let library = Library::load(sqlite)?;
    Ok(Sqlite { version: library.version(), sessions: library.has_sessions() })
}

/// A writer that runs.
pub(super) struct Writer {
    child: Child,
    /// How long it is given to get warm, and to write.
    patience: [Duration; 2],
}

impl Writer {
    /// Starts it, and returns when schema and first rows are committed.
    pub(super) fn start(bench: &Bench, order: &Order) -> Result<Self, BenchError> {
        let program = std::env::current_exe().map_err(BenchError::system("find this program"))?;
        let text = serde_json::to_string(order)
            .map_err(|error| BenchError::system("write down what a writer is to do")(error.into()))?;
        let mut command = Command::new(program);
        command.args(["bench", "write", &text]);
        let mut child = Child::start(bench, "writer", command)?;
        let said = child.next("make its database", READY_MAX)?;
        let Ok(Said::Ready) = serde_json::from_str(&said) else { return Err(child.foreign(&said)) };
        let given = match order.until {
            Until::Seconds(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or_default(),
            Until::Transactions(_) => Duration::ZERO,
            Until::Paced { transactions, every } => {
                every.saturating_mul(u32::try_from(transactions).unwrap_or(u32::MAX))
            }
        };
        let warm_up = Duration::try_from_secs_f64(order.warm_up).unwrap_or_default();
        Ok(Self { child, patience: [warm_up, given].map(|given| WROTE_MAX.saturating_add(given)) })
    }

    /// Has it get warm: what comes next is written as by an application that has run for a while.
    pub(super) fn warm_up(&mut self) -> Result<Warmed, BenchError> {
        self.child.say(WARM_UP)?;
        let said = self.child.next("get warm", self.patience[0])?;
        match serde_json::from_str(&said) {
            Ok(Said::Warm(warmed)) => Ok(warmed),
            Ok(Said::Ready | Said::Wrote(_)) | Err(_) => Err(self.child.foreign(&said)),
        }
    }

    /// Has it write, and returns at once.
    pub(super) fn go(&mut self) -> Result<(), BenchError> {
        self.child.say(GO)
    }

    /// Waits until it has written. It keeps its connection open.
    pub(super) fn wrote(&mut self) -> Result<Wrote, BenchError> {
        let said = self.child.next("write", self.patience[1])?;
        match serde_json::from_str(&said) {
            Ok(Said::Wrote(wrote)) => Ok(wrote),
            Ok(Said::Ready | Said::Warm(_)) | Err(_) => Err(self.child.foreign(&said)),
        }
    }

    /// Has it close its connection, and end.
    pub(super) fn end(mut self) -> Result<(), BenchError> {
        self.child.say(END)?;
        self.child.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_fills_the_time() {
        assert_eq!(transactions(5.0, Duration::from_millis(10)), 500);
        assert_eq!(transactions(0.001, Duration::from_millis(10)), 1);
        assert_eq!(transactions(1e9, Duration::from_millis(1)), COMMITTED_MAX);
    }
}
