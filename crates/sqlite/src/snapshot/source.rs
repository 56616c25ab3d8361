//! Pages of a database: as one read transaction sees them, through SQLite's own pager, where what is still in the WAL is there; or out of a file
//! that no SQLite has opened yet.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rusqlite::ffi;
use synddb_protocol::state::Value;

use super::{SnapshotError, damaged};
use crate::connection::{Connection, SqliteError};
use crate::statement::Statement;

/// Reads pages.
pub(super) trait ReadPage {
    /// Reads a page into a buffer, whose content is gone then.
    ///
    /// # Errors
    /// [`SnapshotError`] when it is not there, or cannot be read.
    fn read(&mut self, page: u32, into: &mut Vec<u8>) -> Result<(), SnapshotError>;
}

/// A file of pages.
pub(super) struct FilePages<'f> {
    pub(super) file: &'f File,
    pub(super) page_bytes: usize,
}

impl ReadPage for FilePages<'_> {
    fn read(&mut self, page: u32, into: &mut Vec<u8>) -> Result<(), SnapshotError> {
        into.resize(self.page_bytes, 0);
        let offset = u64::from(page.saturating_sub(1)) * self.page_bytes as u64;
        let read = self.file.read_exact_at(into, offset);
        read.map_err(|error| {
            SqliteError::new(&format!("cannot read a page: {error}"), ffi::SQLITE_IOERR).into()
        })
    }
}

/// Reads pages through SQLite, and watches that the transaction stays.
pub(super) struct Source {
    connection: Connection,
    read: Statement,
    /// What `PRAGMA data_version` said: it changes when the connection comes to see another's commit.
    version: i64,
    page_bytes: usize,
}

impl Source {
    /// Reads pages of this size through a connection that stands in a read transaction.
    pub(super) fn new(connection: &Connection, page_bytes: usize) -> Result<Self, SnapshotError> {
        let read = connection.prepare("SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?1")?;
        let version = data_version(connection)?;
        let source = Self { connection: connection.clone(), read, version, page_bytes };
        source.check()?;
        Ok(source)
    }

    /// Checks that the read transaction still stands where it stood.
    pub(super) fn check(&self) -> Result<(), SnapshotError> {
        if self.connection.sqlite().is_autocommit() {
            return Err(SnapshotError::NoTransaction);
        }
        if data_version(&self.connection)? != self.version {
            return Err(SnapshotError::Moved);
        }
        Ok(())
    }
}

impl ReadPage for Source {
    fn read(&mut self, page: u32, into: &mut Vec<u8>) -> Result<(), SnapshotError> {
        into.clear();
        self.read.query::<SqliteError>(&[Value::Integer(page.into())], |row| {
            if let Value::Blob(bytes) = row.value(0) {
                into.extend_from_slice(bytes);
            }
            Ok(())
        })?;
        if into.len() != self.page_bytes {
            return Err(damaged(page, "the file ends before the page"));
        }
        Ok(())
    }
}

fn data_version(connection: &Connection) -> Result<i64, SqliteError> {
    pragma(connection, "data_version")
}

/// What a pragma that gives a number gives.
pub(super) fn pragma(connection: &Connection, name: &str) -> Result<i64, SqliteError> {
    Ok(connection.sqlite().pragma_query_value(Some("main"), name, |row| row.get(0))?)
}
