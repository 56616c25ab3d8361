//! One transaction, from BEGIN to COMMIT or ROLLBACK.

use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::embedded::Scope;
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::rusqlite::{self, ffi};
use synddb_sqlite::state::RunningState;

use super::error::Error;
use super::guard::{Forbidden, Mode};
use super::{Database, waiting};

/// How often a ROLLBACK is tried: an application that interrupts the connection may have meant another statement.
const ROLLBACKS_MAX: usize = 8;

impl Database {
    /// Runs a transaction that changes rows. When the closure fails, or does what none may, nothing of it was done.
    ///
    /// It waits for locks of others, and for room when more was committed than is kept yet, at most as long as the options say.
    ///
    /// # Errors
    /// What the closure fails with, or [`Error`].
    pub fn write<T, E: From<Error>>(
        &mut self,
        closure: impl FnOnce(&rusqlite::Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.transact(Scope::Rows, Mode::Write, closure)
    }

    /// Runs a transaction that changes the schema, and rows. Every table that stays is read once, to prove that no row of it changed unseen.
    ///
    /// # Errors
    /// What the closure fails with, or [`Error`].
    pub fn schema<T, E: From<Error>>(
        &mut self,
        closure: impl FnOnce(&rusqlite::Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.transact(Scope::Schema, Mode::Schema, closure)
    }

    /// Reads one state of the database.
    ///
    /// # Errors
    /// What the closure fails with, or [`Error`]. A closure that got the transaction to end leaves the database [`Error::Broken`]: what it read
    /// after that is of another state.
    pub fn read<T, E: From<Error>>(
        &mut self,
        closure: impl FnOnce(&rusqlite::Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.connection.execute("BEGIN").map_err(Error::from)?;
        // Whatever the closure does is taken back, also when it panics.
        let mut open = Open { database: self, is_recorded: false };
        // A statement that was compiled for `write` may end the transaction; what comes after it must not commit by itself.
        open.database.recorder.begin_reading();
        let given = open.run(Mode::Read, closure);
        let has_ended = open.database.connection.sqlite().is_autocommit();
        let has_changed = open.database.recorder.end_reading() || has_ended;
        open.database.is_broken |= has_ended;
        let forbidden = open.database.guard.take().or(has_changed.then_some(Forbidden::ReadOnly));
        drop(open);
        match forbidden {
            Some(forbidden) => Err(Error::from(forbidden).into()),
            None => given,
        }
    }

    /// Forgets what the agent's outbox has, in a transaction of its own.
    pub(super) fn forget_kept(&mut self) -> Result<(), Error> {
        let kept = self.feed.kept();
        if self.waiting.has_before(kept) && !self.is_broken {
            self.waiting.forget_before(kept)?;
            self.waiting.forgot_before(kept);
        }
        Ok(())
    }

    fn transact<T, E: From<Error>>(
        &mut self,
        scope: Scope,
        mode: Mode,
        closure: impl FnOnce(&rusqlite::Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin()?;
        let mut open = Open { database: self, is_recorded: true };
        let given = open.run(mode, closure);
        if let Some(forbidden) = open.database.guard.take() {
            return Err(Error::from(forbidden).into());
        }
        let value = given?;
        open.database.commit(scope)?;
        // There is nothing left to take back.
        open.is_recorded = false;
        Ok(value)
    }

    fn begin(&mut self) -> Result<(), Error> {
        if self.is_broken {
            return Err(Error::Broken);
        }
        if !self.feed.has_room(self.patience) {
            return Err(if self.feed.is_closed() { Error::AgentEnded } else { Error::OutboxFull });
        }
        self.connection.execute("BEGIN IMMEDIATE")?;
        let begun = self.check_nobody_wrote().and_then(|()| Ok(self.recorder.begin(&self.state)?));
        begun.inspect_err(|_| self.roll_back())
    }

    /// Whether what is in the database is what this process knows of it. Nobody else can write from here on.
    fn check_nobody_wrote(&mut self) -> Result<(), Error> {
        let version = data_version(&self.connection)?;
        if version == self.data_version {
            return Ok(());
        }
        // A checkpoint of somebody else looks the same from here; the state tells. What waits is outside of it.
        let found = RunningState::scan(&self.connection)?;
        let has_all = waiting::is_dense(&self.connection, self.feed.kept(), self.feed.next()?.get())?;
        if found.hash() != self.state.hash() || !has_all {
            self.is_broken = true;
            return Err(Error::WrittenByOthers);
        }
        (self.state, self.data_version) = (found, version);
        Ok(())
    }

    /// Captures what the transaction did, and commits it together with that.
    fn commit(&mut self, scope: Scope) -> Result<(), Error> {
        let changes = self.recorder.finish(&mut self.state, scope)?;
        if scope == Scope::Schema {
            self.guard.know_virtual_tables(self.connection.sqlite())?;
        }
        let (number, incarnation, state) = (self.feed.next()?, self.feed.incarnation(), self.state.hash());
        let is_empty = changes == Changes::default();
        if !is_empty {
            self.waiting.add(number, incarnation, &changes, state)?;
        }
        let kept = self.feed.kept();
        if self.waiting.has_before(kept) {
            self.waiting.forget_before(kept)?;
        }
        self.connection.execute("COMMIT").map_err(|error| self.not_committed(error))?;
        self.recorder.committed(&mut self.state);
        self.waiting.forgot_before(kept);
        if !is_empty {
            self.feed.give(changes, state, self.recorder.row_changes());
        }
        Ok(())
    }

    /// What a COMMIT failed with. What is neither a lock, a constraint nor an interruption may be durable after all; SQLite asks for interruptions
    /// before it writes.
    fn not_committed(&mut self, error: SqliteError) -> Error {
        if error.code() == ffi::SQLITE_CONSTRAINT_COMMITHOOK {
            return Error::ChangedAtCommit;
        }
        if !error.is_busy() && !matches!(error.primary(), ffi::SQLITE_CONSTRAINT | ffi::SQLITE_INTERRUPT) {
            self.is_broken = true;
        }
        error.into()
    }

    /// Takes the transaction back, unless SQLite has done so by itself.
    fn roll_back(&mut self) {
        let is_over = |connection: &Connection| {
            connection.sqlite().is_autocommit() || connection.execute("ROLLBACK").is_ok()
        };
        self.is_broken |= !(0..ROLLBACKS_MAX).any(|_| is_over(&self.connection));
    }
}

/// A transaction that is open: taken back when this is dropped, unless it was committed.
struct Open<'d> {
    database: &'d mut Database,
    /// Whether the recorder waits to hear what became of it.
    is_recorded: bool,
}

impl Open<'_> {
    fn run<T, E>(
        &mut self,
        mode: Mode,
        closure: impl FnOnce(&rusqlite::Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        // What was refused before belongs to a transaction that is over.
        self.database.guard.take();
        self.database.guard.enter(mode);
        let given = closure(self.database.connection.sqlite());
        self.database.guard.enter(Mode::Ours);
        given
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.database.guard.enter(Mode::Ours);
        // A closure that panicked in `read` has not come to this; everywhere else it does nothing.
        self.database.recorder.end_reading();
        self.database.roll_back();
        if self.is_recorded {
            self.database.recorder.rolled_back(&mut self.database.state);
        }
    }
}

/// What changes when another connection changes the file.
pub(super) fn data_version(connection: &Connection) -> Result<i64, Error> {
    Ok(connection.sqlite().pragma_query_value(Some("main"), "data_version", |row| row.get(0))?)
}
