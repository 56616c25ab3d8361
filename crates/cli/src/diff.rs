//! `synddb diff`: whether two databases are equal.
//!
//! Each is read in one read transaction, so an application may go on writing; then what is compared is what each held when the
//! command began.

use synddb_sqlite::compare::first_difference;
use synddb_sqlite::state::RunningState;

use crate::arguments::DiffArguments;
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};
use crate::refusal::{check_two_files, open_to_read};

pub(crate) fn run(arguments: &DiffArguments, output: Output) -> Result<Exit, CommandError> {
    check_two_files(&arguments.one, &arguments.other)?;
    let one = open_to_read(&arguments.one)?;
    drop(open_to_read(&arguments.other)?);
    let (event, exit) = match first_difference(&arguments.one, &arguments.other)? {
        None => (Event::Equal { state: RunningState::scan(&one)?.hash().to_string() }, Exit::Done),
        Some(found) => (Event::Different { difference: found.to_string() }, Exit::Different),
    };
    output.tell(&event)?;
    Ok(exit)
}
