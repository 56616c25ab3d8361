//! SQLite as the system has it: the library is loaded when the writer starts, so that what is measured is written as an application
//! writes, and never with the copy that is built into this program.
//!
//! What must stay true: a statement and a session end before their connection, and a connection before the library; lifetimes and
//! fields hold that. Everything stays in one thread.
//!
//! Knows nothing of what is written.

#![allow(
    unsafe_code,
    reason = "functions of a library that is loaded at run time; each call says why it is sound"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::rc::Rc;

use crate::bench::BenchError;

/// `sqlite3`, `sqlite3_stmt` and `sqlite3_session`: only pointers to them are ever had.
type Handle = *mut c_void;

const SQLITE_OK: c_int = 0;
const SQLITE_ROW: c_int = 100;
const SQLITE_DONE: c_int = 101;
const SQLITE_OPEN_READWRITE: c_int = 0x2;
const SQLITE_OPEN_CREATE: c_int = 0x4;

/// `SQLITE_TRANSIENT`: the library copies what it is given before it returns.
const TRANSIENT: isize = -1;

/// The functions that a writer calls, by the names and types of `sqlite3.h`.
struct Functions {
    libversion: unsafe extern "C" fn() -> *const c_char,
    open_v2: unsafe extern "C" fn(*const c_char, *mut Handle, c_int, *const c_char) -> c_int,
    close: unsafe extern "C" fn(Handle) -> c_int,
    exec: unsafe extern "C" fn(Handle, *const c_char, Handle, Handle, Handle) -> c_int,
    errmsg: unsafe extern "C" fn(Handle) -> *const c_char,
    extended_errcode: unsafe extern "C" fn(Handle) -> c_int,
    prepare_v2: unsafe extern "C" fn(Handle, *const c_char, c_int, *mut Handle, Handle) -> c_int,
    bind_int64: unsafe extern "C" fn(Handle, c_int, i64) -> c_int,
    bind_text: unsafe extern "C" fn(Handle, c_int, *const c_char, c_int, isize) -> c_int,
    bind_blob: unsafe extern "C" fn(Handle, c_int, *const c_void, c_int, isize) -> c_int,
    step: unsafe extern "C" fn(Handle) -> c_int,
    reset: unsafe extern "C" fn(Handle) -> c_int,
    finalize: unsafe extern "C" fn(Handle) -> c_int,
    free: unsafe extern "C" fn(Handle),
    sessions: Option<SessionFunctions>,
}

/// Those of the session extension, which a library may lack.
struct SessionFunctions {
    create: unsafe extern "C" fn(Handle, *const c_char, *mut Handle) -> c_int,
    attach: unsafe extern "C" fn(Handle, *const c_char) -> c_int,
    changeset: unsafe extern "C" fn(Handle, *mut c_int, *mut Handle) -> c_int,
    delete: unsafe extern "C" fn(Handle),
}

/// A copy of SQLite.
pub(super) struct Library {
    path: PathBuf,
    functions: Functions,
    /// Keeps what the functions point into.
    _loaded: libloading::Library,
}

impl Library {
    /// Loads it, as the dynamic linker finds it.
    pub(super) fn load(path: &Path) -> Result<Rc<Self>, BenchError> {
        let refused = |source| BenchError::NoLibrary { library: path.to_owned(), source };
        // SAFETY: what a library does when it is loaded is its own affair; this one is SQLite, or was named by whoever measures.
        let loaded = unsafe { libloading::Library::new(path) }.map_err(refused)?;
        let functions = functions(&loaded).map_err(refused)?;
        Ok(Rc::new(Self { path: path.to_owned(), functions, _loaded: loaded }))
    }

    /// Its version, as in `3.45.1`.
    pub(super) fn version(&self) -> String {
        // SAFETY: it answers a string that is part of the library.
        unsafe { text((self.functions.libversion)()) }
    }

    /// Whether it has the session extension.
    pub(super) const fn has_sessions(&self) -> bool {
        self.functions.sessions.is_some()
    }
}

/// Finds the functions by their names.
fn functions(loaded: &libloading::Library) -> Result<Functions, libloading::Error> {
    macro_rules! function {
        ($name:literal) => {
            // SAFETY: each name stands for a function of exactly this type in every SQLite 3 that has it, as `sqlite3.h` declares it;
            // a library without one is refused. The pointers are kept together with the library.
            unsafe { *loaded.get($name)? }
        };
    }
    let sessions = || -> Result<SessionFunctions, libloading::Error> {
        Ok(SessionFunctions {
            create: function!("sqlite3session_create"),
            attach: function!("sqlite3session_attach"),
            changeset: function!("sqlite3session_changeset"),
            delete: function!("sqlite3session_delete"),
        })
    };
    Ok(Functions {
        libversion: function!("sqlite3_libversion"),
        open_v2: function!("sqlite3_open_v2"),
        close: function!("sqlite3_close"),
        exec: function!("sqlite3_exec"),
        errmsg: function!("sqlite3_errmsg"),
        extended_errcode: function!("sqlite3_extended_errcode"),
        prepare_v2: function!("sqlite3_prepare_v2"),
        bind_int64: function!("sqlite3_bind_int64"),
        bind_text: function!("sqlite3_bind_text"),
        bind_blob: function!("sqlite3_bind_blob"),
        step: function!("sqlite3_step"),
        reset: function!("sqlite3_reset"),
        finalize: function!("sqlite3_finalize"),
        free: function!("sqlite3_free"),
        sessions: sessions().ok(),
    })
}

/// A connection to a database.
pub(super) struct Connection {
    library: Rc<Library>,
    handle: Handle,
}

impl Connection {
    /// Opens a database, and makes it when it is missing.
    pub(super) fn open(library: &Rc<Library>, path: &Path) -> Result<Self, BenchError> {
        let name = c_string("open the database", path.as_os_str().as_bytes())?;
        let mut handle = ptr::null_mut();
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
        // SAFETY: the name ends with a zero, and the handle is written where it is told; no file system layer is named.
        let code = unsafe { (library.functions.open_v2)(name.as_ptr(), &raw mut handle, flags, ptr::null()) };
        // A handle comes even when the file does not open; it is closed with this value.
        let connection = Self { library: Rc::clone(library), handle };
        connection.check("open the database", code)?;
        Ok(connection)
    }

    /// Runs statements, and ignores the rows that they give.
    pub(super) fn exec(&self, doing: &'static str, sql: &str) -> Result<(), BenchError> {
        let sql = c_string(doing, sql.as_bytes())?;
        let none = ptr::null_mut();
        // SAFETY: the handle is open, the text ends with a zero, and nothing is to be called for rows.
        let code = unsafe { (self.functions().exec)(self.handle, sql.as_ptr(), none, none, none) };
        self.check(doing, code)
    }

    /// Prepares one statement; `doing` is what errors call it.
    pub(super) fn prepare(&self, doing: &'static str, sql: &str) -> Result<Statement<'_>, BenchError> {
        let sql = c_string(doing, sql.as_bytes())?;
        let (mut handle, none) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the handle is open, the text ends with a zero, and the statement is written where it is told.
        let code =
            unsafe { (self.functions().prepare_v2)(self.handle, sql.as_ptr(), -1, &raw mut handle, none) };
        self.check(doing, code)?;
        Ok(Statement { connection: self, handle, doing })
    }

    /// Begins to record the changes that this connection makes, in every table.
    pub(super) fn session(&self) -> Result<Session<'_>, BenchError> {
        let doing = "begin a session";
        let Some(functions) = &self.functions().sessions else {
            return Err(BenchError::NoSessions { library: self.library.path.clone() });
        };
        let mut handle = ptr::null_mut();
        // SAFETY: the handle is open, and the session is written where it is told.
        let code = unsafe { (functions.create)(self.handle, c"main".as_ptr(), &raw mut handle) };
        self.check(doing, code)?;
        let session = Session { connection: self, functions, handle };
        // SAFETY: the session was just made; no name stands for every table.
        self.check(doing, unsafe { (functions.attach)(handle, ptr::null()) })?;
        Ok(session)
    }

    fn functions(&self) -> &Functions {
        &self.library.functions
    }

    /// What SQLite says of its last failure.
    fn check(&self, doing: &'static str, code: c_int) -> Result<(), BenchError> {
        if code == SQLITE_OK {
            return Ok(());
        }
        // SAFETY: the handle is open, or null, of which the library says that it is out of memory; the text is copied at once.
        let (message, extended) = unsafe {
            (text((self.functions().errmsg)(self.handle)), (self.functions().extended_errcode)(self.handle))
        };
        Err(BenchError::Sqlite { doing, message, code: if extended == SQLITE_OK { code } else { extended } })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: statements and sessions borrow the connection, so that they are gone; a null handle is allowed.
        unsafe { (self.functions().close)(self.handle) };
    }
}

/// A prepared statement.
pub(super) struct Statement<'connection> {
    connection: &'connection Connection,
    handle: Handle,
    doing: &'static str,
}

impl Statement<'_> {
    /// Sets a parameter, the first of which is 1.
    pub(super) fn integer(&mut self, parameter: c_int, value: i64) -> Result<(), BenchError> {
        // SAFETY: the statement is prepared.
        let code = unsafe { (self.connection.functions().bind_int64)(self.handle, parameter, value) };
        self.connection.check(self.doing, code)
    }

    /// Sets a parameter.
    pub(super) fn text(&mut self, parameter: c_int, value: &str) -> Result<(), BenchError> {
        let length = length(self.doing, value.len())?;
        // SAFETY: the statement is prepared; the text is as long as it is said to be, and copied.
        let code = unsafe {
            let value = value.as_ptr().cast();
            (self.connection.functions().bind_text)(self.handle, parameter, value, length, TRANSIENT)
        };
        self.connection.check(self.doing, code)
    }

    /// Sets a parameter.
    pub(super) fn blob(&mut self, parameter: c_int, value: &[u8]) -> Result<(), BenchError> {
        let length = length(self.doing, value.len())?;
        // SAFETY: the statement is prepared; the bytes are as many as they are said to be, and copied.
        let code = unsafe {
            let value = value.as_ptr().cast();
            (self.connection.functions().bind_blob)(self.handle, parameter, value, length, TRANSIENT)
        };
        self.connection.check(self.doing, code)
    }

    /// Runs it to its end, whatever rows it gives, and makes it ready to run again with the same parameters.
    pub(super) fn run(&mut self) -> Result<(), BenchError> {
        let functions = self.connection.functions();
        let stepped = loop {
            // SAFETY: the statement is prepared, and reset after each run.
            let code = unsafe { (functions.step)(self.handle) };
            match code {
                SQLITE_ROW => {}
                SQLITE_DONE => break SQLITE_OK,
                failed => break failed,
            }
        };
        // What failed is said before the statement forgets it.
        let result = self.connection.check(self.doing, stepped);
        // SAFETY: the statement is prepared.
        let reset = unsafe { (functions.reset)(self.handle) };
        result.and_then(|()| self.connection.check(self.doing, reset))
    }
}

impl Drop for Statement<'_> {
    fn drop(&mut self) {
        // SAFETY: the statement was prepared and is not used again.
        unsafe { (self.connection.functions().finalize)(self.handle) };
    }
}

/// A recording of changes.
pub(super) struct Session<'connection> {
    connection: &'connection Connection,
    functions: &'connection SessionFunctions,
    handle: Handle,
}

impl Session<'_> {
    /// Ends the recording: what was changed since it began.
    pub(super) fn changeset(self) -> Result<Changeset, BenchError> {
        let (mut length, mut bytes) = (0, ptr::null_mut());
        // SAFETY: the session is live, and both values are written where they are told.
        let code = unsafe { (self.functions.changeset)(self.handle, &raw mut length, &raw mut bytes) };
        let changeset =
            Changeset { library: Rc::clone(&self.connection.library), bytes, length, alone: PhantomData };
        self.connection.check("take a changeset", code)?;
        Ok(changeset)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // SAFETY: the session is live, its connection is open, and it is not used again.
        unsafe { (self.functions.delete)(self.handle) };
    }
}

/// A changeset in the library's memory.
pub(super) struct Changeset {
    library: Rc<Library>,
    bytes: Handle,
    length: c_int,
    alone: PhantomData<*mut c_void>,
}

impl Changeset {
    pub(super) fn bytes(&self) -> &[u8] {
        match usize::try_from(self.length) {
            // SAFETY: the library answered so many bytes there, which stay until they are freed with this value.
            Ok(length @ 1..) if !self.bytes.is_null() => unsafe {
                std::slice::from_raw_parts(self.bytes.cast(), length)
            },
            Ok(_) | Err(_) => &[],
        }
    }
}

impl Drop for Changeset {
    fn drop(&mut self) {
        // SAFETY: the library gave this memory away, or null, and it is not used again.
        unsafe { (self.library.functions.free)(self.bytes) };
    }
}

/// A copy of a text of the library.
///
/// # Safety
/// It is null, or ends with a zero.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: it ends with a zero, as whoever calls this promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn c_string(doing: &'static str, bytes: &[u8]) -> Result<CString, BenchError> {
    CString::new(bytes).map_err(|error| BenchError::system(doing)(error.into()))
}

fn length(doing: &'static str, length: usize) -> Result<c_int, BenchError> {
    c_int::try_from(length).map_err(|error| BenchError::system(doing)(std::io::Error::other(error)))
}
