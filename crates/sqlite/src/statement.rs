//! Statements that read and bind values byte for byte, in the database's own text encoding.
//!
//! rusqlite converts text to UTF-8, which loses lone surrogates and byte order marks of UTF-16 databases, and its statements
//! borrow their connection, so that a cache of them cannot be kept beside it. This wrapper does neither.
//!
//! A statement keeps its connection alive, and is used on the connection's thread only (neither is `Send`).

#![allow(
    unsafe_code,
    reason = "rusqlite hands out no statement pointer; each call below says why it is sound"
)]

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use rusqlite::ffi;
use synddb_protocol::state::Value;
use synddb_protocol::submission::TextEncoding;

use crate::connection::{Connection, SqliteError};

// The UTF-16 functions, which the bundled declarations leave out.
unsafe extern "C" {
    fn sqlite3_value_text16le(value: *mut ffi::sqlite3_value) -> *const c_void;
    fn sqlite3_value_text16be(value: *mut ffi::sqlite3_value) -> *const c_void;
    fn sqlite3_value_bytes16(value: *mut ffi::sqlite3_value) -> c_int;
}

/// A prepared statement.
pub struct Statement {
    statement: *mut ffi::sqlite3_stmt,
    // Declared after the pointer only for reading order: `drop` finalizes before any field is dropped.
    connection: Connection,
}

/// The rows of a statement that runs: for those who read several statements side by side.
pub struct Rows<'s> {
    statement: &'s mut Statement,
    stands: Stands,
}

/// Where the rows of a statement stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    Before,
    OnRow,
    Ended,
}

/// The row a statement stands on.
pub struct Row<'s> {
    statement: &'s Statement,
}

impl Statement {
    /// Compiles the first statement of `sql`.
    ///
    /// # Errors
    /// [`SqliteError`] when SQLite does not understand it.
    pub fn prepare(connection: &Connection, sql: &str) -> Result<Self, SqliteError> {
        let mut statement = ptr::null_mut();
        let length = c_int::try_from(sql.len()).map_err(|_| too_big())?;
        // SAFETY: the connection is open, the text has `length` bytes, and `statement` may be written.
        let code = unsafe {
            let flags = ffi::SQLITE_PREPARE_PERSISTENT;
            let text = sql.as_ptr().cast::<c_char>();
            ffi::sqlite3_prepare_v3(
                connection.handle(),
                text,
                length,
                flags,
                &raw mut statement,
                ptr::null_mut(),
            )
        };
        let prepared = Self { statement, connection: connection.clone() };
        prepared.check(code)?;
        if prepared.statement.is_null() {
            return Err(SqliteError::new("there is no statement in the text", ffi::SQLITE_MISUSE));
        }
        Ok(prepared)
    }

    /// Runs the statement to its end and returns how many rows it changed.
    ///
    /// # Errors
    /// [`SqliteError`] when it fails; the statement can be used again.
    pub fn execute(&mut self, values: &[Value<'_>]) -> Result<usize, SqliteError> {
        self.run::<SqliteError>(values, |_| Ok(()))?;
        Ok(usize::try_from(self.connection.sqlite().changes()).unwrap_or(usize::MAX))
    }

    /// Runs the statement and shows every row to `each`.
    ///
    /// # Errors
    /// [`SqliteError`] when it fails, or whatever `each` fails with; the statement can be used again.
    pub fn query<E: From<SqliteError>>(
        &mut self,
        values: &[Value<'_>],
        each: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.run(values, each)
    }

    /// Counts its instructions from nothing: a progress handler comes at the same ones then each time that it runs on the same rows.
    pub(crate) fn forget_steps(&mut self) {
        // SAFETY: the statement is open; its connection is used by this thread alone.
        unsafe { ffi::sqlite3_stmt_status(self.statement, ffi::SQLITE_STMTSTATUS_VM_STEP, 1) };
    }

    /// Starts a statement that takes no values, to be asked for one row after the other.
    pub fn rows(&mut self) -> Rows<'_> {
        Rows { statement: self, stands: Stands::Before }
    }

    fn run<E: From<SqliteError>>(
        &mut self,
        values: &[Value<'_>],
        mut each: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let result = self.bind(values).map_err(E::from).and_then(|()| {
            loop {
                // SAFETY: the statement is open; its connection is used by this thread alone.
                match unsafe { ffi::sqlite3_step(self.statement) } {
                    ffi::SQLITE_ROW => each(&Row { statement: self })?,
                    ffi::SQLITE_DONE => return Ok(()),
                    code => return Err(self.error(code).into()),
                }
            }
        });
        // SAFETY: the statement is open. After these two calls SQLite holds none of the bound pointers.
        unsafe {
            ffi::sqlite3_reset(self.statement);
            ffi::sqlite3_clear_bindings(self.statement);
        }
        result
    }

    /// Binds the values without copying them: `run` clears the bindings before it returns, while the values still live.
    fn bind(&mut self, values: &[Value<'_>]) -> Result<(), SqliteError> {
        for (place, value) in (1..).zip(values) {
            let code = match *value {
                // SAFETY: the statement is open; SQLite checks the place.
                Value::Null => unsafe { ffi::sqlite3_bind_null(self.statement, place) },
                // SAFETY: as above.
                Value::Integer(value) => unsafe { ffi::sqlite3_bind_int64(self.statement, place, value) },
                // SAFETY: as above.
                Value::Real(value) => unsafe { ffi::sqlite3_bind_double(self.statement, place, value) },
                Value::Text(bytes) => self.bind_text(place, bytes),
                // SAFETY: as above, and the bytes outlive the binding.
                Value::Blob(bytes) => unsafe {
                    let (data, length) = (not_null(bytes).cast::<c_void>(), bytes.len() as u64);
                    ffi::sqlite3_bind_blob64(self.statement, place, data, length, ffi::SQLITE_STATIC())
                },
            };
            self.check(code)?;
        }
        Ok(())
    }

    fn bind_text(&self, place: c_int, bytes: &[u8]) -> c_int {
        let (encoding, mark) = match self.connection.encoding() {
            TextEncoding::Utf8 => (ffi::SQLITE_UTF8, None),
            TextEncoding::Utf16Le => (ffi::SQLITE_UTF16LE, Some([0xff, 0xfe])),
            TextEncoding::Utf16Be => (ffi::SQLITE_UTF16BE, Some([0xfe, 0xff])),
        };
        let encoding = u8::try_from(encoding).unwrap_or_default();
        // SQLite takes a byte order mark off UTF-16 text that it is given. One more in front saves the one that is stored.
        if let Some(mark) = mark
            && (bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]))
        {
            let marked = [&mark[..], bytes].concat();
            // SAFETY: the statement is open; SQLite copies the bytes before the call returns.
            return unsafe {
                let data = marked.as_ptr().cast::<c_char>();
                let length = marked.len() as u64;
                ffi::sqlite3_bind_text64(
                    self.statement,
                    place,
                    data,
                    length,
                    ffi::SQLITE_TRANSIENT(),
                    encoding,
                )
            };
        }
        // SAFETY: the statement is open, and the bytes outlive the binding.
        unsafe {
            let data = not_null(bytes).cast::<c_char>();
            let length = bytes.len() as u64;
            ffi::sqlite3_bind_text64(self.statement, place, data, length, ffi::SQLITE_STATIC(), encoding)
        }
    }

    fn check(&self, code: c_int) -> Result<(), SqliteError> {
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(self.error(code)) }
    }

    fn error(&self, code: c_int) -> SqliteError {
        self.connection.error(code)
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: the pointer came from prepare and is finalized once; null is allowed.
        unsafe { ffi::sqlite3_finalize(self.statement) };
    }
}

impl Rows<'_> {
    /// The next row, or `None` after the last one.
    ///
    /// # Errors
    /// [`SqliteError`] when the statement fails; then there is no further row.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, SqliteError> {
        self.advance()?;
        Ok(self.current())
    }

    /// Steps to the next row, for who goes on looking at the one where another statement stands.
    ///
    /// # Errors
    /// As [`Rows::next_row`].
    pub fn advance(&mut self) -> Result<(), SqliteError> {
        if self.stands == Stands::Ended {
            return Ok(());
        }
        // SAFETY: the statement is open; its connection is used by this thread alone.
        let code = unsafe { ffi::sqlite3_step(self.statement.statement) };
        // Another step after the last row would start the statement anew.
        self.stands = if code == ffi::SQLITE_ROW { Stands::OnRow } else { Stands::Ended };
        match code {
            ffi::SQLITE_ROW | ffi::SQLITE_DONE => Ok(()),
            code => Err(self.statement.error(code)),
        }
    }

    /// The row that was stepped to last, or `None` before the first and after the last one.
    pub fn current(&self) -> Option<Row<'_>> {
        (self.stands == Stands::OnRow).then_some(Row { statement: self.statement })
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        // SAFETY: the statement is open. Its code is that of the last step, which was told already.
        unsafe { ffi::sqlite3_reset(self.statement.statement) };
    }
}

impl Row<'_> {
    /// How many columns the row has.
    pub fn len(&self) -> usize {
        // SAFETY: the statement is open.
        usize::try_from(unsafe { ffi::sqlite3_column_count(self.statement.statement) }).unwrap_or(0)
    }

    /// Whether the row has no column.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a column, counted from 0. A column that is not there is NULL.
    pub fn value(&self, column: usize) -> Value<'_> {
        let Ok(column) = c_int::try_from(column) else { return Value::Null };
        let statement = self.statement.statement;
        // SAFETY: the statement stands on a row. What is borrowed stays valid until the next step, which needs the
        // statement mutably, or until the column is converted, which reading it in the database's encoding never does.
        unsafe {
            match ffi::sqlite3_column_type(statement, column) {
                ffi::SQLITE_INTEGER => Value::Integer(ffi::sqlite3_column_int64(statement, column)),
                ffi::SQLITE_FLOAT => Value::Real(ffi::sqlite3_column_double(statement, column)),
                ffi::SQLITE_TEXT => text_of(
                    ffi::sqlite3_column_value(statement, column),
                    self.statement.connection.encoding(),
                ),
                ffi::SQLITE_BLOB => {
                    let data = ffi::sqlite3_column_blob(statement, column);
                    Value::Blob(bytes(data, ffi::sqlite3_column_bytes(statement, column)))
                }
                _ => Value::Null,
            }
        }
    }

    /// All values of the row.
    pub fn values(&self) -> Vec<Value<'_>> {
        (0..self.len()).map(|column| self.value(column)).collect()
    }
}

/// A value that SQLite hands to a hook, as it is stored.
///
/// # Safety
/// `value` is a protected value of SQLite, of a database with this encoding; what is borrowed may be used as long as it lives and is not
/// converted.
pub(crate) unsafe fn value_of<'v>(value: *mut ffi::sqlite3_value, encoding: TextEncoding) -> Value<'v> {
    // SAFETY: by the contract of this function.
    unsafe {
        match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => Value::Integer(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => Value::Real(ffi::sqlite3_value_double(value)),
            ffi::SQLITE_TEXT => text_of(value, encoding),
            ffi::SQLITE_BLOB => {
                let data = ffi::sqlite3_value_blob(value);
                Value::Blob(bytes(data, ffi::sqlite3_value_bytes(value)))
            }
            _ => Value::Null,
        }
    }
}

/// Text in the database's encoding, which converts nothing.
///
/// # Safety
/// As of [`value_of`]; the value is text.
unsafe fn text_of<'v>(value: *mut ffi::sqlite3_value, encoding: TextEncoding) -> Value<'v> {
    // SAFETY: by the contract of this function. The length is asked for after the text, in the same encoding.
    unsafe {
        let data = match encoding {
            TextEncoding::Utf8 => ffi::sqlite3_value_text(value).cast::<c_void>(),
            TextEncoding::Utf16Le => sqlite3_value_text16le(value),
            TextEncoding::Utf16Be => sqlite3_value_text16be(value),
        };
        let length = match encoding {
            TextEncoding::Utf8 => ffi::sqlite3_value_bytes(value),
            TextEncoding::Utf16Le | TextEncoding::Utf16Be => sqlite3_value_bytes16(value),
        };
        Value::Text(bytes(data, length))
    }
}

/// A pointer that SQLite does not take for NULL, also to no bytes at all.
fn not_null(bytes: &[u8]) -> *const u8 {
    if bytes.is_empty() { c"".as_ptr().cast() } else { bytes.as_ptr() }
}

/// The bytes SQLite points to.
///
/// # Safety
/// `data` points to `length` bytes that live as long as the borrow, or is null.
unsafe fn bytes<'r>(data: *const c_void, length: c_int) -> &'r [u8] {
    match usize::try_from(length) {
        // SAFETY: by the contract of this function.
        Ok(length) if !data.is_null() && length > 0 => unsafe {
            std::slice::from_raw_parts(data.cast(), length)
        },
        _ => &[],
    }
}

fn too_big() -> SqliteError {
    SqliteError::new("the statement is longer than SQLite takes", ffi::SQLITE_TOOBIG)
}
