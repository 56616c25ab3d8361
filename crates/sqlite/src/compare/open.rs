//! Opening a database file to read it and leave it as it is.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::ffi;

use super::CompareError;
use crate::connection::{Connection, SqliteError};
use crate::schema::Objects;

/// Refuses one file under two names.
pub(super) fn check_two_files(first: &Path, second: &Path) -> Result<(), CompareError> {
    let (one, other) = (metadata(first)?, metadata(second)?);
    if (one.dev(), one.ino()) == (other.dev(), other.ino()) {
        return Err(CompareError::SameFile { path: second.to_owned() });
    }
    Ok(())
}

fn metadata(path: &Path) -> Result<Metadata, CompareError> {
    path.metadata().map_err(|source| CompareError::Open { path: path.to_owned(), source })
}

/// A database in a read transaction.
pub(super) struct Database {
    path: PathBuf,
    pub(super) connection: Connection,
}

impl Database {
    pub(super) fn open(path: &Path) -> Result<Self, CompareError> {
        // Absolute, since SQLite takes a path that begins with `file:` for a URI; and free of links, since a WAL lies beside the
        // file itself.
        let found =
            path.canonicalize().map_err(|source| CompareError::Open { path: path.to_owned(), source })?;
        let read = |source| CompareError::Read { path: path.to_owned(), source };
        let connection = connect(&found).map_err(read)?;
        Ok(Self { path: path.to_owned(), connection })
    }

    pub(super) fn number(&self, pragma: &str) -> Result<i32, CompareError> {
        let sqlite = self.connection.sqlite();
        sqlite.pragma_query_value(Some("main"), pragma, |row| row.get(0)).map_err(|error| self.failed(error))
    }

    pub(super) fn objects(&self) -> Result<Objects, CompareError> {
        Objects::read(&self.connection)
            .map_err(|source| CompareError::Schema { path: self.path.clone(), source })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, error: impl Into<SqliteError>) -> CompareError {
        CompareError::Read { path: self.path.clone(), source: error.into() }
    }
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
fn connect(path: &Path) -> Result<Connection, SqliteError> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let has_wal = Path::new(&wal).exists();
    let attempt = |read_only: bool| -> Result<Connection, SqliteError> {
        let connection = if read_only { Connection::open_read_only(path) } else { Connection::open(path) }?;
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
