//! The sequencer as a process: configuration, run, drain.
//!
//! The configuration file is the first argument, or the one that `SYNDDB_SEQUENCER_CONFIG` names; the environment beats it.

use std::path::PathBuf;

use synddb_sequencer::Config;
use synddb_service::config;
use synddb_service::process::{self, Setting};
use synddb_service::telemetry::Format;

/// Names the configuration file, unless an argument does.
const CONFIG: &str = "SYNDDB_SEQUENCER_CONFIG";
/// The prefix of what the environment sets of the configuration.
const PREFIX: &str = "SYNDDB_SEQUENCER_";

fn main() -> anyhow::Result<()> {
    let file = std::env::args_os().nth(1).or_else(|| std::env::var_os(CONFIG)).map(PathBuf::from);
    let overrides = std::collections::BTreeMap::<String, String>::new();
    let config: Config = config::load(file.as_deref(), PREFIX, &overrides)?;
    let setting = Setting { format: Format::default(), filter: "info", stop_on_eof: false };
    process::run(setting, async |metrics, shutdown| {
        // Whoever started it reads the address here: port 0 takes a free one.
        synddb_sequencer::run(config, metrics, shutdown, |started| {
            println!("listening on http://{} with key {}", started.address, started.key);
        })
        .await?;
        Ok(())
    })
}
