//! A full scan of the database exactly where a follower stands, on any thread and without the follower.
//!
//! What was captured is only as good as the capture. A scan by SQLite itself, of the application's own file, judges it.

use std::path::PathBuf;

use rusqlite::InterruptHandle;
use synddb_protocol::hash::StateHash;

use super::attach::connect;
use super::follower::Follower;
use super::hold::{Hold, IndexCopy};
use super::{CaptureError, WalPosition};
use crate::connection::PATIENCE;
use crate::state::RunningState;

/// Where to scan.
#[derive(Debug, Clone)]
pub struct Auditor {
    path: PathBuf,
    now: IndexCopy,
    position: WalPosition,
}

impl Auditor {
    /// What the database hashes to at the position of the follower that gave this; nothing when that is not there to be read any more.
    /// The follower must not be polled until this has begun to read, which is when it hands over what can interrupt it; it goes on when that
    /// answers that it should.
    ///
    /// # Errors
    /// [`CaptureError`] when the database cannot be read, or the scan was interrupted.
    pub fn scan(
        &self,
        reads: impl FnOnce(InterruptHandle) -> bool,
    ) -> Result<Option<StateHash>, CaptureError> {
        let connection = connect(&self.path)?;
        connection.set_patience(PATIENCE)?;
        let Ok(hold) = Hold::open_at(connection, &self.now, self.position)? else { return Ok(None) };
        let goes_on = reads(hold.connection().sqlite().get_interrupt_handle());
        let state = if goes_on { Some(RunningState::scan(hold.connection())?.hash()) } else { None };
        drop(hold.close());
        Ok(state)
    }
}

impl Follower {
    /// What scans the database at the position; nothing where it cannot be opened by another connection now: nothing was ever written to this
    /// generation of the WAL, or another one has begun.
    ///
    /// # Errors
    /// [`CaptureError`] when the wal-index cannot be read.
    pub fn auditor(&self) -> Result<Option<Auditor>, CaptureError> {
        let files = &self.database.pages.files;
        files.check_in_place()?;
        let copy = files.index_copy().filter(|now| {
            now.read().is_some_and(|index| {
                index.salts == self.position.salts && index.last_frame >= self.position.frame
            })
        });
        Ok(copy.map(|now| Auditor { path: files.database_path().to_owned(), now, position: self.position }))
    }
}
