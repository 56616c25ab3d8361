//! The rows of a stored log, applied by SQLite's own `sqlite3changeset_apply`: what a user would have without this project.
//!
//! What must stay true: only its own work is timed. Reading, decompressing and decoding the log are not, and nothing is checked of it: it was made
//! a moment ago, and the replica beside it checks it.

use std::path::Path;
use std::time::{Duration, Instant};

use synddb_protocol::id::Sequence;
use synddb_protocol::log::{Batch, Body, Entry};
use synddb_protocol::submission::{Changes, Chunk, Content};
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::session::apply_changeset;
use synddb_sqlite::snapshot::{Image, restore};
use synddb_storage::{BatchStore as _, Key, ObjectBatchStore, StoreUrl};

use super::stored::Stored;
use crate::bench::{Bench, BenchError};
use crate::exit::CommandError;
use crate::process;

/// Transactions are as large as a replica's that catches up, in bytes of bodies.
const TRANSACTION_BYTES: usize = 16 << 20;

/// Applies the log to a new database; how long that took.
pub(super) fn apply(bench: &Bench, stored: &Stored, database: &Path) -> Result<Duration, BenchError> {
    let runtime = process::runtime()?;
    let url: StoreUrl = stored.store.parse().map_err(unreadable)?;
    let store = runtime.block_on(ObjectBatchStore::open_existing(&url)).map_err(unreadable)?;
    let get = |key: Key| runtime.block_on(store.get(&key)).map_err(unreadable);
    let stream = stored.stream;
    let mut applying = None;
    let mut next = Sequence::FIRST;
    while let Some(bytes) = get(Key::Batch { stream, first: next })? {
        bench.go_on()?;
        let batch = Batch::from_stored(&bytes).map_err(unreadable)?;
        next = batch.last().next().unwrap_or(next);
        for message in batch.messages() {
            let header = message.receipt.header();
            let body = Body::read(header.message_type, message.body.clone(), usize::MAX);
            let body = body.map_err(unreadable)?;
            let bytes = body.content_bytes();
            match body.entry() {
                Entry::Submission(submission) => {
                    let applying =
                        applying.as_mut().ok_or_else(|| foreign("a submission before a snapshot"))?;
                    Applying::take(applying, &submission.content, bytes)?;
                }
                Entry::Snapshot(snapshot) => {
                    let fetch = |chunk: &Chunk| match get(Key::Chunk { stream, hash: chunk.hash })? {
                        Some(bytes) => Ok(bytes.to_vec()),
                        None => Err(foreign("a snapshot without its chunks")),
                    };
                    restore(database, &Image::of_snapshot(snapshot), fetch).map_err(unreadable)?;
                    applying = Some(Applying::over(database).map_err(failed)?);
                }
                Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => {}
            }
        }
    }
    let mut applying = applying.ok_or_else(|| foreign("a log without a snapshot"))?;
    applying.commit().map_err(failed)?;
    Ok(applying.took)
}

/// A database to which changesets are applied.
struct Applying {
    connection: Connection,
    /// Rows of a commit whose last part did not come.
    parts: Vec<u8>,
    /// Bytes of bodies in the open transaction.
    open: Option<usize>,
    took: Duration,
}

impl Applying {
    fn over(database: &Path) -> Result<Self, SqliteError> {
        let connection = Connection::open(database)?;
        // Those of a replica.
        connection
            .execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536; PRAGMA foreign_keys = OFF")?;
        Ok(Self { connection, parts: Vec::new(), open: None, took: Duration::ZERO })
    }

    fn take(&mut self, content: &Content, bytes: usize) -> Result<(), BenchError> {
        let since = Instant::now();
        if self.open.is_none() {
            self.connection.execute("BEGIN IMMEDIATE").map_err(failed)?;
        }
        let open = self.open.unwrap_or_default() + bytes;
        self.open = Some(open);
        match content {
            Content::Commits(commits) => {
                for commit in commits.as_slice() {
                    self.apply(&commit.changes)?;
                }
            }
            Content::Part(part) => {
                self.parts.extend_from_slice(&part.changes.rows);
                if part.last.is_some() {
                    let rows = std::mem::take(&mut self.parts);
                    self.apply(&Changes { rows, ..part.changes.clone() })?;
                }
            }
        }
        if open >= TRANSACTION_BYTES {
            self.connection.execute("COMMIT").map_err(failed)?;
            self.open = None;
        }
        self.took += since.elapsed();
        Ok(())
    }

    fn apply(&self, changes: &Changes) -> Result<(), BenchError> {
        if !changes.schema.is_empty() {
            return Err(foreign("a schema change"));
        }
        apply_changeset(&self.connection, &changes.rows).map_err(failed)
    }

    fn commit(&mut self) -> Result<(), SqliteError> {
        let since = Instant::now();
        if self.open.take().is_some() {
            self.connection.execute("COMMIT")?;
        }
        self.took += since.elapsed();
        Ok(())
    }
}

fn failed(source: SqliteError) -> BenchError {
    CommandError::from(source).into()
}

/// A log that was made a moment ago cannot be read.
fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> BenchError {
    BenchError::system("read the log")(std::io::Error::other(error))
}

/// The log holds what no scenario writes.
fn foreign(said: &str) -> BenchError {
    BenchError::Foreign { name: "log", said: said.to_owned() }
}
