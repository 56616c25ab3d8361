//! A place in the WAL that is held in another process: where nobody captures any more, nothing is lost as long as that one lives.
//!
//! ```text
//! follower --open next--> Pinning: a second read transaction, at what is committed then
//!          captures up to there, keeps it
//!          --close last-> the first one ends
//! ```
//!
//! What must stay true: the transaction that is held stands at or before what the follower's sink has kept. So the next one is opened before
//! anything is read that it is to guard, and the last one is closed only when everything up to the next is kept. That is how the follower
//! holds its own transactions (hold.rs), and a pin goes with them.
//!
//! Knows nothing of how the two processes speak, nor of how one finds the other.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::attach::{connect, regular_file};
use super::hold::{Hold, Target};
use super::resume::{Guard, is_same_commit};
use super::{CaptureError, WalPosition};
use crate::connection::{Connection, SqliteError};

/// How long a pin waits for locks of others: whoever asked it waits as well.
const PATIENCE: Duration = Duration::from_millis(200);

/// What a follower asks of the process that holds its place. After an error it asks nothing more.
pub trait Pin {
    /// What the transaction sees that is held ([`Pinning::held`]). Whoever answers lives.
    ///
    /// # Errors
    /// When it does not answer.
    fn held(&mut self) -> io::Result<WalPosition>;

    /// Opens the next transaction, at what is committed now; says whether it could.
    ///
    /// # Errors
    /// When it does not answer.
    fn open_next(&mut self) -> io::Result<bool>;

    /// Closes the last transaction; the next one is the one that is held now.
    ///
    /// # Errors
    /// When it does not answer.
    fn close_last(&mut self) -> io::Result<()>;

    /// Whether the process still seems to be there. Cheap, and may be wrong for a moment.
    fn seems_alive(&self) -> bool;

    /// A descriptor that can be read from when the process has ended, if there is one: whoever waits for commits waits for that as well.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The read transactions of a pin.
pub struct Pinning {
    held: Hold,
    next: Option<Hold>,
    spare: Option<Connection>,
    path: PathBuf,
}

impl Pinning {
    /// Holds what is committed now in a database in WAL mode.
    ///
    /// # Errors
    /// [`CaptureError`] when it is none, or cannot be read.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let path = regular_file(path)?;
        let (held, spare) = (connect(&path)?, connect(&path)?);
        for connection in [&held, &spare] {
            connection.set_patience(PATIENCE)?;
        }
        Ok(Self { held: Hold::open(held)?, next: None, spare: Some(spare), path })
    }

    /// The database file, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the transaction sees that is held. Where nothing was ever written to the WAL, that is frame 0 of a generation without salts.
    ///
    /// # Errors
    /// [`SqliteError`] when SQLite does not say.
    pub fn held(&self) -> Result<WalPosition, SqliteError> {
        let nothing = WalPosition { salts: [0, 0], frame: 0, checksum: [0, 0], pages: 0 };
        Ok(self.held.snapshot()?.map_or(nothing, |index| index.position()))
    }

    /// Opens the next transaction in place of one that was opened and never became the held one; says whether it could.
    ///
    /// # Errors
    /// [`SqliteError`] when the database cannot be read.
    pub fn open_next(&mut self) -> Result<bool, SqliteError> {
        if let Some(next) = self.next.take() {
            self.spare = Some(next.close());
        }
        let Some(spare) = self.spare.take() else { return Ok(false) };
        match Hold::open(spare.clone()) {
            Ok(next) => {
                self.next = Some(next);
                Ok(true)
            }
            Err(error) => {
                self.spare = Some(spare);
                if error.is_busy() { Ok(false) } else { Err(error) }
            }
        }
    }

    /// Closes the last transaction, if there is a next one.
    pub fn close_last(&mut self) {
        if let Some(next) = self.next.take() {
            self.spare = Some(std::mem::replace(&mut self.held, next).close());
        }
    }
}

/// A follower's pin, and how far it is behind.
#[derive(Default)]
pub(super) struct Pinned {
    pin: Option<Box<dyn Pin>>,
    /// Whether what the pin holds was ever brought to where this follower is.
    is_placed: bool,
    /// What was committed when the pin had opened its next transaction.
    next: Option<Target>,
    /// Until when the pin alone guards the position.
    guard: Option<Guard>,
}

impl Pinned {
    pub(super) fn guarding(guard: Option<Guard>) -> Self {
        Self { guard, ..Self::default() }
    }

    pub(super) fn set(&mut self, pin: Box<dyn Pin>) {
        (self.pin, self.is_placed, self.next) = (Some(pin), false, None);
    }

    /// Whether there is a pin, as far as is known. One that has ended is forgotten.
    pub(super) fn is_there(&mut self) -> bool {
        if self.pin.as_ref().is_some_and(|pin| !pin.seems_alive()) {
            (self.pin, self.next) = (None, None);
        }
        self.pin.is_some()
    }

    /// Whether the pin holds a place of this follower.
    pub(super) fn is_placed(&self) -> bool {
        self.pin.is_some() && self.is_placed
    }

    /// What can be read from when the pin has ended.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pin.as_ref().and_then(|pin| pin.descriptor())
    }

    /// Whether the pin should be brought here at once.
    pub(super) fn wants_placing(&self) -> bool {
        self.pin.is_some() && !self.is_placed && self.next.is_none()
    }

    /// Has the next transaction opened; says whether it is.
    pub(super) fn open_next(&mut self) -> bool {
        self.next.is_none() && self.ask(|pin| pin.open_next()).unwrap_or(false)
    }

    /// What was committed after the next transaction was opened.
    pub(super) fn next_reaches(&mut self, target: Target) {
        self.next = Some(target);
    }

    /// Has the last transaction closed, if everything up to the next one was kept.
    pub(super) fn close_last(&mut self, position: WalPosition, generation: u64) {
        // Where it was reached without a commit, there is nothing that the pin guards any more.
        self.guard = self.guard.filter(|guard| !guard.target.is_reached(position, generation));
        if self.next.take_if(|next| next.is_reached(position, generation)).is_some()
            && self.ask(|pin| pin.close_last()).is_some()
        {
            self.is_placed = true;
        }
    }

    /// Whether the pin answers, if there is one. One that does not is forgotten, so that the next call says that all is well.
    pub(super) fn answers(&mut self) -> bool {
        self.pin.is_none() || self.ask(|pin| pin.held()).is_some()
    }

    /// Moves to a transaction at what is committed now. Only while nobody can commit, and everything was kept. Says whether nothing of this pin
    /// stands behind any more.
    pub(super) fn move_here(&mut self) -> bool {
        (self.next, self.guard) = (None, None);
        if self.pin.is_none() {
            return true;
        }
        match self.ask(|pin| pin.open_next()) {
            Some(true) => {
                self.is_placed = self.ask(|pin| pin.close_last()).is_some();
                true
            }
            Some(false) => false,
            // It is gone, and with it what it held.
            None => true,
        }
    }

    /// Makes sure that what was read is what the pin guarded, as long as it alone does: it must still hold that.
    pub(super) fn check(&mut self, position: WalPosition, generation: u64) -> Result<(), CaptureError> {
        let Some(Guard { target, held }) = self.guard else { return Ok(()) };
        let now = self.ask(|pin| pin.held());
        if !now.is_some_and(|now| is_same_commit(&now, &held)) {
            return Err(CaptureError::Gap { frame: position.frame });
        }
        if target.is_reached(position, generation) {
            self.guard = None;
        }
        Ok(())
    }

    fn ask<T>(&mut self, what: impl FnOnce(&mut dyn Pin) -> io::Result<T>) -> Option<T> {
        let answer = what(self.pin.as_deref_mut()?);
        if answer.is_err() {
            (self.pin, self.next) = (None, None);
        }
        answer.ok()
    }
}
