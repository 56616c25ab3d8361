//! Tables that have another text than their own for a while, so that their STORED generated columns can be given the values that were
//! captured.
//!
//! The SQLite that wrote a row may have computed another value than this one does: what a real becomes as text, for one, has changed
//! between its versions. A stored value is part of the row, so the replica must hold the one that was captured. SQLite lets no
//! statement say it, but a STORED generated column lies in a record as a plain one does. So while such rows are written, the
//! table has another text in `sqlite_schema`, over the same trees (sketch.rs); afterwards it has its own again.
//!
//! Why not otherwise, and what it costs: ADR 20.
//!
//! - Indexes stay what they are, also those on expressions and of some rows only: SQLite computes their entries from what is stored.
//! - What VIRTUAL columns come to is asked of the table's own text (virtuals.rs).
//! - No other text is left when the applier returns to its caller, nor when the schema changes. Where a save point was taken back, it
//!   may be gone already; so a table gets its own text back only if it has the other one.

use rusqlite::ffi::SQLITE_CORRUPT;
use synddb_protocol::state::Value;

use super::sketch::{Sketch, Virtual, facts};
use super::virtuals::{Given, Virtuals};
use crate::connection::{Connection, SqliteError};
use crate::schema::{Layout, Object, from_text};

/// Most tables whose other texts are remembered when they have their own again.
const TEXTS_MAX: usize = 256;

/// A table, its own text, and the other one.
struct StandIn {
    table: String,
    name: Vec<u8>,
    own: Vec<u8>,
    other: Vec<u8>,
    /// Absent in a table without VIRTUAL columns.
    virtuals: Option<Virtuals>,
    /// Whether the table may have the other text.
    is_put: bool,
}

/// The tables that have, or had, another text.
pub(super) struct StandIns {
    connection: Connection,
    /// There while values are given.
    given: Option<Given>,
    tables: Vec<StandIn>,
}

impl StandIns {
    pub(super) fn new(connection: &Connection) -> Self {
        Self { connection: connection.clone(), given: None, tables: Vec::new() }
    }

    /// Whether STORED generated columns are given their values, and not computed.
    pub(super) fn is_giving(&self) -> bool {
        self.given.is_some()
    }

    /// From now on, until [`StandIns::put_back`], values are given.
    ///
    /// # Errors
    /// [`SqliteError`] when memory runs out.
    pub(super) fn give(&mut self) -> Result<(), SqliteError> {
        self.given = Some(Given::on(&self.connection)?);
        Ok(())
    }

    /// Gives a table a text that lets its STORED generated columns be given values, and returns its place here. `None`, and nothing has
    /// changed, when there is no text that SQLite takes for the same table.
    ///
    /// # Errors
    /// [`SqliteError`] when the schema cannot be written.
    pub(super) fn put(&mut self, table: &Object, layout: &Layout) -> Result<Option<usize>, SqliteError> {
        if let Some(at) = self.tables.iter().position(|known| known.table == layout.name) {
            self.tables[at].is_put = true;
            self.tables[at].replace(&self.connection)?;
            reload(&self.connection)?;
            return Ok(Some(at));
        }
        let Some(mut new) = StandIn::of(&self.connection, table, layout) else { return Ok(None) };
        let before = facts(&self.connection, &layout.name)?;
        new.is_put = true;
        new.replace(&self.connection)?;
        // A schema that SQLite does not take is no error here: the table's own text comes back.
        let taken = reload(&self.connection).and_then(|()| facts(&self.connection, &layout.name));
        self.tables.push(new);
        if taken.is_ok_and(|after| after == before) {
            return Ok(Some(self.tables.len() - 1));
        }
        if let Some(refused) = self.tables.last() {
            refused.restore(&self.connection)?;
        }
        self.tables.pop();
        reload(&self.connection)?;
        Ok(None)
    }

    /// Has SQLite know what the VIRTUAL columns of the row that is written next come to.
    ///
    /// # Errors
    /// [`SqliteError`] when one cannot be computed.
    pub(super) fn compute_virtuals(&mut self, at: usize, row: &[Value<'_>]) -> Result<(), SqliteError> {
        let virtuals = self.tables.get_mut(at).and_then(|table| table.virtuals.as_mut());
        if let (Some(virtuals), Some(given)) = (virtuals, &self.given) {
            given.set(virtuals.compute(row)?);
        }
        Ok(())
    }

    /// Gives every table its own text again. Statements that were prepared meanwhile are void.
    ///
    /// # Errors
    /// [`SqliteError`] when the schema cannot be written; then this is still to be done.
    pub(super) fn put_back(&mut self) -> Result<(), SqliteError> {
        if self.given.is_none() {
            return Ok(());
        }
        for table in self.tables.iter().filter(|table| table.is_put) {
            table.restore(&self.connection)?;
        }
        reload(&self.connection)?;
        for table in &mut self.tables {
            table.is_put = false;
        }
        self.given = None;
        if self.tables.len() > TEXTS_MAX {
            self.tables.clear();
        }
        Ok(())
    }

    /// Forgets all texts: the schema changes, or a transaction is gone and they with it.
    pub(super) fn forget(&mut self) {
        self.tables.clear();
        self.given = None;
    }
}

impl StandIn {
    fn of(connection: &Connection, table: &Object, layout: &Layout) -> Option<Self> {
        let own = table.row.sql.clone()?;
        let sketch = Sketch::of(connection, table).ok()?;
        let text = sketch.text(layout, &layout.name, Virtual::Given);
        if !sketch.means_the_same(connection, table, layout) {
            return None;
        }
        let virtuals = match sketch.virtuals() {
            names if names.is_empty() => None,
            names => Some(Virtuals::of(sketch, layout, &names).ok()?),
        };
        Some(Self {
            table: layout.name.clone(),
            name: table.row.name.clone(),
            own,
            other: from_text(&text, connection.encoding()),
            virtuals,
            is_put: false,
        })
    }

    /// Gives the table the other text.
    fn replace(&self, connection: &Connection) -> Result<(), SqliteError> {
        let sql = "UPDATE main.sqlite_schema SET sql = ?2 WHERE type = 'table' AND name = ?1";
        match write(connection, sql, &[Value::Text(&self.name), Value::Text(&self.other)])? {
            1 => Ok(()),
            _ => Err(SqliteError::new("a table is not in the schema", SQLITE_CORRUPT)),
        }
    }

    /// Gives the table its own text, if it has the other one.
    fn restore(&self, connection: &Connection) -> Result<(), SqliteError> {
        let sql = "UPDATE main.sqlite_schema SET sql = ?2 WHERE type = 'table' AND name = ?1 AND sql = ?3";
        let texts = [&self.name, &self.own, &self.other].map(|text| Value::Text(text));
        write(connection, sql, &texts).map(drop)
    }
}

fn write(connection: &Connection, sql: &str, values: &[Value<'_>]) -> Result<usize, SqliteError> {
    connection.execute("PRAGMA writable_schema = ON")?;
    connection.prepare(sql)?.execute(values)
}

/// Has SQLite read the schema anew.
fn reload(connection: &Connection) -> Result<(), SqliteError> {
    connection.execute("PRAGMA writable_schema = RESET; SELECT 1 FROM main.sqlite_schema LIMIT 1")
}
