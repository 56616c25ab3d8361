//! `synddb bench sequencer`: how much a sequencer accepts, how soon it acknowledges, and how soon it takes something again after a restart.
//!
//! ```text
//! client.rs      an agent's side of one stream: commits that follow each other, made before they are sent
//! connection.rs  one keep-alive connection, and no more of HTTP than its requests need
//! drive.rs       all clients on one thread, each with one submission under way
//! submit.rs      one run: a sequencer of its own, driven for a time, and what that gave
//! stored.rs      the store afterwards: every batch verified, every acknowledged commit in its place
//! restart.rs     a sequencer that finds much in its journal which is not stored
//! syncs.rs       the same for a moment under `strace`: how often the disk was waited for
//! ```
//!
//! What must stay true: nothing is measured of a log that is not dense, or lacks or repeats an acknowledged commit.

mod client;
mod connection;
mod drive;
mod restart;
mod stored;
mod submit;
mod syncs;

pub use restart::Restart;
pub use submit::{Acknowledged, Load};
pub use syncs::Syncs;

use super::arguments::{SequencerArguments, SequencerScenario};
use super::report::{Machine, Measured};
use super::{Bench, BenchError};
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};

/// Runs what the command line asks for.
pub(super) fn run(arguments: &SequencerArguments, output: Output) -> Result<Exit, CommandError> {
    let (bench, machine) = Bench::begin_alone(&arguments.dir, arguments.seconds, output)?;
    let bench = Bench { warm_up: arguments.warm_up, ..bench };
    let is_wanted = |scenario| arguments.only.is_empty() || arguments.only.contains(&scenario);
    let mut runs = Vec::new();
    if is_wanted(SequencerScenario::Submit) {
        for bytes in &arguments.bytes {
            runs.extend(arguments.streams.iter().map(|streams| Run::Submit(*streams, *bytes)));
        }
    }
    if is_wanted(SequencerScenario::Restart) {
        runs.push(Run::Restart(arguments.messages));
    }
    let machine = Machine { scenarios: runs.iter().map(Run::name).collect(), ..machine };
    output.tell(&Event::Measuring(machine.clone()))?;
    let mut all = Vec::new();
    for run in runs {
        let measured = match run {
            Run::Submit(streams, bytes) => Measured::Load(Box::new(submit::run(&bench, streams, bytes)?)),
            Run::Restart(messages) => Measured::Restart(restart::run(&bench, messages)?),
        };
        output.tell(&Event::Measured(Box::new(measured.clone())))?;
        all.push(measured);
    }
    output.tell(&Event::Benchmarked { machine, measured: all })?;
    Ok(Exit::Done)
}

/// One of what is measured.
enum Run {
    /// So many streams, with bodies of so many bytes.
    Submit(usize, usize),
    /// With so many messages in the journal.
    Restart(u64),
}

impl Run {
    fn name(&self) -> String {
        match self {
            Self::Submit(streams, bytes) => submit::name(*streams, *bytes),
            Self::Restart(messages) => format!("restart with {messages} messages"),
        }
    }
}

/// What the sequencer answers, or the store holds, is not what it should be.
fn wrong(found: impl Into<String>) -> BenchError {
    BenchError::Unacceptable { found: found.into() }
}
