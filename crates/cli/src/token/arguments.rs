//! The arguments of `synddb token`.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{ArgGroup, Args, Subcommand};
use synddb_protocol::id::StreamId;

/// What is done with the credentials of a sequencer or a validator.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a token for somebody who writes, and lists it in a credentials file. The token is shown once, and kept nowhere else.
    ///
    /// The file holds its SHA-256. Services that use the file see the new entry within a second; none is started again. To exchange a token,
    /// make the new one, give it to whoever writes, and revoke the old one.
    New(NewArguments),
    /// Shows what a credentials file lists: names, streams and times, and no token.
    List(ListArguments),
    /// Takes a token or a certificate out of a credentials file. Services that use the file refuse it within two seconds.
    Revoke(RevokeArguments),
}

/// A token to make.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("goes").required(true).multiple(true).args(["credentials", "out"])))]
pub(crate) struct NewArguments {
    /// What it is called: 1 to 64 letters, digits or `-._`.
    #[arg(long)]
    pub(crate) name: String,
    /// The only stream that it may write; several may be named. Without any, all that are led there.
    #[arg(long = "stream", value_name = "STREAM")]
    pub(crate) streams: Vec<StreamId>,
    /// When it ends to be accepted, as in `2027-01-31T00:00:00Z`. Without it, never.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339)]
    pub(crate) expires: Option<SystemTime>,
    /// The file of a token that there is already, to be listed instead of a new one.
    #[arg(long, value_name = "FILE", conflicts_with = "out", requires = "credentials")]
    pub(crate) from: Option<PathBuf>,
    /// The file to write the token to, for its owner alone. Without it, the token is printed.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The credentials file to list it in; made when it is missing. Without it, what is to be put into one is printed, and --out is needed.
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
}

/// A file to show.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// The credentials file.
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: PathBuf,
}

/// An entry to take out.
#[derive(Debug, Args)]
pub(crate) struct RevokeArguments {
    /// Its name.
    pub(crate) name: String,
    /// The credentials file.
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: PathBuf,
}
