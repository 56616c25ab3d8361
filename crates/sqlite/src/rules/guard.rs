//! What a rule may do: read tables and views of its own commit, and compute what follows from them alone.
//!
//! The authorizer stands only while rules are compiled: with one, SQLite compiles every other statement of the connection anew. The clock stands only while
//! they run, and counts from nothing for each of them, so that the same is too much on every machine.

#![allow(
    unsafe_code,
    reason = "rusqlite wants the connection for itself to set these, and it is shared here; each call says why it is sound"
)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::time::{Duration, Instant};

use rusqlite::ffi;

use super::Bounds;
use crate::connection::Connection;
use crate::query::guard::{FUNCTIONS, OWN_FUNCTIONS};
use crate::statement::Statement;

/// Instructions of SQLite's machine between two looks at what was spent.
const INSTRUCTIONS: c_int = 1000;

/// The names of a rowid that a rule may join by. A column may take them away.
pub(super) const ROWIDS: [&str; 2] = ["rowid", "_rowid_"];

/// What is known of a schema when rules are compiled, and what compiling found.
#[derive(Debug, Default)]
pub(super) struct Compiling {
    /// In lower case: the names of views of rows, which a rule may read.
    pub(super) rows: BTreeSet<String>,
    /// In lower case: the application's views.
    pub(super) views: BTreeSet<String>,
    /// In lower case: virtual tables, and modules that are tables by themselves.
    pub(super) virtuals: BTreeSet<String>,
    /// In lower case: tables and views of rows where `rowid` is not the rowid, and why not.
    pub(super) rowids: BTreeMap<String, &'static str>,
    /// What was read, in lower case.
    pub(super) read: BTreeSet<String>,
    /// How often each column is read, by its table and name in lower case.
    pub(super) columns: Columns,
    /// What was refused first.
    pub(super) refused: Option<String>,
}

/// How often a query reads each column of each table.
pub(super) type Columns = BTreeMap<(String, String), u32>;

/// Takes from a connection what it was given, also where what ran meanwhile panics.
struct Unset<'c>(&'c Connection, fn(*mut ffi::sqlite3));

impl Drop for Unset<'_> {
    fn drop(&mut self) {
        self.1(self.0.handle());
    }
}

impl Compiling {
    /// Runs `compile` under the authorizer.
    pub(super) fn compile<T>(&mut self, connection: &Connection, compile: impl FnOnce() -> T) -> T {
        self.read.clear();
        self.columns.clear();
        self.refused = None;
        let context = std::ptr::from_mut(self).cast::<c_void>();
        let _unset = Unset(connection, |handle| {
            // SAFETY: as below.
            unsafe { ffi::sqlite3_set_authorizer(handle, None, std::ptr::null_mut()) };
        });
        // SAFETY: the connection is open and used by this thread alone; the context outlives the guard, after which SQLite has it no more.
        unsafe { ffi::sqlite3_set_authorizer(connection.handle(), Some(authorize), context) };
        compile()
    }

    fn judge(&mut self, action: c_int, first: &str, second: &str, inside: &str) -> bool {
        match action {
            ffi::SQLITE_SELECT | ffi::SQLITE_RECURSIVE => true,
            ffi::SQLITE_READ => {
                let name = first.to_ascii_lowercase();
                let view =
                    [inside, first].into_iter().find(|name| self.views.contains(&name.to_ascii_lowercase()));
                let refused = if let Some(view) = view {
                    Some(format!(
                        "`{view}` is a view, and what a view means is for the application to change; read its tables"
                    ))
                } else if name.starts_with("sqlite_") && name != "sqlite_sequence" {
                    // Pages and statistics are each file's own.
                    Some(format!("`{first}` is not the same in every replica"))
                } else if name.starts_with("_synddb") {
                    Some(format!("`{first}` belongs to the replica, not to the database"))
                } else if !self.rows.contains(&name)
                    && (self.virtuals.contains(&name) || name.starts_with("pragma_"))
                {
                    Some(format!("`{first}` is a virtual table, which a replica does not open"))
                } else if ROWIDS.iter().any(|rowid| second.eq_ignore_ascii_case(rowid)) {
                    self.rowids.get(&name).map(|why| format!("`{first}` {why}"))
                } else {
                    None
                };
                self.read.insert(name.clone());
                *self.columns.entry((name, second.to_ascii_lowercase())).or_default() += 1;
                self.refuse(refused)
            }
            ffi::SQLITE_FUNCTION => {
                let named = |list: &[&str]| list.iter().any(|name| second.eq_ignore_ascii_case(name));
                let refused = if named(OWN_FUNCTIONS) {
                    Some(format!("`{second}` does not answer the same to every validator"))
                } else if named(FUNCTIONS) {
                    None
                } else {
                    Some(format!("the function `{second}` is not for rules"))
                };
                self.refuse(refused)
            }
            _ => self.refuse(Some("a rule is one query that reads".to_owned())),
        }
    }

    fn refuse(&mut self, what: Option<String>) -> bool {
        let is_allowed = what.is_none();
        if self.refused.is_none() {
            self.refused = what;
        }
        is_allowed
    }
}

unsafe extern "C" fn authorize(
    context: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    _database: *const c_char,
    inside: *const c_char,
) -> c_int {
    let text = |text: *const c_char| {
        if text.is_null() {
            return String::new();
        }
        // SAFETY: SQLite gives texts that end in a zero byte and live as long as this call.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    };
    // SAFETY: the context is the `Compiling` whose `compile` runs, which nobody else touches meanwhile.
    let compiling = unsafe { &mut *context.cast::<Compiling>() };
    let is_allowed = compiling.judge(action, &text(first), &text(second), &text(inside));
    if is_allowed { ffi::SQLITE_OK } else { ffi::SQLITE_DENY }
}

/// Which bound a rule came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Steps,
    Time,
}

/// Interrupts what costs more than it may. It stands while all rules of a commit run, and looks at what one has spent only where that takes more than an
/// instant: setting it, and reading the clock, cost as much as a rule over few rows.
#[derive(Debug)]
pub(super) struct Clock {
    steps: u64,
    time: Duration,
    /// What the rule that runs has spent.
    spent: Cell<u64>,
    /// When it has to be done.
    end: Cell<Option<Instant>>,
    over: Cell<Option<Over>>,
}

impl Clock {
    /// Does something with a clock that interrupts statements of the connection.
    pub(super) fn bound<T>(connection: &Connection, bounds: Bounds, run: impl FnOnce(&Self) -> T) -> T {
        let Bounds { steps, time, .. } = bounds;
        let (spent, end, over) = (Cell::new(0), Cell::new(None), Cell::new(None));
        let clock = Self { steps, time, spent, end, over };
        let context = std::ptr::from_ref(&clock).cast_mut().cast::<c_void>();
        let _unset = Unset(connection, |handle| {
            // SAFETY: as below.
            unsafe { ffi::sqlite3_progress_handler(handle, 0, None, std::ptr::null_mut()) };
        });
        // SAFETY: the connection is open and used by this thread alone; the clock outlives the guard, after which SQLite has it no more. It is changed
        // through cells only.
        unsafe { ffi::sqlite3_progress_handler(connection.handle(), INSTRUCTIONS, Some(is_over), context) };
        run(&clock)
    }

    /// Another rule begins.
    pub(super) fn begin(&self, statement: &mut Statement) {
        statement.forget_steps();
        self.spent.set(0);
        self.end.set(None);
        self.over.set(None);
    }

    /// What the rule had too much of, if anything.
    pub(super) const fn over(&self) -> Option<Over> {
        self.over.get()
    }
}

unsafe extern "C" fn is_over(context: *mut c_void) -> c_int {
    // SAFETY: the context is the `Clock` whose `bound` runs, on this thread.
    let clock = unsafe { &*context.cast::<Clock>() };
    let now = Instant::now();
    // A time that no clock comes to is no bound.
    let end = clock.end.get().or_else(|| now.checked_add(clock.time));
    clock.end.set(end);
    let spent = clock.spent.get().saturating_add(u64::from(INSTRUCTIONS.unsigned_abs()));
    clock.spent.set(spent);
    let is_late = end.is_some_and(|end| now >= end);
    clock.over.set(if spent >= clock.steps { Some(Over::Steps) } else { is_late.then_some(Over::Time) });
    c_int::from(clock.over().is_some())
}
