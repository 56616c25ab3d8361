//! `changed_T`, `removed_T` and `before_T`: gathered rows as tables that SQLite reads, with the columns, affinities and collations of `T`.
//!
//! Eponymous virtual tables: nothing is written for them, into no schema, and no rollback takes them away. Only who has the connection can name them.

#![allow(
    unsafe_code,
    reason = "rusqlite has the traits of virtual tables unsafe: what they promise of the layout in memory is said at each"
)]

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_int};
use std::marker::PhantomData;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::vtab::{
    Context, Filters, IndexInfo, Module, VTab, VTabConfig, VTabConnection, VTabCursor, sqlite3_vtab,
    sqlite3_vtab_cursor,
};
use synddb_protocol::state::Value;
use synddb_protocol::submission::TextEncoding;

use super::gathered::{Gathered, Reader, Row, Set};
use crate::connection::{Connection, SqliteError, quoted};
use crate::schema::{Identity, Layout};

/// Rows that such a view has, as the planner is told: few, so that it is read first.
const ROWS: i64 = 8;

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
    let shown = Shown { gathered, table, set, rowid, encoding, declared };
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
        // A type may be any words; only what it says of affinity counts here.
        let declared = if declared.is_empty() { String::new() } else { format!(" {}", quoted(&declared)) };
        columns.push(format!("{}{declared}{collation}", quoted(&column.name)));
    }
    let text = format!("CREATE TABLE x({})", columns.join(", "));
    CString::new(text).map_err(|_| SqliteError::new("a name has a zero byte", rusqlite::ffi::SQLITE_MISUSE))
}

/// One view, for one statement.
#[repr(C)]
struct View {
    /// SQLite's part. It must be first.
    base: sqlite3_vtab,
    shown: Shown,
}

// SAFETY: the struct is `repr(C)`, and SQLite's part is its first field.
unsafe impl<'vtab> VTab<'vtab> for View {
    type Aux = Shown;
    type Cursor = Cursor<'vtab>;

    fn connect(
        db: &mut VTabConnection,
        aux: Option<&Shown>,
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

    fn best_index(&self, info: &mut IndexInfo) -> rusqlite::Result<bool> {
        info.set_estimated_cost(1.0);
        info.set_estimated_rows(ROWS);
        Ok(true)
    }

    fn open(&'vtab mut self) -> rusqlite::Result<Cursor<'vtab>> {
        Ok(Cursor {
            base: sqlite3_vtab_cursor::default(),
            shown: self.shown.clone(),
            reader: None,
            row: Row::default(),
            number: 0,
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
    shown: Shown,
    reader: Option<Reader>,
    row: Row,
    number: i64,
    is_over: bool,
    view: PhantomData<&'vtab View>,
}

impl Cursor<'_> {
    fn advance(&mut self) -> rusqlite::Result<()> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let read = reader.next(&mut self.row);
        self.is_over = !read.map_err(|error| {
            rusqlite::Error::ModuleError(format!("rows that were spilled cannot be read: {error}"))
        })?;
        self.number += 1;
        Ok(())
    }
}

// SAFETY: the struct is `repr(C)`, and SQLite's part is its first field.
unsafe impl VTabCursor for Cursor<'_> {
    fn filter(&mut self, _number: c_int, _text: Option<&str>, _values: &Filters<'_>) -> rusqlite::Result<()> {
        self.reader = Some(self.shown.gathered.reader(self.shown.table, self.shown.set));
        self.number = 0;
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
                return match utf8(bytes, self.shown.encoding) {
                    Cow::Borrowed(bytes) => context.set_result(ToSqlOutput::Borrowed(ValueRef::Text(bytes))),
                    Cow::Owned(bytes) => context.set_result(ToSqlOutput::Borrowed(ValueRef::Text(&bytes))),
                };
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

/// Text as SQLite takes it from a virtual table. Half a pair of UTF-16 becomes U+FFFD.
fn utf8(bytes: &[u8], encoding: TextEncoding) -> Cow<'_, [u8]> {
    let unit = match encoding {
        TextEncoding::Utf8 => return Cow::Borrowed(bytes),
        TextEncoding::Utf16Le => u16::from_le_bytes,
        TextEncoding::Utf16Be => u16::from_be_bytes,
    };
    let (units, _) = bytes.as_chunks::<2>();
    let text: String = char::decode_utf16(units.iter().map(|bytes| unit(*bytes)))
        .map(|found| found.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    Cow::Owned(text.into_bytes())
}
