//! A commit as rules see it.

use std::cell::RefCell;

use synddb_protocol::id::CommitNumber;
use synddb_protocol::state::Value;
use synddb_protocol::submission::{CommitKind, TextEncoding};

use super::gathered::{Gathered, Row, Set};
use crate::apply::ApplyError;
use crate::connection::{Connection, SqliteError};
use crate::schema::{Identity, Layout};
use crate::state::RunningState;

/// Looks at each commit as soon as it is applied, before the next one.
pub trait Judge {
    /// A commit was applied, and what it claims of the state was compared. `replica` is what it was applied to, in the transaction that is open there: what is
    /// kept of the commit is written there at once, in tables whose names begin with `_synddb`, so that a huge one needs no memory.
    ///
    /// # Errors
    /// [`ApplyError`] when the machine fails. What is found of a commit is no error.
    fn commit(&mut self, commit: &CommitView<'_>, replica: &Connection) -> Result<(), ApplyError>;
}

/// What came: a commit, or everything in which one state differs from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Commit(CommitNumber, CommitKind),
    Difference,
}

/// A commit that was just applied, or a state that takes the place of another one.
pub struct CommitView<'c> {
    pub(super) connection: &'c Connection,
    pub(super) state: &'c RunningState,
    pub(super) gathered: &'c Gathered,
    what: What,
    /// What the machine failed at while rows were shown.
    failed: RefCell<Option<std::io::Error>>,
}

impl<'c> CommitView<'c> {
    pub(crate) const fn new(
        connection: &'c Connection,
        state: &'c RunningState,
        gathered: &'c Gathered,
        what: What,
    ) -> Self {
        Self { connection, state, gathered, what, failed: RefCell::new(None) }
    }

    /// The commit's number; `None` where a state takes the place of another one.
    pub const fn number(&self) -> Option<CommitNumber> {
        match self.what {
            What::Commit(number, _) => Some(number),
            What::Difference => None,
        }
    }

    /// How the commit came about; `None` where a state takes the place of another one.
    pub const fn kind(&self) -> Option<CommitKind> {
        match self.what {
            What::Commit(_, kind) => Some(kind),
            What::Difference => None,
        }
    }

    /// Whether a state takes the place of another one, or is looked at for the first time.
    pub(super) const fn is_difference(&self) -> bool {
        matches!(self.what, What::Difference)
    }

    /// How text is stored: bytes of a shown row are in it.
    pub fn encoding(&self) -> TextEncoding {
        self.connection.encoding()
    }

    /// What the commit did to a table that is watched; `None` where it did nothing to it.
    pub fn table(&self, name: &str) -> Option<TableChanges<'_>> {
        let inner = self.gathered.lock();
        let at = inner.find(name)?;
        let table = &inner.tables()[at];
        if !table.touched {
            return None;
        }
        let (replaced, altered) = (table.replaced, table.altered);
        let layout = self.state.layout(&table.name);
        Some(TableChanges { view: self, at, layout, replaced, altered })
    }

    /// Reads the state that the commit left: one statement that changes nothing, in whatever time it takes.
    ///
    /// # Errors
    /// [`SqliteError`] when SQLite does not understand it, or it would write.
    pub fn query(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut each: impl FnMut(&[Value<'_>]),
    ) -> Result<(), SqliteError> {
        if !self.connection.sqlite().prepare(sql)?.readonly() {
            return Err(SqliteError::new("a rule reads, and writes nothing", rusqlite::ffi::SQLITE_AUTH));
        }
        self.connection.prepare(sql)?.query(values, |row| {
            each(&row.values());
            Ok(())
        })
    }

    /// What the machine failed at while rows were shown.
    pub(crate) fn take_failure(&self) -> Option<std::io::Error> {
        self.failed.take()
    }
}

/// What a commit did to one table.
pub struct TableChanges<'v> {
    view: &'v CommitView<'v>,
    at: usize,
    layout: Option<&'v Layout>,
    replaced: bool,
    altered: bool,
}

impl TableChanges<'_> {
    /// The names of the columns that rows are shown with. Empty where the table is gone.
    pub fn columns(&self) -> Vec<&str> {
        self.layout.map_or_else(Vec::new, |layout| {
            layout.columns.iter().map(|column| column.name.as_str()).collect()
        })
    }

    /// Whether the commit dropped the table, and perhaps made another one of its name: what it held is not shown.
    pub const fn is_replaced(&self) -> bool {
        self.replaced
    }

    /// Whether the commit changed the table itself, as by a new column: all its rows are shown as changed.
    pub const fn is_altered(&self) -> bool {
        self.altered
    }

    /// How many rows were updated or deleted.
    pub fn before_count(&self) -> u64 {
        self.view.gathered.lock().tables()[self.at].count(Set::Before)
    }

    /// The highest integer that stands in the first column of rows that a commit inserted. Rows that it updated, or that are only shown because the table was
    /// altered, do not count.
    pub fn last_inserted(&self) -> Option<i64> {
        self.view.gathered.lock().tables()[self.at].last_inserted
    }

    /// Shows the rows that were inserted or updated, as they are now.
    pub fn changed(&self, each: impl FnMut(&[Value<'_>])) {
        self.show(Set::Changed, each);
    }

    /// Shows the rows that were deleted, as they were.
    pub fn removed(&self, each: impl FnMut(&[Value<'_>])) {
        self.show(Set::Removed, each);
    }

    /// Shows the rows that were updated or deleted, as they were.
    pub fn before(&self, each: impl FnMut(&[Value<'_>])) {
        self.show(Set::Before, each);
    }

    fn show(&self, set: Set, mut each: impl FnMut(&[Value<'_>])) {
        let has_rowid = self.layout.is_some_and(|layout| matches!(layout.identity, Identity::Rowid { .. }));
        let mut reader = self.view.gathered.reader(self.at, set);
        let mut row = Row::default();
        loop {
            match reader.next(&mut row) {
                Ok(true) => each(&row.values().skip(usize::from(has_rowid)).collect::<Vec<_>>()),
                Ok(false) => return,
                Err(error) => {
                    *self.view.failed.borrow_mut() = Some(error);
                    return;
                }
            }
        }
    }
}
