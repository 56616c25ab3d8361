//! A replica that began from a snapshot, and is told when what came before was checked.
//!
//! What counts: the log that is whole holds the very checkpoint that the replica began with, so root and state are the same there; and the database
//! that was rebuilt from the first message had that state when the log came by.

use std::path::PathBuf;

use synddb_protocol::id::StreamId;
use synddb_protocol::log::SignedCheckpoint;
use synddb_sqlite::connection::Connection;

use super::Problem;
use super::report::ReplicaBegan;
use crate::replica::{Started, position};

/// The replica.
pub(super) struct Began {
    file: PathBuf,
    started: Option<Started>,
}

impl Began {
    /// Reads what a replica of a stream began with.
    pub(super) fn read(file: PathBuf, stream: StreamId) -> Result<Self, Problem> {
        let failed = |source| Problem::NoReplica { file: file.clone(), source };
        let connection = Connection::open_to_read(&file).map_err(|error| failed(Some(error)))?;
        let is_of_stream =
            position::read(connection.sqlite()).is_ok_and(|checkpoint| checkpoint.claim().stream == stream);
        if !is_of_stream {
            return Err(failed(None));
        }
        let started = Started::read(connection.sqlite()).map_err(|error| failed(Some(error.into())))?;
        Ok(Self { file, started })
    }

    pub(super) fn checkpoint(&self) -> Option<SignedCheckpoint> {
        self.started.as_ref().map(|started| started.checkpoint.clone())
    }

    /// Tells it that its log is whole; `meets` says whether that holds its beginning.
    pub(super) fn tell(self, meets: bool) -> Result<ReplicaBegan, Problem> {
        let Self { file, started } = self;
        let Some(started) = started else { return Ok(ReplicaBegan::AtTheFirst) };
        let sequence = started.checkpoint.claim().size;
        if !meets {
            return Err(Problem::BeganElsewhere { file, sequence });
        }
        match started.checked(&file) {
            Ok(()) => Ok(ReplicaBegan::Checked { sequence }),
            Err(source) => Err(Problem::NotTold { file, source }),
        }
    }
}
