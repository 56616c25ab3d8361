//! What the VIRTUAL columns of a row come to while its table has a stand-in text, which cannot compute them.
//!
//! They are stored nowhere, but indexes hold them. The table's own text, in a database in memory, computes them from the row as it
//! is stored; in the replica, the function that stands in their place answers with what was computed.
//!
//! The function is there only while a stand-in is: no text of a commit can call it.

#![allow(
    unsafe_code,
    reason = "rusqlite gives functions no text of the database's encoding, and no data that stays on one thread"
)]

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::rc::Rc;

use rusqlite::ffi::{self, sqlite3_context, sqlite3_value};
use synddb_protocol::state::Value;
use synddb_protocol::submission::TextEncoding;

use super::sketch::{GIVEN, Sketch, Virtual};
use crate::connection::{Connection, SqliteError, quoted};
use crate::schema::{Identity, Layout};
use crate::statement::Statement;
use crate::value::OwnedValue;

/// The table in memory that lies over the tree of the table whose text computes.
const ROW: &str = "_synddb_row";

/// The values of the VIRTUAL columns of the row that is written next.
struct Values {
    encoding: TextEncoding,
    values: RefCell<Vec<OwnedValue>>,
}

/// The function that answers with the VIRTUAL columns of a row, as long as this lives.
pub(super) struct Given {
    connection: Connection,
    values: Rc<Values>,
}

impl Given {
    /// Makes the function.
    ///
    /// # Errors
    /// [`SqliteError`] when memory runs out.
    pub(super) fn on(connection: &Connection) -> Result<Self, SqliteError> {
        let encoding = connection.encoding();
        let values = Rc::new(Values { encoding, values: RefCell::new(Vec::new()) });
        let data = Rc::into_raw(values.clone()).cast_mut().cast::<c_void>();
        // SAFETY: the data is one count of the values, which SQLite gives back by `release`, also when this call fails.
        unsafe { create(connection, Some(given), data, Some(release)) }?;
        Ok(Self { connection: connection.clone(), values })
    }

    /// The values of the row that is written next.
    pub(super) fn set(&self, values: Vec<OwnedValue>) {
        self.values.values.replace(values);
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        // SAFETY: no statement runs, since each is run to its end. A function without code is one that is not there. Should SQLite
        // keep it, it answers with NULL.
        let _gone = unsafe { create(&self.connection, None, ptr::null_mut(), None) };
        self.values.values.take();
    }
}

type Function = unsafe extern "C" fn(*mut sqlite3_context, c_int, *mut *mut sqlite3_value);
type Release = unsafe extern "C" fn(*mut c_void);

/// # Safety
/// `data` is what the function and `release` take it for.
unsafe fn create(
    connection: &Connection,
    function: Option<Function>,
    data: *mut c_void,
    release: Option<Release>,
) -> Result<(), SqliteError> {
    let name = CString::new(GIVEN).expect("it is a constant without a NUL");
    let flags = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;
    // SAFETY: the connection is open, the name is copied, and the rest is by the contract of this function.
    let code = unsafe {
        ffi::sqlite3_create_function_v2(
            connection.handle(),
            name.as_ptr(),
            1,
            flags,
            data,
            function,
            None,
            None,
            release,
        )
    };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(connection.error(code)) }
}

unsafe extern "C" fn release(data: *mut c_void) {
    // SAFETY: it is the count that `Given::on` gave away.
    drop(unsafe { Rc::from_raw(data.cast_const().cast::<Values>()) });
}

unsafe extern "C" fn given(context: *mut sqlite3_context, _: c_int, arguments: *mut *mut sqlite3_value) {
    // SAFETY: SQLite calls it with one argument, and the data it was made with, which lives until `release`.
    let (values, place) = unsafe {
        let data = ffi::sqlite3_user_data(context).cast_const().cast::<Values>();
        (&*data, ffi::sqlite3_value_int64(*arguments))
    };
    let borrowed = values.values.borrow();
    let value = usize::try_from(place).ok().and_then(|place| borrowed.get(place));
    // SAFETY: the context is that of this call, and SQLite copies texts and blobs before the call returns.
    unsafe {
        match value.map_or(Value::Null, OwnedValue::borrow) {
            Value::Null => ffi::sqlite3_result_null(context),
            Value::Integer(value) => ffi::sqlite3_result_int64(context, value),
            Value::Real(value) => ffi::sqlite3_result_double(context, value),
            Value::Blob(bytes) => ffi::sqlite3_result_blob64(
                context,
                bytes.as_ptr().cast(),
                bytes.len() as u64,
                ffi::SQLITE_TRANSIENT(),
            ),
            Value::Text(bytes) => answer_text(context, bytes, values.encoding),
        }
    }
}

/// # Safety
/// The context is that of a call that is going on.
unsafe fn answer_text(context: *mut sqlite3_context, bytes: &[u8], encoding: TextEncoding) {
    let (encoding, mark): (_, &[u8]) = match encoding {
        TextEncoding::Utf8 => (ffi::SQLITE_UTF8, &[]),
        TextEncoding::Utf16Le => (ffi::SQLITE_UTF16LE, &[0xff, 0xfe]),
        TextEncoding::Utf16Be => (ffi::SQLITE_UTF16BE, &[0xfe, 0xff]),
    };
    // SQLite takes a byte order mark off UTF-16 text that it is given. One more in front saves the one that is stored.
    let marked = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let text = [if marked { mark } else { &[] }, bytes].concat();
    // SAFETY: by the contract of this function; SQLite copies the bytes.
    unsafe {
        ffi::sqlite3_result_text64(
            context,
            text.as_ptr().cast::<c_char>(),
            text.len() as u64,
            ffi::SQLITE_TRANSIENT(),
            u8::try_from(encoding).unwrap_or_default(),
        );
    }
}

/// Computes the VIRTUAL columns of one table's rows.
pub(super) struct Virtuals {
    insert: Statement,
    select: Statement,
    delete: Statement,
}

impl Virtuals {
    /// `names` are the VIRTUAL columns, as SQL writes them.
    ///
    /// # Errors
    /// [`SqliteError`] when SQLite does not take the table alone.
    pub(super) fn of(sketch: Sketch, layout: &Layout, names: &[String]) -> Result<Self, SqliteError> {
        let text = sketch.text(layout, ROW, Virtual::LeftOut);
        let scratch = sketch.connection;
        // A second table over the same tree: through it any value can be put into a row of the first.
        scratch.execute("PRAGMA writable_schema = ON")?;
        scratch.sqlite().execute(
            "INSERT INTO sqlite_schema(type, name, tbl_name, rootpage, sql) \
             SELECT 'table', ?1, ?1, rootpage, ?2 FROM sqlite_schema WHERE type = 'table' AND name = ?3",
            [ROW, &text, &layout.name],
        )?;
        scratch.execute("PRAGMA writable_schema = RESET; BEGIN")?;
        let rowid = match layout.identity {
            Identity::Rowid { name } => Some(name.to_owned()),
            Identity::IntegerKey { .. } | Identity::Key { .. } => None,
        };
        let columns = layout.columns.iter().map(|column| quoted(&column.name));
        let columns: Vec<String> = rowid.into_iter().chain(columns).collect();
        let marks: Vec<String> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
        let (columns, marks) = (columns.join(", "), marks.join(", "));
        Ok(Self {
            insert: scratch.prepare(&format!("INSERT INTO {ROW}({columns}) VALUES({marks})"))?,
            select: scratch.prepare(&format!(
                "SELECT {} FROM {} NOT INDEXED",
                names.join(", "),
                quoted(&layout.name)
            ))?,
            delete: scratch.prepare(&format!("DELETE FROM {ROW}"))?,
        })
    }

    /// What they come to in this row, given as in a changeset.
    ///
    /// # Errors
    /// [`SqliteError`] when SQLite cannot compute one.
    pub(super) fn compute(&mut self, row: &[Value<'_>]) -> Result<Vec<OwnedValue>, SqliteError> {
        // A row that could not be computed may still be there.
        self.delete.execute(&[])?;
        self.insert.execute(row)?;
        let mut values = Vec::new();
        self.select.query::<SqliteError>(&[], |row| {
            values = row.values().into_iter().map(OwnedValue::from).collect();
            Ok(())
        })?;
        Ok(values)
    }
}
