//! `synddb relayer`: configuration and events around the role's own library.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use synddb_protocol::id::StreamId;
use synddb_relayer::Started;
use synddb_service::config;

use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output, Process};
use crate::process;

/// The prefix of the environment.
pub(crate) const PREFIX: &str = "SYNDDB_RELAYER_";

#[derive(Debug, Args)]
pub(crate) struct RelayerArguments {
    /// A configuration file in TOML. Environment (`SYNDDB_RELAYER_...`) and arguments go before it.
    #[arg(long, env = "SYNDDB_RELAYER_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: RelayerOverrides,
    /// End when standard input ends: for programs that start this one.
    #[arg(long)]
    stop_on_eof: bool,
}

/// What the command line may set of a relayer's configuration.
#[derive(Debug, Args, Serialize)]
struct RelayerOverrides {
    /// The address to listen at, as in `127.0.0.1:8434`.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// The stream.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamId>,
    /// The URL of a node of the chain; several may be named.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rpc: Vec<String>,
    /// The record of what is deployed on the chain: `deployments/<chainid>.json`.
    #[arg(long = "deployments", value_name = "FILE")]
    #[serde(rename = "deployments_file", skip_serializing_if = "Option::is_none")]
    deployments: Option<PathBuf>,
    /// The sequencer's URL. It is never believed.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    sequencer: Option<String>,
    /// The URL of a validator; several may be named, at least as many as are a quorum. They are never believed.
    #[arg(long = "validator", value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    validators: Vec<String>,
    /// The authority that signed the certificates of sequencer and validators, in PEM.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    /// The file with the key of the account that pays; made when it is missing.
    #[arg(long = "account", value_name = "FILE")]
    #[serde(rename = "account_file", skip_serializing_if = "Option::is_none")]
    account: Option<PathBuf>,
    /// The folder of its queue.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    dir: Option<PathBuf>,
    /// Time between two looks at sequencer and chain, in milliseconds.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    poll_ms: Option<u64>,
}

pub(crate) fn run(arguments: &RelayerArguments, output: Output) -> Result<Exit, CommandError> {
    let config: synddb_relayer::Config =
        config::load(arguments.config.as_deref(), PREFIX, &arguments.overrides)?;
    let telemetry = config.telemetry.clone();
    process::serve_as(output, "relayer", &telemetry, arguments.stop_on_eof, async |metrics, shutdown| {
        let started = move |Started { address, scheme, account }| {
            let (url, key_id) = (format!("{scheme}://{address}"), Some(account.to_string()));
            output.mention(&Event::Listening { process: Process::Relayer, url, key: None, key_id });
        };
        synddb_relayer::run(config, metrics, shutdown, started).await?;
        Ok(())
    })?;
    output.mention(&Event::Drained { process: Process::Relayer, complete: true });
    Ok(Exit::Done)
}
