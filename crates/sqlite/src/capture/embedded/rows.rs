//! The rows that were touched against what SELECT finds at the end: a changeset, and the state hash.

use std::collections::{BTreeMap, HashMap};

use rusqlite::ffi;
use synddb_protocol::state::{TableHash, Value};

use super::touched::{Original, Touched, TouchedRows, row_bytes};
use super::{RecordError, TRANSACTION_BYTES_MAX};
use crate::capture::table::{accumulate, changeset_table};
use crate::changeset::{self, Reader, Step};
use crate::connection::{Connection, SqliteError, quoted};
use crate::schema::{Identity, Layout};
use crate::state::hashing::Combine;
use crate::state::{StateError, element};
use crate::statement::Statement;
use crate::value::OwnedValue;

/// The table that SQLite keeps for AUTOINCREMENT.
pub(super) const SEQUENCE: &str = "sqlite_sequence";

/// Most statements that are kept compiled.
const LOOKUPS_MAX: usize = 64;

/// What a transaction did to one row. The values are those of the stored columns.
#[derive(Debug)]
pub(super) struct Effect {
    /// Of a table that has rowids; 0 elsewhere.
    rowid: i64,
    before: Option<Vec<OwnedValue>>,
    after: Option<Vec<OwnedValue>>,
}

impl Effect {
    /// Takes the row as it is now out of a hash in which the last columns have these values, and puts it in with its own.
    pub(super) fn replace_added(&self, hash: &mut TableHash, layout: &Layout, added: &[Value<'_>]) {
        let Some(row) = &self.after else { return };
        let row: Vec<Value<'_>> = row.iter().map(OwnedValue::borrow).collect();
        let had = row.len().saturating_sub(added.len());
        let with_added: Vec<Value<'_>> = row.iter().take(had).chain(added).copied().collect();
        accumulate(hash, layout, self.rowid, &with_added, Combine::Remove);
        accumulate(hash, layout, self.rowid, &row, Combine::Add);
    }
}

/// A changeset that grows.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) rows: Vec<u8>,
    pub(super) count: u64,
}

impl Out {
    fn counted(&mut self) -> Result<(), RecordError> {
        self.count += 1;
        if self.rows.len() > TRANSACTION_BYTES_MAX { Err(RecordError::TooLarge) } else { Ok(()) }
    }

    /// Reads what was written as those who get it will: what they could not read leaves no transaction.
    pub(super) fn check(&self) -> Result<(), RecordError> {
        let unreadable = || SqliteError::new("what was captured cannot be read again", ffi::SQLITE_INTERNAL);
        let mut reader = Reader::new(self.rows.as_slice());
        let mut count = 0;
        while let Some(step) = reader.step().map_err(|_| unreadable())? {
            count += u64::from(matches!(step, Step::Row(_)));
        }
        if count == self.count { Ok(()) } else { Err(unreadable().into()) }
    }
}

/// Statements that find a row of a table, by the table's name. They fit one schema.
#[derive(Default)]
pub(super) struct Lookups(HashMap<String, Statement>);

impl Lookups {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn of(&mut self, connection: &Connection, layout: &Layout) -> Result<&mut Statement, SqliteError> {
        if !self.0.contains_key(&layout.name) {
            if self.0.len() >= LOOKUPS_MAX {
                self.0.clear();
            }
            let identity = match &layout.identity {
                Identity::Rowid { name } => format!(" NOT INDEXED WHERE t.{name} = ?1"),
                Identity::IntegerKey { column } => {
                    format!(" NOT INDEXED WHERE t.{} = ?1", quoted(&layout.columns[*column].name))
                }
                Identity::Key { columns } => {
                    let equal = (1..)
                        .zip(columns)
                        .map(|(at, column)| format!("t.{} = ?{at}", quoted(&layout.columns[*column].name)));
                    format!(" WHERE {}", equal.collect::<Vec<_>>().join(" AND "))
                }
            };
            let sql =
                format!("SELECT {} FROM main.{} AS t{identity}", column_list(layout), quoted(&layout.name));
            self.0.insert(layout.name.clone(), connection.prepare(&sql)?);
        }
        Ok(self.0.get_mut(&layout.name).expect("it was just made"))
    }
}

/// The columns of the table `t`. Without the table's name before it, SQLite takes a name in quotes that no column has for text.
fn column_list(layout: &Layout) -> String {
    layout.columns.iter().map(|column| format!("t.{}", quoted(&column.name))).collect::<Vec<_>>().join(", ")
}

/// A key as bytes: class and bytes of each value.
pub(super) fn key_bytes(key: &[OwnedValue]) -> Vec<u8> {
    let mut bytes = Vec::new();
    changeset::write_insert(&mut bytes, &key.iter().map(OwnedValue::borrow).collect::<Vec<_>>());
    bytes
}

/// What became of the rows of a table that were touched, those that are as they were left out. In the order of the follower: by rowid; where
/// there is none, what is gone first, since two keys may be equal to a collation and differ in bytes.
pub(super) fn effects(
    connection: &Connection,
    layout: &Layout,
    touched: TouchedRows,
    lookups: &mut Lookups,
) -> Result<Vec<Effect>, RecordError> {
    let lookup = lookups.of(connection, layout)?;
    let (mut effects, mut held) = (Vec::new(), Held::default());
    for (rowid, original) in touched.by_rowid {
        if layout.is_rowid_table() {
            let after = current(lookup, &[Value::Integer(rowid)], layout, &mut held, |_| true)?;
            effects.extend(effect(layout, rowid, original, after));
        }
    }
    let (mut stayed, mut came) = (Vec::new(), Vec::new());
    for (bytes, keyed) in touched.by_key {
        let Identity::Key { columns } = &layout.identity else { break };
        let is_it = |row: &[OwnedValue]| {
            let key: Vec<OwnedValue> = columns.iter().filter_map(|at| row.get(*at).cloned()).collect();
            key_bytes(&key) == bytes
        };
        let key: Vec<Value<'_>> = keyed.key.iter().map(OwnedValue::borrow).collect();
        let after = current(lookup, &key, layout, &mut held, is_it)?;
        match effect(layout, 0, keyed.original, after) {
            Some(gone @ Effect { after: None, .. }) => effects.push(gone),
            Some(new @ Effect { before: None, .. }) => came.push(new),
            other => stayed.extend(other),
        }
    }
    effects.append(&mut stayed);
    effects.append(&mut came);
    Ok(effects)
}

/// The row that a look-up finds now. A key may find others that are equal to its collation: `is_it` knows them apart.
fn current(
    lookup: &mut Statement,
    key: &[Value<'_>],
    layout: &Layout,
    held: &mut Held,
    is_it: impl Fn(&[OwnedValue]) -> bool,
) -> Result<Original, RecordError> {
    let mut found = None;
    lookup.query::<RecordError>(key, |row| {
        let values = row.values();
        if values.len() != layout.columns.len() {
            return Err(SqliteError::new("a row has other columns than its table", ffi::SQLITE_SCHEMA).into());
        }
        // Counted before anything is copied: one value alone may be more than is held.
        let before = *held;
        held.row(&values)?;
        let values: Vec<OwnedValue> = values.into_iter().map(OwnedValue::from).collect();
        if is_it(&values) {
            found = Some(values);
        } else {
            *held = before;
        }
        Ok(())
    })?;
    Ok(found)
}

/// How much of the rows as they are is held, of one table: its effects are given back before those of the next are made.
#[derive(Debug, Clone, Copy, Default)]
struct Held(usize);

impl Held {
    fn row(&mut self, values: &[Value<'_>]) -> Result<(), RecordError> {
        self.0 = self.0.saturating_add(row_bytes(values));
        if self.0 > TRANSACTION_BYTES_MAX { Err(RecordError::TooLarge) } else { Ok(()) }
    }
}

fn effect(layout: &Layout, rowid: i64, original: Original, after: Original) -> Option<Effect> {
    let before = original.map(|values| whole(layout, rowid, &values));
    (before != after).then_some(Effect { rowid, before, after })
}

/// A row as it was, as reading it under this layout gives it: columns that were added since have their defaults, and reals that are stored as
/// integers are reals, which SQLite does not make of a default that it gives to the hook.
fn whole(layout: &Layout, rowid: i64, values: &[OwnedValue]) -> Vec<OwnedValue> {
    let columns = layout.columns.iter().enumerate();
    let mut row: Vec<OwnedValue> = columns
        .map(|(at, column)| match values.get(at) {
            Some(value) => column.read(value.borrow()).into(),
            None => column.default.clone(),
        })
        .collect();
    if let Identity::IntegerKey { column } = layout.identity {
        row[column] = Value::Integer(rowid).into();
    }
    row
}

/// Moves the hash of a table along.
pub(super) fn account(hash: &mut TableHash, layout: &Layout, effects: &[Effect]) {
    let columns = layout.columns.len();
    for Effect { rowid, before, after } in effects {
        for (row, combine) in [(before, Combine::Remove), (after, Combine::Add)] {
            if let Some(row) = row {
                let values: Vec<Value<'_>> = row.iter().take(columns).map(OwnedValue::borrow).collect();
                accumulate(hash, layout, *rowid, &values, combine);
            }
        }
    }
}

/// Writes the changes of a table. Each row is given back when it is written: it is not held twice.
pub(super) fn write(out: &mut Out, layout: &Layout, effects: Vec<Effect>) -> Result<(), RecordError> {
    if effects.is_empty() {
        return Ok(());
    }
    let table = changeset_table(layout);
    changeset::write_table(&mut out.rows, &table);
    for Effect { rowid, before, after } in effects {
        let identified = |row| identified(layout, rowid, row);
        match (before.as_deref().map(identified), after.as_deref().map(identified)) {
            (None, Some(new)) => changeset::write_insert(&mut out.rows, &new),
            (Some(old), None) => changeset::write_delete(&mut out.rows, &old),
            (Some(old), Some(new)) => changeset::write_update(&mut out.rows, &table.key, &old, &new),
            (None, None) => {}
        }
        out.counted()?;
    }
    Ok(())
}

/// A row as a changeset has it.
fn identified<'r>(layout: &Layout, rowid: i64, row: &'r [OwnedValue]) -> Vec<Value<'r>> {
    let rowid = layout.has_hidden_rowid().then_some(Value::Integer(rowid));
    rowid.into_iter().chain(row.iter().map(OwnedValue::borrow)).collect()
}

/// Writes every row of a table that is new, and gives what they hash to.
pub(super) fn write_all(
    connection: &Connection,
    layout: &Layout,
    out: &mut Out,
) -> Result<TableHash, RecordError> {
    let mut hash = TableHash::default();
    let mut is_begun = false;
    each_identified(connection, layout, |values, rowid, columns| {
        if !std::mem::replace(&mut is_begun, true) {
            changeset::write_table(&mut out.rows, &changeset_table(layout));
        }
        hash.add(rowid, columns.iter().copied());
        changeset::write_insert(&mut out.rows, values);
        out.counted()
    })?;
    Ok(hash)
}

/// Shows every row of a table: the rowid where it is part of the row, and the columns.
pub(super) fn each(
    connection: &Connection,
    layout: &Layout,
    mut each: impl FnMut(Option<i64>, &[Value<'_>]) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    each_identified(connection, layout, |_, rowid, columns| each(rowid, columns))
}

/// Shows every row of a table in the order of its identity: as a changeset has it, its rowid, its columns.
fn each_identified(
    connection: &Connection,
    layout: &Layout,
    mut each: impl FnMut(&[Value<'_>], Option<i64>, &[Value<'_>]) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    let columns = column_list(layout);
    let (columns, order) = match &layout.identity {
        Identity::Rowid { name } => {
            (format!("t.{name}, {columns}"), format!(" NOT INDEXED ORDER BY t.{name}"))
        }
        Identity::IntegerKey { column } => {
            (columns, format!(" NOT INDEXED ORDER BY t.{}", quoted(&layout.columns[*column].name)))
        }
        Identity::Key { .. } => (columns, String::new()),
    };
    let sql = format!("SELECT {columns} FROM main.{} AS t{order}", quoted(&layout.name));
    connection.prepare(&sql)?.query::<RecordError>(&[], |row| {
        let values = row.values();
        let (rowid, columns) =
            element(layout, &values).ok_or_else(|| StateError::NoRowid { table: layout.name.clone() })?;
        each(&values, rowid, columns)
    })
}

/// Every row of a table that has rowids, by rowid.
pub(super) fn by_rowid(
    connection: &Connection,
    layout: &Layout,
) -> Result<BTreeMap<i64, Vec<OwnedValue>>, SqliteError> {
    read_by_rowid(connection, &column_list(layout), &layout.name)
}

fn read_by_rowid(
    connection: &Connection,
    columns: &str,
    table: &str,
) -> Result<BTreeMap<i64, Vec<OwnedValue>>, SqliteError> {
    let mut rows = BTreeMap::new();
    let sql = format!("SELECT t.rowid, {columns} FROM main.{} AS t NOT INDEXED", quoted(table));
    connection.prepare(&sql)?.query::<SqliteError>(&[], |row| {
        if let [Value::Integer(rowid), columns @ ..] = row.values().as_slice() {
            rows.insert(*rowid, columns.iter().map(|value| OwnedValue::from(*value)).collect());
        }
        Ok(())
    })?;
    Ok(rows)
}

/// Takes every row of `sqlite_sequence` for touched: those that it had, and those that it has.
pub(super) fn touch_all(
    connection: &Connection,
    before: BTreeMap<i64, Vec<OwnedValue>>,
    touched: &mut Touched,
) -> Result<(), RecordError> {
    let now = read_by_rowid(connection, "t.name, t.seq", SEQUENCE)?;
    let came: Vec<i64> = now.keys().filter(|rowid| !before.contains_key(rowid)).copied().collect();
    let had = before.into_iter().filter(|(rowid, row)| now.get(rowid) != Some(row));
    for (rowid, original) in
        had.map(|(rowid, row)| (rowid, Some(row))).chain(came.into_iter().map(|rowid| (rowid, None)))
    {
        touched.touch_rowid(SEQUENCE, rowid, original).map_err(|_| RecordError::TooLarge)?;
    }
    Ok(())
}
