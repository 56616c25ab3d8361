//! Rows of one table: from payloads to a changeset and the state hash.

use std::collections::BTreeMap;

use synddb_protocol::state::{TableHash, Value};

use super::CaptureError;
use super::out::Out;
use super::probes::planted::{Bug, planted};
use super::rows::RowVisitor;
use super::tally::Counting;
use super::{PollError, Sink};
use crate::changeset::{self, Table};
use crate::file::{Damaged, record};
use crate::schema::{Identity, Layout};
use crate::state::hashing::Combine;

/// How a table's changesets name its columns.
pub(super) fn changeset_table(layout: &Layout) -> Table {
    let mut key: Vec<bool> = vec![false; layout.columns.len()];
    match &layout.identity {
        Identity::Rowid { .. } => key.insert(0, true),
        Identity::IntegerKey { column } => key[*column] = true,
        Identity::Key { columns } => columns.iter().for_each(|column| key[*column] = true),
    }
    Table { name: layout.name.clone(), key }
}

/// The values of a row's columns, in schema order, as reading the table gives them. They are written into `values`, whatever these were.
pub(super) fn columns<'v>(
    layout: &'v Layout,
    rowid: i64,
    payload: &'v [u8],
    mut values: Vec<Value<'v>>,
) -> Result<Vec<Value<'v>>, Damaged> {
    values.clear();
    // Room for the rowid, which a changeset may name first.
    values.reserve(layout.columns.len() + 1);
    values.resize(layout.columns.len(), Value::Null);
    let mut places = layout.record.iter().enumerate();
    let mut next = || {
        let (at, column) = places.next()?;
        Some(if planted(Bug::KeyInTableOrder) { at } else { *column })
    };
    let read = record::each_field(payload, |field| {
        // What a record has beyond the columns of its table nobody reads.
        if let Some(column) = next() {
            let is_raw = planted(Bug::IgnoreRealAffinity);
            values[column] = if is_raw { field } else { misread(layout.columns[column].read(field)) };
        }
    });
    read.ok_or(Damaged::new("a row is no record", 0))?;
    // Or shorter: of a column that was added since.
    while let Some(column) = next() {
        let default = layout.columns[column].default.borrow();
        values[column] = if planted(Bug::IgnoreDefaults) { Value::Null } else { default };
    }
    if let Identity::IntegerKey { column } = layout.identity
        && !planted(Bug::LoseIntegerKey)
    {
        values[column] = Value::Integer(rowid);
    }
    Ok(values)
}

/// The value, unless a planted fault makes another one of it.
fn misread(value: Value<'_>) -> Value<'_> {
    if let Value::Text(text) = value
        && planted(Bug::EndTextAtNul)
    {
        return Value::Text(text.split(|byte| *byte == 0).next().unwrap_or_default());
    }
    let is_constant = matches!(value, Value::Integer(0 | 1));
    if is_constant && planted(Bug::IgnoreConstantTypes) { Value::Null } else { value }
}

/// The values of a row as a changeset has them: the rowid first where it is no column.
fn identified<'v>(layout: &Layout, rowid: i64, mut values: Vec<Value<'v>>) -> Vec<Value<'v>> {
    if layout.has_hidden_rowid() {
        values.insert(0, Value::Integer(rowid));
    }
    values
}

/// Adds a row to what the table's rows hash to, or takes it out.
pub(super) fn accumulate(
    hash: &mut TableHash,
    layout: &Layout,
    rowid: i64,
    columns: &[Value<'_>],
    combine: Combine,
) {
    let rowid = layout.is_rowid_table().then_some(rowid);
    match combine {
        Combine::Add => hash.add(rowid, columns.iter().copied()),
        Combine::Remove => hash.remove(rowid, columns.iter().copied()),
    }
}

/// Room for the values of the two sides of a row, so that not every row takes memory anew.
#[derive(Default)]
struct Room(Vec<Vec<Value<'static>>>);

impl Room {
    fn take<'v>(&mut self) -> Vec<Value<'v>> {
        self.0.pop().unwrap_or_default()
    }

    fn give_back(&mut self, mut values: Vec<Value<'_>>) {
        if self.0.len() < 2 {
            // No value stays, so what they were borrowed from may go. To collect nothing keeps the memory, as std does it.
            values.clear();
            self.0.push(values.into_iter().map(|_| Value::Null).collect());
        }
    }
}

/// Writes the changes of one table.
pub(crate) struct TableWriter<'w, 's, S> {
    layout: &'w Layout,
    table: Table,
    out: &'w mut Out<'s, S>,
    /// `None` where the table is hashed as a whole after the commit, and where the state is known.
    counting: Option<Counting<'w>>,
    begun: bool,
    room: Room,
    /// Rows of a WITHOUT ROWID table that are gone, by identity, until it is known whether they came again.
    gone: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Rows of it that came, by identity.
    come: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'w, 's, S: Sink> TableWriter<'w, 's, S> {
    pub(crate) fn new(layout: &'w Layout, out: &'w mut Out<'s, S>, counting: Option<Counting<'w>>) -> Self {
        let table = changeset_table(layout);
        let (gone, come) = (BTreeMap::new(), BTreeMap::new());
        Self { layout, table, out, counting, begun: false, room: Room::default(), gone, come }
    }

    /// Writes what had to wait until all rows were seen. Deletes come first: two keys may be equal to a collation and differ in bytes.
    pub(super) fn finish(mut self) -> Result<(), PollError<S::Error>> {
        let (gone, mut come) = (std::mem::take(&mut self.gone), std::mem::take(&mut self.come));
        let mut stayed = Vec::new();
        for (key, before) in gone {
            match come.remove(&key) {
                None => self.write(0, Some(&before), None)?,
                Some(after) => stayed.push((before, after)),
            }
        }
        for (before, after) in stayed {
            self.write(0, Some(&before), Some(&after))?;
        }
        for after in come.values() {
            self.write(0, None, Some(after))?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        rowid: i64,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<(), PollError<S::Error>> {
        let layout = self.layout;
        let mut read =
            |payload| columns(layout, rowid, payload, self.room.take()).map_err(CaptureError::from);
        let (before, after) = (before.map(&mut read).transpose()?, after.map(&mut read).transpose()?);
        self.change(rowid, before, after)
    }

    /// Writes what became of a row, told by the values of its columns. The rowid is 0 in a WITHOUT ROWID table.
    pub(crate) fn change(
        &mut self,
        rowid: i64,
        before: Option<Vec<Value<'_>>>,
        after: Option<Vec<Value<'_>>>,
    ) -> Result<(), PollError<S::Error>> {
        let layout = self.layout;
        if before == after {
            return Ok(());
        }
        if !self.begun {
            changeset::write_table(self.out.rows, &self.table);
            self.begun = true;
        }
        if let Some(counting) = &mut self.counting {
            if let Some(before) = &before {
                counting.gather(layout, rowid, before, Combine::Remove);
            }
            if let Some(after) = &after {
                counting.gather(layout, rowid, after, Combine::Add);
            }
        }
        let identified = |values| identified(layout, rowid, values);
        let (before, after) = (before.map(identified), after.map(identified));
        let rows = &mut *self.out.rows;
        match (&before, &after) {
            (None, Some(new)) => changeset::write_insert(rows, new),
            (Some(old), None) => changeset::write_delete(rows, old),
            (Some(old), Some(new)) => changeset::write_update(rows, &self.table.key, old, new),
            (None, None) => {}
        }
        before.into_iter().chain(after).for_each(|values| self.room.give_back(values));
        self.out.row_written(self.counting.as_mut())
    }

    /// The identity of a row of a WITHOUT ROWID table, as bytes: class and bytes of each key column.
    fn key(&self, payload: &[u8]) -> Result<Vec<u8>, CaptureError> {
        let values = columns(self.layout, 0, payload, Vec::new())?;
        let mut key = Vec::new();
        if let Identity::Key { columns } = &self.layout.identity {
            let identity: Vec<Value<'_>> = columns.iter().map(|column| values[*column]).collect();
            changeset::write_insert(&mut key, &identity);
        }
        Ok(key)
    }
}

impl<S: Sink> RowVisitor for TableWriter<'_, '_, S> {
    type Error = PollError<S::Error>;

    fn row(&mut self, rowid: i64, before: Option<&[u8]>, after: Option<&[u8]>) -> Result<(), Self::Error> {
        if self.layout.is_rowid_table() {
            return self.write(rowid, before, after);
        }
        if let Some(before) = before {
            self.gone.insert(self.key(before)?, before.to_vec());
        }
        if let Some(after) = after {
            // All that is gone was shown before, so where nothing is, nothing can have come again.
            if self.gone.is_empty() {
                return self.write(0, None, Some(after));
            }
            self.come.insert(self.key(after)?, after.to_vec());
        }
        Ok(())
    }
}
