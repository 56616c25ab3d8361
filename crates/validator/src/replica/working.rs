//! A file that is written: the applier over it, its transaction, and the position that goes with it.

use std::path::{Path, PathBuf};

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{Epoch, Sequence};
use synddb_protocol::log::{Signers, TrustedCheckpoint};
use synddb_protocol::submission::Content;
use synddb_sqlite::apply::{Applied, Applier, ApplyError, SubmissionApplier};
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::state::RunningState;
use tracing::warn;

use super::{Ended, Place, position, signers};
use crate::error::{Divergence, HaltCause, ReplicaError};

/// How a file keeps what is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Journal {
    /// The replica: readers go on beside its writer. A power cut may take back whole commits, never parts.
    Wal,
    /// A snapshot that nobody reads yet: what is committed stays.
    Rollback,
}

/// A file that is written.
pub(super) struct Working {
    applier: SubmissionApplier,
    file: PathBuf,
    journal: Journal,
    /// SQLite's number for "somebody else wrote", as of the last transaction.
    version: i64,
    /// Whether who signed what was written since the file was opened.
    has_signers: bool,
}

impl Working {
    /// Opens a file to write it, and scans its state. `at` is the message that it stands at.
    pub(super) fn open(place: &Place, file: &Path, journal: Journal, at: Sequence) -> Result<Self, Ended> {
        let sqlite = |source| ReplicaError::Sqlite { doing: "open", file: file.to_owned(), source };
        let connection = Connection::open(file).map_err(sqlite)?;
        match journal {
            Journal::Wal => {
                set_wal(&connection).map_err(sqlite)?;
                connection.execute("PRAGMA synchronous = NORMAL").map_err(sqlite)?;
                position::keep_states(&connection).map_err(sqlite)?;
            }
            Journal::Rollback => position::create(&connection).map_err(sqlite)?,
        }
        signers::create(&connection).map_err(sqlite)?;
        let applier = Applier::over(connection).map_err(|source| unreadable(file, at, source))?;
        let applier = SubmissionApplier::new(applier, place.folder());
        let mut working = Self { applier, file: file.to_owned(), journal, version: 0, has_signers: false };
        working.version = working.data_version()?;
        Ok(working)
    }

    /// The state hash of what is in the file, with the transaction that is open.
    pub(super) fn hash(&self) -> StateHash {
        self.applier.applier().state().hash()
    }

    /// Compares the state with what `checkpoint` claims.
    pub(super) fn check(&self, checkpoint: &TrustedCheckpoint) -> Result<(), Ended> {
        let claim = checkpoint.claim();
        let found = self.hash();
        match &claim.client {
            Some(client) if client.state != found => Err(state_diverged(claim.size, client.state, found)),
            Some(_) | None => Ok(()),
        }
    }

    /// Begins a transaction if none is open. Whoever else holds the write lock is waited for.
    pub(super) fn begin(&mut self, next: Sequence, is_over: impl Fn() -> bool) -> Result<(), Ended> {
        if self.applier.applier().is_open() {
            return Ok(());
        }
        loop {
            match self.applier.begin() {
                Ok(()) => break,
                Err(ApplyError::Sqlite(error)) if error.is_busy() => {
                    warn!(file = %self.file.display(), "another connection writes to the replica; waiting for it");
                    if is_over() {
                        return Err(Ended::Interrupted);
                    }
                }
                Err(source) => return Err(self.failed(source)),
            }
        }
        self.check_alone(next)
    }

    /// Checks that nobody else wrote since the last transaction. When somebody may have, everything is scanned.
    fn check_alone(&mut self, next: Sequence) -> Result<(), Ended> {
        let version = self.data_version()?;
        if version == self.version {
            return Ok(());
        }
        let scanned = RunningState::scan(self.applier.applier().connection());
        let found = scanned.map_err(|error| unreadable(&self.file, next, error.into()))?.hash();
        let expected = self.hash();
        if found != expected {
            return Err(state_diverged(next, expected, found));
        }
        self.version = version;
        Ok(())
    }

    /// Applies what one submission carries.
    pub(super) fn take(&mut self, sequence: Sequence, content: &Content) -> Result<Applied, Ended> {
        self.applier.take(content).map_err(|error| {
            if error.is_divergence() {
                let source = Divergence::Submission(error);
                HaltCause::Diverged { sequence, source }.into()
            } else {
                ReplicaError::Spool { file: self.file.clone(), source: Box::new(error) }.into()
            }
        })
    }

    /// Marks where a batch begins, so that it can be taken back alone.
    pub(super) fn save(&self) -> Result<(), Ended> {
        self.execute("SAVEPOINT synddb_batch")
    }

    /// The batch is whole.
    pub(super) fn release(&self) -> Result<(), Ended> {
        self.execute("RELEASE synddb_batch")
    }

    /// Takes the batch back in the file. The running state does not follow, so that nothing more is applied afterwards.
    pub(super) fn take_back(&self) -> Result<(), Ended> {
        self.execute("ROLLBACK TO synddb_batch; RELEASE synddb_batch")
    }

    /// Commits the transaction together with the position, and with who signed what led to it: what is new there begins with an epoch.
    pub(super) fn commit(
        &mut self,
        checkpoint: &TrustedCheckpoint,
        signers: (&Signers, Option<Epoch>),
        is_over: impl Fn() -> bool,
    ) -> Result<(), Ended> {
        position::write(self.applier.applier().connection(), checkpoint)
            .map_err(|source| self.sqlite(source))?;
        let (signed, since) = signers;
        signers::write(self.applier.applier().connection(), signed, since.filter(|_| self.has_signers))
            .map_err(|source| self.sqlite(source))?;
        loop {
            match self.applier.commit() {
                Ok(()) => {
                    self.has_signers = true;
                    return Ok(());
                }
                Err(ApplyError::Sqlite(error)) if error.is_busy() && !is_over() => {
                    warn!(file = %self.file.display(), "the replica is locked by another connection; waiting for it");
                }
                Err(ApplyError::Sqlite(error)) if error.is_busy() => return Err(Ended::Interrupted),
                Err(source) => return Err(self.failed(source)),
            }
        }
    }

    /// Gives up what is not committed.
    pub(super) fn rollback(&mut self) {
        // Closing the file rolls back as well.
        self.applier.rollback().ok();
    }

    /// Switches a staged file to the mode of a replica, before it becomes one.
    pub(super) fn ready(&self) -> Result<(), Ended> {
        debug_assert_eq!(self.journal, Journal::Rollback, "only a staged file becomes a replica");
        set_wal(self.applier.applier().connection()).map_err(|source| self.sqlite(source))
    }

    fn data_version(&self) -> Result<i64, Ended> {
        let sqlite = self.applier.applier().connection().sqlite();
        let version = sqlite.pragma_query_value(None, "data_version", |row| row.get(0));
        version.map_err(|error| self.sqlite(error.into()))
    }

    fn execute(&self, sql: &str) -> Result<(), Ended> {
        self.applier.applier().connection().execute(sql).map_err(|source| self.sqlite(source))
    }

    fn sqlite(&self, source: SqliteError) -> Ended {
        ReplicaError::Sqlite { doing: "write", file: self.file.clone(), source }.into()
    }

    fn failed(&self, source: ApplyError) -> Ended {
        ReplicaError::Apply { file: self.file.clone(), source: Box::new(source) }.into()
    }
}

fn set_wal(connection: &Connection) -> Result<(), SqliteError> {
    connection.sqlite().pragma_update(None, "journal_mode", "WAL")?;
    Ok(())
}

fn state_diverged(sequence: Sequence, expected: StateHash, found: StateHash) -> Ended {
    HaltCause::Diverged { sequence, source: Divergence::State { expected, found } }.into()
}

/// A file that cannot be scanned: by whose fault?
fn unreadable(file: &Path, sequence: Sequence, source: ApplyError) -> Ended {
    if source.is_of_machine() {
        ReplicaError::Apply { file: file.to_owned(), source: Box::new(source) }.into()
    } else {
        HaltCause::Diverged { sequence, source: Divergence::Unreadable(source) }.into()
    }
}
