//! `synddb diff`: whether two databases are equal.
//!
//! ```text
//! side.rs     one of the two: a replica at a URL, or a file
//! remote.rs   two that are not on this machine: when they can be compared, and what is compared in which order
//! rows.rs     the first row in which two tables differ, in a few questions
//! history.rs  how far back two replicas of one log recorded the same states
//! found.rs    what was found, for programs and in words
//! words.rs    a difference in words that no terminal obeys
//! ```
//!
//! Each file is read in one read transaction, so an application may go on writing; then what is compared is what each held when the
//! command began.

mod found;
mod history;
mod remote;
mod rows;
mod side;
mod words;

use std::path::{Path, PathBuf};

use clap::Args;
use synddb_sqlite::compare::first_difference;
use synddb_sqlite::state::RunningState;

pub use found::{Compared, DifferingRow, History, Stand};

use self::words::in_words;
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};
use crate::refusal::{Refusal, check_two_files, open_to_read};

#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// The first database.
    pub(crate) one: PathBuf,
    /// The second one.
    pub(crate) other: PathBuf,
    /// Each is the URL of a validator or read replica, or a file. Two replicas are compared at a message at which both stand: in digests first,
    /// then in the parts that differ, until one row is left.
    #[arg(long)]
    pub(crate) remote: bool,
    /// How long to wait until both replicas stand at one message. Exit code 4 when they do not.
    #[arg(long, default_value = "60s", requires = "remote")]
    pub(crate) timeout: humantime::Duration,
    /// The authority that signed the certificates of the replicas, in PEM. Without it, those that the system trusts.
    #[arg(long, value_name = "FILE", requires = "remote")]
    pub(crate) ca_file: Option<PathBuf>,
}

pub(crate) fn run(arguments: &DiffArguments, output: Output) -> Result<Exit, CommandError> {
    let (event, exit) = if arguments.remote { remote::compare(arguments)? } else { compare(arguments)? };
    output.tell(&event)?;
    Ok(exit)
}

fn compare(arguments: &DiffArguments) -> Result<(Event, Exit), CommandError> {
    if let Some(url) = [&arguments.one, &arguments.other].into_iter().find(|named| is_url(named)) {
        return Err(Refusal::Url { url: url.clone() }.into());
    }
    check_two_files(&arguments.one, &arguments.other)?;
    let one = open_to_read(&arguments.one)?;
    drop(open_to_read(&arguments.other)?);
    Ok(match first_difference(&arguments.one, &arguments.other)? {
        None => {
            let state = RunningState::scan(&one)?.hash().to_string();
            (Event::Equal { state, remote: None }, Exit::Done)
        }
        Some(found) => (Event::Different { difference: in_words(found), remote: None }, Exit::Different),
    })
}

/// Whether an argument names a service.
fn is_url(argument: &Path) -> bool {
    argument.to_str().is_some_and(|text| text.starts_with("http://") || text.starts_with("https://"))
}
