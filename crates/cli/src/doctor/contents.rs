//! What is found through SQLite: the schema and, when asked, every page and every row.

use std::path::Path;
use std::time::Instant;

use synddb_protocol::chain;
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::inspect::{self, JournalMode, Opened, ReadBy};
use synddb_sqlite::rusqlite::ffi;
use synddb_sqlite::state::RunningState;

use super::finding::{Code, Findings};

/// Most lines of `PRAGMA integrity_check` that are asked for.
const PROBLEMS_MAX: u32 = 10;

pub(super) fn examine(path: &Path, mode: JournalMode, full: bool, findings: &mut Findings) {
    let Opened { connection, by } = match inspect::open(path, mode) {
        Ok(opened) => opened,
        Err(error) => return unreadable(&error, findings),
    };
    match by {
        ReadBy::WithoutItsWal => findings.warn(
            Code::Readable,
            "there is a WAL without its index, as after copying; what it holds is not looked at here",
            "open the database once with the application, or follow it: SQLite then reads the WAL",
        ),
        ReadBy::File | ReadBy::Wal | ReadBy::FileAlone => {
            findings.ok(Code::Readable, "SQLite reads the database")
        }
    }
    schema(&connection, findings);
    if full {
        integrity(&connection, findings);
        state(&connection, findings);
    }
}

fn unreadable(error: &SqliteError, findings: &mut Findings) {
    match error.primary() {
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => findings.warn(
            Code::Readable,
            format!("the database was busy all the while: {error}"),
            "look again while no long transaction runs",
        ),
        ffi::SQLITE_READONLY | ffi::SQLITE_CANTOPEN => findings.warn(
            Code::Readable,
            format!("a crash left what has to be taken back before the database can be read: {error}"),
            "open it once with the application, or follow it: SQLite then takes it back",
        ),
        _ => findings.refuse(
            Code::Readable,
            format!("SQLite cannot read the database: {error}"),
            "run `PRAGMA integrity_check`, and restore it from a backup",
        ),
    }
}

fn schema(connection: &Connection, findings: &mut Findings) {
    match inspect::cannot_follow(connection) {
        Ok(found) if found.is_empty() => {
            findings.ok(Code::Schema, "everything in the schema can be replicated")
        }
        Ok(found) => {
            for error in found {
                findings.refuse(Code::Schema, chain(&error), "change the schema as it says");
            }
        }
        Err(error) => findings.refuse(Code::Schema, chain(&error), "run `PRAGMA integrity_check`"),
    }
    // What cannot be read at all was told above.
    for module in inspect::modules(connection).unwrap_or_default() {
        let values = format!("module=`{}` table=`{}`", module.name, module.table);
        if module.is_known {
            findings.ok(Code::VirtualTables, format!("a module of virtual tables is known here. {values}"));
        } else {
            findings.warn(
                Code::VirtualTables,
                format!(
                    "a module of virtual tables is not known here, so the table cannot be read in a replica. {values}"
                ),
                "read such tables only where the application's extension is loaded; their own tables are replicated",
            );
        }
    }
}

fn integrity(connection: &Connection, findings: &mut Findings) {
    let check = || -> Result<Vec<String>, SqliteError> {
        let mut check = connection.sqlite().prepare(&format!("PRAGMA integrity_check({PROBLEMS_MAX})"))?;
        Ok(check.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    };
    let began = Instant::now();
    let fix = "restore the database from a backup, or make it anew with the shell's `.recover`";
    match check() {
        Ok(lines) if lines == ["ok"] => {
            findings.ok(
                Code::Integrity,
                format!("integrity_check finds nothing ({} ms)", began.elapsed().as_millis()),
            );
        }
        Ok(lines) => {
            findings.refuse(Code::Integrity, format!("integrity_check finds: {}", lines.join("; ")), fix)
        }
        Err(error) => findings.refuse(Code::Integrity, format!("integrity_check fails: {error}"), fix),
    }
}

fn state(connection: &Connection, findings: &mut Findings) {
    let began = Instant::now();
    match RunningState::scan(connection) {
        Ok(state) => findings.ok(
            Code::State,
            format!(
                "the state is {} ({} ms; each attach takes as long)",
                state.hash(),
                began.elapsed().as_millis()
            ),
        ),
        Err(error) => {
            findings.refuse(
                Code::State,
                format!("the state cannot be scanned: {}", chain(&error)),
                "do what it says",
            );
        }
    }
}
