//! Attaching to a database that is there already: it is walked once, and a snapshot of it is taken.
//!
//! Its pages are in the page cache, since they were just written.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use synddb_sqlite::capture::{Follower, Options};

use super::agent::{Agent, Beginning};
use super::usage::Usage;
use super::writer::{Order, Reference, Synchronous, Until, Workload, Writer};
use super::{Bench, BenchError};
use crate::exit::CommandError;

/// The scenario.
const SCENARIO: &str = "walk";

/// What attaching costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Walk {
    /// The size of the database.
    pub database_bytes: u64,
    /// The walk alone: every page is read, every row is hashed.
    pub walk_seconds: f64,
    /// From the start of an agent until it follows: the walk, and the snapshot.
    pub attached_seconds: f64,
    /// The snapshot, compressed.
    pub snapshot_bytes: u64,
    /// What agent and pin computed for it.
    pub cpu_seconds: f64,
    /// The most memory that the agent ever had.
    pub memory_peak_bytes: u64,
}

/// Measures it.
pub(super) fn run(bench: &Bench) -> Result<Walk, BenchError> {
    let room = bench.room()?;
    let database = room.path().join("app.db");
    let order = Order {
        database: database.clone(),
        sqlite: bench.sqlite.clone(),
        workload: Workload::Filled { bytes: bench.walk_bytes },
        synchronous: Synchronous::Normal,
        until: Until::Transactions(1),
        warm_up: 0.0,
        capture: Reference::None,
    };
    let mut writer = Writer::start(bench, &order)?;
    let walk_seconds = walk(&database)?;
    bench.go_on()?;
    let mut agent = Agent::start(bench, &database)?;
    let used = agent.used()?.since(&Usage::default());
    let Beginning { attached_after, snapshot_bytes } = agent.beginning();
    let memory_peak_bytes = agent.memory_peak_bytes()?;
    writer.go()?;
    let wrote = writer.wrote()?;
    agent.check(SCENARIO, wrote.transactions)?;
    agent.stop()?;
    writer.end()?;
    let found = database.metadata().map_err(BenchError::system("look at the database"))?;
    Ok(Walk {
        database_bytes: found.len(),
        walk_seconds,
        attached_seconds: attached_after.as_secs_f64(),
        snapshot_bytes,
        cpu_seconds: used.cpu.as_secs_f64(),
        memory_peak_bytes,
    })
}

/// The walk alone, in this process.
fn walk(database: &Path) -> Result<f64, BenchError> {
    let since = Instant::now();
    let follower = Follower::attach(database, Options::default()).map_err(CommandError::from)?;
    let walked = since.elapsed();
    drop(follower);
    Ok(walked.as_secs_f64())
}
