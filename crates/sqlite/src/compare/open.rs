//! Opening a database file to read it and leave it as it is.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
        path.metadata().map_err(|source| CompareError::Open { path: path.to_owned(), source })?;
        let read = |source| CompareError::Read { path: path.to_owned(), source };
        let connection = Connection::open_to_read(path).map_err(read)?;
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
