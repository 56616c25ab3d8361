//! What `synddb dev` accepts.

use std::path::PathBuf;

use clap::Args;
use synddb_storage::StoreUrl;

use crate::arguments::{DatabaseArguments, WalLimit};
use crate::named;

#[derive(Debug, Args)]
pub(crate) struct DevArguments {
    #[command(flatten)]
    pub(crate) of: DatabaseArguments,
    /// Where the log rests, instead of `store/` in that folder: `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix` or
    /// `file:///folder`. It is remembered until the database is detached. Credentials come from the environment.
    #[arg(long, value_parser = named::store)]
    pub(crate) store: Option<StoreUrl>,
    /// The sequencer's port; 0 takes any.
    #[arg(long, default_value_t = synddb_sequencer::PORT)]
    pub(crate) port: u16,
    /// The validator's port; 0 takes any.
    #[arg(long, default_value_t = 8080)]
    pub(crate) validator_port: u16,
    /// A file of rules that the validator has every commit judged by. It endorses what violates none, with a development key.
    #[arg(long)]
    pub(crate) rules: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) wal: WalLimit,
    #[command(flatten)]
    pub(crate) chain: ChainArguments,
    /// End when standard input ends: for programs that start this one.
    #[arg(long)]
    pub(crate) stop_on_eof: bool,
}

/// The chain of this machine.
#[derive(Debug, Args)]
pub(crate) struct ChainArguments {
    /// Have a chain on this machine as well, with the contracts on it and a relayer: rows of `outbound_messages` become transactions. For development alone:
    /// its accounts are public, and any key may become a validator.
    #[arg(long = "chain")]
    pub(crate) is_on: bool,
    /// The chain's port; 0 takes any.
    #[arg(
        id = "chain_port",
        long = "chain-port",
        value_name = "PORT",
        default_value_t = 0,
        requires = "is_on"
    )]
    pub(crate) port: u16,
    /// The program `anvil`, instead of the one on the search path.
    #[arg(long, env = "SYNDDB_ANVIL", value_name = "PROGRAM", hide_env_values = true)]
    pub(crate) anvil: Option<PathBuf>,
    /// The program `forge`, instead of the one on the search path.
    #[arg(long, env = "SYNDDB_FORGE", value_name = "PROGRAM", hide_env_values = true)]
    pub(crate) forge: Option<PathBuf>,
    /// The folder of the contracts, of a checkout of the repository.
    #[arg(long, value_name = "DIR", default_value = "contracts", requires = "is_on")]
    pub(crate) contracts: PathBuf,
}
