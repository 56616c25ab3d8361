//! The rows of one table in two databases, side by side.
//!
//! Both sides come in the order of the table's identity, so that they are merged as they come. Rowids are numbers. The keys of a WITHOUT
//! ROWID table are in the order of collations, which are SQLite's business: where two keys differ, each side is asked for the other's. A
//! key that compares equal and has other bytes is another row: the old one goes, and only then the new one comes.

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicBool};

use synddb_protocol::state::Value;

use super::ReconcileError;
use crate::capture::Sink;
use crate::capture::out::Out;
use crate::capture::table::TableWriter;
use crate::connection::{Connection, SqliteError, quoted};
use crate::file::Damaged;
use crate::schema::{Identity, Layout};
use crate::state::StateError;
use crate::statement::{Row, Statement};
use crate::value::OwnedValue;

/// A table in one of the databases.
#[derive(Clone, Copy)]
pub(crate) struct Side<'s> {
    pub(crate) connection: &'s Connection,
    pub(crate) layout: &'s Layout,
}

/// Writes every row of a table that is new.
pub(super) fn all_new<S: Sink>(
    live: Side<'_>,
    stopping: &AtomicBool,
    out: &mut Out<'_, S>,
) -> Result<(), ReconcileError<S::Error>> {
    let mut scan = live.scan(&live.key()?)?;
    let mut rows = scan.rows();
    let mut writer = TableWriter::new(live.layout, out, None);
    while let Some(row) = rows.next_row()? {
        go_on(stopping)?;
        writer.change(live.rowid(&row)?, None, Some(live.columns(&row)))?;
    }
    Ok(())
}

/// Shows every row of a table, as a changeset has it.
pub(crate) fn all_rows<E>(
    live: Side<'_>,
    stopping: &AtomicBool,
    mut each: impl FnMut(&[Value<'_>]),
) -> Result<(), ReconcileError<E>> {
    let mut scan = live.scan(&live.key()?)?;
    let mut rows = scan.rows();
    while let Some(row) = rows.next_row()? {
        go_on(stopping)?;
        each(&row.values());
    }
    Ok(())
}

/// Writes what became of the rows of a table that both have.
pub(super) fn changed<S: Sink>(
    base: Side<'_>,
    live: Side<'_>,
    stopping: &AtomicBool,
    out: &mut Out<'_, S>,
) -> Result<(), ReconcileError<S::Error>> {
    let mut writer = TableWriter::new(live.layout, out, None);
    each_change(base, live, stopping, |rowid, before, after| Ok(writer.change(rowid, before, after)?))
}

/// Shows what became of the rows of a table that both have: the rowid, or 0 in a WITHOUT ROWID table, and the columns before and after.
pub(crate) fn changed_rows<E>(
    base: Side<'_>,
    live: Side<'_>,
    stopping: &AtomicBool,
    mut each: impl FnMut(i64, Option<Vec<Value<'_>>>, Option<Vec<Value<'_>>>),
) -> Result<(), ReconcileError<E>> {
    each_change(base, live, stopping, |rowid, before, after| {
        each(rowid, before, after);
        Ok(())
    })
}

/// The same. Columns that were added to it since had their defaults.
fn each_change<E>(
    base: Side<'_>,
    live: Side<'_>,
    stopping: &AtomicBool,
    mut each: impl FnMut(i64, Option<Vec<Value<'_>>>, Option<Vec<Value<'_>>>) -> Result<(), ReconcileError<E>>,
) -> Result<(), ReconcileError<E>> {
    let mut join = Join::of(base, live)?;
    let added = live.layout.columns.iter().skip(base.layout.columns.len());
    let added: Vec<OwnedValue> = added.map(|column| column.default.clone()).collect();
    let (mut scan_before, mut scan_after) = (base.scan(&join.key)?, live.scan(&join.key)?);
    let (mut before, mut after) = (scan_before.rows(), scan_after.rows());
    before.advance()?;
    after.advance()?;
    loop {
        go_on(stopping)?;
        let (old, new) = (before.current(), after.current());
        let meeting = match (&old, &new) {
            (None, None) => return Ok(()),
            (Some(_), None) => Meeting::Gone,
            (None, Some(_)) => Meeting::Come,
            (Some(old), Some(new)) => join.meet(old, new)?,
        };
        match (&old, &new) {
            (Some(old), Some(new)) if meeting == Meeting::Same => {
                if !is_equal(old, new, &added) {
                    each(live.rowid(new)?, Some(base.widened(old, &added)), Some(live.columns(new)))?;
                }
            }
            (old, new) => {
                if let Some(old) = old.as_ref().filter(|_| meeting.passes_old()) {
                    each(base.rowid(old)?, Some(base.widened(old, &added)), None)?;
                }
                if let Some(new) = new.as_ref().filter(|_| meeting.passes_new()) {
                    each(live.rowid(new)?, None, Some(live.columns(new)))?;
                }
            }
        }
        if meeting.passes_old() {
            before.advance()?;
        }
        if meeting.passes_new() {
            after.advance()?;
        }
    }
}

fn go_on<E>(stopping: &AtomicBool) -> Result<(), ReconcileError<E>> {
    if stopping.load(atomic::Ordering::Relaxed) { Err(ReconcileError::Stopped) } else { Ok(()) }
}

/// Whether a row is what it was. `added` is what it had in columns that are new.
fn is_equal(old: &Row<'_>, new: &Row<'_>, added: &[OwnedValue]) -> bool {
    let had = old.len();
    (0..had).all(|at| old.value(at) == new.value(at))
        && (had..).zip(added).all(|(at, added)| added.borrow() == new.value(at))
}

impl Side<'_> {
    /// The key of a WITHOUT ROWID table as it orders the table's rows, which may be otherwise than its columns compare. Empty for a table
    /// of rowids.
    fn key(&self) -> Result<Vec<Term>, SqliteError> {
        if self.layout.is_rowid_table() {
            return Ok(Vec::new());
        }
        let sql = "SELECT x.name, x.coll, x.\"desc\" \
                   FROM pragma_index_list(?1, 'main') l, pragma_index_xinfo(l.name, 'main') x \
                   WHERE l.origin = 'pk' AND x.key ORDER BY x.seqno";
        let mut statement = self.connection.sqlite().prepare(sql)?;
        let terms = statement.query_map([&self.layout.name], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
        })?;
        let mut key = Vec::new();
        for term in terms {
            let (name, collation, descending) = term?;
            let column = self.layout.columns.iter().position(|column| column.name == name);
            key.extend(column.map(|column| Term { column, collation, descending }));
        }
        Ok(key)
    }

    /// Every row in the order of its identity: the rowid where it is no column, then the columns.
    fn scan(&self, key: &[Term]) -> Result<Statement, SqliteError> {
        let mut columns: Vec<String> = (0..self.layout.columns.len()).map(|at| self.column(at)).collect();
        let order = match &self.layout.identity {
            Identity::Rowid { name } => {
                columns.insert(0, format!("t.{name}"));
                format!("t.{name}")
            }
            Identity::IntegerKey { column } => self.column(*column),
            Identity::Key { .. } => {
                let terms = key.iter().map(|term| {
                    let direction = if term.descending { " DESC" } else { "" };
                    format!("{} COLLATE {}{direction}", self.column(term.column), quoted(&term.collation))
                });
                terms.collect::<Vec<_>>().join(", ")
            }
        };
        // An index may hold other values than its table only when the file is damaged, and then the table is what counts.
        let table = quoted(&self.layout.name);
        let sql =
            format!("SELECT {} FROM main.{table} AS t NOT INDEXED ORDER BY {order}", columns.join(", "));
        self.connection.prepare(&sql)
    }

    /// A name in quotes that no column has is text to SQLite, unless its table stands before it.
    fn column(&self, at: usize) -> String {
        format!("t.{}", quoted(&self.layout.columns[at].name))
    }

    /// The rowid of a row; 0 in a WITHOUT ROWID table.
    fn rowid(&self, row: &Row<'_>) -> Result<i64, StateError> {
        let value = match self.layout.identity {
            Identity::Rowid { .. } => row.value(0),
            Identity::IntegerKey { column } => row.value(column),
            Identity::Key { .. } => return Ok(0),
        };
        match value {
            Value::Integer(rowid) => Ok(rowid),
            Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => {
                Err(StateError::NoRowid { table: self.layout.name.clone() })
            }
        }
    }

    /// The values of a row's columns.
    fn columns<'r>(&self, row: &'r Row<'_>) -> Vec<Value<'r>> {
        (usize::from(self.layout.has_hidden_rowid())..row.len()).map(|at| row.value(at)).collect()
    }

    /// The values of a row's columns, and of those that it did not have yet.
    fn widened<'r>(&self, row: &'r Row<'_>, added: &'r [OwnedValue]) -> Vec<Value<'r>> {
        self.columns(row).into_iter().chain(added.iter().map(OwnedValue::borrow)).collect()
    }
}

/// One column of a key.
struct Term {
    /// Its place among the columns.
    column: usize,
    collation: String,
    descending: bool,
}

/// What two rows that come next in their tables are to one another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meeting {
    /// Rows of one identity.
    Same,
    /// Two rows of which one has to go before the other one can come.
    Replaced,
    /// The old one is gone; of the new one nothing is known yet.
    Gone,
    /// The new one has come; of the old one nothing is known yet.
    Come,
}

impl Meeting {
    const fn passes_old(self) -> bool {
        !matches!(self, Self::Come)
    }

    const fn passes_new(self) -> bool {
        !matches!(self, Self::Gone)
    }
}

/// Tells which rows of two tables belong together.
struct Join<'j> {
    base: Side<'j>,
    live: Side<'j>,
    key: Vec<Term>,
    /// Where a table has keys: looks for one in each.
    lookups: Option<(Statement, Statement)>,
}

/// What the other side has under a key.
#[derive(PartialEq, Eq)]
enum Found {
    Nothing,
    Same,
    /// A key that compares equal and has other bytes.
    Alike,
}

impl<'j> Join<'j> {
    fn of(base: Side<'j>, live: Side<'j>) -> Result<Self, SqliteError> {
        let key = live.key()?;
        let lookup = |side: Side<'_>| {
            let names: Vec<String> = key.iter().map(|term| side.column(term.column)).collect();
            let terms: Vec<String> = (1..)
                .zip(names.iter().zip(&key))
                .map(|(at, (name, term))| format!("{name} COLLATE {} = ?{at}", quoted(&term.collation)))
                .collect();
            let (names, terms) = (names.join(", "), terms.join(" AND "));
            let table = quoted(&side.layout.name);
            side.connection.prepare(&format!("SELECT {names} FROM main.{table} AS t WHERE {terms}"))
        };
        let lookups = if key.is_empty() { None } else { Some((lookup(base)?, lookup(live)?)) };
        Ok(Self { base, live, key, lookups })
    }

    fn meet<E>(&mut self, old: &Row<'_>, new: &Row<'_>) -> Result<Meeting, ReconcileError<E>> {
        let Some((in_base, in_live)) = &mut self.lookups else {
            let order = self.base.rowid(old)?.cmp(&self.live.rowid(new)?);
            return Ok(match order {
                Ordering::Less => Meeting::Gone,
                Ordering::Equal => Meeting::Same,
                Ordering::Greater => Meeting::Come,
            });
        };
        let values = |row| -> Vec<Value<'_>> { key_of(&self.key, row) };
        let (old, new) = (values(old), values(new));
        if old == new {
            return Ok(Meeting::Same);
        }
        if find(in_live, &old)? == Found::Nothing {
            return Ok(Meeting::Gone);
        }
        // What belongs to the old row stands further on, or is the new one.
        match find(in_base, &new)? {
            Found::Nothing => Ok(Meeting::Come),
            Found::Alike => Ok(Meeting::Replaced),
            Found::Same => {
                Err(Damaged::new("the rows of a table are not in the order of their keys", 0).into())
            }
        }
    }
}

fn key_of<'r>(key: &[Term], row: &'r Row<'_>) -> Vec<Value<'r>> {
    key.iter().map(|term| row.value(term.column)).collect()
}

fn find(lookup: &mut Statement, key: &[Value<'_>]) -> Result<Found, SqliteError> {
    let mut found = Found::Nothing;
    lookup.query::<SqliteError>(key, |row| {
        found = if row.values() == key { Found::Same } else { Found::Alike };
        Ok(())
    })?;
    Ok(found)
}
