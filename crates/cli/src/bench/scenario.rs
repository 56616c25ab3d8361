//! One run of a scenario: the writer alone, with an agent, with everything up to a replica, or with another way to capture.
//!
//! What must stay true: a run with figures has captured every commit. What is timed is the same on both sides: from `go` to the end of
//! writing, and where something captures or applies, to the end of that. What is done before is the same as well: the writer gets warm
//! with everything in place, whatever that left is captured or applied, and the file system has written what waits.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use synddb_agent::AgentStatus;

use super::agent::{Agent, without_settings};
use super::child::Child;
use super::pairs::number;
use super::writer::{Order, Reference, Synchronous, Until, Warmed, Workload, Writer, Wrote};
use super::{Bench, BenchError, wal_bytes};
use crate::exit::CommandError;
use crate::folder::Folder;
use crate::output::Event;
use crate::peer::Peer;
use crate::process;

/// How long everything may take to be captured, once it is written.
const CAPTURED_MAX: Duration = Duration::from_secs(120);

/// How long processes may take to run.
pub(super) const RUNNING_MAX: Duration = Duration::from_secs(60);

/// How long everything may take to be in the replica, once it is written.
pub(super) const APPLIED_MAX: Duration = Duration::from_secs(600);

/// What is written, and what is compared with the writer alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paired {
    pub(super) name: &'static str,
    pub(super) side: Side,
    workload: Workload,
    synchronous: Synchronous,
}

/// What runs beside the writer, or in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Nothing.
    Bare,
    /// An agent, whose sequencer does not answer.
    Agent,
    /// Agent, sequencer and validator.
    Replica,
    /// Another way to capture.
    Reference(Reference),
}

/// What one run gave.
pub(super) struct Run {
    pub(super) wrote: Wrote,
    /// From `go` until everything was written, captured or applied.
    pub(super) seconds: f64,
    pub(super) wal_bytes: u64,
    /// Whether the writer was warm.
    pub(super) is_warm: bool,
    pub(super) agent: Option<AgentRun>,
}

/// What an agent took in one run.
pub(super) struct AgentRun {
    pub(super) cpu: Duration,
    pub(super) memory_bytes_max: u64,
    pub(super) write_locks: u64,
    pub(super) write_locked_us: u64,
    /// Since the agent began.
    pub(super) write_locked_us_max: u64,
    pub(super) wal_resets: u64,
}

impl Run {
    /// Transactions a second.
    pub(super) fn per_second(&self) -> f64 {
        number(self.wrote.transactions) / self.seconds
    }
}

impl Paired {
    pub(super) const ROW_NORMAL: Self = Self::agent("row-normal", Workload::Row, Synchronous::Normal);
    pub(super) const ROWS_NORMAL: Self = Self::agent("rows-normal", Workload::Rows, Synchronous::Normal);
    pub(super) const ROW_FULL: Self = Self::agent("row-full", Workload::Row, Synchronous::Full);
    pub(super) const ROWS_FULL: Self = Self::agent("rows-full", Workload::Rows, Synchronous::Full);
    pub(super) const ORDERS_NORMAL: Self =
        Self::agent("orders-normal", Workload::Orders, Synchronous::Normal);
    pub(super) const ORDERS_INDEXED_NORMAL: Self =
        Self::agent("orders-indexed-normal", Workload::OrdersIndexed, Synchronous::Normal);
    pub(super) const TRIGGER_OUTBOX: [Self; 2] = [
        Self::reference("trigger-outbox-row", Workload::Row, Reference::Triggers),
        Self::reference("trigger-outbox-rows", Workload::Rows, Reference::Triggers),
    ];
    pub(super) const SESSION_OUTBOX: [Self; 2] = [
        Self::reference("session-outbox-row", Workload::Row, Reference::Session),
        Self::reference("session-outbox-rows", Workload::Rows, Reference::Session),
    ];
    pub(super) const THROUGH_REPLICA: Self = Self {
        name: "through-replica",
        side: Side::Replica,
        workload: Workload::Rows,
        synchronous: Synchronous::Normal,
    };

    const fn agent(name: &'static str, workload: Workload, synchronous: Synchronous) -> Self {
        Self { name, side: Side::Agent, workload, synchronous }
    }

    const fn reference(name: &'static str, workload: Workload, reference: Reference) -> Self {
        Self { name, side: Side::Reference(reference), workload, synchronous: Synchronous::Normal }
    }

    /// One run on a new database.
    pub(super) fn run(&self, bench: &Bench, side: Side) -> Result<Run, BenchError> {
        let room = bench.room()?;
        let database = room.path().join("app.db");
        let writer = Writer::start(
            bench,
            &Order {
                database: database.clone(),
                sqlite: bench.sqlite.clone(),
                workload: self.workload,
                synchronous: self.synchronous,
                until: Until::Seconds(bench.seconds),
                warm_up: bench.warm_up,
                capture: if let Side::Reference(reference) = side { reference } else { Reference::None },
            },
        )?;
        match side {
            Side::Bare | Side::Reference(_) => alone(bench, &database, writer),
            Side::Agent => self.captured(bench, &database, writer),
            Side::Replica => self.replicated(bench, &database, writer),
        }
    }

    fn captured(&self, bench: &Bench, database: &Path, mut writer: Writer) -> Result<Run, BenchError> {
        let mut agent = Agent::start(bench, database)?;
        let Warmed { transactions: before_go, is_warm } = writer.warm_up()?;
        agent.converge(CAPTURED_MAX)?;
        bench.sync()?;
        let (before, seen) = (agent.used()?, agent.status()?.statistics);
        let since = Instant::now();
        writer.go()?;
        let wrote = writer.wrote()?;
        agent.converge(CAPTURED_MAX)?;
        let seconds = since.elapsed().as_secs_f64();
        let used = agent.used()?.since(&before);
        let statistics = agent.status()?.statistics;
        let taken = AgentRun {
            cpu: used.cpu,
            memory_bytes_max: agent.memory_peak_bytes()?,
            write_locks: statistics.write_locks - seen.write_locks,
            write_locked_us: statistics.write_locked_us - seen.write_locked_us,
            write_locked_us_max: statistics.write_locked_us_max,
            wal_resets: statistics.wal_resets - seen.wal_resets,
        };
        // An agent may have cut it off.
        let wal_bytes = wal_bytes(database)?.max(statistics.wal_bytes_max);
        agent.check(self.name, before_go + wrote.transactions)?;
        agent.stop()?;
        writer.end()?;
        Ok(Run { wrote, seconds, wal_bytes, is_warm, agent: Some(taken) })
    }

    fn replicated(&self, bench: &Bench, database: &Path, mut writer: Writer) -> Result<Run, BenchError> {
        let synddb =
            |name, command, operands: &[&Path], more: &[&str]| synddb(bench, name, command, operands, more);
        let dev = ["--port", "0", "--validator-port", "0", "--stop-on-eof"];
        let mut dev = synddb("`dev`", "dev", &[database], &dev)?;
        while !matches!(said(&mut dev, "begin", RUNNING_MAX)?, Event::Running { .. }) {}
        let applied = || {
            let mut wait = synddb("`wait`", "wait", &[database], &["--timeout", "10m"])?;
            said(&mut wait, "see everything in the replica", APPLIED_MAX)?;
            Ok::<_, BenchError>(wait)
        };
        let Warmed { transactions: before_go, is_warm } = writer.warm_up()?;
        applied()?.end()?;
        bench.sync()?;
        let since = Instant::now();
        writer.go()?;
        let wrote = writer.wrote()?;
        let wait = applied()?;
        let seconds = since.elapsed().as_secs_f64();
        wait.end()?;
        let captured = status(database)?.statistics.commits;
        super::count(self.name, before_go + wrote.transactions, captured)?;
        let wal_bytes = wal_bytes(database)?;
        let replica = Folder::of(database, None).replica();
        let mut diff = synddb("`diff`", "diff", &[database, &replica], &[])?;
        said(&mut diff, "compare both databases", APPLIED_MAX)?;
        // One that found a difference ends with another exit code.
        diff.end()?;
        dev.end()?;
        writer.end()?;
        Ok(Run { wrote, seconds, wal_bytes, is_warm, agent: None })
    }
}

/// A writer that nothing runs beside.
pub(super) fn alone(bench: &Bench, database: &Path, mut writer: Writer) -> Result<Run, BenchError> {
    let Warmed { is_warm, .. } = writer.warm_up()?;
    bench.sync()?;
    let since = Instant::now();
    writer.go()?;
    let wrote = writer.wrote()?;
    let seconds = since.elapsed().as_secs_f64();
    let wal_bytes = wal_bytes(database)?;
    writer.end()?;
    Ok(Run { wrote, seconds, wal_bytes, is_warm, agent: None })
}

/// What the agent of a database says of itself.
fn status(database: &Path) -> Result<AgentStatus, BenchError> {
    let folder = Folder::of(database, None);
    let asked = async { Ok::<_, CommandError>(Peer::agent(&folder)?.status().await?) };
    Ok(process::ask(asked)?)
}

/// Starts one of this program's own commands.
pub(super) fn synddb(
    bench: &Bench,
    name: &'static str,
    command: &str,
    operands: &[&Path],
    more: &[&str],
) -> Result<Child, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::system("find this program"))?;
    let mut started = Command::new(program);
    started.arg(command).args(operands).args(more).arg("--json");
    without_settings(&mut started);
    Child::start(bench, name, started)
}

/// The next thing that a command says.
pub(super) fn said(child: &mut Child, doing: &'static str, patience: Duration) -> Result<Event, BenchError> {
    let line = child.next(doing, patience)?;
    serde_json::from_str(&line).map_err(|_| child.foreign(&line))
}
