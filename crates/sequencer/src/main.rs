//! The sequencer as a process: configuration, run, drain.
//!
//! The configuration file is the first argument, or the one that `SYNDDB_SEQUENCER_CONFIG` names; the environment beats it. `config default`
//! prints the file of the defaults, `config check` says what a configuration comes to.

use std::path::Path;

use synddb_sequencer::Config;
use synddb_service::config::{self, Asked};
use synddb_service::process::{self, Setting};
use synddb_service::telemetry::Format;
use synddb_service::telemetry::settings::Default as Defaults;

/// Names the configuration file, unless an argument does.
const CONFIG: &str = "SYNDDB_SEQUENCER_CONFIG";
/// The prefix of what the environment sets of the configuration.
const PREFIX: &str = "SYNDDB_SEQUENCER_";

fn main() -> anyhow::Result<()> {
    match config::asked(std::env::args_os().skip(1), std::env::var_os(CONFIG))? {
        Asked::Run(file) => run(file.as_deref()),
        Asked::Default => {
            print!("{}", config::default_file::<Config>("a sequencer", PREFIX));
            Ok(())
        }
        Asked::Check(file) => {
            let (config, settings) = config::settings::<Config>(file.as_deref(), PREFIX)?;
            settings.iter().for_each(|setting| println!("{setting}"));
            Ok(synddb_sequencer::check(&config)?)
        }
        Asked::Version => {
            println!("synddb-sequencer {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

fn run(file: Option<&Path>) -> anyhow::Result<()> {
    let overrides = std::collections::BTreeMap::<String, String>::new();
    let config: Config = config::load(file, PREFIX, &overrides)?;
    let default = Defaults { format: Format::Text, filter: "info" };
    let telemetry = config.telemetry.clone();
    let setting = Setting { role: "sequencer", telemetry, default, stop_on_eof: false };
    process::run(&setting, async |metrics, shutdown| {
        // Whoever started it reads the address here: port 0 takes a free one.
        synddb_sequencer::run(config, metrics, shutdown, |started| {
            println!("listening on {}://{} with key {}", started.scheme, started.address, started.key);
        })
        .await?;
        Ok(())
    })
}
