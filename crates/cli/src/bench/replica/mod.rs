//! `synddb bench replica`: how fast a replica catches up with a stored log, and how far behind a live one is.
//!
//! ```text
//! stored.rs      an application whose log is stored: written beside an agent and a sequencer
//! catch_up.rs    a replica reads it, and SQLite's own means do, in turn
//! changesets.rs  what SQLite's own means make of the same rows
//! ruled.rs       a validator reads it with ten rules and without any, in turn
//! lag.rs         from COMMIT until the row is in the replica
//! ```
//!
//! What must stay true: nothing is measured of a replica that is not equal to the application's database, row by row.

mod catch_up;
mod changesets;
mod lag;
mod ruled;
mod stored;

pub use catch_up::CatchUp;
pub use lag::{Lag, Lags};
pub use ruled::Ruled;

use clap::ValueEnum as _;

use super::arguments::{ReplicaArguments, ReplicaScenario};
use super::report::{Machine, Measured};
use super::writer::Workload;
use super::{Bench, BenchError};
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};

/// Runs what the command line asks for.
pub(super) fn run(arguments: &ReplicaArguments, output: Output) -> Result<Exit, CommandError> {
    let (bench, machine) = Bench::begin(&arguments.run, false, output)?;
    let scenarios = match &arguments.only[..] {
        [] => ReplicaScenario::value_variants(),
        only => only,
    };
    let names = scenarios.iter().copied().map(ReplicaScenario::name).collect();
    let machine = Machine { scenarios: names, ..machine };
    output.tell(&Event::Measuring(machine.clone()))?;
    let mut all = Vec::new();
    for scenario in scenarios {
        let measured = measure(&bench, *scenario)?;
        output.tell(&Event::Measured(Box::new(measured.clone())))?;
        all.push(measured);
    }
    output.tell(&Event::Benchmarked { machine, measured: all })?;
    Ok(Exit::Done)
}

fn measure(bench: &Bench, scenario: ReplicaScenario) -> Result<Measured, BenchError> {
    let workload = match scenario {
        ReplicaScenario::Rows => Workload::Rows,
        ReplicaScenario::Orders => Workload::Orders,
        ReplicaScenario::OrdersIndexed => Workload::OrdersIndexed,
        ReplicaScenario::OrdersRuled => {
            return Ok(Measured::Ruled(Box::new(ruled::run(bench, &scenario.name())?)));
        }
        ReplicaScenario::Lag => return Ok(Measured::Lag(lag::run(bench)?)),
    };
    let caught_up = catch_up::run(bench, &scenario.name(), workload)?;
    Ok(Measured::CatchUp(Box::new(caught_up)))
}
