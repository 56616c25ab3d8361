//! `synddb bench`: what following costs an application, and how far behind it is, on this machine.
//!
//! ```text
//! arguments.rs   which scenarios there are
//! scenario.rs    one run of a scenario: writer alone, with an agent, with a replica, with another way to capture
//! pairs.rs       runs with and without, in turn, and their ratios
//! report.rs      what was measured, for people and programs
//! writer/        the application: a process that writes with the SQLite of the system
//! agent.rs       the agent: a process as an application's user would start it
//! child.rs       what both have in common
//! usage.rs       what processes used, by the kernel; calls.rs: what they call of it
//! latency.rs     how soon a commit is captured: inside.rs the agent in this process, listener.rs when it says so
//! load/          how much a sequencer accepts, and how soon it acknowledges
//! replica/       how fast a replica catches up with a stored log, and how far behind a live one is
//! giant.rs, walk.rs, idle.rs   one huge transaction; a database that is there already; nothing to do
//! ```
//!
//! What must stay true: nothing is measured of which not every commit was captured. No figure decides anything: ratios are taken within one
//! run, and compared by people.

mod agent;
mod arguments;
mod calls;
mod child;
mod error;
mod giant;
mod idle;
mod inside;
mod latency;
mod listener;
mod load;
mod pairs;
mod replica;
pub(crate) mod report;
mod scenario;
mod sequencer;
mod usage;
mod walk;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};

use synddb_sqlite::inspect::{FileSystem, FileSystemKind};
use tempfile::TempDir;

pub(crate) use arguments::{BenchArguments, FIGURES};
pub use error::BenchError;
pub use giant::Giant;
pub use idle::{CallsPerMinute, Idle};
pub use latency::{Latencies, Paced};
pub use load::{Acknowledged, Load, Restart, Syncs};
pub use pairs::{Agent, Figures, Pairs, Ratio, Single};
pub use replica::{CatchUp, Lag, Lags, Ruled};
pub use report::{Machine, Measured};
pub use walk::Walk;
pub use writer::{Latency, Synchronous};

use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output, Progress};
use crate::stop::Stop;
use arguments::{Bench as Which, CaptureArguments, RunArguments, Scenario};
use scenario::Paired;
use writer::Order;

/// What the scenarios of one run share.
struct Bench {
    /// Everything that is made. It goes with this value.
    folder: TempDir,
    /// The library that writers write with.
    sqlite: PathBuf,
    /// How long a writer writes.
    seconds: f64,
    /// How long it may take to get warm, in seconds.
    warm_up: f64,
    /// Pairs of runs, one bare and one captured.
    pairs: u32,
    /// How large a database is that is there already, in bytes.
    walk_bytes: u64,
    /// Whether the benchmark was asked to end. Whatever waits looks at it.
    stop: Stop,
    progress: Progress,
}

/// Runs what the command line asks for.
pub(crate) fn run(arguments: &BenchArguments, output: Output) -> Result<Exit, CommandError> {
    match &arguments.bench {
        Which::Capture(arguments) => capture(arguments, output),
        Which::Replica(arguments) => replica::run(arguments, output),
        Which::Sequencer(arguments) => load::run(arguments, output),
        Which::Write { order } => Ok(write(order)?),
    }
}

/// A process of a benchmark that writes.
fn write(order: &str) -> Result<Exit, BenchError> {
    let foreign = |_| BenchError::Foreign { name: "benchmark", said: order.to_owned() };
    let order: Order = serde_json::from_str(order).map_err(foreign)?;
    writer::run(&order)?;
    Ok(Exit::Done)
}

fn capture(arguments: &CaptureArguments, output: Output) -> Result<Exit, CommandError> {
    let (bench, machine, scenarios) = begin(arguments, output)?;
    output.tell(&Event::Measuring(machine.clone()))?;
    let mut all = Vec::new();
    for scenario in scenarios {
        for measured in measure(&bench, scenario)? {
            output.tell(&Event::Measured(Box::new(measured.clone())))?;
            all.push(measured);
        }
    }
    output.tell(&Event::Benchmarked { machine, measured: all })?;
    Ok(Exit::Done)
}

/// What was asked for, or everything that the library can do.
fn scenarios(arguments: &CaptureArguments, sessions: bool) -> Vec<Scenario> {
    if arguments.only.is_empty() {
        Scenario::all().filter(|scenario| sessions || !scenario.needs_sessions()).collect()
    } else {
        Scenario::all().filter(|scenario| arguments.only.contains(scenario)).collect()
    }
}

/// Refuses what can be refused, before anything is made.
fn begin(
    arguments: &CaptureArguments,
    output: Output,
) -> Result<(Bench, Machine, Vec<Scenario>), BenchError> {
    let CaptureArguments { run, warm_up, only, walk_bytes } = arguments;
    let needs_sessions = only.iter().any(|scenario| scenario.needs_sessions());
    let (bench, machine) = Bench::begin(run, needs_sessions, output)?;
    let scenarios = scenarios(arguments, machine.sessions);
    let machine = Machine {
        scenarios: scenarios.iter().copied().map(Scenario::name).collect(),
        has_pairs: scenarios.iter().any(|scenario| scenario.is_paired()),
        ..machine
    };
    Ok((Bench { warm_up: *warm_up, walk_bytes: *walk_bytes, ..bench }, machine, scenarios))
}

/// The file system of a folder, which must be on a disk.
fn real_disk(dir: &Path) -> Result<FileSystem, BenchError> {
    let no_room = |source| BenchError::NoRoom { folder: dir.to_owned(), source };
    let file_system = FileSystem::of(dir).map_err(no_room)?;
    if file_system.kind == FileSystemKind::Memory {
        return Err(BenchError::InMemory { folder: dir.to_owned(), file_system });
    }
    Ok(file_system)
}

/// A library as processes find it whose working folder is another one: a path is one from here, a name is looked for by the loader.
fn named(sqlite: &Path) -> Result<PathBuf, BenchError> {
    if sqlite.components().count() < 2 {
        return Ok(sqlite.to_owned());
    }
    std::path::absolute(sqlite).map_err(BenchError::system("name the library"))
}

fn measure(bench: &Bench, scenario: Scenario) -> Result<Vec<Measured>, BenchError> {
    let paired = |paired: &[Paired]| {
        paired.iter().map(|paired| Ok(Measured::Pairs(Box::new(pairs::measure(bench, paired)?)))).collect()
    };
    match scenario {
        Scenario::RowNormal => paired(&[Paired::ROW_NORMAL]),
        Scenario::RowsNormal => paired(&[Paired::ROWS_NORMAL]),
        Scenario::RowFull => paired(&[Paired::ROW_FULL]),
        Scenario::RowsFull => paired(&[Paired::ROWS_FULL]),
        Scenario::OrdersNormal => paired(&[Paired::ORDERS_NORMAL]),
        Scenario::OrdersIndexedNormal => paired(&[Paired::ORDERS_INDEXED_NORMAL]),
        Scenario::TriggerOutbox => paired(&Paired::TRIGGER_OUTBOX),
        Scenario::SessionOutbox => paired(&Paired::SESSION_OUTBOX),
        Scenario::ThroughReplica => paired(&[Paired::THROUGH_REPLICA]),
        Scenario::Latency => Ok(vec![Measured::Latency(latency::run(bench)?)]),
        Scenario::Giant => Ok(giant::run(bench)?.into_iter().map(Measured::Giant).collect()),
        Scenario::Walk => Ok(vec![Measured::Walk(walk::run(bench)?)]),
        Scenario::Idle => Ok(vec![Measured::Idle(idle::run(bench)?)]),
    }
}

impl Bench {
    /// Refuses what can be refused, before anything is made. Nothing gets warm, and no scenario is named.
    fn begin(
        arguments: &RunArguments,
        needs_sessions: bool,
        output: Output,
    ) -> Result<(Self, Machine), BenchError> {
        let RunArguments { seconds, pairs, dir, sqlite } = arguments;
        let file_system = real_disk(dir)?;
        let sqlite = named(sqlite)?;
        let library = writer::look(&sqlite)?;
        if !library.sessions && needs_sessions {
            return Err(BenchError::NoSessions { library: sqlite });
        }
        let (bench, machine) = Self::make(dir, &file_system, *seconds, output)?;
        let machine =
            Machine { sqlite: library.version, sessions: library.sessions, pairs: *pairs, ..machine };
        Ok((Self { sqlite, pairs: *pairs, ..bench }, machine))
    }

    /// The same where nobody writes a database: the SQLite is that of this program.
    fn begin_alone(dir: &Path, seconds: f64, output: Output) -> Result<(Self, Machine), BenchError> {
        Self::make(dir, &real_disk(dir)?, seconds, output)
    }

    fn make(
        dir: &Path,
        file_system: &FileSystem,
        seconds: f64,
        output: Output,
    ) -> Result<(Self, Machine), BenchError> {
        let no_room = |source| BenchError::NoRoom { folder: dir.to_owned(), source };
        // Before there is anything that would stay.
        let stop = Stop::on_signals().map_err(BenchError::system("catch signals"))?;
        let dir = dir.canonicalize().map_err(no_room)?;
        let folder = tempfile::Builder::new().prefix("synddb-bench-").tempdir_in(dir).map_err(no_room)?;
        let machine = Machine {
            synddb: env!("CARGO_PKG_VERSION").to_owned(),
            is_optimized: !cfg!(debug_assertions),
            sqlite: synddb_sqlite::rusqlite::version().to_owned(),
            sessions: true,
            file_system: file_system.to_string(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            seconds,
            pairs: 1,
            scenarios: Vec::new(),
            has_pairs: false,
        };
        let (sqlite, progress) = (PathBuf::new(), Progress::begin(output));
        Ok((Self { folder, sqlite, seconds, warm_up: 0.0, pairs: 1, walk_bytes: 0, stop, progress }, machine))
    }

    /// A folder for one run, empty; it goes when the value does.
    fn room(&self) -> Result<TempDir, BenchError> {
        TempDir::new_in(self.folder.path()).map_err(BenchError::system("make a folder"))
    }

    /// An error when the benchmark was asked to end.
    fn go_on(&self) -> Result<(), BenchError> {
        if self.stop.is_asked() { Err(BenchError::Interrupted) } else { Ok(()) }
    }

    /// Has the file system write what waits, so that one run does not pay for another's pages.
    fn sync(&self) -> Result<(), BenchError> {
        let failed = || BenchError::system("sync the file system");
        let folder = File::open(self.folder.path()).map_err(failed())?;
        rustix::fs::syncfs(folder).map_err(|error| failed()(error.into()))
    }
}

/// The size of a database's WAL, which never shrinks while it is open: the largest that it was.
fn wal_bytes(database: &Path) -> Result<u64, BenchError> {
    let wal = synddb_sqlite::name::beside(database, "-wal");
    Ok(wal.metadata().map_err(BenchError::system("look at the WAL"))?.len())
}

/// Makes sure that as many commits were captured as the writer committed.
fn count(scenario: &str, committed: u64, captured: u64) -> Result<(), BenchError> {
    if committed == captured {
        return Ok(());
    }
    Err(BenchError::Lost { scenario: scenario.to_owned(), committed, captured })
}
