//! `synddb bridge`: what became of messages on their way to the chain.
//!
//! ```text
//! record.rs   where the contracts of a stream are
//! node.rs     asking a node of the chain
//! status.rs   what chain, sequencer, validators and relayer say of the bridge and of each message
//! ```

mod node;
mod record;
mod status;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use synddb_protocol::id::StreamId;

pub use self::node::NodeError;
pub(crate) use self::node::{Call, Node};
pub(crate) use self::record::Deployment;
pub use self::record::RecordError;
pub(crate) use self::status::in_words;
pub use self::status::{BridgeState, MessageState, Signatures};
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// What is asked of a bridge.
#[derive(Debug, Subcommand)]
pub(crate) enum BridgeCommand {
    /// Says where the bridge is, which keys count, what it holds, and how far each message is.
    ///
    /// With a database that `dev --chain` follows, nothing else need be named. What the chain's node says is believed; name one of your own.
    Status(BridgeStatusArguments),
}

#[derive(Debug, Args)]
pub(crate) struct BridgeStatusArguments {
    /// The application's database, where `dev --chain` runs for it: then all that follows is known.
    pub(crate) database: Option<PathBuf>,
    /// The folder of what belongs to it, instead of `<DATABASE>-synddb/`.
    #[arg(long, requires = "database")]
    pub(crate) dir: Option<PathBuf>,
    /// The record of what is deployed on the chain: `deployments/<chainid>.json`.
    #[arg(long, value_name = "FILE")]
    pub(crate) deployments: Option<PathBuf>,
    /// The URL of a node of the chain.
    #[arg(long, value_name = "URL")]
    pub(crate) rpc: Option<String>,
    /// The stream.
    #[arg(long)]
    pub(crate) stream: Option<StreamId>,
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

pub(crate) fn run(command: &BridgeCommand, output: Output) -> Result<Exit, CommandError> {
    match command {
        BridgeCommand::Status(arguments) => status::run(arguments, output),
    }
}
