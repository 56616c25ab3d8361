//! Functions of SQLite whose time grows with the product of two lengths, made anew with a bound on the second one.
//!
//! SQLite looks at its clock between instructions, never inside a function call, so a call must end soon by itself. These answer what
//! SQLite's own answer; what is searched for, or taken away, has at most [`PATTERN_BYTES_MAX`] bytes, as with LIKE. What is cheaper to
//! do without is refused by name in `guard.rs`.

#![allow(unsafe_code, reason = "functions are made by calls that rusqlite does not wrap here")]

use std::ffi::{CStr, c_int};
use std::{ptr, slice};

use rusqlite::ffi::{self, sqlite3_context, sqlite3_value};

use super::VALUE_BYTES_MAX;

/// Longest text or blob that is searched for or taken away, and longest pattern of LIKE and GLOB.
pub(super) const PATTERN_BYTES_MAX: usize = 100;

type Function = unsafe extern "C" fn(*mut sqlite3_context, c_int, *mut *mut sqlite3_value);

/// Puts the bounded functions in the place of SQLite's.
pub(super) fn replace_unbounded(sqlite: &rusqlite::Connection) -> rusqlite::Result<()> {
    let functions: [(&CStr, c_int, Function); 6] = [
        (c"instr", 2, instr),
        (c"replace", 3, replace),
        (c"trim", 2, trim),
        (c"ltrim", 2, trim_left),
        (c"rtrim", 2, trim_right),
        (c"unhex", 2, refused),
    ];
    for (name, arguments, function) in functions {
        let flags = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;
        // SAFETY: the connection is open; the functions live as long as the program and take no data.
        let code = unsafe {
            ffi::sqlite3_create_function_v2(
                sqlite.handle(),
                name.as_ptr(),
                arguments,
                flags,
                ptr::null_mut(),
                Some(function),
                None,
                None,
                None,
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        }
    }
    Ok(())
}

/// The arguments of a call.
struct Call {
    context: *mut sqlite3_context,
    arguments: *mut *mut sqlite3_value,
}

impl Call {
    fn value(&self, place: usize) -> *mut sqlite3_value {
        // SAFETY: SQLite calls each function with as many values as it was made with, and none asks for more.
        unsafe { *self.arguments.add(place) }
    }

    fn class(&self, place: usize) -> c_int {
        // SAFETY: the value is one that SQLite gave to this call.
        unsafe { ffi::sqlite3_value_type(self.value(place)) }
    }

    /// The bytes of a blob, or of a value as text. `None` for NULL, which SQLite answers with NULL, and when memory ran out.
    ///
    /// Copied, since another look at the same value may move it.
    fn bytes(&self, place: usize, as_text: bool) -> Option<Vec<u8>> {
        if self.class(place) == ffi::SQLITE_NULL {
            return None;
        }
        // SAFETY: the value is one that SQLite gave to this call; its length is asked for after its form was chosen, and nothing else
        // is done with it while the bytes are borrowed.
        unsafe {
            let value = self.value(place);
            let from: *const u8 =
                if as_text { ffi::sqlite3_value_text(value) } else { ffi::sqlite3_value_blob(value).cast() };
            let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
            match (from.is_null(), length) {
                (false, _) => Some(slice::from_raw_parts(from, length).to_vec()),
                (true, 0) if !as_text => Some(Vec::new()),
                (true, _) => None,
            }
        }
    }

    /// The same of what is searched for, or `None` when an error was answered.
    fn pattern(&self, place: usize, as_text: bool) -> Option<Vec<u8>> {
        let pattern = self.bytes(place, as_text)?;
        if pattern.len() > PATTERN_BYTES_MAX {
            self.fail(c"what is searched for in a query has at most 100 bytes");
            return None;
        }
        Some(pattern)
    }

    fn fail(&self, message: &CStr) {
        // SAFETY: SQLite copies the message, which ends with a zero.
        unsafe { ffi::sqlite3_result_error(self.context, message.as_ptr(), -1) }
    }

    fn too_big(&self) {
        // SAFETY: the context is that of this call.
        unsafe { ffi::sqlite3_result_error_toobig(self.context) }
    }

    fn answer_integer(&self, value: usize) {
        // SAFETY: the context is that of this call.
        unsafe { ffi::sqlite3_result_int64(self.context, i64::try_from(value).unwrap_or(i64::MAX)) }
    }

    fn answer_text(&self, bytes: &[u8]) {
        const UTF8: u8 = 1;
        // SAFETY: SQLite copies the bytes before it returns.
        unsafe {
            ffi::sqlite3_result_text64(
                self.context,
                bytes.as_ptr().cast(),
                bytes.len() as u64,
                ffi::SQLITE_TRANSIENT(),
                UTF8,
            );
        }
    }
}

/// The place of a text or blob in another one, from 1; 0 where it is not.
unsafe extern "C" fn instr(context: *mut sqlite3_context, _: c_int, arguments: *mut *mut sqlite3_value) {
    let call = Call { context, arguments };
    let text = call.class(0) != ffi::SQLITE_BLOB || call.class(1) != ffi::SQLITE_BLOB;
    if call.class(0) == ffi::SQLITE_NULL {
        return;
    }
    let Some(needle) = call.pattern(1, text) else { return };
    let Some(hay) = call.bytes(0, text) else { return };
    call.answer_integer(place_of(&hay, &needle, text));
}

fn place_of(hay: &[u8], needle: &[u8], text: bool) -> usize {
    if needle.is_empty() {
        return 1;
    }
    let mut characters = 0;
    for (place, window) in hay.windows(needle.len()).enumerate() {
        // The first byte begins a character, whatever it is.
        if text && place > 0 && window[0] & 0xc0 == 0x80 {
            continue;
        }
        characters += 1;
        if window == needle {
            return characters;
        }
    }
    0
}

/// A text with every occurrence of another one replaced.
unsafe extern "C" fn replace(context: *mut sqlite3_context, _: c_int, arguments: *mut *mut sqlite3_value) {
    let call = Call { context, arguments };
    if call.class(0) == ffi::SQLITE_NULL {
        return;
    }
    let Some(pattern) = call.pattern(1, true) else { return };
    let Some(text) = call.bytes(0, true) else { return };
    // SQLite looks at a C string here.
    if pattern.first().is_none_or(|first| *first == 0) {
        return call.answer_text(&text);
    }
    let Some(by) = call.bytes(2, true) else { return };
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text.as_slice();
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(pattern.as_slice()) {
            replaced.extend_from_slice(&by);
            rest = behind;
        } else {
            replaced.push(*first);
            rest = behind;
        }
        if replaced.len() > VALUE_BYTES_MAX {
            return call.too_big();
        }
    }
    call.answer_text(&replaced);
}

unsafe extern "C" fn trim(context: *mut sqlite3_context, _: c_int, arguments: *mut *mut sqlite3_value) {
    trimmed(&Call { context, arguments }, true, true);
}

unsafe extern "C" fn trim_left(context: *mut sqlite3_context, _: c_int, arguments: *mut *mut sqlite3_value) {
    trimmed(&Call { context, arguments }, true, false);
}

unsafe extern "C" fn trim_right(context: *mut sqlite3_context, _: c_int, arguments: *mut *mut sqlite3_value) {
    trimmed(&Call { context, arguments }, false, true);
}

/// A text without the characters of a set at its ends.
fn trimmed(call: &Call, left: bool, right: bool) {
    if call.class(0) == ffi::SQLITE_NULL {
        return;
    }
    let Some(set) = call.pattern(1, true) else { return };
    let Some(text) = call.bytes(0, true) else { return };
    let characters = characters(&set);
    let mut kept = text.as_slice();
    if left {
        while let Some(less) = characters.iter().find_map(|character| kept.strip_prefix(*character)) {
            kept = less;
        }
    }
    if right {
        while let Some(less) = characters.iter().find_map(|character| kept.strip_suffix(*character)) {
            kept = less;
        }
    }
    call.answer_text(kept);
}

/// The characters of a text as SQLite cuts it, also where it is no UTF-8.
fn characters(mut text: &[u8]) -> Vec<&[u8]> {
    let mut characters = Vec::new();
    // A zero ends it.
    while let Some((first, rest)) = text.split_first().filter(|(first, _)| **first != 0) {
        let more = match first {
            0xc0.. => rest.iter().take_while(|byte| **byte & 0xc0 == 0x80).count(),
            _ => 0,
        };
        let (character, behind) = text.split_at(1 + more);
        characters.push(character);
        text = behind;
    }
    characters
}

/// A function that a query does without.
unsafe extern "C" fn refused(context: *mut sqlite3_context, _: c_int, arguments: *mut *mut sqlite3_value) {
    Call { context, arguments }.fail(c"this function is not for queries with so many arguments");
}
