//! Where the contents of a replica stand: one row in the same file, written in the transaction that changes the contents (I8).
//!
//! The table's name keeps it outside of the state hash and of every comparison with the application's database.

use rusqlite::{OptionalExtension as _, params};
use synddb_protocol::DecodeError;
use synddb_protocol::log::{SignedCheckpoint, TrustedCheckpoint};

use crate::connection::{Connection, SqliteError};

/// The name by which the table is asked for.
const EXISTS: &str =
    "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name = '_synddb_position'";

/// Makes the table in a file that has none.
///
/// # Errors
/// [`SqliteError`] when there is one already, or SQLite fails.
pub fn create(connection: &Connection) -> Result<(), SqliteError> {
    connection.execute(
        "CREATE TABLE _synddb_position(
             one INTEGER PRIMARY KEY CHECK (one = 1),
             stream BLOB NOT NULL,
             sequence INTEGER NOT NULL,
             checkpoint BLOB NOT NULL
         )",
    )
}

/// Writes the position, in the transaction that is open.
///
/// # Errors
/// [`SqliteError`] when it cannot be written.
pub fn write(connection: &Connection, checkpoint: &TrustedCheckpoint) -> Result<(), SqliteError> {
    let claim = checkpoint.claim();
    let mut statement = connection.sqlite().prepare_cached(
        "INSERT OR REPLACE INTO main._synddb_position(one, stream, sequence, checkpoint) VALUES(1, ?1, ?2, ?3)",
    )?;
    statement.execute(params![
        claim.stream.as_bytes(),
        claim.size.get().cast_signed(),
        checkpoint.to_bytes()
    ])?;
    Ok(())
}

/// Why there is no position.
#[derive(Debug, thiserror::Error)]
pub enum NoPosition {
    /// The file was not made by a validator.
    #[error("the file holds no position")]
    None,
    /// The row holds no checkpoint.
    #[error("the position in the file is damaged")]
    Damaged(#[from] DecodeError),
    /// SQLite failed.
    #[error("the position cannot be read")]
    Sqlite(#[from] rusqlite::Error),
}

/// The checkpoint that the contents stand at, as the row has it: signed, and not verified by reading it.
///
/// # Errors
/// [`NoPosition`] when it says none.
pub fn read(sqlite: &rusqlite::Connection) -> Result<SignedCheckpoint, NoPosition> {
    if sqlite.query_row(EXISTS, [], |row| row.get::<_, i64>(0))? == 0 {
        return Err(NoPosition::None);
    }
    let row: Option<Vec<u8>> = sqlite
        .query_row("SELECT checkpoint FROM main._synddb_position WHERE one = 1", [], |row| row.get(0))
        .optional()?;
    let bytes = row.ok_or(NoPosition::None)?;
    Ok(SignedCheckpoint::from_bytes(&bytes)?)
}
