//! `synddb-relayer [CONFIG]`: a relayer as a process of its own.
//!
//! What it may be asked besides, and how it ends, says `synddb_service::program`; the prefix of its environment is `SYNDDB_RELAYER_`.

use std::process::ExitCode;

use synddb_relayer::{Config, RelayerError};
use synddb_service::program::{self, End, Program};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::{Metrics, Settings};

struct Relayer;

impl Program for Relayer {
    const ROLE: &'static str = "relayer";
    type Config = Config;
    type Error = RelayerError;

    fn telemetry(config: &Config) -> &Settings {
        &config.telemetry
    }

    async fn check(config: &Config) -> Result<(), RelayerError> {
        synddb_relayer::check(config)
    }

    async fn run(config: Config, metrics: Metrics, shutdown: Shutdown) -> Result<(), RelayerError> {
        // Whoever started it reads the address here: port 0 takes a free one.
        synddb_relayer::run(config, metrics, shutdown, |started| {
            println!("listening on {}://{} and pays as {}", started.scheme, started.address, started.account);
        })
        .await
    }

    fn end(error: &RelayerError) -> End {
        if error.is_refusal() { End::Refused } else { End::Failed }
    }
}

fn main() -> ExitCode {
    program::main::<Relayer>()
}
