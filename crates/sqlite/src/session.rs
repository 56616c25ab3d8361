//! SQLite's session extension: records the row changes that one connection makes.
//!
//! It serves where there is no WAL to follow, and as the second oracle of the differential test. It sees only tables with a
//! declared primary key (or, if asked, the rowid of those without), only rows without NULL in it, only its own connection, and no
//! schema changes. Text in its changesets is UTF-8 whatever the database's encoding, and generated columns are left out.

#![allow(
    unsafe_code,
    reason = "the bundled bindings leave the session functions out; each call below says why it is sound"
)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use rusqlite::ffi;

use crate::connection::{Connection, Hooked, SqliteError};

/// SQLite's own type, of which only pointers exist here.
#[repr(C)]
struct RawSession {
    _opaque: [u8; 0],
}

/// `SQLITE_SESSION_OBJCONFIG_ROWID` of sqlite3session.h.
const OBJCONFIG_ROWID: c_int = 2;

unsafe extern "C" {
    fn sqlite3session_create(
        database: *mut ffi::sqlite3,
        schema: *const c_char,
        session: *mut *mut RawSession,
    ) -> c_int;
    fn sqlite3session_object_config(session: *mut RawSession, option: c_int, argument: *mut c_void) -> c_int;
    fn sqlite3session_attach(session: *mut RawSession, table: *const c_char) -> c_int;
    fn sqlite3session_enable(session: *mut RawSession, enable: c_int) -> c_int;
    fn sqlite3session_isempty(session: *mut RawSession) -> c_int;
    fn sqlite3session_changeset(
        session: *mut RawSession,
        length: *mut c_int,
        changeset: *mut *mut c_void,
    ) -> c_int;
    fn sqlite3session_delete(session: *mut RawSession);
    fn sqlite3changeset_apply(
        database: *mut ffi::sqlite3,
        length: c_int,
        changeset: *mut c_void,
        filter: Option<unsafe extern "C" fn(context: *mut c_void, table: *const c_char) -> c_int>,
        conflict: Option<
            unsafe extern "C" fn(context: *mut c_void, kind: c_int, changes: *mut c_void) -> c_int,
        >,
        context: *mut c_void,
    ) -> c_int;
}

/// `SQLITE_CHANGESET_ABORT` of sqlite3session.h.
const CHANGESET_ABORT: c_int = 2;

/// What a session takes for the identity of rows in tables without a declared primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyless {
    /// Nothing: changes of such tables are not recorded.
    Skip,
    /// The rowid, as a leading column `_rowid_`.
    ByRowid,
}

/// Records the changes that one connection makes to its main database from when tables are attached on.
pub struct Session {
    session: *mut RawSession,
    // Keeps the connection open: SQLite must not close it before its sessions are deleted, which `drop` does first.
    connection: Connection,
}

impl Session {
    /// A session on the connection's main database, with no table attached yet.
    ///
    /// # Errors
    /// [`SqliteError`] when memory runs out, or a recorder has the connection.
    pub fn open(connection: &Connection, keyless: Keyless) -> Result<Self, SqliteError> {
        let Hooked::Sessions(others) = connection.hooked().get() else {
            return Err(SqliteError::new("a recorder has the connection's changes", ffi::SQLITE_MISUSE));
        };
        let mut session = ptr::null_mut();
        // SAFETY: the connection is open, the name ends with a NUL, and `session` may be written.
        let code = unsafe { sqlite3session_create(connection.handle(), c"main".as_ptr(), &raw mut session) };
        if code != ffi::SQLITE_OK {
            return Err(failed(code));
        }
        connection.hooked().set(Hooked::Sessions(others + 1));
        let opened = Self { session, connection: connection.clone() };
        let mut by_rowid = c_int::from(keyless == Keyless::ByRowid);
        // SAFETY: the session is open, and this option reads and writes one int.
        let code = unsafe {
            sqlite3session_object_config(opened.session, OBJCONFIG_ROWID, (&raw mut by_rowid).cast())
        };
        if code == ffi::SQLITE_OK { Ok(opened) } else { Err(failed(code)) }
    }

    /// Records changes of this table from now on, or of every table, also of later ones, when there is no name.
    ///
    /// # Errors
    /// [`SqliteError`] when memory runs out, or the name holds a NUL, as no table's does.
    pub fn attach(&mut self, table: Option<&str>) -> Result<(), SqliteError> {
        let name = table
            .map(CString::new)
            .transpose()
            .map_err(|_| SqliteError::new("a table's name holds no NUL", ffi::SQLITE_MISUSE))?;
        let name = name.as_ref().map_or(ptr::null(), |name| name.as_ptr());
        // SAFETY: the session is open; the name is null or ends with a NUL, and SQLite copies it.
        match unsafe { sqlite3session_attach(self.session, name) } {
            ffi::SQLITE_OK => Ok(()),
            code => Err(failed(code)),
        }
    }

    /// Goes on, or stops, recording rows that were not recorded before.
    pub fn set_enabled(&mut self, enabled: bool) {
        // SAFETY: the session is open.
        unsafe { sqlite3session_enable(self.session, c_int::from(enabled)) };
    }

    /// Whether no change was recorded. Changes that undo each other still count.
    pub fn is_empty(&self) -> bool {
        // SAFETY: the session is open.
        unsafe { sqlite3session_isempty(self.session) != 0 }
    }

    /// The recorded rows as they were, against as they are now: a changeset in SQLite's format.
    ///
    /// # Errors
    /// [`SqliteError`] when a recorded table was changed by DDL or is gone, or memory runs out.
    pub fn changeset(&mut self) -> Result<Vec<u8>, SqliteError> {
        let (mut length, mut data) = (0, ptr::null_mut());
        // SAFETY: the session is open, its connection is used by this thread alone, and both results may be written.
        let code = unsafe { sqlite3session_changeset(self.session, &raw mut length, &raw mut data) };
        if code != ffi::SQLITE_OK {
            return Err(self.connection.error(code));
        }
        let length = usize::try_from(length).unwrap_or(0);
        if data.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: SQLite allocated `length` bytes, which this function now owns: they are copied, then freed, once.
        unsafe {
            let changeset = std::slice::from_raw_parts(data.cast::<u8>(), length).to_vec();
            ffi::sqlite3_free(data);
            Ok(changeset)
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the pointer came from create and is deleted once, while the connection is still open.
        unsafe { sqlite3session_delete(self.session) };
        if let Hooked::Sessions(open) = self.connection.hooked().get() {
            self.connection.hooked().set(Hooked::Sessions(open.saturating_sub(1)));
        }
    }
}

/// Applies a changeset by SQLite's own means (`sqlite3changeset_apply`): what `apply` is compared with. Every conflict ends it.
///
/// Changesets of this crate are of SQLite's format where each table's identity is its declared primary key, and the encoding is UTF-8.
///
/// # Errors
/// [`SqliteError`] when it is no changeset, or does not apply; nothing of it is applied then. A table that is not there is passed over,
/// as SQLite does.
pub fn apply_changeset(connection: &Connection, changeset: &[u8]) -> Result<(), SqliteError> {
    unsafe extern "C" fn abort(_: *mut c_void, _: c_int, _: *mut c_void) -> c_int {
        CHANGESET_ABORT
    }
    let length = c_int::try_from(changeset.len()).map_err(|_| failed(ffi::SQLITE_TOOBIG))?;
    // SAFETY: the connection is open, and the changeset has `length` bytes, which SQLite only reads.
    let code = unsafe {
        let bytes = changeset.as_ptr().cast_mut().cast::<c_void>();
        sqlite3changeset_apply(connection.handle(), length, bytes, None, Some(abort), ptr::null_mut())
    };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(failed(code)) }
}

/// These functions do not set the connection's error, so its message would be another call's.
fn failed(code: c_int) -> SqliteError {
    // SAFETY: SQLite returns a static text for every code.
    let message = unsafe { std::ffi::CStr::from_ptr(ffi::sqlite3_errstr(code)) };
    SqliteError::new(&message.to_string_lossy(), code)
}

#[cfg(test)]
mod tests {
    use synddb_protocol::state::Value;
    use synddb_protocol::submission::TextEncoding;

    use super::*;
    use crate::changeset::{Reader, RowChange, Step};

    #[test]
    fn a_session_holds_what_the_transaction_changed() {
        let connection = Connection::in_memory(TextEncoding::Utf8).unwrap();
        connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES(1, 'x')").unwrap();
        let mut session = Session::open(&connection, Keyless::Skip).unwrap();
        session.attach(None).unwrap();
        assert!(session.is_empty());
        connection.execute("UPDATE t SET b = 'y'; UPDATE t SET b = 'z'").unwrap();
        session.set_enabled(false);
        connection.execute("INSERT INTO t VALUES(2, 'not recorded')").unwrap();
        let bytes = session.changeset().unwrap();
        let mut reader = Reader::new(bytes.as_slice());
        assert!(matches!(reader.step().unwrap(), Some(Step::Table(table)) if table.name == "t"));
        let old = vec![Some(Value::Integer(1)), Some(Value::Text(b"x"))];
        let new = vec![None, Some(Value::Text(b"z"))];
        assert_eq!(reader.step().unwrap(), Some(Step::Row(RowChange::Update { old, new })));
        assert_eq!(reader.step().unwrap(), None);
    }

    #[test]
    fn a_changeset_is_applied_or_nothing_of_it() {
        let make = || {
            let connection = Connection::in_memory(TextEncoding::Utf8).unwrap();
            connection
                .execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES(1, 'x')")
                .unwrap();
            connection
        };
        let (one, other) = (make(), make());
        let mut session = Session::open(&one, Keyless::Skip).unwrap();
        session.attach(None).unwrap();
        one.execute("INSERT INTO t VALUES(2, 'new'); UPDATE t SET b = 'y' WHERE a = 1").unwrap();
        let bytes = session.changeset().unwrap();
        let rows = |connection: &Connection| {
            let rows = "SELECT group_concat(a || b, ' ' ORDER BY a) FROM t";
            connection.sqlite().query_row(rows, [], |row| row.get::<_, String>(0)).unwrap()
        };
        apply_changeset(&other, &bytes).unwrap();
        assert_eq!(rows(&other), "1y 2new");
        assert!(apply_changeset(&other, &bytes).is_err(), "what it changes is not there any more");
        assert_eq!(rows(&other), "1y 2new");
    }

    #[test]
    fn tables_without_a_key_are_recorded_on_request_only() {
        for (keyless, recorded) in [(Keyless::Skip, false), (Keyless::ByRowid, true)] {
            let connection = Connection::in_memory(TextEncoding::Utf8).unwrap();
            connection.execute("CREATE TABLE t(a)").unwrap();
            let mut session = Session::open(&connection, keyless).unwrap();
            session.attach(Some("t")).unwrap();
            connection.execute("INSERT INTO t VALUES(1)").unwrap();
            assert_eq!(!session.changeset().unwrap().is_empty(), recorded);
        }
    }
}
