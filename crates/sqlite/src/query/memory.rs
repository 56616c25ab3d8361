//! The memory of one query, counted where SQLite allocates.
//!
//! A query keeps rows to be sorted, temporary tables, lists of rowids, filters and values; no setting of SQLite bounds all of them, and its
//! heap limit is one for the whole process, whose applier must not be refused anything. So SQLite asks through here for what it allocates: a
//! thread that answers a query has an account, and what goes over its limit is refused, which SQLite takes for a machine without memory
//! and ends the statement. A query is answered by one thread from its beginning to its end.
//!
//! What must stay true: this is in place before SQLite is used for the first time, since SQLite takes no other allocator after that. So it is
//! done before `main`, also in programs that open a database by other ways than this crate's.

#![allow(unsafe_code, reason = "SQLite's allocator is a table of C functions")]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use rusqlite::ffi;

/// What a thread may have, and has.
#[derive(Clone, Copy)]
struct Account {
    limit: usize,
    used: usize,
    most: usize,
}

thread_local! {
    /// That of the query that this thread answers, if it does.
    static ACCOUNT: Cell<Option<Account>> = const { Cell::new(None) };
}

/// The functions that allocated before.
struct Before {
    allocate: unsafe extern "C" fn(c_int) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    resize: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void,
    size: unsafe extern "C" fn(*mut c_void) -> c_int,
}

static BEFORE: OnceLock<Before> = OnceLock::new();

/// Has SQLite allocate through here. Where that is refused, queries are.
#[ctor::ctor(unsafe)]
fn count() {
    let mut methods = ffi::sqlite3_mem_methods {
        xMalloc: None,
        xFree: None,
        xRealloc: None,
        xSize: None,
        xRoundup: None,
        xInit: None,
        xShutdown: None,
        pAppData: ptr::null_mut(),
    };
    // SAFETY: nothing else runs yet, and SQLite copies what it is given. The functions keep the contract of those that they call.
    unsafe {
        if ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &raw mut methods) != ffi::SQLITE_OK {
            return;
        }
        let (Some(allocate), Some(free), Some(resize), Some(size)) =
            (methods.xMalloc, methods.xFree, methods.xRealloc, methods.xSize)
        else {
            return;
        };
        if BEFORE.set(Before { allocate, free, resize, size }).is_err() {
            return;
        }
        methods.xMalloc = Some(allocate_counted);
        methods.xFree = Some(free_counted);
        methods.xRealloc = Some(resize_counted);
        ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw mut methods);
        // SQLite's own count of everything takes a lock for each allocation, which a query that was put to sleep with it would keep from
        // whoever applies. Nobody asks for that count.
        ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0 as c_int);
    }
}

unsafe extern "C" fn allocate_counted(bytes: c_int) -> *mut c_void {
    let Some(before) = BEFORE.get() else { return ptr::null_mut() };
    let Some(account) = ACCOUNT.get() else {
        // SAFETY: passed on as it came.
        return unsafe { (before.allocate)(bytes) };
    };
    if !account.has_room(0, bytes) {
        return ptr::null_mut();
    }
    // SAFETY: passed on as it came; what is measured was just allocated.
    unsafe {
        let allocated = (before.allocate)(bytes);
        if !allocated.is_null() {
            account.changed(0, (before.size)(allocated));
        }
        allocated
    }
}

unsafe extern "C" fn free_counted(allocated: *mut c_void) {
    let Some(before) = BEFORE.get() else { return };
    // SAFETY: passed on as it came; SQLite frees what it was given, and never nothing.
    unsafe {
        if let Some(account) = ACCOUNT.get() {
            account.changed((before.size)(allocated), 0);
        }
        (before.free)(allocated);
    }
}

unsafe extern "C" fn resize_counted(allocated: *mut c_void, bytes: c_int) -> *mut c_void {
    let Some(before) = BEFORE.get() else { return ptr::null_mut() };
    let Some(account) = ACCOUNT.get() else {
        // SAFETY: passed on as it came.
        return unsafe { (before.resize)(allocated, bytes) };
    };
    // SAFETY: passed on as it came; what is measured is SQLite's, and what it became.
    unsafe {
        let had = (before.size)(allocated);
        if !account.has_room(had, bytes) {
            return ptr::null_mut();
        }
        let resized = (before.resize)(allocated, bytes);
        if !resized.is_null() {
            account.changed(had, (before.size)(resized));
        }
        resized
    }
}

impl Account {
    fn has_room(self, instead_of: c_int, bytes: c_int) -> bool {
        let bytes = size(bytes);
        // What becomes no larger is never refused, however much there is.
        bytes <= size(instead_of)
            || self.used.saturating_sub(size(instead_of)).saturating_add(bytes) <= self.limit
    }

    /// What was opened by another thread may be freed by this one, so that there may seem to be less than nothing.
    fn changed(mut self, before: c_int, after: c_int) {
        self.used = self.used.saturating_sub(size(before)).saturating_add(size(after));
        self.most = self.most.max(self.used);
        ACCOUNT.set(Some(self));
    }
}

fn size(bytes: c_int) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

/// An account of this thread, until it is dropped.
pub(super) struct Counting {
    /// It is this thread's.
    _here: std::marker::PhantomData<*const ()>,
}

impl Counting {
    /// Begins to count on this thread. `None` where SQLite does not allocate through here: nothing would be bounded.
    pub(super) fn begin(limit: usize) -> Option<Self> {
        BEFORE.get()?;
        ACCOUNT.set(Some(Account { limit, used: 0, most: 0 }));
        Some(Self { _here: std::marker::PhantomData })
    }

    /// The most that there was at a time.
    pub(super) fn most(&self) -> usize {
        ACCOUNT.get().map_or(0, |account| account.most)
    }

    /// Does something that cannot bear to be refused memory, and whose own is bounded otherwise. It is counted.
    pub(super) fn unrefused<T>(&self, act: impl FnOnce() -> T) -> T {
        let set = |limit| {
            ACCOUNT.get().map(|account| (account.limit, ACCOUNT.set(Some(Account { limit, ..account }))))
        };
        let limit = set(usize::MAX);
        let done = act();
        if let Some((limit, ())) = limit {
            set(limit);
        }
        done
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        ACCOUNT.set(None);
    }
}
