//! Each row of a transaction as it was when it was first touched.
//!
//! The first touch of a row finds it as it was before the transaction, whatever happens to it later; so the later ones are not kept.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use synddb_protocol::state::Value;

use super::TRANSACTION_BYTES_MAX;
use crate::value::OwnedValue;

/// A row as it was: the values of its stored columns, as many as there were; `None` where there was no row.
pub(super) type Original = Option<Vec<OwnedValue>>;

/// What a value takes in memory beside its bytes: itself, and what an allocation of its own costs.
const VALUE_BYTES: usize = size_of::<OwnedValue>() + 16;
/// What a row takes beside its values, about: its place in a map that is half full, and a vector.
const ROW_BYTES: usize = 2 * (size_of::<i64>() + size_of::<Keyed>()) + 32;

/// A row of a WITHOUT ROWID table that was touched.
#[derive(Debug)]
pub(super) struct Keyed {
    /// The values of its key.
    pub(super) key: Vec<OwnedValue>,
    pub(super) original: Original,
}

/// The rows of one table, by what identifies them.
#[derive(Debug, Default)]
pub(super) struct TouchedRows {
    pub(super) by_rowid: BTreeMap<i64, Original>,
    /// By class and bytes of each value of the key, so that keys that only collate alike are two.
    pub(super) by_key: BTreeMap<Vec<u8>, Keyed>,
    /// Whether a row came that is not laid out as the table's were: another table has its name now, and what is here says nothing.
    pub(super) is_lost: bool,
}

impl TouchedRows {
    /// Takes in what was touched later under another name of the table.
    pub(super) fn append(&mut self, later: Self) {
        self.is_lost |= later.is_lost;
        for (rowid, original) in later.by_rowid {
            self.by_rowid.entry(rowid).or_insert(original);
        }
        for (key, keyed) in later.by_key {
            self.by_key.entry(key).or_insert(keyed);
        }
    }
}

/// The rows of all tables, by the name that a table had then.
#[derive(Debug, Default)]
pub(super) struct Touched {
    tables: BTreeMap<String, TouchedRows>,
    bytes: usize,
}

/// There is more than can be held.
#[derive(Debug)]
pub(super) struct Full;

impl Touched {
    /// Whether the row was touched before.
    pub(super) fn has_rowid(&self, table: &str, rowid: i64) -> bool {
        self.tables.get(table).is_some_and(|rows| rows.by_rowid.contains_key(&rowid))
    }

    /// Whether the row was touched before.
    pub(super) fn has_key(&self, table: &str, key: &[u8]) -> bool {
        self.tables.get(table).is_some_and(|rows| rows.by_key.contains_key(key))
    }

    pub(super) fn touch_rowid(&mut self, table: &str, rowid: i64, original: Original) -> Result<(), Full> {
        let bytes = original_bytes(&original);
        if let Entry::Vacant(entry) = self.rows(table).by_rowid.entry(rowid) {
            entry.insert(original);
            self.grow(bytes)?;
        }
        Ok(())
    }

    pub(super) fn touch_key(&mut self, table: &str, bytes: Vec<u8>, keyed: Keyed) -> Result<(), Full> {
        let size = bytes.len() + original_bytes(&keyed.original) + values_bytes(&keyed.key);
        if let Entry::Vacant(entry) = self.rows(table).by_key.entry(bytes) {
            entry.insert(keyed);
            self.grow(size)?;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Has a table known by nothing but its name.
    pub(super) fn lose(&mut self, table: &str) {
        self.rows(table).is_lost = true;
    }

    /// Gives back the memory of everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The rows that were touched under this name.
    pub(super) fn remove(&mut self, table: &str) -> Option<TouchedRows> {
        self.tables.remove(table)
    }

    pub(super) fn into_tables(self) -> BTreeMap<String, TouchedRows> {
        self.tables
    }

    fn rows(&mut self, table: &str) -> &mut TouchedRows {
        // A look-up first: the name is copied once for each table, not once for each row.
        if !self.tables.contains_key(table) {
            self.tables.insert(table.to_owned(), TouchedRows::default());
        }
        self.tables.get_mut(table).expect("it was just made")
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > TRANSACTION_BYTES_MAX { Err(Full) } else { Ok(()) }
    }
}

fn original_bytes(original: &Original) -> usize {
    ROW_BYTES + original.as_deref().map_or(0, values_bytes)
}

fn values_bytes(values: &[OwnedValue]) -> usize {
    values.iter().map(|value| VALUE_BYTES + value.len()).sum()
}

/// What a row takes in memory when it is copied.
pub(super) fn row_bytes(values: &[Value<'_>]) -> usize {
    values.iter().fold(ROW_BYTES, |sum, value| sum.saturating_add(VALUE_BYTES + length(value)))
}

/// How many bytes text or a blob has.
pub(super) fn length(value: &Value<'_>) -> usize {
    match value {
        Value::Null | Value::Integer(_) | Value::Real(_) => 0,
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_can_be_held_is_told() {
        let mut touched = Touched::default();
        assert!(touched.grow(TRANSACTION_BYTES_MAX - ROW_BYTES).is_ok());
        assert!(touched.touch_rowid("t", 1, None).is_ok());
        assert!(touched.touch_rowid("t", 1, None).is_ok(), "a row is counted once");
        assert!(touched.touch_rowid("t", 2, None).is_err());
    }
}
