//! The command line: which commands exist and what they accept.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::{diff, mirror};

const EXIT_CODES: &str = "Exit codes:
  0  done; for `diff`, the databases are equal
  1  the databases differ; for `mirror`, the replica is not what the application's database is
  2  the command line, or what it names, is refused; the text says what to change
  3  the command failed on the way
130  `mirror` stopped at once by a second signal";

/// Makes any SQLite application verifiable: captures every committed transaction, and rebuilds the database elsewhere.
#[derive(Debug, Parser)]
#[command(name = "synddb", version, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keeps a second file equal to an application's database, on this machine and without network.
    ///
    /// Works beside the running application, which needs no change. Ends on SIGINT or SIGTERM, after everything committed
    /// until then was applied. Other writers need a busy timeout: their write lock is taken for a moment now and then.
    #[command(after_help = EXIT_CODES)]
    Mirror(MirrorArguments),
    /// Says whether two databases are equal, or in what they first differ: header values, schema, every table row by row.
    #[command(after_help = EXIT_CODES)]
    Diff(DiffArguments),
}

#[derive(Debug, Args)]
pub(crate) struct MirrorArguments {
    /// The application's database. It is switched to WAL mode, which persists.
    pub(crate) source: PathBuf,
    /// The file to write. What else is needed goes to `<TARGET>-synddb/`.
    pub(crate) target: PathBuf,
    /// Remove what an earlier mirror left at the target. Anything else there is refused.
    #[arg(long)]
    pub(crate) replace: bool,
    /// About how large the application's WAL may become, in MiB. A writer that is faster than the mirror waits then.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(crate) wal_limit: u64,
    /// End when standard input ends: for programs that start this one.
    #[arg(long)]
    pub(crate) stop_on_eof: bool,
    /// Compare both databases in full at the end, and compute the state hash of the source anew.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Print one JSON object per line: `ready`, `progress` at most once a second, `stopped`, `failed`.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// The first database.
    pub(crate) one: PathBuf,
    /// The second one.
    pub(crate) other: PathBuf,
    /// Print one JSON object: `equal`, `different` or `failed`.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Arguments {
    /// Whether output is for programs.
    pub const fn is_json(&self) -> bool {
        match &self.command {
            Command::Mirror(arguments) => arguments.json,
            Command::Diff(arguments) => arguments.json,
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// [`CommandError`] when it does not come to its end.
    pub fn run(&self, output: &mut Output) -> Result<Exit, CommandError> {
        match &self.command {
            Command::Mirror(arguments) => mirror::run(arguments, output),
            Command::Diff(arguments) => diff::run(arguments, output),
        }
    }
}
