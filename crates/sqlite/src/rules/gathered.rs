//! The rows of one commit that came and went in the tables that somebody watches.
//!
//! They lie in flat buffers, one value after the other, so that keeping them costs a copy and no allocation. When they are many they go to a file without a
//! name, so that a huge commit takes no more memory than a large one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use synddb_protocol::state::Value;

/// What is kept in memory of all rows, in bytes, before what is most of it goes to a file.
const MEMORY_MAX: usize = 16 << 20;
/// Room that is kept for the next commit, in bytes, of one table's rows of one kind.
const ROOM_MAX: usize = 256 << 10;
/// Most rows of one kind whose places are kept in memory, to find one by its rowid.
const PLACES_MAX: u64 = 1 << 20;
/// So many rows are looked through as fast as a place is found.
const PLACES_MIN: u64 = 16;
/// How much of a file is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Which rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// As they are after the commit: inserted or updated.
    Changed,
    /// As they were: deleted.
    Removed,
    /// As they were: updated or deleted.
    Before,
}

impl Set {
    pub(crate) const ALL: [Self; 3] = [Self::Changed, Self::Removed, Self::Before];

    /// How a view of such rows is called, before the name of its table.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Changed => "changed_",
            Self::Removed => "removed_",
            Self::Before => "before_",
        }
    }
}

/// What is gathered of the commit under way. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Gathered(Arc<Mutex<Inner>>);

/// A name that no schema had before.
fn next_schema() -> u64 {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    NAMES.fetch_add(1, Ordering::Relaxed)
}

/// The tables that are watched.
#[derive(Debug)]
pub(crate) struct Inner {
    folder: PathBuf,
    tables: Vec<Table>,
    /// By their names in lower case, as SQLite compares them.
    by_name: BTreeMap<String, usize>,
    /// Names the schema over which rules were compiled that read from here: no two have one name.
    schema: u64,
    /// Bytes in memory.
    held: usize,
    /// A row that no cursor reads into, for the next one.
    spare: Row,
    failed: Option<io::Error>,
}

/// One watched table, in the commit under way.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Whether the commit changed a row of it, or the table.
    pub(crate) touched: bool,
    /// Whether the commit dropped it, whether or not it made another one of its name.
    pub(crate) replaced: bool,
    /// Whether the commit changed the table itself and left its rows: all of them count as changed.
    pub(crate) altered: bool,
    /// The highest integer in the first column of rows that were inserted.
    pub(crate) last_inserted: Option<i64>,
    changed: Rows,
    removed: Rows,
    before: Rows,
}

#[derive(Debug, Default)]
struct Rows {
    memory: Vec<u8>,
    spilled: Option<(Arc<File>, u64)>,
    count: u64,
    /// Where the row of each rowid begins, in their order, once somebody asked.
    places: Option<Places>,
}

/// Rowids, and where their rows begin.
pub(crate) type Places = Arc<Vec<(i64, u64)>>;

impl Gathered {
    /// Watches these tables. What does not fit goes to files without a name in `folder`.
    pub(crate) fn new(tables: BTreeSet<String>, folder: &Path) -> Self {
        let tables: Vec<Table> = tables.into_iter().map(|name| Table { name, ..Table::default() }).collect();
        let by_name = tables.iter().zip(0..).map(|(table, at)| (table.name.to_ascii_lowercase(), at));
        let by_name = by_name.collect();
        let (folder, schema) = (folder.to_owned(), next_schema());
        Self(Arc::new(Mutex::new(Inner {
            folder,
            tables,
            by_name,
            schema,
            held: 0,
            spare: Row::default(),
            failed: None,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads rows of one kind, from the first one on.
    pub(crate) fn reader(&self, table: usize, set: Set) -> Reader {
        let spilled = self.lock().tables[table].rows(set).spilled.clone();
        Reader { gathered: self.clone(), table, set, spilled, at: 0, file: Buffered::default() }
    }

    /// Where the rows of one kind begin, by their rowids, which are at place `key` of a row. `None` where looking through them does as well, or they are
    /// too many to be kept.
    pub(crate) fn places(&self, table: usize, set: Set, key: usize) -> io::Result<Option<Places>> {
        {
            let inner = self.lock();
            let rows = inner.tables[table].rows(set);
            if !(PLACES_MIN..=PLACES_MAX).contains(&rows.count) {
                return Ok(None);
            }
            if let Some(places) = &rows.places {
                return Ok(Some(Arc::clone(places)));
            }
        }
        let (mut reader, mut row, mut places) = (self.reader(table, set), Row::default(), Vec::new());
        loop {
            let at = reader.at;
            if !reader.next(&mut row)? {
                break;
            }
            // A row without a rowid is none that a rowid could find.
            if let Value::Integer(rowid) = row.value(key) {
                places.push((rowid, at));
            }
        }
        places.sort_unstable();
        let places = Arc::new(places);
        self.lock().tables[table].rows_mut(set).places = Some(Arc::clone(&places));
        Ok(Some(places))
    }
}

impl Inner {
    /// Another commit begins.
    pub(crate) fn begin(&mut self) {
        for table in self.tables.iter_mut().filter(|table| table.touched) {
            self.held -= table.clear();
            (table.touched, table.replaced, table.altered) = (false, false, false);
        }
    }

    /// The rows of the commit come once more, from the first one on.
    pub(crate) fn again(&mut self) {
        for table in &mut self.tables {
            self.held -= table.clear();
        }
    }

    /// The schema is another one, or may be.
    pub(crate) fn schema_changed(&mut self) {
        self.schema = next_schema();
    }

    /// Names the schema.
    pub(crate) const fn schema(&self) -> u64 {
        self.schema
    }

    /// The place of a table, if it is watched.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        if self.by_name.is_empty() {
            return None;
        }
        self.by_name.get(&name.to_ascii_lowercase()).copied()
    }

    pub(crate) fn tables(&self) -> &[Table] {
        &self.tables
    }

    pub(crate) fn table_mut(&mut self, at: usize) -> &mut Table {
        &mut self.tables[at]
    }

    /// Keeps a row.
    pub(crate) fn push(&mut self, at: usize, set: Set, row: &[Value<'_>]) {
        let table = &mut self.tables[at];
        table.touched = true;
        self.held += table.rows_mut(set).push(row);
        if self.held >= MEMORY_MAX {
            self.spill();
        }
    }

    /// What is most of the rows in memory goes to a file.
    fn spill(&mut self) {
        let rows = self.tables.iter_mut().flat_map(Table::all_rows_mut);
        let Some(most) = rows.max_by_key(|rows| rows.memory.len()) else { return };
        self.held -= most.memory.len();
        if let Err(error) = most.spill(&self.folder) {
            self.fail(error);
        }
    }

    /// Forgets the rows of one kind.
    pub(crate) fn clear_set(&mut self, at: usize, set: Set) {
        self.held -= self.tables[at].rows_mut(set).clear();
    }

    /// A row to read into, which may have had some before.
    pub(crate) fn take_spare(&mut self) -> Row {
        std::mem::take(&mut self.spare)
    }

    /// Nobody reads into a row any more.
    pub(crate) fn put_spare(&mut self, row: Row) {
        if row.bytes.capacity() <= ROOM_MAX {
            self.spare = row;
        }
    }

    /// Rows could not be kept, or what was kept cannot be read.
    pub(crate) fn fail(&mut self, error: io::Error) {
        self.failed = Some(error);
    }

    /// Why rows could not be kept, if any could not.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }
}

impl Table {
    const fn rows(&self, set: Set) -> &Rows {
        match set {
            Set::Changed => &self.changed,
            Set::Removed => &self.removed,
            Set::Before => &self.before,
        }
    }

    const fn rows_mut(&mut self, set: Set) -> &mut Rows {
        match set {
            Set::Changed => &mut self.changed,
            Set::Removed => &mut self.removed,
            Set::Before => &mut self.before,
        }
    }

    /// How many rows of a kind there are.
    pub(crate) const fn count(&self, set: Set) -> u64 {
        self.rows(set).count
    }

    const fn all_rows_mut(&mut self) -> [&mut Rows; 3] {
        [&mut self.changed, &mut self.removed, &mut self.before]
    }

    /// How many bytes of memory are free then.
    fn clear(&mut self) -> usize {
        self.last_inserted = None;
        self.all_rows_mut().map(Rows::clear).into_iter().sum()
    }
}

/// What stands before a value.
mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const INTEGER: u8 = 1;
    pub(super) const REAL: u8 = 2;
    pub(super) const TEXT: u8 = 3;
    pub(super) const BLOB: u8 = 4;
}

impl Rows {
    /// Keeps a row, and says how many bytes that takes. A row is its length in bytes and its values; a value is a tag and eight bytes: itself, or its length, after which it follows.
    fn push(&mut self, row: &[Value<'_>]) -> usize {
        let memory = &mut self.memory;
        let begins = memory.len();
        memory.extend_from_slice(&[0; 8]);
        for value in row {
            let (tag, number, bytes) = match *value {
                Value::Null => (tag::NULL, 0, &[][..]),
                Value::Integer(value) => (tag::INTEGER, value.cast_unsigned(), &[][..]),
                Value::Real(value) => (tag::REAL, value.to_bits(), &[][..]),
                Value::Text(bytes) => (tag::TEXT, bytes.len() as u64, bytes),
                Value::Blob(bytes) => (tag::BLOB, bytes.len() as u64, bytes),
            };
            memory.push(tag);
            memory.extend_from_slice(&number.to_le_bytes());
            memory.extend_from_slice(bytes);
        }
        let length = (memory.len() - begins - 8) as u64;
        memory[begins..begins + 8].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
        self.places = None;
        memory.len() - begins
    }

    fn spill(&mut self, folder: &Path) -> io::Result<()> {
        let memory = std::mem::take(&mut self.memory);
        if self.spilled.is_none() {
            self.spilled = Some((Arc::new(tempfile::tempfile_in(folder)?), 0));
        }
        if let Some((file, end)) = &mut self.spilled {
            file.write_all_at(&memory, *end)?;
            *end += memory.len() as u64;
        }
        Ok(())
    }

    /// How many bytes of memory are free then.
    fn clear(&mut self) -> usize {
        let held = self.memory.len();
        self.memory.clear();
        self.memory.shrink_to(ROOM_MAX);
        (self.spilled, self.count, self.places) = (None, 0, None);
        held
    }
}

/// Reads rows one after the other: those in the file first. Rows that come meanwhile are not waited for.
#[derive(Debug)]
pub(crate) struct Reader {
    gathered: Gathered,
    table: usize,
    set: Set,
    spilled: Option<(Arc<File>, u64)>,
    /// Where the next row begins: in the file, or behind its end in memory.
    at: u64,
    file: Buffered,
}

/// A part of a file.
#[derive(Debug, Default)]
struct Buffered {
    begins: u64,
    bytes: Vec<u8>,
}

impl Buffered {
    /// These bytes of a file.
    fn read(&mut self, file: &File, at: u64, length: usize) -> io::Result<&[u8]> {
        let held = self.begins..self.begins + self.bytes.len() as u64;
        if !held.contains(&at) || at + length as u64 > held.end {
            self.bytes.resize(length.max(READ_BYTES), 0);
            let mut filled = 0;
            while filled < self.bytes.len() {
                match file.read_at(&mut self.bytes[filled..], at + filled as u64)? {
                    0 => break,
                    more => filled += more,
                }
            }
            self.bytes.truncate(filled);
            self.begins = at;
        }
        let from = usize::try_from(at - self.begins).unwrap_or(usize::MAX);
        self.bytes.get(from..from + length).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// One row, apart from where it was read.
#[derive(Debug, Default)]
pub(crate) struct Row {
    bytes: Vec<u8>,
    /// Where each value begins.
    begins: Vec<usize>,
}

impl Reader {
    /// Reads the next row into `row`. `false` after the last one.
    pub(crate) fn next(&mut self, row: &mut Row) -> io::Result<bool> {
        row.bytes.clear();
        row.begins.clear();
        let in_file = self.spilled.as_ref().map_or(0, |(_, end)| *end);
        let length = match &self.spilled {
            Some((file, _)) if self.at < in_file => {
                let length = length(self.file.read(file, self.at, 8)?);
                row.bytes.extend_from_slice(self.file.read(file, self.at + 8, length)?);
                length
            }
            Some(_) | None => {
                let begins = usize::try_from(self.at - in_file).unwrap_or(usize::MAX);
                let inner = self.gathered.lock();
                let rest = inner.tables[self.table].rows(self.set).memory.get(begins..).unwrap_or_default();
                let Some((head, rest)) = rest.split_at_checked(8) else { return Ok(false) };
                let length = length(head);
                row.bytes.extend_from_slice(rest.get(..length).unwrap_or_default());
                length
            }
        };
        self.at += 8 + length as u64;
        row.index();
        Ok(true)
    }

    /// Reads on from where a row begins.
    pub(crate) const fn stand_at(&mut self, at: u64) {
        self.at = at;
    }
}

fn length(head: &[u8]) -> usize {
    let head = head.try_into().map(u64::from_le_bytes).unwrap_or_default();
    usize::try_from(head).unwrap_or(usize::MAX)
}

impl Row {
    fn index(&mut self) {
        let mut at = 0;
        while at + 9 <= self.bytes.len() {
            self.begins.push(at);
            let tag = self.bytes[at];
            let bytes =
                if matches!(tag, tag::TEXT | tag::BLOB) { length(&self.bytes[at + 1..at + 9]) } else { 0 };
            at += 9 + bytes;
        }
    }

    /// Its values.
    pub(crate) fn values(&self) -> impl Iterator<Item = Value<'_>> {
        (0..self.begins.len()).map(|at| self.value(at))
    }

    /// A value by its place; NULL where there is none.
    pub(crate) fn value(&self, at: usize) -> Value<'_> {
        let Some(begins) = self.begins.get(at).copied() else { return Value::Null };
        let number =
            self.bytes[begins + 1..begins + 9].try_into().map(u64::from_le_bytes).unwrap_or_default();
        let ends = self.begins.get(at + 1).copied().unwrap_or(self.bytes.len());
        let bytes = &self.bytes[begins + 9..ends];
        match self.bytes[begins] {
            tag::INTEGER => Value::Integer(number.cast_signed()),
            tag::REAL => Value::Real(f64::from_bits(number)),
            tag::TEXT => Value::Text(bytes),
            tag::BLOB => Value::Blob(bytes),
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::OwnedValue;

    fn read(gathered: &Gathered, set: Set) -> Vec<Vec<OwnedValue>> {
        let (mut reader, mut row, mut rows) = (gathered.reader(0, set), Row::default(), Vec::new());
        while reader.next(&mut row).unwrap() {
            rows.push(row.values().map(OwnedValue::from).collect());
        }
        rows
    }

    #[test]
    fn rows_come_back_as_they_were_kept_also_when_they_are_many() {
        let folder = tempfile::tempdir().unwrap();
        let gathered = Gathered::new(BTreeSet::from(["T".to_owned()]), folder.path());
        let big = vec![7; 1 << 20];
        let rows: Vec<Vec<Value<'_>>> = (0..20)
            .map(|at| {
                vec![
                    Value::Integer(at),
                    Value::Null,
                    Value::Real(0.5),
                    Value::Text(b"\xffx"),
                    Value::Blob(&big),
                ]
            })
            .collect();
        let at = gathered.lock().find("t").unwrap();
        for row in &rows {
            gathered.lock().push(at, Set::Changed, row);
            gathered.lock().push(at, Set::Before, &row[..2]);
        }
        assert!(gathered.lock().tables[0].changed.spilled.is_some());
        assert!(gathered.lock().held < MEMORY_MAX);
        let owned = |row: &[Value<'_>]| row.iter().map(|value| OwnedValue::from(*value)).collect::<Vec<_>>();
        let expected: Vec<_> = rows.iter().map(|row| owned(row)).collect();
        assert_eq!(read(&gathered, Set::Changed), expected);
        assert_eq!(read(&gathered, Set::Changed), expected, "as often as it is read");
        assert_eq!(read(&gathered, Set::Before).len(), 20);
        assert_eq!(read(&gathered, Set::Removed), Vec::<Vec<OwnedValue>>::new());
        gathered.lock().begin();
        assert_eq!(read(&gathered, Set::Changed), Vec::<Vec<OwnedValue>>::new());
        assert!(!gathered.lock().tables[0].touched);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a file has no name");
    }
}
