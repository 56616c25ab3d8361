//! Taking a snapshot: on a thread of its own, inside of one read transaction of the replica, beside its owner.
//!
//! The transaction ends when the last page is on the local disk: however slow the store is, the replica's WAL waits for nothing. Nothing is handed on
//! that was not scanned in full, in that very transaction, and found to be what the position's checkpoint claims.

use std::path::Path;

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::Sequence;
use synddb_protocol::log::SignedCheckpoint;
use synddb_protocol::submission::Chunk;
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::snapshot::{Made, SnapshotError, SuccessiveWriter};
use synddb_sqlite::state::{RunningState, StateError};
use tokio_util::sync::CancellationToken;

use super::spool::{Spool, SpoolError};
use crate::replica::position::{self, NoPosition};

/// A snapshot on the local disk.
pub(super) struct Taken {
    /// Where the replica stood.
    pub(super) checkpoint: SignedCheckpoint,
    pub(super) made: Made,
    /// The chunks that the last snapshot does not have.
    pub(super) new: Vec<Chunk>,
}

impl Taken {
    pub(super) const fn sequence(&self) -> Sequence {
        self.checkpoint.claim().size
    }
}

/// Why no snapshot is taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeError {
    /// The process ends.
    #[error("the process was asked to end")]
    Interrupted,
    /// The file says nothing of where it stands.
    #[error("the replica does not say where it stands")]
    Position(#[from] NoPosition),
    /// No snapshot is in the log yet, or a commit is coming in parts.
    #[error("the replica stands where no snapshot can be taken. sequence=`{sequence}`")]
    NoPlace {
        /// Where it stands.
        sequence: Sequence,
    },
    /// The rows are not what the log claims.
    #[error(
        "the replica is not what it was, so that no snapshot of it is signed; an audit tells more. sequence=`{sequence}` \
         expected=`{expected}` found=`{found}`"
    )]
    NotWhatItWas {
        /// Where it stands.
        sequence: Sequence,
        /// What its checkpoint claims.
        expected: StateHash,
        /// What the scan finds.
        found: StateHash,
    },
    /// The replica cannot be scanned.
    #[error("the replica cannot be scanned")]
    Scan(#[from] StateError),
    /// Its pages cannot be read.
    #[error("the replica's pages cannot be read")]
    Pages(#[from] SnapshotError),
    /// SQLite failed.
    #[error("the replica cannot be read")]
    Sqlite(#[from] SqliteError),
    /// They cannot be kept on this disk.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

impl TakeError {
    /// Whether the replica is to blame, which its owner must look at.
    pub(super) const fn is_of_replica(&self) -> bool {
        matches!(self, Self::NotWhatItWas { .. } | Self::Position(_))
    }
}

/// Takes a snapshot of the state that is committed now.
pub(super) fn take(
    replica: &Path,
    spool: &Spool,
    last: Option<Made>,
    stop: &CancellationToken,
) -> Result<Taken, TakeError> {
    spool.make()?;
    // It stands in a read transaction, which ends when it goes.
    let connection = Connection::open_to_read(replica)?;
    let checkpoint = position::read(connection.sqlite())?;
    let claim = checkpoint.claim();
    let sequence = claim.size;
    let client = claim.client.as_ref().filter(|client| client.group.is_none());
    let expected = client.ok_or(TakeError::NoPlace { sequence })?.state;
    let found = RunningState::scan(&connection)?.hash();
    if found != expected {
        return Err(TakeError::NotWhatItWas { sequence, expected, found });
    }
    let mut writer = SuccessiveWriter::new(&connection, last)?;
    let mut new = Vec::new();
    for stored in &mut writer {
        let stored = stored?;
        if stop.is_cancelled() {
            return Err(TakeError::Interrupted);
        }
        spool.keep(&stored)?;
        new.push(stored.chunk);
    }
    let made = writer.finish().ok_or(SnapshotError::Moved)?;
    drop(connection);
    spool.keep_only(&new);
    Ok(Taken { checkpoint, made, new })
}
