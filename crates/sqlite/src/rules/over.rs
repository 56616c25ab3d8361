//! A database that rules are tried on: read as a replica is, and never written.

use std::path::Path;

use rusqlite::config::DbConfig;

use crate::connection::{Connection, SqliteError};

/// Opens a database to evaluate rules over one state of it.
///
/// # Errors
/// [`SqliteError`] when it cannot be read.
pub fn open(path: &Path) -> Result<Connection, SqliteError> {
    let connection = Connection::open_to_read(path)?;
    let sqlite = connection.sqlite();
    // As on a replica: a quoted name that is no column is an error, and not a text.
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(connection)
}
