//! The state hash: what a whole database hashes to, kept up to date row by row.
//!
//! A table's rows are accumulated in an LtHash16 (1024 lanes of 16 bits, added lane by lane): adding
//! and removing a row costs the same whatever the table's size, and the order of rows does not matter.
//! Over the table digests, the schema and the header values stands one SHA-256 of canonical CBOR.
//!
//! Knows nothing of SQLite: whoever calls has applied column affinity, leaves out virtual generated
//! columns, and decides which tables count.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::encoding::Canonical;
use crate::encoding::cbor::Writer;
use crate::hash::{StateHash, TableDigest};
use crate::submission::{SchemaRow, TextEncoding};

/// First bytes of every row element: nothing else hashes to one.
const ROW_DOMAIN: &[u8] = b"synddb/row/v1";
/// First item of the outer list.
const STATE_DOMAIN: &str = "synddb/state/v1";
/// Lanes of an LtHash16.
const LANES: usize = 1024;
/// Room for most rows. It bounds nothing.
const ROW_BYTES_USUAL: usize = 256;

/// A stored value: its storage class and its bytes (SQLite, "Datatypes", section 2).
///
/// Two values are equal when class and bytes are: 1 is not 1.0, and 0.0 is not -0.0.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL. Its 64 bits count, so -0.0 differs from 0.0.
    Real(f64),
    /// TEXT, as stored: no validity is asked of it, and a NUL is a byte like any other.
    Text(&'a [u8]),
    /// BLOB.
    Blob(&'a [u8]),
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Integer(one), Value::Integer(two)) => one == two,
            (Value::Real(one), Value::Real(two)) => one.to_bits() == two.to_bits(),
            (Value::Text(one), Value::Text(two)) | (Value::Blob(one), Value::Blob(two)) => one == two,
            (Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_) | Value::Blob(_), _) => false,
        }
    }
}

impl Eq for Value<'_> {}

/// The rows of one table, accumulated.
#[derive(Clone, PartialEq, Eq)]
pub struct TableHash {
    lanes: Box<[u16; LANES]>,
}

impl Default for TableHash {
    fn default() -> Self {
        Self { lanes: Box::new([0; LANES]) }
    }
}

impl std::fmt::Debug for TableHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TableHash({})", self.digest())
    }
}

impl TableHash {
    /// The accumulator whose lanes were kept as these bytes.
    pub fn from_bytes(bytes: &[u8; 2 * LANES]) -> Self {
        let mut table = Self::default();
        for (lane, bytes) in table.lanes.iter_mut().zip(bytes.chunks_exact(2)) {
            *lane = u16::from_le_bytes([bytes[0], bytes[1]]);
        }
        table
    }

    /// The lanes, little-endian, to be kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect()
    }

    /// Adds a row: its rowid where that is its identity, and all its stored columns in schema order.
    ///
    /// A WITHOUT ROWID table's identity is its key columns, which stand among the columns.
    pub fn add<'v>(&mut self, rowid: Option<i64>, columns: impl IntoIterator<Item = Value<'v>>) {
        self.add_written(&written(rowid, columns));
    }

    /// Removes a row that was added.
    pub fn remove<'v>(&mut self, rowid: Option<i64>, columns: impl IntoIterator<Item = Value<'v>>) {
        self.remove_written(&written(rowid, columns));
    }

    /// The digest of the rows: BLAKE3 of the lanes, little-endian.
    pub fn digest(&self) -> TableDigest {
        let mut bytes = [0; 2 * LANES];
        for (bytes, lane) in bytes.chunks_exact_mut(2).zip(self.lanes.iter()) {
            bytes.copy_from_slice(&lane.to_le_bytes());
        }
        TableDigest::from_bytes(*blake3::hash(&bytes).as_bytes())
    }

    /// Adds a row that was written with [`write_row`].
    pub fn add_written(&mut self, row: &[u8]) {
        self.combine(row, u16::wrapping_add);
    }

    /// Removes a row that was written with [`write_row`], and added before or elsewhere.
    pub fn remove_written(&mut self, row: &[u8]) {
        self.combine(row, u16::wrapping_sub);
    }

    /// Adds what was accumulated apart, of rows of the same table: everything that was added there, and removed.
    pub fn merge(&mut self, apart: &Self) {
        for (lane, apart) in self.lanes.iter_mut().zip(apart.lanes.iter()) {
            *lane = lane.wrapping_add(*apart);
        }
    }

    fn combine(&mut self, row: &[u8], combine: impl Fn(u16, u16) -> u16) {
        let mut element = [0; 2 * LANES];
        blake3::Hasher::new().update(row).finalize_xof().fill(&mut element);
        for (lane, bytes) in self.lanes.iter_mut().zip(element.chunks_exact(2)) {
            *lane = combine(*lane, u16::from_le_bytes([bytes[0], bytes[1]]));
        }
    }
}

/// Writes behind `bytes` what BLAKE3 is fed for a row, in which no two rows are alike: for who accumulates it later, or elsewhere.
pub fn write_row<'v>(bytes: &mut Vec<u8>, rowid: Option<i64>, columns: impl IntoIterator<Item = Value<'v>>) {
    bytes.extend_from_slice(ROW_DOMAIN);
    match rowid {
        None => bytes.push(0),
        Some(rowid) => tagged(bytes, 1, rowid.to_le_bytes()),
    }
    for column in columns {
        match column {
            Value::Null => bytes.push(0),
            Value::Integer(value) => tagged(bytes, 1, value.to_le_bytes()),
            Value::Real(value) => tagged(bytes, 2, value.to_bits().to_le_bytes()),
            Value::Text(value) => sized(bytes, 3, value),
            Value::Blob(value) => sized(bytes, 4, value),
        }
    }
}

fn written<'v>(rowid: Option<i64>, columns: impl IntoIterator<Item = Value<'v>>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROW_BYTES_USUAL);
    write_row(&mut bytes, rowid, columns);
    bytes
}

fn tagged(bytes: &mut Vec<u8>, class: u8, value: [u8; 8]) {
    // One append of nine bytes: each looks whether there is room.
    let mut item = [class; 9];
    item[1..].copy_from_slice(&value);
    bytes.extend_from_slice(&item);
}

fn sized(bytes: &mut Vec<u8>, class: u8, value: &[u8]) {
    tagged(bytes, class, (value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value);
}

/// Everything that the state hash covers.
#[derive(Debug, Clone)]
pub struct State {
    /// Every row of `sqlite_schema` that counts, in any order.
    pub schema: Vec<SchemaRow>,
    /// The text encoding.
    pub encoding: TextEncoding,
    /// `PRAGMA user_version`.
    pub user_version: i32,
    /// `PRAGMA application_id`.
    pub application_id: i32,
    /// The digest of every table that stores rows of its own, by name.
    pub tables: BTreeMap<Vec<u8>, TableDigest>,
}

impl State {
    /// The state hash: SHA-256 of the canonical CBOR of all this.
    pub fn hash(&self) -> StateHash {
        let head = StateHead::new(&self.schema, self.encoding, self.user_version, self.application_id);
        head.hash(self.tables.iter().map(|(name, digest)| (name.as_slice(), *digest)))
    }
}

/// What stands before the table digests, hashed once: it changes far more seldom than rows do.
#[derive(Clone)]
pub struct StateHead(Sha256);

impl StateHead {
    /// Hashes everything but the tables. The rows of the schema come in any order.
    pub fn new<'r>(
        schema: impl IntoIterator<Item = &'r SchemaRow>,
        encoding: TextEncoding,
        user_version: i32,
        application_id: i32,
    ) -> Self {
        let mut writer = Writer::default();
        writer.array(6);
        writer.text(STATE_DOMAIN);
        let mut rows: Vec<Vec<u8>> = schema.into_iter().map(Canonical::to_bytes).collect();
        rows.sort_unstable();
        writer.array(rows.len());
        for row in &rows {
            writer.raw(row);
        }
        encoding.write(&mut writer);
        writer.int(user_version.into());
        writer.int(application_id.into());
        Self(Sha256::new_with_prefix(writer.into_bytes()))
    }

    /// The state hash over the digests of these tables, which are ordered by the bytes of their names.
    pub fn hash<'t, T>(&self, tables: T) -> StateHash
    where
        T: IntoIterator<Item = (&'t [u8], TableDigest)>,
        T::IntoIter: ExactSizeIterator,
    {
        let tables = tables.into_iter();
        let mut writer = Writer::default();
        writer.array(tables.len());
        for (name, digest) in tables {
            writer.array(2);
            writer.bytes(name);
            writer.bytes(digest.as_bytes());
        }
        let hasher = self.0.clone().chain_update(writer.into_bytes());
        StateHash::from_bytes(hasher.finalize().into())
    }
}

impl std::fmt::Debug for StateHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateHead")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: [Value<'static>; 3] = [Value::Integer(1), Value::Text(b"a"), Value::Null];

    #[test]
    fn order_does_not_matter_and_removal_undoes() {
        let mut one = TableHash::default();
        one.add(Some(1), ROW);
        one.add(Some(2), ROW);
        let mut other = TableHash::default();
        other.add(Some(2), ROW);
        other.add(Some(3), ROW);
        other.add(Some(1), ROW);
        assert_ne!(one, other);
        other.remove(Some(3), ROW);
        assert_eq!(one, other);
        assert_eq!(TableHash::from_bytes(&other.to_bytes().try_into().unwrap()), one);
    }

    #[test]
    fn what_was_accumulated_apart_counts_as_if_it_had_been_here() {
        let mut here = TableHash::default();
        here.add(Some(1), ROW);
        here.add(Some(2), ROW);
        here.remove(Some(1), ROW);
        let mut row = Vec::new();
        write_row(&mut row, Some(2), ROW);
        let mut apart = TableHash::default();
        apart.remove(Some(1), ROW);
        apart.add_written(&row);
        let mut merged = TableHash::default();
        merged.add(Some(1), ROW);
        merged.merge(&apart);
        assert_eq!(merged, here);
        merged.remove_written(&row);
        assert_eq!(merged, TableHash::default());
    }

    #[test]
    fn rows_that_differ_in_class_or_bytes_have_different_elements() {
        let rows: [(Option<i64>, Vec<Value<'_>>); 16] = [
            (None, vec![Value::Integer(1)]),
            (Some(1), vec![Value::Integer(1)]),
            (Some(1), vec![]),
            (None, vec![]),
            (None, vec![Value::Null]),
            (None, vec![Value::Null, Value::Null]),
            (None, vec![Value::Real(1.0)]),
            (None, vec![Value::Real(0.0)]),
            (None, vec![Value::Real(-0.0)]),
            (None, vec![Value::Text(b"1")]),
            (None, vec![Value::Blob(b"1")]),
            (None, vec![Value::Text(b"")]),
            (None, vec![Value::Text(b"1\0")]),
            (None, vec![Value::Text(b"1\0a"), Value::Text(b"b")]),
            (None, vec![Value::Text(b"1\0"), Value::Text(b"ab")]),
            (None, vec![Value::Text(&[0xff, 0xfe])]),
        ];
        let digests: std::collections::BTreeSet<_> = rows
            .iter()
            .map(|(rowid, columns)| {
                let mut table = TableHash::default();
                table.add(*rowid, columns.iter().copied());
                table.digest()
            })
            .collect();
        assert_eq!(digests.len(), rows.len());
    }
}
