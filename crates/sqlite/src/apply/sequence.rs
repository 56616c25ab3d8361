//! The rows of `sqlite_sequence`, which SQLite writes by itself whenever a row goes into an AUTOINCREMENT table.
//!
//! What the application's database had need not be what SQLite would make of the same rows: an application may write the table as
//! it likes. So before SQLite gets a chance to write it, it is remembered; the captured changes are made to what is remembered;
//! and in the end the table is made to hold that.

use std::collections::BTreeMap;

use synddb_protocol::state::Value;
use synddb_protocol::submission::TextEncoding;

use super::divergence::shown;
use super::schema::SEQUENCE;
use super::{ApplyError, Divergence};
use crate::changeset::RowChange;
use crate::connection::{Connection, SqliteError};
use crate::state::RunningState;
use crate::value::OwnedValue;

/// The columns after the rowid, in order.
const COLUMNS: [&str; 2] = ["name", "seq"];

type Rows = BTreeMap<i64, Vec<OwnedValue>>;

/// What `sqlite_sequence` has to hold after the commit; `None` as long as nothing of the commit can have changed it.
#[derive(Debug, Clone, Default)]
pub(super) struct Sequence(Option<Rows>);

impl Sequence {
    /// Remembers what the table holds, unless that was done. Comes before everything that makes SQLite write it.
    pub(super) fn load(&mut self, connection: &Connection, state: &RunningState) -> Result<(), SqliteError> {
        if self.0.is_none() {
            let there = state.layout(SEQUENCE).is_some();
            self.0 = Some(if there { read(connection)? } else { Rows::new() });
        }
        Ok(())
    }

    /// Makes a captured change to what was remembered, and to the state.
    pub(super) fn change(
        &mut self,
        change: &RowChange<'_>,
        state: &mut RunningState,
    ) -> Result<(), ApplyError> {
        let encoding = state.encoding();
        let rows = self.0.get_or_insert_default();
        let (rowid, new) = match change {
            RowChange::Insert { new } => {
                let (rowid, new) = split(new)?;
                if rows.contains_key(&rowid) {
                    let identity = row_text(rowid);
                    return Err(Divergence::Exists { table: SEQUENCE.to_owned(), identity }.into());
                }
                (rowid, Some(new.iter().map(|value| OwnedValue::from(*value)).collect::<Vec<_>>()))
            }
            RowChange::Delete { old } => {
                let (rowid, old) = split(old)?;
                let old: Vec<_> = old.iter().map(|value| Some(*value)).collect();
                compare(rows, rowid, &old, encoding)?;
                (rowid, None)
            }
            RowChange::Update { old, new } => {
                let (Some((Some(Value::Integer(rowid)), old)), Some((_, new))) =
                    (old.split_first(), new.split_first())
                else {
                    return Err(no_rowid());
                };
                let before = compare(rows, *rowid, old, encoding)?;
                let after = before
                    .iter()
                    .zip(new)
                    .map(|(before, new)| new.map_or_else(|| before.clone(), OwnedValue::from));
                (*rowid, Some(after.collect()))
            }
        };
        if let Some(old) = rows.remove(&rowid) {
            state.table(SEQUENCE).remove(Some(rowid), old.iter().map(OwnedValue::borrow));
        }
        if let Some(new) = new {
            state.table(SEQUENCE).add(Some(rowid), new.iter().map(OwnedValue::borrow));
            rows.insert(rowid, new);
        }
        Ok(())
    }

    /// Makes the table hold what it has to.
    pub(super) fn settle(&self, connection: &Connection, state: &RunningState) -> Result<(), SqliteError> {
        let Some(rows) = &self.0 else { return Ok(()) };
        if state.layout(SEQUENCE).is_none() {
            return Ok(());
        }
        let found = read(connection)?;
        if found == *rows {
            return Ok(());
        }
        let mut delete = connection.prepare("DELETE FROM main.sqlite_sequence WHERE rowid = ?1")?;
        for (rowid, _) in found.iter().filter(|(rowid, row)| rows.get(rowid) != Some(row)) {
            delete.execute(&[Value::Integer(*rowid)])?;
        }
        let sql = "INSERT OR ABORT INTO main.sqlite_sequence(rowid, name, seq) VALUES(?1, ?2, ?3)";
        let mut insert = connection.prepare(sql)?;
        for (rowid, row) in rows.iter().filter(|(rowid, row)| found.get(rowid) != Some(row)) {
            let columns = row.iter().map(OwnedValue::borrow);
            let values: Vec<_> = std::iter::once(Value::Integer(*rowid)).chain(columns).collect();
            insert.execute(&values)?;
        }
        Ok(())
    }
}

fn read(connection: &Connection) -> Result<Rows, SqliteError> {
    let mut rows = Rows::new();
    let sql = "SELECT rowid, name, seq FROM main.sqlite_sequence";
    connection.prepare(sql)?.query::<SqliteError>(&[], |row| {
        if let [Value::Integer(rowid), columns @ ..] = row.values().as_slice() {
            rows.insert(*rowid, columns.iter().map(|value| OwnedValue::from(*value)).collect());
        }
        Ok(())
    })?;
    Ok(rows)
}

fn split<'s, 'v>(values: &'s [Value<'v>]) -> Result<(i64, &'s [Value<'v>]), ApplyError> {
    match values {
        [Value::Integer(rowid), columns @ ..] => Ok((*rowid, columns)),
        _ => Err(no_rowid()),
    }
}

fn no_rowid() -> ApplyError {
    Divergence::Shape { table: SEQUENCE.to_owned(), why: "a rowid is an integer" }.into()
}

/// What identifies a row here, for people.
fn row_text(rowid: i64) -> String {
    format!("rowid={}", shown(Value::Integer(rowid), TextEncoding::Utf8))
}

/// The row, if its values are these where they are given.
fn compare<'r>(
    rows: &'r Rows,
    rowid: i64,
    old: &[Option<Value<'_>>],
    encoding: TextEncoding,
) -> Result<&'r [OwnedValue], ApplyError> {
    let (table, identity) = (SEQUENCE.to_owned(), row_text(rowid));
    let Some(row) = rows.get(&rowid) else {
        return Err(Divergence::Missing { table, identity }.into());
    };
    for ((expected, found), column) in old.iter().zip(row).zip(COLUMNS) {
        if let Some(expected) = expected
            && *expected != found.borrow()
        {
            let (expected, found) = (shown(*expected, encoding), shown(found.borrow(), encoding));
            let column = column.to_owned();
            return Err(Divergence::Value { table, identity, column, expected, found }.into());
        }
    }
    Ok(row)
}
