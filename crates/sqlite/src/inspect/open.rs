//! A connection that writes nothing, not even beside the file.
//!
//! A database in WAL mode is read by its wal-index. Where there is one, SQLite is told to map it read-only (`readonly_shm`): it then takes
//! the marks that others have set, or, where nobody has the database open, reads the WAL into its own memory. Where there is none, SQLite
//! would make one; so the file is read as one that nobody writes (`immutable`), and what a WAL without an index holds is not seen.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;

use super::JournalMode;
use crate::connection::{Connection, SqliteError};
use crate::name::beside;

/// How long locks of others are waited for: whoever looks is in nobody's way for longer than a look.
const PATIENCE: Duration = Duration::from_secs(1);

/// By what a database is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBy {
    /// Its file, under a lock that keeps writers from committing.
    File,
    /// Its file and its WAL.
    Wal,
    /// Its file alone, since no WAL is there.
    FileAlone,
    /// Its file alone, although there is a WAL, which has no index.
    WithoutItsWal,
}

/// A database that is open to be looked at, in a read transaction.
pub struct Opened {
    /// The connection.
    pub connection: Connection,
    /// What it sees.
    pub by: ReadBy,
}

/// Opens a database and begins a read transaction. `path` is free of links.
///
/// # Errors
/// [`SqliteError`] when it cannot be read as it is: somebody keeps it locked, or a crash left a transaction that has to be taken back
/// first.
pub fn open(path: &Path, mode: JournalMode) -> Result<Opened, SqliteError> {
    let length = |suffix| std::fs::metadata(beside(path, suffix)).map_or(0, |file| file.len());
    let by = match mode {
        JournalMode::Rollback => ReadBy::File,
        // With an index alone, SQLite would make a WAL.
        JournalMode::Wal if beside(path, "-shm").exists() && beside(path, "-wal").exists() => ReadBy::Wal,
        JournalMode::Wal if length("-wal") == 0 => ReadBy::FileAlone,
        JournalMode::Wal => ReadBy::WithoutItsWal,
    };
    let how = match by {
        ReadBy::File => "mode=ro",
        ReadBy::Wal => "mode=ro&readonly_shm=1",
        ReadBy::FileAlone | ReadBy::WithoutItsWal => "mode=ro&immutable=1",
    };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sqlite = rusqlite::Connection::open_with_flags(uri(path, how), flags)?;
    sqlite.busy_timeout(PATIENCE)?;
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    let connection = Connection::over(sqlite)?;
    connection.execute("PRAGMA query_only = ON; BEGIN")?;
    // The transaction begins with the first page that is read.
    connection.sqlite().query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(Opened { connection, by })
}

/// The name of a file as SQLite takes it with parameters.
fn uri(path: &Path, parameters: &str) -> String {
    use std::fmt::Write as _;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte))
            }
            // Writing to a text cannot fail.
            byte => write!(uri, "%{byte:02X}").unwrap_or_default(),
        }
    }
    uri.push('?');
    uri.push_str(parameters);
    uri
}
