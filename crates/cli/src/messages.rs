//! `synddb init-messages`: the tables by which an application speaks to the bridge.

use std::path::PathBuf;

use clap::Args;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::messages::{SCHEMA, create};

use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};
use crate::refusal::Refusal;

#[derive(Debug, Args)]
pub(crate) struct InitMessagesArguments {
    /// The application's database. It may be in use, and be followed.
    #[arg(required_unless_present = "print")]
    database: Option<PathBuf>,
    /// Print the SQL that makes them, for migrations of the application's own, and change nothing.
    #[arg(long, conflicts_with = "database")]
    print: bool,
}

pub(crate) fn run(arguments: &InitMessagesArguments, output: Output) -> Result<Exit, CommandError> {
    let Some(database) = &arguments.database else {
        output.tell(&Event::MessagesSql { sql: SCHEMA.to_owned() })?;
        return Ok(Exit::Done);
    };
    if !database.is_file() {
        return Err(Refusal::Missing { file: database.clone() }.into());
    }
    let connection = Connection::open(database)?;
    let made = create(&connection)?;
    output.tell(&Event::MessagesMade { database: database.display().to_string(), made })?;
    Ok(Exit::Done)
}
