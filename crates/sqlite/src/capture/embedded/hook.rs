//! What SQLite tells of rows before they change (`sqlite3_preupdate_hook`), and its question before a COMMIT.
//!
//! The hook is told of every row of a table of the main database: also by triggers and cascades, of rows that REPLACE takes away, and of
//! incremental writes to blobs. It is not told of what ALTER TABLE rewrites, of rows that go with DROP TABLE, and of what SQLite itself
//! writes to `sqlite_sequence`. While it is there, `DELETE FROM` goes row by row.
//!
//! What must stay true: nothing here panics or fails before SQLite; what goes wrong is kept until the transaction is finished.

#![allow(
    unsafe_code,
    reason = "the bundled bindings leave the preupdate functions out; each call below says why it is sound"
)]

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::ffi;
use synddb_protocol::submission::TextEncoding;

use super::rows::{SEQUENCE, key_bytes};
use super::touched::{Full, Keyed, Touched, length};
use super::{RecordError, TRANSACTION_BYTES_MAX};
use crate::connection::{Connection, Hooked, SqliteError};
use crate::schema::{Identity, is_outside};
use crate::state::Schema;
use crate::statement::value_of;
use crate::value::OwnedValue;

type OnChange = unsafe extern "C" fn(
    *mut c_void,
    *mut ffi::sqlite3,
    c_int,
    *const c_char,
    *const c_char,
    ffi::sqlite3_int64,
    ffi::sqlite3_int64,
);

unsafe extern "C" {
    fn sqlite3_preupdate_hook(
        database: *mut ffi::sqlite3,
        on_change: Option<OnChange>,
        argument: *mut c_void,
    ) -> *mut c_void;
    fn sqlite3_preupdate_count(database: *mut ffi::sqlite3) -> c_int;
    fn sqlite3_preupdate_old(
        database: *mut ffi::sqlite3,
        column: c_int,
        value: *mut *mut ffi::sqlite3_value,
    ) -> c_int;
    fn sqlite3_preupdate_new(
        database: *mut ffi::sqlite3,
        column: c_int,
        value: *mut *mut ffi::sqlite3_value,
    ) -> c_int;
}

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Idle,
    /// Its rows are kept as they were.
    Recording,
    /// Its changes were taken: whatever else changes is missed.
    Sealed,
    /// It could not be captured, or a statement took it back.
    Refused,
    /// What runs may only read.
    Reading,
}

/// What makes a recording useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    TooLarge,
    SchemaWritten,
    Unreadable(i32),
}

/// What the hooks share with the recorder.
struct Shared {
    phase: Cell<Phase>,
    schema: RefCell<Option<Arc<Schema>>>,
    has_virtual: Cell<bool>,
    encoding: Cell<TextEncoding>,
    touched: RefCell<Touched>,
    flaw: Cell<Option<Flaw>>,
    missed: Cell<bool>,
    /// Whether what ran while only reading was allowed was taken back, or refused.
    ended: Cell<bool>,
}

/// The hooks of one connection, for as long as this value lives.
pub(super) struct Hook {
    connection: Connection,
    // SQLite has a pointer to it, which is taken back before it goes.
    shared: Rc<Shared>,
}

impl Hook {
    pub(super) fn install(connection: &Connection) -> Result<Self, RecordError> {
        if connection.hooked().get() != Hooked::Sessions(0) {
            return Err(RecordError::Taken);
        }
        let shared = Rc::new(Shared {
            phase: Cell::new(Phase::Idle),
            schema: RefCell::new(None),
            has_virtual: Cell::new(false),
            encoding: Cell::new(connection.encoding()),
            touched: RefCell::new(Touched::default()),
            flaw: Cell::new(None),
            missed: Cell::new(false),
            ended: Cell::new(false),
        });
        connection.hooked().set(Hooked::Recorder);
        let argument = Rc::as_ptr(&shared).cast_mut().cast::<c_void>();
        // SAFETY: the connection is open; the argument lives until `drop` takes the hooks away, and is used on this thread only.
        unsafe {
            sqlite3_preupdate_hook(connection.handle(), Some(on_change), argument);
            ffi::sqlite3_commit_hook(connection.handle(), Some(on_commit), argument);
            ffi::sqlite3_rollback_hook(connection.handle(), Some(on_rollback), argument);
        }
        let hook = Self { connection: connection.clone(), shared };
        hook.expire_statements()?;
        Ok(hook)
    }

    /// Has every compiled statement compiled again: SQLite leaves the hook out of what is compiled without one. Any option of a connection
    /// that changes does that.
    fn expire_statements(&self) -> Result<(), SqliteError> {
        let sqlite = self.connection.sqlite();
        let is_trusted = sqlite.db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA)?;
        for trusted in [!is_trusted, is_trusted] {
            sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, trusted)?;
        }
        Ok(())
    }

    pub(super) fn begin(&self, schema: Arc<Schema>, encoding: TextEncoding) {
        let shared = &self.shared;
        let mut known = shared.schema.borrow_mut();
        if !known.as_ref().is_some_and(|known| Arc::ptr_eq(known, &schema)) {
            shared.has_virtual.set(schema.objects.iter().any(crate::schema::Object::is_virtual));
            *known = Some(schema);
        }
        shared.encoding.set(encoding);
        shared.flaw.set(None);
        shared.missed.set(false);
        shared.touched.take();
        shared.phase.set(Phase::Recording);
    }

    pub(super) fn phase(&self) -> Phase {
        self.shared.phase.get()
    }

    /// Leaves the recording.
    pub(super) fn enter(&self, phase: Phase) {
        self.shared.phase.set(phase);
        self.shared.touched.take();
    }

    /// From here on nothing may be written.
    pub(super) fn begin_reading(&self) {
        self.shared.missed.set(false);
        self.shared.ended.set(false);
        self.enter(Phase::Reading);
    }

    /// Whether something was written all the same, or tried to be committed, or the transaction was taken back.
    pub(super) fn end_reading(&self) -> bool {
        let ended = self.shared.ended.take();
        let missed = self.take_missed();
        self.enter(Phase::Idle);
        ended || missed
    }

    /// The rows that were touched.
    pub(super) fn take(&self) -> Touched {
        self.shared.touched.take()
    }

    pub(super) fn flaw(&self) -> Option<Flaw> {
        self.shared.flaw.get()
    }

    pub(super) fn take_missed(&self) -> bool {
        self.shared.missed.replace(false)
    }

    /// Has virtual tables write what they hold back until a COMMIT, as full-text indexes do: a savepoint makes them.
    pub(super) fn flush_virtual_tables(&self, may_be_new: bool) -> Result<(), SqliteError> {
        if self.shared.has_virtual.get() || may_be_new {
            self.connection.execute("SAVEPOINT _synddb_flush; RELEASE _synddb_flush")?;
        }
        Ok(())
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        // SAFETY: the connection is open, and after these calls SQLite has no pointer to what is shared.
        unsafe {
            sqlite3_preupdate_hook(self.connection.handle(), None, ptr::null_mut());
            ffi::sqlite3_commit_hook(self.connection.handle(), None, ptr::null_mut());
            ffi::sqlite3_rollback_hook(self.connection.handle(), None, ptr::null_mut());
        }
        self.connection.hooked().set(Hooked::Sessions(0));
    }
}

/// Whether a COMMIT is refused: SQLite rolls back then.
unsafe extern "C" fn on_commit(argument: *mut c_void) -> c_int {
    // SAFETY: the argument is what `install` gave, and lives as long as the hook.
    let shared = unsafe { &*argument.cast_const().cast::<Shared>() };
    c_int::from(match shared.phase.get() {
        Phase::Idle => false,
        Phase::Recording | Phase::Refused => true,
        Phase::Sealed => shared.missed.get(),
        Phase::Reading => {
            shared.ended.set(true);
            true
        }
    })
}

/// The transaction was taken back by a statement in it, by a COMMIT that was refused, or by the caller.
unsafe extern "C" fn on_rollback(argument: *mut c_void) {
    // SAFETY: the argument is what `install` gave, and lives as long as the hook.
    let shared = unsafe { &*argument.cast_const().cast::<Shared>() };
    match shared.phase.get() {
        Phase::Idle => {}
        // What runs from here on belongs to another transaction, which a SAVEPOINT may begin without a word.
        Phase::Recording | Phase::Sealed | Phase::Refused => shared.phase.set(Phase::Refused),
        Phase::Reading => shared.ended.set(true),
    }
}

unsafe extern "C" fn on_change(
    argument: *mut c_void,
    database: *mut ffi::sqlite3,
    operation: c_int,
    schema: *const c_char,
    table: *const c_char,
    before: ffi::sqlite3_int64,
    after: ffi::sqlite3_int64,
) {
    // SAFETY: the argument is what `install` gave, and lives as long as the hook. SQLite's names end with a NUL.
    let (shared, schema, table) =
        unsafe { (&*argument.cast_const().cast::<Shared>(), CStr::from_ptr(schema), CStr::from_ptr(table)) };
    if schema != c"main" {
        return;
    }
    let Ok(table) = table.to_str() else {
        return shared.spoil(Flaw::Unreadable(ffi::SQLITE_CORRUPT));
    };
    let change = Change { database, operation, before, after, encoding: shared.encoding.get() };
    shared.note(table, &change);
}

/// What the hook is told of one row.
struct Change {
    database: *mut ffi::sqlite3,
    operation: c_int,
    before: i64,
    after: i64,
    encoding: TextEncoding,
}

impl From<Full> for Flaw {
    fn from(Full: Full) -> Self {
        Self::TooLarge
    }
}

impl Shared {
    /// The first flaw is told, and nothing is kept any more.
    fn spoil(&self, flaw: Flaw) {
        if self.flaw.get().is_none() {
            self.flaw.set(Some(flaw));
        }
    }

    fn note(&self, table: &str, change: &Change) {
        if is_outside(table) {
            return;
        }
        if self.phase.get() != Phase::Recording {
            self.missed.set(true);
            return;
        }
        if table.eq_ignore_ascii_case("sqlite_master") || table.eq_ignore_ascii_case("sqlite_schema") {
            return self.spoil(Flaw::SchemaWritten);
        }
        if self.flaw.get().is_some() || table.eq_ignore_ascii_case(SEQUENCE) {
            return;
        }
        // No statement runs while either is borrowed elsewhere.
        let (Ok(schema), Ok(mut touched)) = (self.schema.try_borrow(), self.touched.try_borrow_mut()) else {
            return self.spoil(Flaw::Unreadable(ffi::SQLITE_MISUSE));
        };
        // A table that the transaction made is captured as a whole.
        let Some(layout) = schema.as_ref().and_then(|schema| schema.layouts.get(table)) else { return };
        let noted = match &layout.identity {
            Identity::Key { columns } => change.touch_keys(table, columns, &mut touched),
            Identity::Rowid { .. } | Identity::IntegerKey { .. } => change.touch_rowids(table, &mut touched),
        };
        match noted {
            Ok(()) => {}
            // The table was made again under its name, with other columns: it travels whole.
            Err(Flaw::Unreadable(ffi::SQLITE_RANGE)) => touched.lose(table),
            Err(flaw) => {
                touched.clear();
                self.spoil(flaw);
            }
        }
    }
}

impl Change {
    fn touch_rowids(&self, table: &str, touched: &mut Touched) -> Result<(), Flaw> {
        if self.operation != ffi::SQLITE_INSERT && !touched.has_rowid(table, self.before) {
            let original = self.values(Side::Old)?;
            touched.touch_rowid(table, self.before, Some(original))?;
        }
        if self.operation != ffi::SQLITE_DELETE {
            touched.touch_rowid(table, self.after, None)?;
        }
        Ok(())
    }

    fn touch_keys(&self, table: &str, columns: &[usize], touched: &mut Touched) -> Result<(), Flaw> {
        let key_of = |values: &[OwnedValue]| {
            let key: Option<Vec<OwnedValue>> = columns.iter().map(|at| values.get(*at).cloned()).collect();
            key.ok_or(Flaw::Unreadable(ffi::SQLITE_RANGE))
        };
        if self.operation != ffi::SQLITE_INSERT {
            let original = self.values(Side::Old)?;
            let key = key_of(&original)?;
            let bytes = key_bytes(&key);
            if !touched.has_key(table, &bytes) {
                touched.touch_key(table, bytes, Keyed { key, original: Some(original) })?;
            }
        }
        if self.operation != ffi::SQLITE_DELETE {
            let key = key_of(&self.values(Side::New)?)?;
            let bytes = key_bytes(&key);
            if !touched.has_key(table, &bytes) {
                touched.touch_key(table, bytes, Keyed { key, original: None })?;
            }
        }
        Ok(())
    }

    /// The values of the stored columns, in schema order.
    fn values(&self, side: Side) -> Result<Vec<OwnedValue>, Flaw> {
        // SAFETY: this is inside the hook, and on its connection.
        let count = unsafe { sqlite3_preupdate_count(self.database) };
        let mut values = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        for column in 0..count {
            // A virtual generated column is out of range where the old row is asked, and also where the new one of an INSERT is.
            let is_stored =
                side == Side::Old || self.operation == ffi::SQLITE_INSERT || self.is_stored(column);
            if is_stored && let Some(value) = self.value(side, column)? {
                values.push(value);
            }
        }
        Ok(values)
    }

    fn is_stored(&self, column: c_int) -> bool {
        matches!(self.value(Side::Old, column), Ok(Some(_)))
    }

    /// The value of a column; `None` where the table does not store it.
    fn value(&self, side: Side, column: c_int) -> Result<Option<OwnedValue>, Flaw> {
        let mut value = ptr::null_mut();
        // SAFETY: this is inside the hook, on its connection, for an operation that has this side; `value` may be written. What is
        // written lives until the hook returns, and is copied.
        unsafe {
            let code = match side {
                Side::Old => sqlite3_preupdate_old(self.database, column, &raw mut value),
                Side::New => sqlite3_preupdate_new(self.database, column, &raw mut value),
            };
            match code {
                ffi::SQLITE_OK if !value.is_null() => {
                    let value = value_of(value, self.encoding);
                    // One value alone may be more than is held.
                    let fits = length(&value) <= TRANSACTION_BYTES_MAX;
                    if fits { Ok(Some(value.into())) } else { Err(Flaw::TooLarge) }
                }
                ffi::SQLITE_RANGE => Ok(None),
                ffi::SQLITE_OK => Err(Flaw::Unreadable(ffi::SQLITE_NOMEM)),
                code => Err(Flaw::Unreadable(code)),
            }
        }
    }
}

/// Which of the two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Old,
    New,
}
