//! `synddb-validator [CONFIG]`: a validator or read replica as a process of its own.
//!
//! The configuration is the file named first or by `SYNDDB_VALIDATOR_CONFIG`, below the environment (`SYNDDB_VALIDATOR_`). It ends with 0 when
//! asked to, 1 when the log or the replica halted it, 2 when what it was told is refused, 3 when it failed.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use synddb_protocol::chain;
use synddb_service::config::{self, ConfigError};
use synddb_service::process::{self, ProcessError, Setting};
use synddb_service::telemetry::Format;
use synddb_validator::{Config, Event, ValidatorError, run};

const HALTED: u8 = 1;
const REFUSED: u8 = 2;
const FAILED: u8 = 3;

fn main() -> ExitCode {
    let file = env::args_os().nth(1).or_else(|| env::var_os("SYNDDB_VALIDATOR_CONFIG")).map(PathBuf::from);
    match follow(file.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("synddb-validator: {}", chain(&failure));
            match failure {
                Failure::Validator(ValidatorError::Halted { .. }) => HALTED,
                Failure::Validator(error) if error.is_refusal() => REFUSED,
                Failure::Config(_) => REFUSED,
                Failure::Validator(_) | Failure::Process(_) => FAILED,
            }
            .into()
        }
    }
}

fn follow(file: Option<&Path>) -> Result<(), Failure> {
    // The command line names a file and overrides nothing.
    let overrides = BTreeMap::<&str, &str>::new();
    let config: Config = config::load(file, "SYNDDB_VALIDATOR_", &overrides)?;
    let setting = Setting { format: Format::default(), filter: "info", stop_on_eof: false };
    process::run(setting, async |metrics, shutdown| {
        run(config, metrics, shutdown, |event: Event| tracing::info!(?event, "event")).await?;
        Ok(())
    })
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Validator(#[from] ValidatorError),
}
