//! The sequencer as a process: configuration, run, drain.
//!
//! The configuration file is the first argument, or the one that `SYNDDB_SEQUENCER_CONFIG` names; the environment beats it. `config default`
//! prints the file of the defaults, `config check` says what a configuration comes to. It ends with 0 when asked to, 2 when what it was told is
//! refused, 3 when it failed.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::ExitCode;

use synddb_protocol::chain;
use synddb_sequencer::{Config, SequencerError};
use synddb_service::config::{self, Asked, ConfigError, Misasked};
use synddb_service::process::{self, ProcessError, Setting};
use synddb_service::telemetry::settings::Default as Defaults;
use synddb_service::telemetry::{self, Format};

const REFUSED: u8 = 2;
const FAILED: u8 = 3;

/// Names the configuration file, unless an argument does.
const CONFIG: &str = "SYNDDB_SEQUENCER_CONFIG";
/// The prefix of what the environment sets of the configuration.
const PREFIX: &str = "SYNDDB_SEQUENCER_";
/// How it logs where nobody says otherwise.
const DEFAULTS: Defaults = Defaults { format: Format::Text, filter: "info" };

fn main() -> ExitCode {
    match asked() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("synddb-sequencer: {}", chain(&failure));
            let is_refusal = match &failure {
                Failure::Misasked(_) | Failure::Config(_) => true,
                Failure::Process(error) => error.is_refusal(),
                Failure::Sequencer(error) => error.is_refusal(),
            };
            ExitCode::from(if is_refusal { REFUSED } else { FAILED })
        }
    }
}

fn asked() -> Result<(), Failure> {
    match config::asked(env::args_os().skip(1), env::var_os(CONFIG))? {
        Asked::Run(file) => run(file.as_deref())?,
        Asked::Default => print!("{}", config::default_file::<Config>("a sequencer", PREFIX)),
        Asked::Check(file) => {
            let (config, settings) = config::settings::<Config>(file.as_deref(), PREFIX)?;
            settings.iter().for_each(|setting| println!("{setting}"));
            telemetry::check(&config.telemetry, DEFAULTS).map_err(ProcessError::from)?;
            synddb_sequencer::check(&config)?;
        }
        Asked::Version => println!("synddb-sequencer {}", env!("CARGO_PKG_VERSION")),
    }
    Ok(())
}

fn run(file: Option<&Path>) -> Result<(), Failure> {
    // The command line names a file and overrides nothing.
    let config: Config = config::load(file, PREFIX, &BTreeMap::<&str, &str>::new())?;
    let telemetry = config.telemetry.clone();
    let setting = Setting { role: "sequencer", telemetry, default: DEFAULTS, stop_on_eof: false };
    process::run(&setting, async |metrics, shutdown| {
        // Whoever started it reads the address here: port 0 takes a free one.
        synddb_sequencer::run(config, metrics, shutdown, |started| {
            println!("listening on {}://{} with key {}", started.scheme, started.address, started.key);
        })
        .await?;
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
    Sequencer(#[from] SequencerError),
}
