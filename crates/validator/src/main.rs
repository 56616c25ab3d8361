//! `synddb-validator [CONFIG]`: a validator or read replica as a process of its own.
//!
//! The configuration is the file named first or by `SYNDDB_VALIDATOR_CONFIG`, below the environment (`SYNDDB_VALIDATOR_`). `config default` prints
//! the file of the defaults, `config check` says what a configuration comes to. It ends with 0 when
//! asked to, 1 when the log or the replica halted it, 2 when what it was told is refused, 3 when it failed.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::ExitCode;

use synddb_protocol::chain;
use synddb_service::config::{self, Asked, ConfigError, Misasked};
use synddb_service::process::{self, ProcessError, Setting};
use synddb_service::telemetry::settings::Default as Defaults;
use synddb_service::telemetry::{self, Format};
use synddb_validator::{Config, Event, ValidatorError, run};

const HALTED: u8 = 1;
const REFUSED: u8 = 2;
const FAILED: u8 = 3;

/// Names the configuration file, unless an argument does.
const CONFIG: &str = "SYNDDB_VALIDATOR_CONFIG";
/// How it logs where nobody says otherwise.
const DEFAULTS: Defaults = Defaults { format: Format::Text, filter: "info" };
/// The prefix of what the environment sets of the configuration.
const PREFIX: &str = "SYNDDB_VALIDATOR_";

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("synddb-validator: {}", chain(&failure));
            match failure {
                Failure::Validator(ValidatorError::Halted { .. }) => HALTED,
                Failure::Validator(error) if error.is_refusal() => REFUSED,
                Failure::Config(_) | Failure::Misasked(_) => REFUSED,
                Failure::Process(error) if error.is_refusal() => REFUSED,
                Failure::Validator(_) | Failure::Process(_) => FAILED,
            }
            .into()
        }
    }
}

fn serve() -> Result<(), Failure> {
    match config::asked(env::args_os().skip(1), env::var_os(CONFIG))? {
        Asked::Run(file) => follow(file.as_deref()),
        Asked::Default => {
            print!("{}", config::default_file::<Config>("a validator", PREFIX));
            Ok(())
        }
        Asked::Check(file) => check(file.as_deref()),
        Asked::Version => {
            println!("synddb-validator {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

fn check(file: Option<&Path>) -> Result<(), Failure> {
    let (config, settings) = config::settings::<Config>(file, PREFIX)?;
    settings.iter().for_each(|setting| println!("{setting}"));
    telemetry::check(&config.telemetry, DEFAULTS).map_err(ProcessError::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ProcessError::Runtime)?;
    Ok(runtime.block_on(synddb_validator::check(&config))?)
}

fn follow(file: Option<&Path>) -> Result<(), Failure> {
    // The command line names a file and overrides nothing.
    let overrides = BTreeMap::<&str, &str>::new();
    let config: Config = config::load(file, PREFIX, &overrides)?;
    let telemetry = config.telemetry.clone();
    let setting = Setting { role: "validator", telemetry, default: DEFAULTS, stop_on_eof: false };
    process::run(&setting, async |metrics, shutdown| {
        run(config, metrics, shutdown, |event: Event| tracing::info!(?event, "event")).await?;
        Ok(())
    })
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Misasked(#[from] Misasked),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Validator(#[from] ValidatorError),
}
