//! Writing a snapshot by itself: the cleaned pages of one read transaction, in runs.

use synddb_protocol::submission::{Chunk, PageSize, TextEncoding};

use super::SnapshotError;
use super::clean::CleanPages;
use crate::connection::Connection;

/// A chunk, and the bytes to store under its name.
#[derive(Debug, Clone)]
pub struct StoredChunk {
    /// What the manifest says of it.
    pub chunk: Chunk,
    /// The chunk as stored.
    pub bytes: Vec<u8>,
}

impl StoredChunk {
    /// Compresses and names pages.
    pub(super) fn seal(pages: &[u8], page_size: PageSize) -> Result<Self, SnapshotError> {
        let (chunk, bytes) = Chunk::seal(pages, page_size)?;
        Ok(Self { chunk, bytes })
    }
}

/// Writes a snapshot of the database as one read transaction sees it, one chunk after the other.
///
/// Equal files give equal chunks. Takes two bytes of memory a page, one run of pages, and nothing else that grows. The
/// transaction must stand until the last chunk; that it does is checked before each.
pub struct Writer {
    pages: CleanPages,
    run_pages: u32,
    failed: bool,
}

impl Writer {
    /// Walks the database, which must stand in a read transaction.
    ///
    /// # Errors
    /// [`SnapshotError::NoTransaction`] outside of one, [`SnapshotError::Damaged`] when the file is, [`SnapshotError::TooLarge`]
    /// when it does not fit a snapshot.
    pub fn new(connection: &Connection) -> Result<Self, SnapshotError> {
        let pages = CleanPages::new(connection)?;
        let run_pages = pages.run_pages()?;
        Ok(Self { pages, run_pages, failed: false })
    }

    /// The page size of the database.
    pub fn page_size(&self) -> PageSize {
        self.pages.page_size()
    }

    /// How many pages the snapshot has.
    pub fn pages(&self) -> u32 {
        self.pages.count()
    }

    /// The text encoding of the database.
    pub fn encoding(&self) -> TextEncoding {
        self.pages.encoding()
    }

    fn chunk(&mut self) -> Result<StoredChunk, SnapshotError> {
        let run = self.pages.run(self.run_pages)?;
        StoredChunk::seal(&run, self.pages.page_size())
    }
}

impl Iterator for Writer {
    type Item = Result<StoredChunk, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.pages.next().is_none() {
            return None;
        }
        let chunk = self.chunk();
        self.failed = chunk.is_err();
        Some(chunk)
    }
}
