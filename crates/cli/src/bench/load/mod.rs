//! `synddb bench sequencer`: how much a sequencer accepts, how soon it acknowledges, and how soon it takes something again after a restart.
//!
//! ```text
//! client.rs      an agent's side of one stream: commits that follow each other, made before they are sent
//! connection.rs  one keep-alive connection, and no more of HTTP than its requests need
//! drive.rs       all clients on one thread, each with one submission under way
//! submit.rs      one run: a sequencer of its own, driven for a time, and what that gave
//! stored.rs      the store afterwards: every batch verified, every acknowledged commit in its place
//! syncs.rs       the same for a moment under `strace`: how often the disk was waited for
//! ```
//!
//! What must stay true: nothing is measured of a log that is not dense, or lacks or repeats an acknowledged commit.

mod client;
mod connection;
mod drive;
mod stored;
mod submit;
mod syncs;

pub use submit::{Acknowledged, Load};
pub use syncs::Syncs;

use super::arguments::SequencerArguments;
use super::report::{Machine, Measured};
use super::{Bench, BenchError};
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};

/// Runs what the command line asks for.
pub(super) fn run(arguments: &SequencerArguments, output: Output) -> Result<Exit, CommandError> {
    let (bench, machine) = Bench::begin_alone(&arguments.dir, arguments.seconds, output)?;
    let runs = || {
        let sizes = arguments.bytes.iter();
        sizes.flat_map(|bytes| arguments.streams.iter().map(|streams| (*streams, *bytes)))
    };
    let names = runs().map(|(streams, bytes)| submit::name(streams, bytes)).collect();
    let machine = Machine { scenarios: names, ..machine };
    output.tell(&Event::Measuring(machine.clone()))?;
    let mut all = Vec::new();
    for (streams, bytes) in runs() {
        let measured = Measured::Load(Box::new(submit::run(&bench, streams, bytes)?));
        output.tell(&Event::Measured(Box::new(measured.clone())))?;
        all.push(measured);
    }
    output.tell(&Event::Benchmarked { machine, measured: all })?;
    Ok(Exit::Done)
}

/// What the sequencer answers, or the store holds, is not what it should be.
fn wrong(found: impl Into<String>) -> BenchError {
    BenchError::Unacceptable { found: found.into() }
}
