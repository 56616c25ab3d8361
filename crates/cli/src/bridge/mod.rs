//! `synddb bridge`: what became of messages on their way to the chain.
//!
//! `status.rs` puts together what chain, sequencer and validators say of the bridge and of each message, `report.rs` brings proofs of equivocation; the chain is asked by `synddb_chain`.

mod report;
mod status;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use synddb_chain::{Contracts, Deployment, Endpoint};
use synddb_protocol::id::StreamId;
use synddb_relayer::FeePolicy;

pub(crate) use self::status::in_words;
pub use self::status::{BridgeReport, MessageReport, Signatures};
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::refusal::Refusal;

/// What is asked of a bridge.
#[derive(Debug, Subcommand)]
pub(crate) enum BridgeCommand {
    /// Says where the bridge is, which keys count, what it holds, and how far each message is.
    ///
    /// With a database that `dev --chain` follows, nothing else need be named. What the chain's node says is believed; name one of your own.
    Status(BridgeStatusArguments),
    /// Has the key of a sequencer frozen that signed two contents for one place, and pays the gas. Anyone may.
    ///
    /// Both files hold a receipt, or both a checkpoint, as the log has them. What proves nothing is refused before it costs anything.
    ReportEquivocation(ReportArguments),
}

/// Which contracts, and where a node of their chain is.
#[derive(Debug, Args)]
pub(crate) struct ContractsArguments {
    /// The record of what is deployed on the chain: `deployments/<chainid>.json`.
    #[arg(long, value_name = "FILE")]
    pub(crate) deployments: Option<PathBuf>,
    /// The URL of a node of the chain.
    #[arg(long, value_name = "URL")]
    pub(crate) rpc: Option<String>,
    /// The stream.
    #[arg(long)]
    pub(crate) stream: Option<StreamId>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// The first object: a COSE_Sign1, as bytes.
    pub(crate) first: PathBuf,
    /// The second one, of the same kind, key, stream, epoch and sequence.
    pub(crate) second: PathBuf,
    #[command(flatten)]
    pub(crate) of: ContractsArguments,
    /// The file with the key of the account that pays: not that of a relayer that runs.
    #[arg(long, value_name = "FILE")]
    pub(crate) account: PathBuf,
    /// Most gas that is paid for.
    #[arg(long, value_name = "GAS", default_value_t = FeePolicy::default().gas_max)]
    pub(crate) gas_max: u64,
    /// The most that is paid for a unit of it, in wei.
    #[arg(long, value_name = "WEI", default_value_t = FeePolicy::default().fee_per_gas_wei_max)]
    pub(crate) fee_per_gas_wei_max: u64,
}

#[derive(Debug, Args)]
pub(crate) struct BridgeStatusArguments {
    /// The application's database, where `dev --chain` runs for it: then all that follows is known.
    pub(crate) database: Option<PathBuf>,
    /// The folder of what belongs to it, instead of `<DATABASE>-synddb/`.
    #[arg(long, requires = "database")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) of: ContractsArguments,
    /// The sequencer's URL. Without it no message is told.
    #[arg(long, value_name = "URL")]
    pub(crate) sequencer: Option<String>,
    /// The URL of a validator, whose signatures are counted; several may be named.
    #[arg(long = "validator", value_name = "URL")]
    pub(crate) validators: Vec<String>,
    /// The authority that signed the certificates of sequencer and validators, in PEM. Without it, those that the system trusts.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The first message that is told.
    #[arg(long, value_name = "NONCE", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: u64,
}

/// The contracts of a deployment, through a node of their chain.
pub(crate) fn contracts(rpc: &str, deployed: Deployment) -> Result<Contracts, CommandError> {
    let url = rpc.parse().map_err(|_| Refusal::NoNode { url: rpc.to_owned() })?;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
    let client =
        client.map_err(|error| CommandError::system("make a client")(std::io::Error::other(error)))?;
    Ok(Contracts::new(Endpoint::new(client, url, deployed.chain_id), deployed))
}

pub(crate) fn run(command: &BridgeCommand, output: Output) -> Result<Exit, CommandError> {
    match command {
        BridgeCommand::Status(arguments) => status::run(arguments, output),
        BridgeCommand::ReportEquivocation(arguments) => report::run(arguments, output),
    }
}
