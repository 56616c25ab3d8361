//! `synddb-validator [CONFIG]`: a validator or read replica as a process of its own.
//!
//! The configuration is the file named first or by `SYNDDB_VALIDATOR_CONFIG`, below the environment (`SYNDDB_VALIDATOR_`). It ends with 0 when
//! asked to, 1 when the log or the replica halted it, 2 when its configuration is refused, 3 when it failed.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use synddb_service::shutdown::Shutdown;
use synddb_service::{config, telemetry};
use synddb_validator::{Config, Event, ValidatorError, chain, run};

const HALTED: u8 = 1;
const REFUSED: u8 = 2;
const FAILED: u8 = 3;

fn main() -> ExitCode {
    let file = env::args_os().nth(1).or_else(|| env::var_os("SYNDDB_VALIDATOR_CONFIG")).map(PathBuf::from);
    // The command line names a file and overrides nothing.
    let overrides = BTreeMap::<&str, &str>::new();
    let config: Config = match config::load(file.as_deref(), "SYNDDB_VALIDATOR_", &overrides) {
        Ok(config) => config,
        Err(error) => return ended(REFUSED, &error),
    };
    let metrics = match telemetry::start(config.log_format, &config.log) {
        Ok(metrics) => metrics,
        Err(error) => return ended(REFUSED, &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(FAILED, &error),
    };
    let ran = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().map_err(Failure::Signals)?;
        run(config, metrics, shutdown, |event| tell(&event)).await.map_err(Failure::Validator)
    });
    match ran {
        Ok(_) => ExitCode::SUCCESS,
        Err(Failure::Validator(error @ ValidatorError::Halted { .. })) => ended(HALTED, &error),
        Err(Failure::Validator(error @ ValidatorError::Config(_))) => ended(REFUSED, &error),
        Err(Failure::Validator(error)) => ended(FAILED, &error),
        Err(Failure::Signals(error)) => ended(FAILED, &error),
    }
}

enum Failure {
    Signals(std::io::Error),
    Validator(ValidatorError),
}

fn tell(event: &Event) {
    tracing::info!(?event, "event");
}

fn ended(code: u8, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("synddb-validator: {}", chain(error));
    code.into()
}
