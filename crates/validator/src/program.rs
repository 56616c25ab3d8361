//! A validator as a process of its own, with whatever rules in Rust it is built with.

use std::marker::PhantomData;
use std::process::ExitCode;
use std::sync::Arc;

use synddb_service::program::{self, End, Program};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::{Metrics, Settings};

use crate::rules::Rule;
use crate::{Config, Start, ValidatorError, check, run_with_rules};

/// Which rules in Rust a program has.
pub trait OwnRules: Send + Sync + 'static {
    /// The rules, beside those that the configuration names.
    fn rules() -> Vec<Arc<dyn Rule>>;
}

/// No rules but those that the configuration names.
#[derive(Debug)]
pub struct NoOwnRules;

impl OwnRules for NoOwnRules {
    fn rules() -> Vec<Arc<dyn Rule>> {
        Vec::new()
    }
}

struct Validator<R>(PhantomData<R>);

impl<R: OwnRules> Program for Validator<R> {
    const ROLE: &'static str = "validator";
    type Config = Config;
    type Error = ValidatorError;

    fn telemetry(config: &Config) -> &Settings {
        &config.telemetry
    }

    async fn check(config: &Config) -> Result<(), ValidatorError> {
        check(config).await
    }

    async fn run(config: Config, metrics: Metrics, shutdown: Shutdown) -> Result<(), ValidatorError> {
        let told = |event| tracing::info!(?event, "event");
        run_with_rules(R::rules(), Start::GoOn, config, metrics, shutdown, told).await.map(drop)
    }

    fn end(error: &ValidatorError) -> End {
        if matches!(error, ValidatorError::Halted { .. }) {
            return End::Halted;
        }
        if error.is_refusal() { End::Refused } else { End::Failed }
    }
}

/// The whole of a `main` that runs a validator with these rules. What it may be asked besides, and how it ends, says `synddb_service::program`; the prefix of its
/// environment is `SYNDDB_VALIDATOR_`.
pub fn main<R: OwnRules>() -> ExitCode {
    program::main::<Validator<R>>()
}
