//! Read transactions that are held hand over hand.
//!
//! While a read transaction stands at or before the position, no frame that is not captured yet can be overwritten: the WAL is reset
//! only when everything in it is copied back and no reader stands in it. The next transaction is opened before the last is closed,
//! and the last is closed only when everything up to the next was captured.
//!
//! A transaction that found the WAL copied back entirely stands on the database file alone and does not stop a reset; but it stops
//! copying back, so exactly one further generation with frames can come, and that one stays.

#![allow(unsafe_code, reason = "SQLite's snapshots are not in rusqlite; each call says why it is sound")]

use std::path::Path;
use std::ptr;

use rusqlite::ffi;

use super::attach::regular_file;
use super::{CaptureError, WalPosition};
use crate::connection::{Connection, SqliteError};
use crate::file::wal_index::{COPY_BYTES, HEAD_BYTES, WalIndex};
use crate::name::beside;

/// A connection on which a read transaction is open.
pub(super) struct Hold {
    connection: Connection,
}

impl Hold {
    /// Opens a read transaction on a connection that has none.
    pub(super) fn open(connection: Connection) -> Result<Self, SqliteError> {
        Self::begin(connection, |_| Ok(()))
    }

    /// The same, standing in the WAL and never on the database file alone, unless the WAL has no frames: a transaction that begins with
    /// `sqlite3_snapshot_get` does. All frames up to it then stay where they are.
    pub(super) fn open_in_wal(connection: Connection) -> Result<Self, SqliteError> {
        Self::begin(connection, |hold| hold.snapshot().map(drop))
    }

    fn begin(
        connection: Connection,
        first: impl FnOnce(&Self) -> Result<(), SqliteError>,
    ) -> Result<Self, SqliteError> {
        connection.execute("BEGIN")?;
        let hold = Self { connection };
        // BEGIN alone takes no snapshot; the first read does.
        let begun = first(&hold).and_then(|()| {
            let sql = "SELECT count(*) FROM sqlite_schema";
            Ok(hold.connection.sqlite().query_row(sql, [], |row| row.get::<_, i64>(0))?)
        });
        match begun {
            Ok(_) => Ok(hold),
            Err(error) => {
                hold.close();
                Err(error)
            }
        }
    }

    /// The connection, to read what it sees.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Opens a read transaction at an earlier position of the generation of which `now` is the newest word; gives the connection back when
    /// that is not there any more. Frames up to the position then stay where they are, and nothing behind it is copied back.
    ///
    /// SQLite grants it only when no checkpoint has tried to copy back what stands behind the position.
    pub(super) fn open_at(
        connection: Connection,
        now: &IndexCopy,
        position: WalPosition,
    ) -> Result<Result<Self, Connection>, SqliteError> {
        let mut snapshot = now.at(position);
        connection.execute("BEGIN")?;
        let hold = Self { connection };
        // SAFETY: the connection is open and in a transaction that has read nothing; SQLite copies the 48 bytes, which are aligned for
        // it, and keeps no pointer to them.
        let code = unsafe {
            let snapshot = snapshot.0.as_mut_ptr().cast::<ffi::sqlite3_snapshot>();
            ffi::sqlite3_snapshot_open(hold.connection.handle(), c"main".as_ptr(), snapshot)
        };
        if code == ffi::SQLITE_OK {
            return Ok(Ok(hold));
        }
        let error = hold.connection.error(code);
        let connection = hold.close();
        if code & 0xff == ffi::SQLITE_ERROR { Ok(Err(connection)) } else { Err(error) }
    }

    /// Ends the transaction and gives the connection back.
    pub(super) fn close(self) -> Connection {
        // Ending a read transaction cannot fail in a way that keeps it open.
        self.connection.execute("ROLLBACK").ok();
        self.connection
    }

    /// What the wal-index said when the transaction began; `None` when nothing was ever written to the WAL.
    pub(super) fn snapshot(&self) -> Result<Option<WalIndex>, SqliteError> {
        Ok(self.copy()?.and_then(|copy| copy.read()))
    }

    /// The same, as SQLite has it.
    pub(super) fn copy(&self) -> Result<Option<IndexCopy>, SqliteError> {
        let mut snapshot: *mut ffi::sqlite3_snapshot = ptr::null_mut();
        // SAFETY: the connection is open; SQLite writes a pointer that is freed below. A snapshot is a copy of the wal-index's
        // header (sqlite3.h: 48 bytes, "hidden"), which is read before it is freed.
        unsafe {
            let handle = self.connection.handle();
            let code = ffi::sqlite3_snapshot_get(handle, c"main".as_ptr(), &raw mut snapshot);
            if code == ffi::SQLITE_ERROR {
                return Ok(None);
            }
            if code != ffi::SQLITE_OK {
                return Err(self.connection.error(code));
            }
            let mut copy = IndexCopy([0; COPY_BYTES]);
            copy.0.copy_from_slice(std::slice::from_raw_parts(snapshot.cast::<u8>(), COPY_BYTES));
            ffi::sqlite3_snapshot_free(snapshot);
            Ok(Some(copy))
        }
    }
}

impl WalIndex {
    /// The latest commit.
    pub(super) fn position(&self) -> WalPosition {
        let Self { salts, last_frame: frame, checksum, pages, .. } = *self;
        WalPosition { salts, frame, checksum, pages }
    }
}

/// A copy of the wal-index's header, which is what a snapshot is to SQLite.
#[derive(Debug, Clone, Copy)]
#[repr(align(8))]
pub(super) struct IndexCopy([u8; COPY_BYTES]);

impl IndexCopy {
    /// The first of the two copies that a wal-index begins with.
    pub(super) fn first_of(head: &[u8; HEAD_BYTES]) -> Option<Self> {
        head.first_chunk().map(|copy| Self(*copy))
    }

    /// What it says; nothing when it is torn.
    pub(super) fn read(&self) -> Option<WalIndex> {
        WalIndex::read_copy(&self.0)
    }

    /// What the header was when the last commit was the one at an earlier position of the same generation.
    fn at(mut self, position: WalPosition) -> Self {
        let WalPosition { frame, checksum, pages, .. } = position;
        if self.read().is_none_or(|now| now.last_frame != frame) {
            WalIndex::rewrite(&mut self.0, frame, pages, checksum);
        }
        self
    }
}

/// The held read transaction, and the next one while the way to it is still to be captured.
pub(super) struct Holds {
    held: Hold,
    /// What the last move aimed at: where the held one began, or where the next one did.
    swap_target: WalPosition,
    next: Option<Next>,
    /// The connection for the next one.
    spare: Option<Connection>,
    /// How often the WAL began anew.
    generation: u64,
}

struct Next {
    hold: Hold,
    target: Option<Target>,
}

/// What was committed when a read transaction had been opened, and so at or past what it sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    index: WalIndex,
    /// How often the WAL had begun anew for the position then.
    generation: u64,
}

impl Target {
    pub(super) fn new(index: &WalIndex, generation: u64) -> Self {
        Self { index: *index, generation }
    }

    /// Whether a position is at or past it.
    pub(super) fn is_reached(&self, position: WalPosition, generation: u64) -> bool {
        if self.index.salts == position.salts {
            return position.frame >= self.index.last_frame;
        }
        // The generation that the position was in has ended, and was captured to its end.
        generation > self.generation
    }
}

impl Holds {
    pub(super) fn new(held: Hold, spare: Connection, swap_target: WalPosition) -> Self {
        Self { held, swap_target, next: None, spare: Some(spare), generation: 0 }
    }

    /// The transaction that guards the position.
    pub(super) fn held(&self) -> &Hold {
        &self.held
    }

    /// What the last move aimed at.
    pub(super) fn swap_target(&self) -> WalPosition {
        self.swap_target
    }

    /// How often the WAL began anew.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The WAL began anew.
    pub(super) fn generation_ended(&mut self) {
        self.generation += 1;
    }

    /// Opens the next transaction, unless one is open; says whether it did.
    pub(super) fn open_next(&mut self) -> Result<bool, SqliteError> {
        let Some(spare) = self.spare.take() else { return Ok(false) };
        match Hold::open(spare.clone()) {
            Ok(hold) => {
                self.next = Some(Next { hold, target: None });
                Ok(true)
            }
            Err(error) => {
                self.spare = Some(spare);
                if error.is_busy() { Ok(false) } else { Err(error) }
            }
        }
    }

    /// What was committed after the next transaction was opened, which is at or past what it sees.
    pub(super) fn next_reaches(&mut self, index: &WalIndex, position: WalPosition) {
        if let Some(next) = &mut self.next {
            next.target = Some(Target::new(index, self.generation));
            // Only used to tell how far the transaction is behind; a position in an older generation is further behind.
            self.swap_target = if index.salts == position.salts { index.position() } else { position };
        }
    }

    /// Closes the next transaction, if one is open. The held one stays, and is moved on as soon as it can be.
    pub(super) fn drop_next(&mut self) {
        if let Some(next) = self.next.take() {
            self.spare = Some(next.hold.close());
            self.swap_target.frame = 0;
        }
    }

    /// Closes the held transaction if everything up to the next one was captured.
    pub(super) fn close_last(&mut self, position: WalPosition) {
        let is_reached = |target: Target| target.is_reached(position, self.generation);
        if let Some(next) = self.next.take_if(|next| next.target.is_some_and(is_reached)) {
            let last = std::mem::replace(&mut self.held, next.hold);
            self.spare = Some(last.close());
        }
    }

    /// Moves to a transaction at the position. Only while nobody can commit, and everything was captured.
    pub(super) fn move_here(&mut self, position: WalPosition) -> Result<bool, SqliteError> {
        self.drop_next();
        if !self.open_next()? {
            return Ok(false);
        }
        if let Some(next) = self.next.take() {
            let last = std::mem::replace(&mut self.held, next.hold);
            self.spare = Some(last.close());
        }
        self.swap_target = position;
        Ok(true)
    }
}

/// What is committed in the WAL of a database now, as any process can see it: nothing is attached, and nothing is changed. `None` when
/// the database is not in WAL mode, or nothing was ever written to its WAL: then everything stands in the database file.
///
/// A WAL that began anew and has no frames yet is at frame 0 of its generation.
///
/// # Errors
/// [`CaptureError`] when there is no database, or it cannot be read.
pub fn committed_position(path: &Path) -> Result<Option<WalPosition>, CaptureError> {
    let path = regular_file(path)?;
    // Without one, opening the database would make it.
    if !std::fs::metadata(beside(&path, "-wal")).is_ok_and(|wal| wal.len() > 0) {
        return Ok(None);
    }
    let hold = Hold { connection: Connection::open_to_read(&path)? };
    let position = if is_wal(&hold.connection)? { hold.snapshot()? } else { None };
    hold.close();
    Ok(position.map(|index| index.position()))
}

/// Whether a connection's database is in WAL mode now.
pub(super) fn is_wal(connection: &Connection) -> Result<bool, SqliteError> {
    let mode: String = connection.sqlite().pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    Ok(mode.eq_ignore_ascii_case("wal"))
}
