//! Opens the database so that its transactions are durable, and nobody else captures it.
//!
//! A follower and an embedded database keep out of each other's way by one lock, on the `-wal`: SQLite itself takes none there. Where none is held
//! (nobody has the database open), the table `_synddb_outbox` tells a follower that this file is not for it.

use std::fs::{File, TryLockError};
use std::path::Path;

use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::lock;
use synddb_sqlite::name::beside;
use synddb_sqlite::rusqlite;
use synddb_sqlite::rusqlite::OpenFlags;
use synddb_sqlite::rusqlite::config::DbConfig;

use super::error::Error;
use super::guard::Guard;
use super::{Location, Locking, Options};

/// A connection, what watches it, and the lock that says so.
pub(super) fn connect(
    location: &Location,
    options: &Options,
) -> Result<(Connection, Guard, Option<File>), Error> {
    let mut sqlite = match location {
        Location::Memory => rusqlite::Connection::open_in_memory()?,
        Location::File(path) => open(path)?,
    };
    sqlite.busy_timeout(options.patience)?;
    let guard = Guard::on(&mut sqlite)?;
    // Nobody writes pages, shadow tables or `sqlite_schema` past us.
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, options.foreign_keys)?;
    let lock = match location {
        Location::Memory => None,
        Location::File(path) => {
            if options.locking == Locking::Exclusive {
                sqlite.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            }
            switch_to_wal(&sqlite)?;
            // I2: nothing leaves that the disk could still forget.
            sqlite.pragma_update(None, "synchronous", "FULL")?;
            // The WAL is there once it was written or read.
            sqlite.execute_batch("BEGIN IMMEDIATE; SELECT count(*) FROM sqlite_schema; COMMIT")?;
            Some(take_lock(path)?)
        }
    };
    Ok((Connection::over(sqlite)?, guard, lock))
}

fn open(path: &Path) -> Result<rusqlite::Connection, Error> {
    // Names that begin with `file:` would be taken for URIs; a whole path never does.
    let absolute = std::path::absolute(path).map_err(failed("find", path))?;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(rusqlite::Connection::open_with_flags(absolute, flags)?)
}

fn switch_to_wal(sqlite: &rusqlite::Connection) -> Result<(), Error> {
    let mode: String =
        sqlite.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(SqliteError::from)?;
    if mode.eq_ignore_ascii_case("wal") { Ok(()) } else { Err(Error::NotWal { mode }) }
}

/// Takes the lock that followers take. A descriptor of the `-wal` may be closed at any time: no lock of SQLite is on it.
fn take_lock(path: &Path) -> Result<File, Error> {
    let path = path.canonicalize().map_err(failed("find", path))?;
    let wal = &beside(&path, "-wal");
    let file = File::open(wal).map_err(failed("open", wal))?;
    match lock::take(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Followed { path }),
        Err(TryLockError::Error(error)) => Err(failed("lock", wal)(error)),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { doing, path: path.to_owned(), source }
}
