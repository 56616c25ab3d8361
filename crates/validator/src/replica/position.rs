//! Where the contents of the replica that lies in a place stand.

use std::path::Path;

use synddb_protocol::id::StreamId;
use synddb_protocol::log::SignedCheckpoint;
use synddb_sqlite::connection::{Connection, SqliteError};

pub(super) use synddb_sqlite::apply::position::keep_states;
pub(crate) use synddb_sqlite::apply::position::{NoPosition, create, read, states, write};

use super::Place;
use crate::error::ReplicaError;

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
