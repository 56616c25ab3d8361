//! A connection on which no function computes anything, for a file whose schema nobody vouches for yet.
//!
//! SQLite computes what a schema says at more places than meet the eye: it reads statistics whenever it reads a schema, and a column of their
//! table may be generated; whatever it deletes it also takes out of indexes on expressions. One call of a function can take as long as the
//! file's maker likes, and nothing interrupts it. So the functions stay known by name, since a schema that names an unknown one cannot be
//! read, and each refuses to be called. What SQLite runs by itself when something is dropped takes its own functions all the same.

#![allow(unsafe_code, reason = "functions are made by calls that rusqlite does not wrap here")]

use std::ffi::{CString, c_int};
use std::ptr;

use rusqlite::ffi::{self, sqlite3_context, sqlite3_value};

use crate::connection::SqliteError;

/// Takes the place of every function that a schema can name. To be called before anything reads the schema.
pub(super) fn make_inert(sqlite: &rusqlite::Connection) -> Result<(), SqliteError> {
    // The pragma, since its table is a name like any other, for which SQLite reads the schema first.
    let mut listing = sqlite.prepare("PRAGMA function_list")?;
    let scalar = |row: &rusqlite::Row<'_>| {
        let (name, kind, arguments): (String, String, c_int) =
            (row.get("name")?, row.get("type")?, row.get("narg")?);
        Ok((kind == "s").then_some((name, arguments)))
    };
    let functions: Vec<Option<(String, c_int)>> = listing.query_map([], scalar)?.collect::<Result<_, _>>()?;
    listing.finalize()?;
    for (name, arguments) in functions.into_iter().flatten() {
        let name = CString::new(name)
            .map_err(|_| SqliteError::new("the name of a function has a zero", ffi::SQLITE_MISUSE))?;
        let flags = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;
        // SAFETY: the connection is open; the function lives as long as the program and takes no data.
        let code = unsafe {
            ffi::sqlite3_create_function_v2(
                sqlite.handle(),
                name.as_ptr(),
                // SQLite says more about a varying number than it takes.
                arguments.max(-1),
                flags,
                ptr::null_mut(),
                Some(inert),
                None,
                None,
                None,
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into());
        }
    }
    Ok(())
}

unsafe extern "C" fn inert(context: *mut sqlite3_context, _: c_int, _: *mut *mut sqlite3_value) {
    // SAFETY: the context is that of this call; SQLite copies the message, which ends with a zero.
    unsafe {
        ffi::sqlite3_result_error(context, c"nothing is computed before the state is known".as_ptr(), -1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_function_computes_and_every_one_is_known() {
        let sqlite = rusqlite::Connection::open_in_memory().unwrap();
        make_inert(&sqlite).unwrap();
        // In whatever way SQLite calls a function: by name, as an operator, with a number of arguments that varies.
        for expression in [
            "instr(a, a)",
            "a LIKE b",
            "a GLOB b",
            "a -> '$'",
            "replace(a, b, a)",
            "printf('%d', a)",
            "coalesce(a, b, a, b)",
            "iif(a, b, a)",
            "max(a, b)",
            "json_patch(a, b)",
            "trim(a, b)",
            "likely(a)",
        ] {
            sqlite
                .execute_batch(&format!(
                    "CREATE TABLE t(a, b); CREATE INDEX i ON t({expression}); DROP INDEX i;
                     INSERT INTO t VALUES('x', 'y')"
                ))
                .unwrap();
            let made = sqlite.execute_batch(&format!("CREATE INDEX i ON t({expression})"));
            let error = SqliteError::from(made.unwrap_err());
            assert!(error.message().contains("nothing is computed"), "{expression}: {error}");
            sqlite.execute_batch("DROP TABLE t").unwrap();
        }
    }
}
