//! One transaction of 500,000 rows: how long until it is captured durably, and how much memory that takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::agent::Agent;
use super::listener::monotonic_ns;
use super::writer::{Order, Reference, Synchronous, Until, Workload, Writer};
use super::{Bench, BenchError};

/// The scenario.
const SCENARIO: &str = "giant";

/// How long each row's text is, by run.
const TEXT_BYTES: [usize; 2] = [40, 400];

/// How long the agent may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// What one huge transaction cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Giant {
    /// Rows in it.
    pub rows: u64,
    /// The length of each one's text.
    pub text_bytes: usize,
    /// What it took the writer, from its beginning to the return of its COMMIT.
    pub written_seconds: f64,
    /// From the return of its COMMIT until it was durable in the outbox.
    pub captured_seconds: f64,
    /// What agent and pin computed for it.
    pub cpu_seconds: f64,
    /// The most memory that the agent ever had.
    pub memory_peak_bytes: u64,
}

/// Measures it.
pub(super) fn run(bench: &Bench) -> Result<Vec<Giant>, BenchError> {
    TEXT_BYTES.into_iter().map(|text_bytes| giant(bench, text_bytes)).collect()
}

fn giant(bench: &Bench, text_bytes: usize) -> Result<Giant, BenchError> {
    let room = bench.room()?;
    let database = room.path().join("app.db");
    let order = Order {
        database: database.clone(),
        sqlite: bench.sqlite.clone(),
        workload: Workload::Giant { text_bytes },
        synchronous: Synchronous::Normal,
        // A paced writer says when its COMMIT returned.
        until: Until::Paced { transactions: 1, every: Duration::ZERO },
        warm_up: 0.0,
        capture: Reference::None,
    };
    let mut writer = Writer::start(bench, &order)?;
    let mut agent = Agent::start(bench, &database)?;
    let before = agent.used()?;
    writer.go()?;
    let wrote = writer.wrote()?;
    agent.converge(PATIENCE)?;
    let captured_ns = monotonic_ns();
    let used = agent.used()?.since(&before);
    let memory_peak_bytes = agent.memory_peak_bytes()?;
    agent.check(SCENARIO, wrote.transactions)?;
    agent.stop()?;
    writer.end()?;
    let committed_ns = wrote.committed_ns.first().copied().unwrap_or(captured_ns);
    Ok(Giant {
        rows: wrote.rows,
        text_bytes,
        written_seconds: wrote.seconds,
        captured_seconds: Duration::from_nanos(captured_ns.saturating_sub(committed_ns)).as_secs_f64(),
        cpu_seconds: used.cpu.as_secs_f64(),
        memory_peak_bytes,
    })
}
