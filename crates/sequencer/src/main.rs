//! The sequencer as a process: configuration, telemetry, run, drain.
//!
//! The configuration file is the first argument, or the one that `SYNDDB_SEQUENCER_CONFIG` names; the environment beats it.

use std::path::PathBuf;

use anyhow::Context as _;
use synddb_sequencer::Config;
use synddb_service::shutdown::Shutdown;
use synddb_service::{config, telemetry};

/// Names the configuration file, unless an argument does.
const CONFIG: &str = "SYNDDB_SEQUENCER_CONFIG";
/// What is traced, as `tracing-subscriber` takes it.
const LOG: &str = "SYNDDB_LOG";
/// The prefix of what the environment sets of the configuration.
const PREFIX: &str = "SYNDDB_SEQUENCER_";

fn main() -> anyhow::Result<()> {
    let file = std::env::args_os().nth(1).or_else(|| std::env::var_os(CONFIG)).map(PathBuf::from);
    let config: Config =
        config::load(file.as_deref(), PREFIX, &std::collections::BTreeMap::<String, String>::new())?;
    let filter = std::env::var(LOG).unwrap_or_else(|_| "info".to_owned());
    let metrics = telemetry::start(telemetry::Format::default(), &filter)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let shutdown = Shutdown::on_signals().context("cannot catch signals")?;
        // Whoever started it reads the address here: port 0 takes a free one.
        synddb_sequencer::run(config, metrics, shutdown, |started| {
            println!("listening on http://{} with key {}", started.address, started.key);
        })
        .await?;
        Ok(())
    })
}
