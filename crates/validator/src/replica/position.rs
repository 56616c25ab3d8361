//! Where the contents of a replica stand: one row in the same file, written in the transaction that changes the contents (I8).
//!
//! The table's name keeps it outside of the state hash and of every comparison with the application's database.

use std::path::Path;

use synddb_protocol::DecodeError;
use synddb_protocol::id::StreamId;
use synddb_protocol::log::{SignedCheckpoint, TrustedCheckpoint};
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::rusqlite::{self, OptionalExtension as _, params};

use super::Place;
use crate::error::ReplicaError;

/// The name by which the table is asked for.
const EXISTS: &str =
    "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name = '_synddb_position'";

/// Makes the table in a file that has none.
pub(super) fn create(connection: &Connection) -> Result<(), SqliteError> {
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
pub(super) fn write(connection: &Connection, checkpoint: &TrustedCheckpoint) -> Result<(), SqliteError> {
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
pub(crate) enum NoPosition {
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
pub(crate) fn read(sqlite: &rusqlite::Connection) -> Result<SignedCheckpoint, NoPosition> {
    if sqlite.query_row(EXISTS, [], |row| row.get::<_, i64>(0))? == 0 {
        return Err(NoPosition::None);
    }
    let row: Option<Vec<u8>> = sqlite
        .query_row("SELECT checkpoint FROM main._synddb_position WHERE one = 1", [], |row| row.get(0))
        .optional()?;
    let bytes = row.ok_or(NoPosition::None)?;
    Ok(SignedCheckpoint::from_bytes(&bytes)?)
}

/// The position of the replica that lies there, or `None` where no file is.
pub(crate) fn of(place: &Place, stream: StreamId) -> Result<Option<SignedCheckpoint>, ReplicaError> {
    if !place.is_taken() {
        return Ok(None);
    }
    let file = || place.file().to_owned();
    let sqlite = |source| ReplicaError::Sqlite { doing: "read", file: file(), source };
    let connection = open(place.file()).map_err(sqlite)?;
    let checkpoint = match read(connection.sqlite()) {
        Ok(checkpoint) => checkpoint,
        Err(NoPosition::None) => return Err(ReplicaError::NotOurs { file: file() }),
        Err(NoPosition::Damaged(source)) => return Err(ReplicaError::Position { file: file(), source }),
        Err(NoPosition::Sqlite(error)) => return Err(sqlite(error.into())),
    };
    let found = checkpoint.claim().stream;
    if found != stream {
        return Err(ReplicaError::ForeignStream { file: file(), expected: stream, found });
    }
    Ok(Some(checkpoint))
}

/// Opened as its writer does: a transaction that a crash left half done is taken back by that.
fn open(file: &Path) -> Result<Connection, SqliteError> {
    Connection::open(file)
}
