//! Connections that know how their database stores text. What a purpose needs besides is set by whoever opens one.
//!
//! A process holds one copy of SQLite, this one. A second copy that opens the same file would drop its POSIX locks and lose
//! committed data.

#![allow(unsafe_code, reason = "the raw handle is what statements and file methods are reached by")]

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{OpenFlags, ffi};
use synddb_protocol::submission::TextEncoding;

use crate::name::beside;
use crate::statement::Statement;

/// How long locks of other connections are waited for, unless somebody has less patience.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// SQLite refused, or could not do, what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("sqlite: {message}. code=`{code}`")]
pub struct SqliteError {
    message: String,
    code: i32,
}

impl SqliteError {
    pub(crate) fn new(message: &str, code: i32) -> Self {
        Self { message: message.to_owned(), code }
    }

    /// SQLite's extended result code.
    pub const fn code(&self) -> i32 {
        self.code
    }

    /// SQLite's primary result code: `SQLITE_BUSY`, `SQLITE_CONSTRAINT` and so on.
    pub const fn primary(&self) -> i32 {
        self.code & 0xff
    }

    /// Whether another connection holds what was needed, so that the same call may succeed later.
    pub const fn is_busy(&self) -> bool {
        matches!(self.primary(), ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED)
    }

    /// SQLite's own words.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().map_or(ffi::SQLITE_ERROR, |error| error.extended_code);
        Self { message: error.to_string(), code }
    }
}

/// A connection that knows the text encoding of its database. Clones are the same connection.
#[derive(Clone)]
pub struct Connection(Rc<Inner>);

struct Inner {
    sqlite: rusqlite::Connection,
    encoding: TextEncoding,
    hooked: Cell<Hooked>,
}

/// Who has SQLite's one preupdate hook of a connection. Sessions hand it on to one another, and would take anybody else's for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hooked {
    /// So many sessions, or nobody.
    Sessions(u32),
    /// A recorder (`capture::embedded`).
    Recorder,
}

impl Connection {
    /// Opens an existing database file to write it, beside whatever else has it open. Locks of others are waited for
    /// as long as [`PATIENCE`] says.
    ///
    /// # Errors
    /// [`SqliteError`] when there is no such file, or it is no database.
    pub fn open(path: &Path) -> Result<Self, SqliteError> {
        Self::with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    /// Opens an existing database file to read it. Locks of others are waited for
    /// as long as [`PATIENCE`] says.
    ///
    /// # Errors
    /// [`SqliteError`] when there is no such file, or it is no database.
    pub fn open_read_only(path: &Path) -> Result<Self, SqliteError> {
        Self::with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Opens a file and begins a read transaction in it.
    ///
    /// A database in WAL mode needs a `-wal` and a `-shm` beside it also to be read, and SQLite makes them. A reader that may only
    /// read cannot take them away again. So where no `-wal` is there, the file is opened as an application opens it, and the last
    /// close leaves nothing. Where one is, it may hold commits of an application that crashed: the file is opened only to read,
    /// since a writer's last close would move them into the file. When that cannot be done (a hot rollback journal has to be played
    /// back first, or a folder is read-only), the other way is tried, with that move switched off.
    ///
    /// One change is made: a transaction that a crash left half done in a file with a rollback journal is taken back, as by whoever
    /// opens the file next. There is no other way to read it.
    ///
    /// # Errors
    /// [`SqliteError`] when there is no such file, or it is no database.
    pub fn open_to_read(path: &Path) -> Result<Self, SqliteError> {
        // Free of links, since a WAL lies beside the file itself.
        let path = &path
            .canonicalize()
            .map_err(|_| SqliteError::new("there is no such file", ffi::SQLITE_CANTOPEN))?;
        let has_wal = beside(path, "-wal").exists();
        let attempt = |read_only: bool| -> Result<Self, SqliteError> {
            let connection = if read_only { Self::open_read_only(path) } else { Self::open(path) }?;
            let sqlite = connection.sqlite();
            sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_wal)?;
            sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
            connection.execute("PRAGMA query_only = ON; BEGIN")?;
            // The transaction begins with the first page that is read.
            sqlite.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(connection)
        };
        match attempt(has_wal) {
            Err(error) if matches!(error.primary(), ffi::SQLITE_CANTOPEN | ffi::SQLITE_READONLY) => {
                attempt(!has_wal)
            }
            result => result,
        }
    }

    /// How long other connections' locks are waited for from now on.
    ///
    /// # Errors
    /// [`SqliteError`] when SQLite does not take the time.
    pub fn set_patience(&self, patience: Duration) -> Result<(), SqliteError> {
        Ok(self.0.sqlite.busy_timeout(patience)?)
    }

    /// A database in memory with this text encoding.
    ///
    /// # Errors
    /// [`SqliteError`] when memory runs out.
    pub fn in_memory(encoding: TextEncoding) -> Result<Self, SqliteError> {
        let sqlite = rusqlite::Connection::open_in_memory()?;
        let name = match encoding {
            TextEncoding::Utf8 => "UTF-8",
            TextEncoding::Utf16Le => "UTF-16le",
            TextEncoding::Utf16Be => "UTF-16be",
        };
        sqlite.pragma_update(None, "encoding", name)?;
        Self::over(sqlite)
    }

    fn with_flags(path: &Path, flags: OpenFlags) -> Result<Self, SqliteError> {
        // SQLite is built to take names that begin with `file:` for URIs; a whole path never does.
        let absolute = std::path::absolute(path)
            .map_err(|_| SqliteError::new("the path is empty", ffi::SQLITE_CANTOPEN))?;
        let sqlite =
            rusqlite::Connection::open_with_flags(absolute, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        // Before the first read, which already may have to wait.
        sqlite.busy_timeout(PATIENCE)?;
        Self::over(sqlite)
    }

    /// Takes over a connection that rusqlite opened.
    ///
    /// # Errors
    /// [`SqliteError`] when its file cannot be read.
    pub fn over(sqlite: rusqlite::Connection) -> Result<Self, SqliteError> {
        let name: String = sqlite.pragma_query_value(None, "encoding", |row| row.get(0))?;
        let encoding = match name.as_str() {
            "UTF-16le" => TextEncoding::Utf16Le,
            "UTF-16be" => TextEncoding::Utf16Be,
            _ => TextEncoding::Utf8,
        };
        Ok(Self(Rc::new(Inner { sqlite, encoding, hooked: Cell::new(Hooked::Sessions(0)) })))
    }

    /// The connection as rusqlite has it, for statements that carry no text of the database.
    pub fn sqlite(&self) -> &rusqlite::Connection {
        &self.0.sqlite
    }

    /// The text encoding of the database.
    pub fn encoding(&self) -> TextEncoding {
        self.0.encoding
    }

    /// Compiles a statement.
    ///
    /// # Errors
    /// [`SqliteError`] when SQLite does not understand it.
    pub fn prepare(&self, sql: &str) -> Result<Statement, SqliteError> {
        Statement::prepare(self, sql)
    }

    /// Runs statements that return nothing.
    ///
    /// # Errors
    /// [`SqliteError`] of the first that fails.
    pub fn execute(&self, sql: &str) -> Result<(), SqliteError> {
        Ok(self.0.sqlite.execute_batch(sql)?)
    }

    /// Leaves the WAL as it is when this is the last connection to close: whoever opens the database next reads it.
    pub(crate) fn keep_wal_on_close(&self) -> Result<(), SqliteError> {
        self.0.sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(())
    }

    /// Has SQLite find out which earlier snapshots of the WAL can still be opened. Only while no transaction is open here.
    pub(crate) fn recover_snapshots(&self) -> Result<(), SqliteError> {
        // SAFETY: the connection is open, and the function takes nothing else.
        match unsafe { ffi::sqlite3_snapshot_recover(self.handle(), c"main".as_ptr()) } {
            ffi::SQLITE_OK => Ok(()),
            code => Err(self.error(code)),
        }
    }

    /// Who has the preupdate hook.
    pub(crate) fn hooked(&self) -> &Cell<Hooked> {
        &self.0.hooked
    }

    /// Runs something that may only compile statements that make tables and indexes: SQLite refuses every other, and every query in them.
    pub(crate) fn while_only_making<T>(
        &self,
        body: impl FnOnce() -> Result<T, SqliteError>,
    ) -> Result<T, SqliteError> {
        // SAFETY: the connection is open; the function takes nothing that could end before it, and is taken away again.
        unsafe { ffi::sqlite3_set_authorizer(self.handle(), Some(only_making), ptr::null_mut()) };
        let result = body();
        // SAFETY: as above.
        unsafe { ffi::sqlite3_set_authorizer(self.handle(), None, ptr::null_mut()) };
        result
    }

    pub(crate) fn handle(&self) -> *mut ffi::sqlite3 {
        // SAFETY: the pointer is used while this value, and so the connection, lives, and never closed through it.
        unsafe { self.0.sqlite.handle() }
    }

    /// The error that SQLite reports for its last call on this connection.
    pub(crate) fn error(&self, code: i32) -> SqliteError {
        // SAFETY: the connection is open; the text is copied before anything else is called on it.
        unsafe {
            let extended = ffi::sqlite3_extended_errcode(self.handle());
            let code = if extended & 0xff == code & 0xff { extended } else { code };
            let message = std::ffi::CStr::from_ptr(ffi::sqlite3_errmsg(self.handle()));
            SqliteError { message: message.to_string_lossy().into_owned(), code }
        }
    }
}

/// What making a table or an index consists of (SQLite, "Authorizer Action Codes"); what is not named is refused.
unsafe extern "C" fn only_making(
    _: *mut c_void,
    action: c_int,
    _: *const c_char,
    _: *const c_char,
    _: *const c_char,
    _: *const c_char,
) -> c_int {
    match action {
        ffi::SQLITE_CREATE_TABLE
        | ffi::SQLITE_CREATE_INDEX
        | ffi::SQLITE_REINDEX
        | ffi::SQLITE_INSERT
        | ffi::SQLITE_UPDATE
        | ffi::SQLITE_READ
        | ffi::SQLITE_FUNCTION => ffi::SQLITE_OK,
        _ => ffi::SQLITE_DENY,
    }
}

/// Whether the main database has a table of this name.
///
/// # Errors
/// When the schema cannot be read.
pub fn has_table(sqlite: &rusqlite::Connection, name: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name = ?1";
    sqlite.query_row(sql, [name], |row| Ok(row.get::<_, i64>(0)? > 0))
}

/// A name as SQL writes it, whatever characters it has.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
