//! Signs outbound messages that an endorsed checkpoint covers, one digest for each nonce, ever.
//!
//! ```text
//! a checkpoint is endorsed --> rules/outbound.rs: what was seen up to it --> noted on the disk, durably --> signed and shown
//! ```
//!
//! What must stay true:
//!
//! - Only what a commit brought that was verified, that violates no rule, and that nothing changed since (`tests/it/ruled/outbound.rs`).
//! - The note comes first, is on the disk before the signature is shown, and outlives the replica: a second digest of one nonce is never signed, neither after a restart nor by a replica that was made
//!   anew, nor for another bridge. The signature is deterministic, so a validator that is killed in between signs the same bytes again.

use std::io;
use std::path::{Path, PathBuf};

use synddb_chain::follow::Deadlines;
use synddb_protocol::http::OutboundSignature;
use synddb_protocol::id::{KeyId, Sequence, StreamId};
use synddb_protocol::signing::{Domain, RegisteredSigner};
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::name::beside;
use synddb_sqlite::query::Reading;
use synddb_sqlite::rusqlite::{self, OpenFlags, OptionalExtension as _, params};
use tracing::{debug, error};

use super::due::Clean;
use super::inbox::{Held, delivered, in_time};
use super::noted::sync_folder_of;
use crate::metrics;
use crate::rules::{SeenMessage, oldest_inbound, seen};

/// Messages that are signed in one transaction.
const SIGNED_AT_ONCE: usize = 256;

/// Why nothing is signed now.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSigned {
    /// The replica cannot be read.
    #[error("what was seen of outbound messages cannot be read")]
    Replica(#[from] synddb_sqlite::query::QueryError),
    /// The same, row by row.
    #[error("what was seen of outbound messages cannot be read")]
    Seen(#[source] SqliteError),
    /// The note cannot be written.
    #[error(
        "what is about to be signed cannot be noted beside the replica; remove the file only if you know that this key signed nothing since. file=`{}`",
        file.display()
    )]
    Note {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: SqliteError,
    },
    /// Nor is it known that the file would be there after a power cut.
    #[error("the folder of what is about to be signed cannot be written to the disk. file=`{}`", file.display())]
    Name {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Who signs outbound messages, and for which bridge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signing<'s> {
    pub(super) stream: StreamId,
    pub(super) signer: &'s RegisteredSigner,
    pub(super) domain: Domain,
}

impl Signing<'_> {
    /// Whether something was seen from `from` on, up to a message of the log.
    pub(super) fn has_any(replica: &Path, from: u64, through: Sequence) -> Result<bool, NotSigned> {
        let reading = Reading::open(replica)?;
        let seen = seen(reading.trusted(), from, Some(through), 1);
        Ok(!seen.map_err(|error| NotSigned::Seen(error.into()))?.is_empty())
    }

    /// Whether the application is in time at a checkpoint.
    pub(super) fn in_time(
        clean: &Clean,
        deadlines: Deadlines,
        replica: &Path,
    ) -> Result<Result<(), Held>, NotSigned> {
        let claim = clean.checkpoint.claim();
        let (through, delivered) = (clean.acknowledged.through, delivered(claim));
        let oldest = if through < delivered {
            let reading = Reading::open(replica)?;
            let oldest = oldest_inbound(reading.trusted(), through, delivered);
            oldest.map_err(|error| NotSigned::Seen(error.into()))?
        } else {
            None
        };
        Ok(in_time(claim, deadlines, through, oldest))
    }

    /// Signs what was seen from `from` on, up to a message of the log. Gives the first id that is not looked at yet.
    pub(super) fn sign_through(
        &self,
        replica: &Path,
        mut from: u64,
        through: Sequence,
    ) -> Result<u64, NotSigned> {
        loop {
            let reading = Reading::open(replica)?;
            let seen = seen(reading.trusted(), from, Some(through), SIGNED_AT_ONCE)
                .map_err(|error| NotSigned::Seen(error.into()))?;
            drop(reading);
            let Some(last) = seen.last() else { return Ok(from) };
            from = last.nonce + 1;
            Notes::open(replica)?.sign(self, &seen)?;
        }
    }
}

/// What was signed, by this disk.
struct Notes {
    connection: Connection,
    file: PathBuf,
}

/// The file of it.
pub(super) fn file_beside(replica: &Path) -> PathBuf {
    beside(replica, ".outbound.db")
}

impl Notes {
    fn open(replica: &Path) -> Result<Self, NotSigned> {
        let file = file_beside(replica);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let created = rusqlite::Connection::open_with_flags(&file, flags).map_err(SqliteError::from);
        let opened = created.and_then(Connection::over).and_then(|connection| {
            // A commit is the removal of the journal. FULL does not have the folder on the disk by then, and a power cut that brings the journal back takes the
            // note back, of what was shown meanwhile. EXTRA does.
            connection.execute(
                "PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA;
                 CREATE TABLE IF NOT EXISTS signed(
                     stream BLOB NOT NULL, nonce INTEGER NOT NULL, signer BLOB NOT NULL, digest TEXT NOT NULL, answer TEXT NOT NULL,
                     PRIMARY KEY (stream, nonce, signer)) WITHOUT ROWID",
            )?;
            Ok(connection)
        });
        match opened {
            // So is the file's own name, and the end of a commit that a process was killed in.
            Ok(connection) => match sync_folder_of(&file) {
                Ok(()) => Ok(Self { connection, file }),
                Err(source) => Err(NotSigned::Name { file, source }),
            },
            Err(source) => Err(NotSigned::Note { file, source }),
        }
    }

    fn sign(&self, signing: &Signing<'_>, seen: &[SeenMessage]) -> Result<(), NotSigned> {
        let failed = |source| NotSigned::Note { file: self.file.clone(), source };
        self.connection.execute("BEGIN IMMEDIATE").map_err(failed)?;
        let noted = seen.iter().try_for_each(|seen| self.note(signing, seen));
        let ended = self.connection.execute(if noted.is_ok() { "COMMIT" } else { "ROLLBACK" });
        noted.map_err(|error| failed(error.into()))?;
        ended.map_err(failed)
    }

    fn note(&self, signing: &Signing<'_>, seen: &SeenMessage) -> rusqlite::Result<()> {
        let Signing { stream, signer, domain } = *signing;
        let Some(message) = seen.message(stream) else {
            metrics::outbound_refused(stream);
            return Ok(());
        };
        let digest = message.digest(&domain).to_string();
        let keys = [signer.id(), signer.predecessor().unwrap_or(signer.id())];
        let noted = self.noted(stream, seen.nonce, keys)?;
        if let Some((_, other)) = noted.iter().find(|(_, noted)| *noted != digest) {
            metrics::outbound_refused(stream);
            error!(
                nonce = seen.nonce,
                digest,
                other,
                "an outbound message is not signed: this key signed another content under its id before"
            );
            return Ok(());
        }
        metrics::outbound_signed(stream, seen.nonce);
        if noted.iter().any(|(by, _)| *by == signer.id().as_bytes()) {
            return Ok(());
        }
        let signature = message.endorse(signer, &domain);
        let answer = OutboundSignature::of(&message, seen.sequence, &domain, signer.id(), &signature);
        let answer = serde_json::to_string(&answer)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let sql =
            "INSERT OR REPLACE INTO signed(stream, nonce, signer, digest, answer) VALUES(?1, ?2, ?3, ?4, ?5)";
        let (name, by) = (stream.as_bytes().as_slice(), signer.id());
        let values = params![name, seen.nonce.cast_signed(), by.as_bytes().as_slice(), digest, answer];
        self.connection.sqlite().prepare_cached(sql)?.execute(values)?;
        debug!(nonce = seen.nonce, digest, "an outbound message is signed");
        Ok(())
    }

    /// What these keys signed under an id: who, and the digest.
    fn noted(
        &self,
        stream: StreamId,
        nonce: u64,
        keys: [KeyId; 2],
    ) -> rusqlite::Result<Vec<(Vec<u8>, String)>> {
        let sql = "SELECT signer, digest FROM signed WHERE stream = ?1 AND nonce = ?2 AND signer IN (?3, ?4)";
        let [one, other] = keys.map(|key| key.as_bytes().to_vec());
        let mut statement = self.connection.sqlite().prepare_cached(sql)?;
        let values = params![stream.as_bytes().as_slice(), nonce.cast_signed(), one, other];
        statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }
}

/// What is signed under an id, as it is served; `None` where nothing is.
pub(super) fn signed(
    replica: &Path,
    stream: StreamId,
    nonce: u64,
    signer: KeyId,
) -> Result<Option<OutboundSignature>, SqliteError> {
    let file = file_beside(replica);
    if !file.exists() {
        return Ok(None);
    }
    let connection = Connection::open_to_read(&file)?;
    let sql = "SELECT answer FROM signed WHERE stream = ?1 AND nonce = ?2 AND signer = ?3";
    let (stream, signer) = (stream.as_bytes().as_slice(), signer.as_bytes().to_vec());
    let answer = connection
        .sqlite()
        .query_row(sql, params![stream, nonce.cast_signed(), signer], |row| row.get::<_, String>(0))
        .optional()?;
    Ok(answer.and_then(|answer| serde_json::from_str(&answer).ok()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_note_is_on_the_disk_before_anything_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let replica = folder.path().join("replica.db");
        for _ in 0..2 {
            let notes = Notes::open(&replica).unwrap();
            let asked = |pragma| {
                notes.connection.sqlite().pragma_query_value(None, pragma, |row| row.get::<_, String>(0))
            };
            assert_eq!(asked("journal_mode").unwrap(), "delete");
            let synchronous =
                notes.connection.sqlite().pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0));
            assert_eq!(synchronous.unwrap(), 3, "EXTRA: the folder too, behind the removal of the journal");
        }
        // Whoever made it something else.
        let other = rusqlite::Connection::open(file_beside(&replica)).unwrap();
        other.pragma_update(None, "journal_mode", "WAL").unwrap();
        drop(other);
        let notes = Notes::open(&replica).unwrap();
        let mode =
            notes.connection.sqlite().pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0));
        assert_eq!(mode.unwrap(), "delete");
    }
}
