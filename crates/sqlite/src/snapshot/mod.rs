//! Snapshots: a whole database as chunks of pages, and a database restored from them.
//!
//! ```text
//! read transaction --> Writer: walk the trees, clean each page --> chunks, named by SHA-256
//! read transaction, what the last one is made of --> SuccessiveWriter: only the chunks that the last one has not got
//! chunks --> restore: check, write beside the target, check state hash, rebuild indexes --> rename into place
//! ```
//!
//! **What is deleted is not published.** A page of a snapshot holds what a b-tree reaches and nothing else: free pages, gaps
//! between cells, the tails of overflow pages and reserved bytes are zero. The free list is made anew from what no tree reaches.
//! One thing stays: an interior page of a table may keep the rowid of a deleted row as the border between two children; with
//! INTEGER PRIMARY KEY that is a value of the row's key.
//!
//! **What is outside of what is replicated** (`sqlite_stat*`, `_synddb*`) comes into a snapshot as empty tables, whose rows in
//! `sqlite_schema` stay; [`restore`] drops them. Samples of `sqlite_stat4` can hold values of deleted rows.
//!
//! ```
//! # use std::collections::BTreeMap;
//! # use synddb_protocol::id::{Incarnation, IncarnationCounter, IncarnationNonce, StreamId};
//! # use synddb_protocol::submission::{Snapshot, SnapshotPlace};
//! # use synddb_sqlite::{compare, connection::Connection, rusqlite, snapshot, state::RunningState};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let (source, target) = (folder.path().join("app.db"), folder.path().join("replica.db"));
//! # rusqlite::Connection::open(&source)?.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1)")?;
//! # let incarnation =
//! #     Incarnation { counter: IncarnationCounter::new(1)?, nonce: IncarnationNonce::from_bytes([0; 16]) };
//! let connection = Connection::open(&source)?;
//! connection.execute("BEGIN")?;
//! let writer = snapshot::Writer::new(&connection)?;
//! let (encoding, page_size) = (writer.encoding(), writer.page_size());
//! let (mut store, mut chunks) = (BTreeMap::new(), Vec::new());
//! for stored in writer {
//!     let stored = stored?;
//!     chunks.push(stored.chunk);
//!     store.insert(stored.chunk.hash, stored.bytes);
//! }
//! let state = RunningState::scan(&connection)?.hash();
//! connection.execute("COMMIT")?;
//!
//! let stream = StreamId::from_bytes([0; 32]);
//! let place = SnapshotPlace::Begins { predecessor: None };
//! let manifest = Snapshot { stream, incarnation, place, encoding, page_size, state, chunks };
//! let image = snapshot::Image::of_snapshot(&manifest);
//! snapshot::restore(&target, &image, |chunk| store.get(&chunk.hash).cloned().ok_or("no such chunk"))?;
//! assert_eq!(compare::first_difference(&source, &target)?, None);
//! # Ok(())
//! # }
//! ```
//!
//! Knows nothing of where chunks are stored and of where in the stream a snapshot stands.

mod clean;
mod header;
mod image;
mod inert;
mod last;
mod made;
mod marks;
mod pages;
mod rebuild;
mod restore;
mod source;
mod successive;
mod write;

pub use image::Image;
pub use made::{Made, MadeError};
pub use rebuild::{Examined, examine};
pub use restore::{RestoreError, restore, restore_until};
pub use successive::{PATCHED_SHARE, SuccessiveWriter};
pub use write::{StoredChunk, Writer};

use synddb_protocol::DecodeError;

use crate::connection::SqliteError;
use crate::schema::SchemaError;

/// Why no snapshot can be taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The schema cannot be read.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The connection holds no read transaction.
    #[error("a snapshot is taken inside a read transaction; begin one")]
    NoTransaction,
    /// The connection sees another state than at the first page.
    #[error("the read transaction ended while the snapshot was taken; take it again")]
    Moved,
    /// The file holds what no SQLite writes.
    #[error("the database is damaged; run `PRAGMA integrity_check`. page=`{page}` what=`{what}`")]
    Damaged {
        /// The page.
        page: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The database has more pages than a snapshot may list.
    #[error("the database is too large for a snapshot. pages=`{pages}` page_size=`{page_size}`")]
    TooLarge {
        /// Its pages.
        pages: i64,
        /// Their size in bytes.
        page_size: u32,
    },
    /// A run of pages makes no chunk.
    #[error("a run of pages makes no chunk")]
    Chunk(#[from] DecodeError),
}

fn damaged(page: u32, what: &'static str) -> SnapshotError {
    SnapshotError::Damaged { page, what }
}
