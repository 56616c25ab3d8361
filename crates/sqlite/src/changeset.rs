//! Row changes as bytes: SQLite's changeset format (sqlite3session.c, "Changeset format"), with three agreements.
//!
//! ```text
//! changeset = { table { change } }
//! table     = 'T' columns:varint { 1 if part of the identity, else 0 }:columns name:UTF-8 00
//! change    = 12 00 new | 09 00 old | 17 00 old new        insert, delete, update
//! old, new  = { value }:columns
//! value     = 00 | 01 i64 BE | 02 f64 BE | 03 length:varint text | 04 length:varint blob | 05
//!             absent                                                                       NULL
//! ```
//!
//! - The columns are the stored columns of the table in schema order, with `_rowid_` first where the identity is a rowid that
//!   is no column.
//! - Text is as stored, in the database's encoding. The indirect flag is always 0.
//! - In an update, `old` holds the identity and what changed, `new` what changed. The identity never changes: that is a delete
//!   and an insert.
//!
//! A reader takes any [`BufRead`], so that the rows of one commit may be cut between parts at any byte. It takes memory for what
//! is there, never for what a length claims.

use std::io::{BufRead, Read};
use std::ops::Range;

use synddb_protocol::state::Value;

/// Most columns a table can have in SQLite (`SQLITE_MAX_COLUMN`, at its highest), and the rowid.
const COLUMNS_MAX: usize = 32_768;
/// Longest name of a table in bytes.
const NAME_MAX: u64 = synddb_protocol::limits::NAME_BYTES_MAX as u64;
/// Longest text or blob in bytes (`SQLITE_MAX_LENGTH`, at its highest).
const LENGTH_MAX: u64 = i32::MAX as u64;

/// How much room for texts and blobs is kept from one change to the next, in bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

const TABLE: u8 = b'T';
const INSERT: u8 = 18;
const DELETE: u8 = 9;
const UPDATE: u8 = 23;

/// The table that the following changes belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// For each column whether it is part of the identity.
    pub key: Vec<bool>,
}

/// One row change. Every list has one item for each column of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange<'a> {
    /// The row is new.
    Insert {
        /// All its values.
        new: Vec<Value<'a>>,
    },
    /// The row is gone.
    Delete {
        /// All its values.
        old: Vec<Value<'a>>,
    },
    /// Values of the row changed.
    Update {
        /// The identity, and what the changed columns held.
        old: Vec<Option<Value<'a>>>,
        /// What the changed columns hold.
        new: Vec<Option<Value<'a>>>,
    },
}

/// What stands next in a changeset.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// From here on, changes of this table.
    Table(&'a Table),
    /// A change of the current table.
    Row(RowChange<'a>),
}

/// Bytes that are no changeset.
#[derive(Debug, thiserror::Error)]
pub enum ChangesetError {
    /// The bytes end inside a change.
    #[error("the changeset ends inside a change")]
    Truncated,
    /// The bytes say what no writer says.
    #[error("not a changeset: {why}")]
    Invalid {
        /// What is wrong.
        why: &'static str,
    },
    /// What the bytes are read from failed.
    #[error("cannot read the changeset")]
    Read(#[source] std::io::Error),
}

impl From<std::io::Error> for ChangesetError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Read(error) }
    }
}

/// Writes the start of a table's changes.
pub fn write_table(out: &mut Vec<u8>, table: &Table) {
    out.push(TABLE);
    write_varint(out, table.key.len() as u64);
    out.extend(table.key.iter().map(|part| u8::from(*part)));
    out.extend_from_slice(table.name.as_bytes());
    out.push(0);
}

/// Writes an insert.
pub fn write_insert(out: &mut Vec<u8>, new: &[Value<'_>]) {
    out.extend_from_slice(&[INSERT, 0]);
    new.iter().for_each(|value| write_value(out, Some(*value)));
}

/// Writes a delete.
pub fn write_delete(out: &mut Vec<u8>, old: &[Value<'_>]) {
    out.extend_from_slice(&[DELETE, 0]);
    old.iter().for_each(|value| write_value(out, Some(*value)));
}

/// Writes an update from all old and all new values. Writes nothing when they are the same.
pub fn write_update(out: &mut Vec<u8>, key: &[bool], old: &[Value<'_>], new: &[Value<'_>]) {
    if old == new {
        return;
    }
    out.extend_from_slice(&[UPDATE, 0]);
    for ((old, new), key) in old.iter().zip(new).zip(key) {
        write_value(out, (*key || old != new).then_some(*old));
    }
    for ((old, new), key) in old.iter().zip(new).zip(key) {
        write_value(out, (!*key && old != new).then_some(*new));
    }
}

fn write_value(out: &mut Vec<u8>, value: Option<Value<'_>>) {
    match value {
        None => out.push(0),
        Some(Value::Integer(value)) => write_number(out, 1, value.to_be_bytes()),
        Some(Value::Real(value)) => write_number(out, 2, value.to_bits().to_be_bytes()),
        Some(Value::Text(bytes)) => write_bytes(out, 3, bytes),
        Some(Value::Blob(bytes)) => write_bytes(out, 4, bytes),
        Some(Value::Null) => out.push(5),
    }
}

fn write_number(out: &mut Vec<u8>, class: u8, number: [u8; 8]) {
    // One append of nine bytes: each looks whether there is room.
    let mut item = [class; 9];
    item[1..].copy_from_slice(&number);
    out.extend_from_slice(&item);
}

fn write_bytes(out: &mut Vec<u8>, class: u8, bytes: &[u8]) {
    out.push(class);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes SQLite's variable-length integer, of up to 63 bits here.
fn write_varint(out: &mut Vec<u8>, value: u64) {
    let groups = (64 - value.leading_zeros()).div_ceil(7).max(1);
    for group in (0..groups).rev() {
        let low = u8::try_from((value >> (7 * group)) & 0x7f).unwrap_or(0);
        out.push(if group > 0 { low | 0x80 } else { low });
    }
}

/// Reads a changeset, change by change.
pub struct Reader<R> {
    source: R,
    table: Option<Table>,
    old: Vec<Item>,
    new: Vec<Item>,
    /// The texts and blobs of the change that was read last.
    bytes: Vec<u8>,
}

/// A value of the change that was read last.
#[derive(Debug, Clone)]
enum Item {
    Absent,
    Null,
    Integer(i64),
    Real(f64),
    /// Where it stands among the bytes.
    Text(Range<usize>),
    Blob(Range<usize>),
}

impl Item {
    fn borrow<'v>(&self, bytes: &'v [u8]) -> Option<Value<'v>> {
        let stored = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or_default();
        Some(match self {
            Self::Absent => return None,
            Self::Null => Value::Null,
            Self::Integer(value) => Value::Integer(*value),
            Self::Real(value) => Value::Real(*value),
            Self::Text(range) => Value::Text(stored(range)),
            Self::Blob(range) => Value::Blob(stored(range)),
        })
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads from where `source` stands to its end.
    pub fn new(source: R) -> Self {
        Self::within(source, None)
    }

    /// The same where `source` may stand behind the start of a table's changes: `table` is that table.
    pub const fn within(source: R, table: Option<Table>) -> Self {
        Self { source, table, old: Vec::new(), new: Vec::new(), bytes: Vec::new() }
    }

    /// What is left of the source. Sensible between two steps.
    pub const fn source(&self) -> &R {
        &self.source
    }

    /// The next table or change, or `None` at the end.
    ///
    /// # Errors
    /// [`ChangesetError`]; nothing sensible follows an error.
    pub fn step(&mut self) -> Result<Option<Step<'_>>, ChangesetError> {
        if self.source.fill_buf()?.is_empty() {
            return Ok(None);
        }
        match self.byte()? {
            TABLE => {
                let table = self.read_table()?;
                Ok(Some(Step::Table(self.table.insert(table))))
            }
            code @ (INSERT | DELETE | UPDATE) => self.read_change(code).map(|row| Some(Step::Row(row))),
            _ => Err(ChangesetError::Invalid { why: "there is no such kind of change" }),
        }
    }

    fn read_table(&mut self) -> Result<Table, ChangesetError> {
        let columns = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if columns == 0 || columns > COLUMNS_MAX {
            return Err(ChangesetError::Invalid { why: "a table has from 1 to 32768 columns" });
        }
        let mut key = Vec::new();
        for _ in 0..columns {
            key.push(match self.byte()? {
                0 => false,
                1 => true,
                _ => return Err(ChangesetError::Invalid { why: "a column is part of the identity or not" }),
            });
        }
        if !key.contains(&true) {
            return Err(ChangesetError::Invalid { why: "a row has an identity" });
        }
        let mut name = Vec::new();
        (&mut self.source).take(NAME_MAX + 1).read_until(0, &mut name)?;
        if name.pop() != Some(0) {
            return Err(ChangesetError::Invalid { why: "the name of a table has no end" });
        }
        let name = String::from_utf8(name).map_err(|_| ChangesetError::Invalid { why: "a name is UTF-8" })?;
        Ok(Table { name, key })
    }

    fn read_change(&mut self, code: u8) -> Result<RowChange<'_>, ChangesetError> {
        if self.byte()? != 0 {
            return Err(ChangesetError::Invalid { why: "the indirect flag is 0" });
        }
        let columns = match &self.table {
            Some(table) => table.key.len(),
            None => return Err(ChangesetError::Invalid { why: "a change follows its table" }),
        };
        self.old.clear();
        self.new.clear();
        self.bytes.clear();
        // The room that one large row took is not kept.
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        for _ in 0..if code == INSERT { 0 } else { columns } {
            let value = self.value()?;
            self.old.push(value);
        }
        for _ in 0..if code == DELETE { 0 } else { columns } {
            let value = self.value()?;
            self.new.push(value);
        }
        match code {
            INSERT => Ok(RowChange::Insert { new: all(&self.new, &self.bytes)? }),
            DELETE => Ok(RowChange::Delete { old: all(&self.old, &self.bytes)? }),
            _ => self.update(),
        }
    }

    fn update(&self) -> Result<RowChange<'_>, ChangesetError> {
        let key = self.table.as_ref().map(|table| table.key.as_slice()).unwrap_or_default();
        let [old, new] = [&self.old, &self.new].map(|items| present(items, &self.bytes));
        for ((old, new), key) in old.iter().zip(&new).zip(key) {
            let right = if *key {
                old.is_some() && new.is_none()
            } else {
                old.is_some() == new.is_some() && (old.is_none() || old != new)
            };
            if !right {
                return Err(ChangesetError::Invalid { why: "an update holds the identity and what changed" });
            }
        }
        if new.iter().all(Option::is_none) {
            return Err(ChangesetError::Invalid { why: "an update changes something" });
        }
        Ok(RowChange::Update { old, new })
    }

    fn value(&mut self) -> Result<Item, ChangesetError> {
        Ok(match self.byte()? {
            0 => Item::Absent,
            1 => Item::Integer(i64::from_be_bytes(self.array()?)),
            2 => {
                let value = f64::from_bits(u64::from_be_bytes(self.array()?));
                if value.is_nan() {
                    return Err(ChangesetError::Invalid { why: "SQLite stores no NaN" });
                }
                Item::Real(value)
            }
            3 => Item::Text(self.bytes()?),
            4 => Item::Blob(self.bytes()?),
            5 => Item::Null,
            _ => return Err(ChangesetError::Invalid { why: "there is no such kind of value" }),
        })
    }

    fn bytes(&mut self) -> Result<Range<usize>, ChangesetError> {
        let length = self.varint()?;
        if length > LENGTH_MAX {
            return Err(ChangesetError::Invalid { why: "no value is so long" });
        }
        let begin = self.bytes.len();
        (&mut self.source).take(length).read_to_end(&mut self.bytes)?;
        if (self.bytes.len() - begin) as u64 != length {
            return Err(ChangesetError::Truncated);
        }
        Ok(begin..self.bytes.len())
    }

    fn varint(&mut self) -> Result<u64, ChangesetError> {
        let mut value = 0;
        for at in 0..9 {
            let byte = self.byte()?;
            if at == 0 && byte == 0x80 {
                return Err(ChangesetError::Invalid { why: "a number is as short as it can be" });
            }
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ChangesetError::Invalid { why: "a number has at most 63 bits" })
    }

    fn byte(&mut self) -> Result<u8, ChangesetError> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ChangesetError> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// All values of a row, none of them absent.
fn all<'v>(items: &[Item], bytes: &'v [u8]) -> Result<Vec<Value<'v>>, ChangesetError> {
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        let missing = ChangesetError::Invalid { why: "an insert or delete holds every value" };
        values.push(item.borrow(bytes).ok_or(missing)?);
    }
    Ok(values)
}

fn present<'v>(items: &[Item], bytes: &'v [u8]) -> Vec<Option<Value<'v>>> {
    items.iter().map(|item| item.borrow(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Table, Vec<u8>) {
        let table = Table { name: "t".to_owned(), key: vec![true, false, false] };
        let mut bytes = Vec::new();
        write_table(&mut bytes, &table);
        let one = [Value::Integer(-1), Value::Text(b"a\0\xff"), Value::Real(-0.0)];
        let two = [Value::Integer(-1), Value::Text(b"a\0\xff"), Value::Real(0.0)];
        write_insert(&mut bytes, &one);
        write_update(&mut bytes, &table.key, &one, &two);
        write_update(&mut bytes, &table.key, &two, &two);
        write_delete(&mut bytes, &two);
        (table, bytes)
    }

    #[test]
    fn what_is_written_is_read() {
        let (table, bytes) = sample();
        let mut reader = Reader::new(bytes.as_slice());
        assert_eq!(reader.step().unwrap(), Some(Step::Table(&table)));
        let (text, zero) = (Value::Text(b"a\0\xff"), Value::Real(0.0));
        let new = vec![Value::Integer(-1), text, Value::Real(-0.0)];
        assert_eq!(reader.step().unwrap(), Some(Step::Row(RowChange::Insert { new })));
        let old = vec![Some(Value::Integer(-1)), None, Some(Value::Real(-0.0))];
        let new = vec![None, None, Some(zero)];
        assert_eq!(reader.step().unwrap(), Some(Step::Row(RowChange::Update { old, new })));
        let old = vec![Value::Integer(-1), text, zero];
        assert_eq!(reader.step().unwrap(), Some(Step::Row(RowChange::Delete { old })));
        assert_eq!(reader.step().unwrap(), None);
    }

    #[test]
    fn every_cut_inside_a_change_is_noticed() {
        let (_, bytes) = sample();
        let mut whole = 0;
        for length in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..length]);
            let end = loop {
                match reader.step() {
                    Ok(Some(_)) => {}
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            whole += usize::from(end);
        }
        assert_eq!(whole, 4, "a changeset may end only between changes");
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        for value in [0, 1, 127, 128, 16_383, 16_384, LENGTH_MAX, u64::MAX >> 1] {
            let mut bytes = Vec::new();
            write_varint(&mut bytes, value);
            assert_eq!(Reader::new(bytes.as_slice()).varint().unwrap(), value);
        }
        assert!(Reader::new(&[0x80, 0x00][..]).varint().is_err());
    }
}
