//! `synddb-sequencer [CONFIG]`: a sequencer as a process of its own.
//!
//! What it may be asked besides, and how it ends, says `synddb_service::program`; the prefix of its environment is `SYNDDB_SEQUENCER_`.

use std::process::ExitCode;

use synddb_sequencer::{Config, SequencerError};
use synddb_service::program::{self, End, Program};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::{Metrics, Settings};

struct Sequencer;

impl Program for Sequencer {
    const ROLE: &'static str = "sequencer";
    type Config = Config;
    type Error = SequencerError;

    fn telemetry(config: &Config) -> &Settings {
        &config.telemetry
    }

    async fn check(config: &Config) -> Result<(), SequencerError> {
        synddb_sequencer::check(config)
    }

    async fn run(config: Config, metrics: Metrics, shutdown: Shutdown) -> Result<(), SequencerError> {
        // Whoever started it reads the address here: port 0 takes a free one.
        synddb_sequencer::run(config, metrics, shutdown, |started| {
            println!("listening on {}://{} with key {}", started.scheme, started.address, started.key);
        })
        .await
    }

    fn end(error: &SequencerError) -> End {
        if error.is_refusal() { End::Refused } else { End::Failed }
    }
}

fn main() -> ExitCode {
    program::main::<Sequencer>()
}
