//! `changed_T`, `removed_T` and `before_T`: gathered rows as tables that SQLite reads, with the columns, affinities and collations of `T`.
//!
//! Eponymous virtual tables: nothing is written for them, into no schema, and no rollback takes them away. Only who has the connection can name them.

#![allow(
    unsafe_code,
    reason = "rusqlite has the traits of virtual tables unsafe: what they promise of the layout in memory is said at each"
)]

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_int};
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use rusqlite::ffi;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::vtab::{
    Context, Filters, IndexConstraintOp, IndexFlags, IndexInfo, Module, VTab, VTabConfig, VTabConnection,
    VTabCursor, sqlite3_vtab, sqlite3_vtab_cursor,
};
use synddb_protocol::state::Value;
use synddb_protocol::submission::TextEncoding;

use super::gathered::{Gathered, Reader, Row, Set};
use crate::connection::{Connection, SqliteError, quoted};
use crate::schema::{Identity, Layout};

/// Rows that such a view has, as the planner is told: fewer than it thinks that a table has, so that it is read first, and so many that it makes an index
/// where two are joined by what neither finds.
const ROWS: i64 = 1000;
/// How a cursor reads: all rows, or the one with a rowid.
const BY_ROWID: c_int = 1;

/// Where the rowid of a row is.
#[derive(Debug, Clone, Copy)]
enum Rowid {
    /// Before its columns.
    Before,
    /// In this column.
    Column(usize),
    /// It has none: it is numbered.
    None,
}

/// What a view shows.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    gathered: Gathered,
    table: usize,
    set: Set,
    rowid: Rowid,
    encoding: TextEncoding,
    declared: CString,
}

/// Makes SQLite know a view under a name, for as long as the table has this layout. Statements that read an earlier one of the name must be gone.
pub(super) fn register(
    connection: &Connection,
    name: &str,
    gathered: &Gathered,
    (table, set): (usize, Set),
    layout: &Layout,
) -> Result<(), SqliteError> {
    const MODULE: Module<'_, View> = Module::eponymous_only_module();
    let rowid = match layout.identity {
        Identity::Rowid { .. } => Rowid::Before,
        Identity::IntegerKey { column } => Rowid::Column(column),
        Identity::Key { .. } => Rowid::None,
    };
    let declared = declared(connection, layout)?;
    let (gathered, encoding) = (gathered.clone(), connection.encoding());
    let shown = Arc::new(Shown { gathered, table, set, rowid, encoding, declared });
    connection.sqlite().create_module(name, &MODULE, Some(shown))?;
    Ok(())
}

/// The columns with the types and collations of the table, and nothing else of what it was declared with.
fn declared(connection: &Connection, layout: &Layout) -> Result<CString, SqliteError> {
    let mut columns = Vec::new();
    for column in &layout.columns {
        let (declared, collation, ..) =
            connection.sqlite().column_metadata(Some("main"), &layout.name, &column.name)?;
        let declared = declared.map(|declared| declared.to_string_lossy().into_owned()).unwrap_or_default();
        let collation = collation.map(|collation| collation.to_string_lossy().into_owned());
        let collation = collation.map_or_else(String::new, |name| format!(" COLLATE {}", quoted(&name)));
        // The words themselves may mean something to a virtual table that they do not mean to a table.
        let is_any = declared.eq_ignore_ascii_case("any") && is_strict(connection, &layout.name)?;
        let declared = if is_any { "" } else { affinity(&declared) };
        columns.push(format!("{} {declared}{collation}", quoted(&column.name)));
    }
    let text = format!("CREATE TABLE x({})", columns.join(", "));
    CString::new(text).map_err(|_| SqliteError::new("a name has a zero byte", ffi::SQLITE_MISUSE))
}

/// A type with the affinity of a declared one (SQLite, "Datatypes", section 3.1).
fn affinity(declared: &str) -> &'static str {
    let declared = declared.to_ascii_uppercase();
    let has = |part: &str| declared.contains(part);
    if has("INT") {
        "INT"
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        "TEXT"
    } else if has("BLOB") || declared.is_empty() {
        ""
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        "REAL"
    } else {
        "NUM"
    }
}

/// In a STRICT table, and only there, ANY has no affinity.
fn is_strict(connection: &Connection, table: &str) -> Result<bool, SqliteError> {
    let sql = "SELECT strict FROM pragma_table_list(?1) WHERE schema = 'main'";
    Ok(connection.sqlite().query_row(sql, [table], |row| row.get(0))?)
}

/// One view, for one statement.
#[repr(C)]
struct View {
    /// SQLite's part. It must be first.
    base: sqlite3_vtab,
    shown: Arc<Shown>,
}

// SAFETY: the struct is `repr(C)`, and SQLite's part is its first field.
unsafe impl<'vtab> VTab<'vtab> for View {
    type Aux = Arc<Shown>;
    type Cursor = Cursor<'vtab>;

    fn connect(
        db: &mut VTabConnection,
        aux: Option<&Arc<Shown>>,
        _module: &[u8],
        _database: &[u8],
        _table: &[u8],
        _arguments: &[&[u8]],
    ) -> rusqlite::Result<(Cow<'static, CStr>, Self)> {
        let shown = aux.cloned().ok_or(rusqlite::Error::InvalidQuery)?;
        // No view or trigger of the application's reads it.
        db.config(VTabConfig::DirectOnly)?;
        Ok((Cow::Owned(shown.declared.clone()), Self { base: sqlite3_vtab::default(), shown }))
    }

    /// The row with a rowid is found without looking through the others: rules join what a row is with what it was. SQLite compares again.
    fn best_index(&self, info: &mut IndexInfo) -> rusqlite::Result<bool> {
        let is_rowid = |column: c_int| match self.shown.rowid {
            Rowid::Before => column == -1,
            Rowid::Column(key) => column == -1 || usize::try_from(column) == Ok(key),
            Rowid::None => false,
        };
        let equal = info.constraints().position(|constraint| {
            constraint.is_usable()
                && matches!(constraint.operator(), IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_EQ)
                && is_rowid(constraint.column())
        });
        let Some(equal) = equal else {
            info.set_estimated_cost(1000.0);
            info.set_estimated_rows(ROWS);
            return Ok(true);
        };
        info.constraint_usage(equal).set_argv_index(1);
        info.set_idx_num(BY_ROWID);
        info.set_idx_flags(IndexFlags::SQLITE_INDEX_SCAN_UNIQUE);
        info.set_estimated_cost(2.0);
        info.set_estimated_rows(1);
        Ok(true)
    }

    fn open(&'vtab mut self) -> rusqlite::Result<Cursor<'vtab>> {
        Ok(Cursor {
            base: sqlite3_vtab_cursor::default(),
            shown: Arc::clone(&self.shown),
            reader: None,
            row: self.shown.gathered.lock().take_spare(),
            number: 0,
            only: Only::Not,
            is_over: true,
            view: PhantomData,
        })
    }
}

/// Where a statement reads in a view.
#[repr(C)]
struct Cursor<'vtab> {
    /// SQLite's part. It must be first.
    base: sqlite3_vtab_cursor,
    shown: Arc<Shown>,
    reader: Option<Reader>,
    row: Row,
    number: i64,
    only: Only,
    is_over: bool,
    view: PhantomData<&'vtab View>,
}

/// Whether a cursor reads one row only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    Not,
    One,
    Read,
}

impl Shown {
    /// The machine fails, and not the rule: whoever evaluates it finds that in what is gathered.
    fn unread(&self, error: io::Error) -> rusqlite::Error {
        let message = format!("rows that were spilled cannot be read: {error}");
        self.gathered.lock().fail(error);
        rusqlite::Error::ModuleError(message)
    }

    /// Where a rowid is in a row that was gathered.
    const fn key(&self) -> Option<usize> {
        match self.rowid {
            Rowid::Before => Some(0),
            Rowid::Column(column) => Some(column),
            Rowid::None => None,
        }
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        self.shown.gathered.lock().put_spare(std::mem::take(&mut self.row));
    }
}

impl Cursor<'_> {
    fn advance(&mut self) -> rusqlite::Result<()> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        if self.only == Only::Read {
            self.is_over = true;
            return Ok(());
        }
        let read = reader.next(&mut self.row);
        self.is_over = !read.map_err(|error| self.shown.unread(error))?;
        self.number += 1;
        if self.only == Only::One {
            self.only = Only::Read;
        }
        Ok(())
    }
}

// SAFETY: the struct is `repr(C)`, and SQLite's part is its first field.
unsafe impl VTabCursor for Cursor<'_> {
    fn filter(&mut self, number: c_int, _text: Option<&str>, values: &Filters<'_>) -> rusqlite::Result<()> {
        let shown = &self.shown;
        let reader = self.reader.insert(shown.gathered.reader(shown.table, shown.set));
        (self.number, self.only) = (0, Only::Not);
        if number == BY_ROWID
            && let Some(ValueRef::Integer(rowid)) = values.iter().next()
            && let Some(key) = shown.key()
        {
            let places = shown.gathered.places(shown.table, shown.set, key);
            if let Some(places) = places.map_err(|error| shown.unread(error))? {
                let found = places.binary_search_by_key(&rowid, |(rowid, _)| *rowid);
                let Some((_, at)) = found.ok().and_then(|found| places.get(found)) else {
                    self.is_over = true;
                    return Ok(());
                };
                reader.stand_at(*at);
                self.only = Only::One;
            }
        }
        self.advance()
    }

    fn next(&mut self) -> rusqlite::Result<()> {
        self.advance()
    }

    fn eof(&self) -> bool {
        self.is_over
    }

    fn column(&self, context: &mut Context, column: c_int) -> rusqlite::Result<()> {
        let column = usize::try_from(column).unwrap_or(usize::MAX);
        let at = if matches!(self.shown.rowid, Rowid::Before) { column.saturating_add(1) } else { column };
        let value = match self.row.value(at) {
            Value::Null => ValueRef::Null,
            Value::Integer(value) => ValueRef::Integer(value),
            Value::Real(value) => ValueRef::Real(value),
            Value::Text(bytes) => {
                set_text(context, bytes, self.shown.encoding);
                return Ok(());
            }
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        };
        context.set_result(ToSqlOutput::Borrowed(value))
    }

    fn rowid(&self) -> rusqlite::Result<i64> {
        let value = match self.shown.rowid {
            Rowid::Before => self.row.value(0),
            Rowid::Column(column) => self.row.value(column),
            Rowid::None => return Ok(self.number),
        };
        match value {
            Value::Integer(rowid) => Ok(rowid),
            Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => Ok(self.number),
        }
    }
}

/// Answers a text with the bytes that it is stored with, so that it is equal to itself in its table, whatever they are.
fn set_text(context: &Context, bytes: &[u8], encoding: TextEncoding) {
    const { assert!(size_of::<Context>() == size_of::<*mut ffi::sqlite3_context>()) };
    // SAFETY: a `Context` is a pointer and nothing else: it is as large as its only field.
    let context = unsafe { std::ptr::from_ref(context).cast::<*mut ffi::sqlite3_context>().read() };
    let mark: &[u8] = match encoding {
        TextEncoding::Utf8 => &[],
        TextEncoding::Utf16Le => &[0xff, 0xfe],
        TextEncoding::Utf16Be => &[0xfe, 0xff],
    };
    // SQLite takes a byte order mark off UTF-16 text that it is given. One more in front saves the one that is stored.
    let is_marked = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let bytes =
        if is_marked && !mark.is_empty() { Cow::Owned([mark, bytes].concat()) } else { Cow::Borrowed(bytes) };
    let data = if bytes.is_empty() { c"".as_ptr() } else { bytes.as_ptr().cast() };
    let encoding = match encoding {
        TextEncoding::Utf8 => ffi::SQLITE_UTF8,
        TextEncoding::Utf16Le => ffi::SQLITE_UTF16LE,
        TextEncoding::Utf16Be => ffi::SQLITE_UTF16BE,
    };
    let encoding = u8::try_from(encoding).unwrap_or_default();
    // SAFETY: the context is that of the call under way, and SQLite copies the bytes before it returns.
    unsafe {
        ffi::sqlite3_result_text64(context, data, bytes.len() as u64, ffi::SQLITE_TRANSIENT(), encoding);
    }
}
