//! `synddb-validator [CONFIG]`: a validator or read replica as a process of its own.
//!
//! What it may be asked besides, and how it ends, says `synddb_service::program`; the prefix of its environment is `SYNDDB_VALIDATOR_`.

use std::process::ExitCode;

use synddb_service::program::{self, End, Program};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::{Metrics, Settings};
use synddb_validator::{Config, ValidatorError};

struct Validator;

impl Program for Validator {
    const ROLE: &'static str = "validator";
    type Config = Config;
    type Error = ValidatorError;

    fn telemetry(config: &Config) -> &Settings {
        &config.telemetry
    }

    async fn check(config: &Config) -> Result<(), ValidatorError> {
        synddb_validator::check(config).await
    }

    async fn run(config: Config, metrics: Metrics, shutdown: Shutdown) -> Result<(), ValidatorError> {
        synddb_validator::run(config, metrics, shutdown, |event| tracing::info!(?event, "event"))
            .await
            .map(drop)
    }

    fn end(error: &ValidatorError) -> End {
        if matches!(error, ValidatorError::Halted { .. }) {
            return End::Halted;
        }
        if error.is_refusal() { End::Refused } else { End::Failed }
    }
}

fn main() -> ExitCode {
    program::main::<Validator>()
}
