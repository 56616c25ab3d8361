//! `conserved-supply [CONFIG]`: a validator as any other, with one rule more.

mod supply;

use std::process::ExitCode;
use std::sync::Arc;

use synddb_service::program::{self, End, Program};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::{Metrics, Settings};
use synddb_validator::{Config, Start, ValidatorError, run_with_rules};

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
        let rules = vec![Arc::new(supply::Conserved) as _];
        run_with_rules(rules, Start::GoOn, config, metrics, shutdown, |event| tracing::info!(?event))
            .await
            .map(drop)
    }

    fn end(error: &ValidatorError) -> End {
        if matches!(error, ValidatorError::Halted { .. }) {
            End::Halted
        } else if error.is_refusal() {
            End::Refused
        } else {
            End::Failed
        }
    }
}

fn main() -> ExitCode {
    program::main::<Validator>()
}
