//! Captures the transactions of one connection from inside, before they are committed: where there is no WAL to follow, and for who
//! wants the changes in the same transaction.
//!
//! ```text
//! BEGIN -> begin -> statements -> finish -> the caller keeps the changes in the same transaction -> COMMIT -> committed
//!                     |            |
//!   hook.rs: rows as they were     rows.rs: against as they are; schema.rs: the same, and what became of the tables
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `hook.rs` | what SQLite tells of rows before they change |
//! | `touched.rs` | each row as it was at its first touch |
//! | `rows.rs` | those rows against what SELECT finds at the end |
//! | `schema.rs` | a transaction that changed the schema |
//!
//! What must stay true:
//!
//! - What [`Recorder::finish`] gives is what the follower would have captured of the commit. Rows are told by what they are at the end,
//!   never by what the hook was told on the way: a statement that was aborted and a `ROLLBACK TO` leave nothing behind.
//! - Nothing is committed that was not captured: from `begin` on, SQLite is told to refuse a COMMIT that comes before `finish`, and one that
//!   would commit more than `finish` has seen.
//! - A state that could not be moved along is as it was.
//!
//! Why rows are compared, and SQLite's session extension is not asked: ADR 19.
//!
//! Knows nothing of where the changes are kept, and sees one connection only: that nobody else writes is its caller's to know.

mod hook;
mod rows;
mod schema;
mod touched;

use std::collections::BTreeMap;

use rusqlite::ffi;
use synddb_protocol::submission::Changes;

use crate::connection::{Connection, SqliteError};
use crate::schema::SchemaError;
use crate::state::{RunningState, StateError};
use hook::{Flaw, Hook, Phase};
use rows::{Lookups, Out};
use touched::Touched;

/// Most bytes that one transaction may change: of the rows as they were, and of its changes. Both are held in memory.
pub const TRANSACTION_BYTES_MAX: usize = 256 << 20;

/// The table of ours that may lie in the application's database: what is captured and not handed on yet.
pub const OUTBOX_TABLE: &str = "_synddb_outbox";

/// What a transaction may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Rows, `user_version` and `application_id`. A schema that moved is refused.
    Rows,
    /// The schema too. When it moved or rows were touched, every table that stayed is read once, to prove that no row of it changed unseen.
    Schema,
}

/// Why a transaction was not captured. It has to be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// SQLite could not do what was asked.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The schema cannot be replicated.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The rows of a table could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Something else has the connection's preupdate hook.
    #[error("a session records this connection already; delete it first")]
    Taken,
    /// There is no transaction to record: none was begun, or a statement took it back.
    #[error("there is no transaction, or a statement in it took it back; begin one")]
    NoTransaction,
    /// Recording has not begun, or has ended.
    #[error("the transaction is not being recorded; call `begin` first")]
    NotBegun,
    /// The schema changed where only rows may.
    #[error("the transaction changed the schema; change it in a transaction for that")]
    SchemaMoved,
    /// `sqlite_schema` was written by hand.
    #[error("the transaction wrote `sqlite_schema` by hand; use CREATE, ALTER and DROP")]
    SchemaWritten,
    /// The transaction changes more than can be held.
    #[error("the transaction changes too much; write it as several. limit=`{TRANSACTION_BYTES_MAX}`")]
    TooLarge,
    /// SQLite did not give a row before it changed.
    #[error("sqlite did not give a row before it changed; it may be out of memory. code=`{code}`")]
    Unreadable {
        /// SQLite's result code.
        code: i32,
    },
}

/// Captures the transactions of one connection. While it lives it has the connection's preupdate and commit hooks, so no
/// [`crate::session::Session`] can be opened on it.
pub struct Recorder {
    connection: Connection,
    hook: Hook,
    lookups: Lookups,
    /// The version of the schema when recording began.
    schema_version: i64,
    /// The rows of `sqlite_sequence` when recording began, by rowid: no hook tells of it.
    sequence: BTreeMap<i64, Vec<crate::value::OwnedValue>>,
    rows: u64,
    /// Whether `finish` moved a state along that nobody said more about yet.
    is_moved: bool,
}

impl Recorder {
    /// Takes the hooks of a connection. Statements that were compiled before are compiled again when they are next run: they may skip
    /// the hook.
    ///
    /// # Errors
    /// [`RecordError::Taken`] when a session or another recorder has them.
    pub fn install(connection: &Connection) -> Result<Self, RecordError> {
        let hook = Hook::install(connection)?;
        Ok(Self {
            connection: connection.clone(),
            hook,
            lookups: Lookups::default(),
            schema_version: 0,
            sequence: BTreeMap::new(),
            rows: 0,
            is_moved: false,
        })
    }

    /// Begins to record the transaction that was just begun, in which nothing changed yet. `state` is the database's before it.
    ///
    /// # Errors
    /// [`RecordError`] when there is no transaction, or SQLite fails.
    pub fn begin(&mut self, state: &RunningState) -> Result<(), RecordError> {
        if self.connection.sqlite().is_autocommit() {
            return Err(RecordError::NoTransaction);
        }
        self.schema_version = self.number("schema_version")?;
        self.sequence = match state.layout(rows::SEQUENCE) {
            Some(layout) => rows::by_rowid(&self.connection, layout)?,
            None => BTreeMap::new(),
        };
        self.rows = 0;
        self.hook.begin(state.schema(), state.encoding());
        Ok(())
    }

    /// Ends the recording, before COMMIT: what the transaction changed. Moves `state` along, until [`Recorder::committed`] or
    /// [`Recorder::rolled_back`] says what became of it.
    ///
    /// # Errors
    /// [`RecordError`]: roll back, and call [`Recorder::rolled_back`]. `state` is as it was.
    pub fn finish(&mut self, state: &mut RunningState, scope: Scope) -> Result<Changes, RecordError> {
        match self.hook.phase() {
            Phase::Recording => {}
            // A transaction that is there now is another one: a SAVEPOINT began it.
            Phase::Refused if !self.is_moved => return Err(RecordError::NoTransaction),
            Phase::Idle | Phase::Sealed | Phase::Refused | Phase::Reading => {
                return Err(RecordError::NotBegun);
            }
        }
        if self.connection.sqlite().is_autocommit() {
            self.hook.enter(Phase::Refused);
            return Err(RecordError::NoTransaction);
        }
        state.save();
        let mut collected = self.collect(state, scope);
        // What collects may have met an error that took the transaction back.
        if collected.is_ok() && self.hook.phase() != Phase::Recording {
            collected = Err(RecordError::NoTransaction);
        }
        self.is_moved = collected.is_ok();
        if self.is_moved {
            self.hook.enter(Phase::Sealed);
        } else {
            state.restore();
            // They may have been made for a schema that goes with the transaction.
            self.lookups.clear();
            self.hook.enter(Phase::Refused);
        }
        collected
    }

    /// The transaction was committed: `state` stays where it is.
    pub fn committed(&mut self, state: &mut RunningState) {
        if std::mem::take(&mut self.is_moved) {
            state.release();
        }
        self.hook.enter(Phase::Idle);
    }

    /// The transaction was rolled back, or is about to be: `state` goes back to where it was.
    pub fn rolled_back(&mut self, state: &mut RunningState) {
        if std::mem::take(&mut self.is_moved) {
            state.restore();
        }
        // They may have been made for a schema that is gone now.
        self.lookups.clear();
        self.hook.enter(Phase::Idle);
    }

    /// From here on what runs may only read: every COMMIT of something written is refused, also where there is no transaction, until
    /// [`Recorder::end_reading`].
    pub fn begin_reading(&mut self) {
        self.hook.begin_reading();
    }

    /// Ends what [`Recorder::begin_reading`] began, and says whether something was written, or tried to be committed, or the transaction was
    /// taken back meanwhile. Take the transaction back after this, not before: that would be told as well.
    pub fn end_reading(&mut self) -> bool {
        self.hook.phase() == Phase::Reading && self.hook.end_reading()
    }

    /// How many rows the transaction that was finished last changed.
    pub fn row_changes(&self) -> u64 {
        self.rows
    }

    /// Whether rows were changed while nothing was being recorded, since this was last asked or recording began.
    pub fn take_missed(&self) -> bool {
        self.hook.take_missed()
    }

    fn collect(&mut self, state: &mut RunningState, scope: Scope) -> Result<Changes, RecordError> {
        self.hook.flush_virtual_tables(scope == Scope::Schema)?;
        let mut touched = self.hook.take();
        match self.hook.flaw() {
            None => {}
            Some(Flaw::TooLarge) => return Err(RecordError::TooLarge),
            Some(Flaw::SchemaWritten) => return Err(RecordError::SchemaWritten),
            Some(Flaw::Unreadable(code)) => return Err(RecordError::Unreadable { code }),
        }
        let schema_moved = self.number("schema_version")? != self.schema_version;
        if schema_moved && scope == Scope::Rows {
            return Err(RecordError::SchemaMoved);
        }
        self.touch_sequence(&mut touched)?;
        let mut out = Out::default();
        // A savepoint that was rolled back may have taken a schema with it under which rows were touched: what was noted of them is proven
        // as well.
        let schema = if schema_moved || (scope == Scope::Schema && !touched.is_empty()) {
            self.lookups.clear();
            schema::change(&self.connection, state, touched, &mut self.lookups, &mut out)?
        } else {
            self.change_rows(state, touched, &mut out)?;
            Vec::new()
        };
        let (user_version, application_id) = self.change_header(state)?;
        out.check()?;
        self.rows = out.count;
        Ok(Changes { schema, rows: out.rows, user_version, application_id })
    }

    /// The rows of tables that mean what they meant.
    fn change_rows(
        &mut self,
        state: &mut RunningState,
        touched: Touched,
        out: &mut Out,
    ) -> Result<(), RecordError> {
        let schema = state.schema();
        for (name, rows) in touched.into_tables() {
            let Some(layout) = schema.layouts.get(&name) else { continue };
            if rows.is_lost {
                return Err(RecordError::Unreadable { code: ffi::SQLITE_RANGE });
            }
            let effects = rows::effects(&self.connection, layout, rows, &mut self.lookups)?;
            if effects.is_empty() {
                continue;
            }
            rows::account(state.table(&name), layout, &effects);
            rows::write(out, layout, effects)?;
        }
        Ok(())
    }

    /// Takes every row of `sqlite_sequence` for touched: SQLite writes it without a word.
    fn touch_sequence(&mut self, touched: &mut Touched) -> Result<(), RecordError> {
        let there = "SELECT count(*) FROM main.sqlite_schema WHERE name = 'sqlite_sequence'";
        let before = std::mem::take(&mut self.sequence);
        let is_there = !before.is_empty() || {
            let found: i64 = self
                .connection
                .sqlite()
                .prepare_cached(there)
                .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
                .map_err(SqliteError::from)?;
            found > 0
        };
        if is_there {
            rows::touch_all(&self.connection, before, touched)?;
        }
        Ok(())
    }

    fn change_header(&self, state: &mut RunningState) -> Result<(Option<i32>, Option<i32>), RecordError> {
        let number = |name| -> Result<i32, SqliteError> {
            Ok(self.connection.sqlite().pragma_query_value(None, name, |row| row.get(0))?)
        };
        let (user_version, application_id) = (number("user_version")?, number("application_id")?);
        let changed = (
            (user_version != state.user_version()).then_some(user_version),
            (application_id != state.application_id()).then_some(application_id),
        );
        if changed.0.is_some() {
            state.set_user_version(user_version);
        }
        if changed.1.is_some() {
            state.set_application_id(application_id);
        }
        Ok(changed)
    }

    fn number(&self, pragma: &str) -> Result<i64, SqliteError> {
        Ok(self.connection.sqlite().pragma_query_value(Some("main"), pragma, |row| row.get(0))?)
    }
}
