//! Applies captured commits to a replica, so that it becomes exactly what the application's database is.
//!
//! ```text
//! begin  { apply }  commit | rollback
//!            |
//!            +-- schema: what goes, what is renamed, new tables        (schema.rs decides, alter.rs does)
//!            +-- rows:   in place; on a clash all old out, all new in   (rows.rs, table.rs)
//!            |           hashed on a thread beside, counted before anybody asks for the state   (counted.rs)
//!            |           STORED generated columns computed and compared; where they differ,
//!            |           given as captured                              (stand_in.rs, sketch.rs, virtuals.rs)
//!            +-- sqlite_sequence, as captured and not as SQLite keeps it (sequence.rs)
//!            +-- schema: new indexes, views, triggers, order            (alter.rs)
//! ```
//!
//! - Before a row changes it is read, and must be what the application's database had, by storage class and bytes.
//! - A commit that fails leaves no trace; the ones before it in the transaction stay.
//! - Nothing of the application runs: no trigger, no foreign key action, no CHECK, no virtual table.
//!
//! [`Applier`] knows nothing of logs and messages, and does not compare state hashes. [`SubmissionApplier`] around it takes what a
//! client sent, waits for the parts of a huge commit (spool.rs), and compares.

mod alter;
mod convert;
mod counted;
mod divergence;
mod places;
pub mod position;
mod rows;
mod schema;
mod sequence;
mod sketch;
mod spool;
mod stand_in;
mod submission;
mod table;
mod tables;
mod virtuals;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::BufRead;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rusqlite::config::DbConfig;
use synddb_protocol::submission::SchemaChange;

pub use divergence::Divergence;
pub use submission::{Applied, SchemaAfter, SubmissionApplier, SubmissionError};

use crate::changeset::ChangesetError;
use crate::connection::{Connection, SqliteError};
use crate::reconcile::{Side, all_rows};
use crate::rules::gathered::{Gathered, Set, Table};
use crate::rules::{spool_failed, unread};
use crate::schema::SchemaError;
use crate::state::{RunningState, StateError};
use crate::statement::Statement;
use alter::Alteration;
use counted::Counted;
use schema::Plan;
use sequence::Sequence;
use stand_in::StandIns;
use tables::Tables;

/// Why a commit was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The commit makes a schema that cannot be replicated.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The replica's state cannot be computed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The rows are no changeset, or cannot be read.
    #[error(transparent)]
    Changeset(#[from] ChangesetError),
    /// The replica is not what the application's database was.
    #[error(transparent)]
    Divergence(Box<Divergence>),
    /// There is no transaction to apply the commit in.
    #[error("no transaction is open on the replica; begin one")]
    NotBegun,
}

impl From<Divergence> for ApplyError {
    fn from(divergence: Divergence) -> Self {
        Self::Divergence(Box::new(divergence))
    }
}

/// One commit to apply. A commit in parts is all of their schema changes, and their rows one after the other.
///
/// The rows are read again, at most four times more, when two of them are in each other's way, or SQLite computes a generated
/// column otherwise than it was captured, each time from a clone of `rows`.
#[derive(Debug, Clone)]
pub struct CommitChanges<'a, R> {
    /// Schema changes in order.
    pub schema: &'a [SchemaChange],
    /// The changeset.
    pub rows: R,
    /// New `user_version`.
    pub user_version: Option<i32>,
    /// New `application_id`.
    pub application_id: Option<i32>,
}

/// Applies captured commits to a replica.
pub struct Applier {
    connection: Connection,
    state: RunningState,
    counted: Counted,
    tables: Tables,
    stand_ins: StandIns,
    save: Statement,
    release: Statement,
    undo: Statement,
    /// Whether the schema was changed in this transaction.
    altered: bool,
    /// What is gathered of each commit for whoever watches, if anybody does.
    watched: Option<Gathered>,
}

impl Applier {
    /// Opens a replica file that nothing else writes, and scans its state.
    ///
    /// # Errors
    /// [`ApplyError`] when the file cannot be opened or read, or its schema cannot be replicated.
    pub fn open(path: &Path) -> Result<Self, ApplyError> {
        Self::over(Connection::open(path)?)
    }

    /// Takes over a connection to a replica, which is no longer good for anything else, and scans the replica's state.
    ///
    /// # Errors
    /// [`ApplyError`] when the replica cannot be read, or its schema cannot be replicated.
    pub fn over(connection: Connection) -> Result<Self, ApplyError> {
        configure(&connection)?;
        let state = RunningState::scan(&connection)?;
        Ok(Self {
            save: connection.prepare("SAVEPOINT synddb_commit")?,
            release: connection.prepare("RELEASE synddb_commit")?,
            undo: connection.prepare("ROLLBACK TO synddb_commit")?,
            counted: Counted::default(),
            tables: Tables::default(),
            stand_ins: StandIns::new(&connection),
            altered: false,
            watched: None,
            connection,
            state,
        })
    }

    /// Gathers from here on what each commit changes in these tables. What is much goes to files without a name in `folder`.
    pub(crate) fn watch(&mut self, tables: BTreeSet<String>, folder: &Path) {
        self.watched = Some(Gathered::new(tables, folder));
    }

    /// Begins a transaction on the replica; several commits may be applied in it.
    ///
    /// # Errors
    /// [`ApplyError::Sqlite`] when one is open already, or another connection writes.
    pub fn begin(&mut self) -> Result<(), ApplyError> {
        self.connection.execute("BEGIN IMMEDIATE")?;
        self.counted.forget();
        while self.state.depth() > 0 {
            self.state.restore();
        }
        self.state.save();
        self.altered = false;
        // Somebody may have given up the transaction in which tables had other texts.
        if self.stand_ins.is_giving() {
            self.reload()?;
            self.stand_ins.forget();
        }
        Ok(())
    }

    /// Applies one commit inside the transaction. After an error the commit left no trace, and the transaction goes on, unless
    /// SQLite gave it up by itself (a full disk does that), which [`Applier::is_open`] tells.
    ///
    /// # Errors
    /// [`ApplyError::Divergence`] when the replica is not what the application's database was; the others when it could not be
    /// found out.
    pub fn apply<R: BufRead + Clone>(&mut self, changes: CommitChanges<'_, R>) -> Result<(), ApplyError> {
        let applied = self.apply_and(changes, Self::settle);
        self.count();
        applied
    }

    /// As [`Applier::apply`], but the state may be behind until [`Applier::count`], and tables may be left with another text in the schema, until
    /// [`Applier::settle`]: it costs far more to give a table another text than to write a row.
    fn apply_unsettled<R: BufRead + Clone>(
        &mut self,
        changes: CommitChanges<'_, R>,
    ) -> Result<(), ApplyError> {
        self.apply_and(changes, |_| Ok(()))
    }

    /// Brings the state up to what was applied.
    fn count(&mut self) {
        self.counted.settle(&mut self.state);
    }

    /// Gives every table its own text again. Where there is nothing to do, nothing is done.
    fn settle(&mut self) -> Result<(), ApplyError> {
        if self.stand_ins.is_giving() {
            self.stand_ins.put_back()?;
            self.tables.clear();
        }
        Ok(())
    }

    #[expect(clippy::needless_pass_by_value, reason = "a commit is applied once")]
    fn apply_and<R: BufRead + Clone>(
        &mut self,
        changes: CommitChanges<'_, R>,
        then: impl FnOnce(&mut Self) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        if !self.is_open() {
            return Err(ApplyError::NotBegun);
        }
        if !changes.schema.is_empty() {
            self.settle()?;
            self.stand_ins.forget();
            // What tables held before goes with them where they go, and stays should the commit be taken back.
            self.count();
        }
        self.counted.begin_commit();
        if let Some(watched) = &self.watched {
            watched.lock().begin();
        }
        self.save()?;
        match self.apply_all(&changes).and_then(|()| then(self)) {
            Ok(()) => {
                self.release.execute(&[])?;
                self.state.release();
                self.counted.end_commit();
                Ok(())
            }
            Err(error) => {
                self.take_back()?;
                Err(error)
            }
        }
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// [`ApplyError::Sqlite`]; where [`SqliteError::is_busy`] the transaction is still open, and the same call may succeed later.
    pub fn commit(&mut self) -> Result<(), ApplyError> {
        self.settle()?;
        self.count();
        let result = self.connection.execute("COMMIT");
        if result.is_ok() {
            self.state.release();
        } else if !self.is_open() {
            self.given_up()?;
        }
        Ok(result?)
    }

    /// Gives the transaction up: the replica and the state are as before `begin`.
    ///
    /// # Errors
    /// [`ApplyError::Sqlite`] when SQLite fails.
    pub fn rollback(&mut self) -> Result<(), ApplyError> {
        if self.is_open() {
            self.connection.execute("ROLLBACK")?;
        }
        self.given_up()
    }

    /// Whether a transaction is open.
    pub fn is_open(&self) -> bool {
        !self.connection.sqlite().is_autocommit()
    }

    /// The replica's state.
    pub fn state(&self) -> &RunningState {
        &self.state
    }

    /// The connection, for what the caller keeps in the same transaction, in tables whose names begin with `_synddb`.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn apply_all<R: BufRead + Clone>(&mut self, changes: &CommitChanges<'_, R>) -> Result<(), ApplyError> {
        let mut sequence = Sequence::default();
        let alteration = if changes.schema.is_empty() {
            None
        } else {
            // SQLite deletes from sqlite_sequence when it drops a table, so what is there has to be known before.
            sequence.load(&self.connection, &self.state)?;
            self.altered = true;
            self.tables.clear();
            let plan = Plan::new(changes.schema, &self.state)?;
            if let Some(watched) = &self.watched {
                plan.tell(&mut watched.lock());
            }
            let alteration = Alteration::new(&self.connection, plan);
            alteration.before_rows(&mut self.state)?;
            Some(alteration)
        };
        self.apply_rows(&changes.rows, &mut sequence)?;
        sequence.settle(&self.connection, &self.state)?;
        if let Some(alteration) = alteration {
            // What is made now is made by the texts of the commit alone, and from the rows that it left.
            self.settle()?;
            self.count();
            alteration.after_rows(&mut self.state)?;
            self.gather_altered()?;
        }
        if let Some(version) = changes.user_version {
            self.connection
                .sqlite()
                .pragma_update(None, "user_version", version)
                .map_err(SqliteError::from)?;
            self.state.set_user_version(version);
        }
        if let Some(id) = changes.application_id {
            self.connection.sqlite().pragma_update(None, "application_id", id).map_err(SqliteError::from)?;
            self.state.set_application_id(id);
        }
        Ok(())
    }

    /// Applies the rows: in place, or, where two of them are in each other's way, all old ones out and then all new ones in. Where
    /// SQLite does not compute what was captured, once more with the generated columns given.
    fn apply_rows<R: BufRead + Clone>(
        &mut self,
        rows: &R,
        sequence: &mut Sequence,
    ) -> Result<(), ApplyError> {
        let before = sequence.clone();
        let mut in_place = true;
        loop {
            self.save()?;
            let (state, counted, tables) = (&mut self.state, &mut self.counted, &mut self.tables);
            let stand_ins = &mut self.stand_ins;
            let watched = self.watched.as_ref().map(Gathered::lock);
            let mut pass =
                rows::Pass::new(&self.connection, state, counted, tables, sequence, stand_ins, watched);
            let result = if in_place { pass.in_place(rows.clone()) } else { pass.out_and_in(rows) };
            drop(pass);
            match result {
                Ok(()) => break,
                Err(rows::RowError::Clash(_)) if in_place => in_place = false,
                Err(rows::RowError::Computed(_)) if !self.stand_ins.is_giving() => self.stand_ins.give()?,
                Err(error) => return Err(error.into()),
            }
            self.undo.execute(&[])?;
            self.release.execute(&[])?;
            self.state.restore();
            self.counted.take_back();
            sequence.clone_from(&before);
            self.reload()?;
        }
        self.release.execute(&[])?;
        self.state.release();
        Ok(())
    }

    /// Of a table that was altered, all rows count as changed.
    fn gather_altered(&self) -> Result<(), ApplyError> {
        let Some(watched) = &self.watched else { return Ok(()) };
        let altered = |table: &Table| table.altered.then(|| table.name.clone());
        let altered: Vec<String> = watched.lock().tables().iter().filter_map(altered).collect();
        for table in altered {
            let found = self.state.layouts().values().find(|layout| layout.name.eq_ignore_ascii_case(&table));
            let Some(layout) = found else { continue };
            let mut inner = watched.lock();
            let Some(at) = inner.find(&table) else { continue };
            inner.clear_set(at, Set::Changed);
            let side = Side { connection: &self.connection, layout };
            let never = AtomicBool::new(false);
            all_rows::<Infallible>(side, &never, |row| inner.push(at, Set::Changed, row)).map_err(unread)?;
        }
        Ok(())
    }

    /// Whoever looks at a commit sees tables with their own texts.
    fn show<T>(
        &mut self,
        look: impl FnOnce(&Self, &Gathered) -> Result<T, ApplyError>,
    ) -> Result<Option<T>, ApplyError> {
        self.settle()?;
        let Some(watched) = &self.watched else { return Ok(None) };
        if let Some(error) = watched.lock().take_failure() {
            return Err(spool_failed(&error).into());
        }
        look(self, watched).map(Some)
    }

    fn save(&mut self) -> Result<(), SqliteError> {
        self.save.execute(&[])?;
        self.state.save();
        Ok(())
    }

    /// Takes a failed commit back.
    fn take_back(&mut self) -> Result<(), ApplyError> {
        if !self.is_open() {
            return self.given_up();
        }
        // The state has one save point for the transaction, and then one for each of SQLite's: the commit's, and the rows' too
        // if the error came from there.
        while self.state.depth() > 1 {
            self.undo.execute(&[])?;
            self.release.execute(&[])?;
            self.state.restore();
        }
        self.counted.take_back();
        self.reload()?;
        // Commits before this one may have left other texts.
        self.settle()?;
        self.stand_ins.forget();
        Ok(())
    }

    /// The transaction is gone: the state follows.
    fn given_up(&mut self) -> Result<(), ApplyError> {
        self.counted.forget();
        while self.state.depth() > 0 {
            self.state.restore();
        }
        self.reload()?;
        self.stand_ins.forget();
        Ok(())
    }

    /// Makes SQLite forget a schema that was taken back, also one in which tables had another text.
    fn reload(&mut self) -> Result<(), ApplyError> {
        if self.altered || self.stand_ins.is_giving() {
            if let Some(watched) = &self.watched {
                watched.lock().schema_changed();
            }
            self.tables.clear();
            self.connection.execute("PRAGMA writable_schema = RESET")?;
        }
        Ok(())
    }
}

/// Makes SQLite store what it is given and do nothing else.
fn configure(connection: &Connection) -> Result<(), SqliteError> {
    let sqlite = connection.sqlite();
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // A quoted name that is no column must be an error and not a text.
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.execute(
        "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; PRAGMA cell_size_check = ON; \
         PRAGMA writable_schema = OFF",
    )
}
