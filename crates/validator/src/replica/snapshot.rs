//! A snapshot beside the replica, and how it takes the replica's place.
//!
//! A snapshot that begins an incarnation is restored to a file of its own, and what follows it in the log is applied there, until the
//! position can be written. Only then is it the replica: by its name where there was none, otherwise page by page in one transaction of
//! the old file, so that readers who have it open go on and see one state or the other.

use std::path::Path;
use std::time::{Duration, Instant};

use synddb_protocol::id::Sequence;
use synddb_sqlite::connection::{PATIENCE, SqliteError};
use synddb_sqlite::rusqlite::backup::{Backup, StepResult};
use synddb_sqlite::rusqlite::{self, OpenFlags};
use synddb_sqlite::snapshot::{Image, RestoreError, restore_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::chunks::{ChunkError, Chunks};
use super::{Context, Ended, Place};
use crate::door::Closed;
use crate::error::{Divergence, HaltCause, Refused, ReplicaError};

/// How long is waited between two tries when another connection writes to the replica.
const RETRY: Duration = Duration::from_millis(100);
/// How long other programs that read the replica are waited for at a time, when they stand in the way of another page size.
const READERS_PATIENCE: Duration = Duration::from_secs(6);

/// Restores a snapshot beside the replica.
pub(crate) fn stage(
    place: &Place,
    sequence: Sequence,
    image: &Image<'_>,
    mut chunks: Chunks,
) -> Result<(), Ended> {
    place.make_staged()?;
    let stop = chunks.stop().clone();
    match restore_until(&place.staged(), image, move || stop.is_cancelled(), |_| chunks.next()) {
        Ok(_) => place.keep_staged_private().map_err(Ended::from),
        Err(error) => Err(blame(place, sequence, error)),
    }
}

/// Whose fault it is that a snapshot was not restored.
fn blame(place: &Place, sequence: Sequence, error: RestoreError) -> Ended {
    let refused = |source| HaltCause::refused(sequence, source).into();
    match error {
        RestoreError::Fetch { hash, source } => match source.downcast::<ChunkError>().map(|error| *error) {
            Ok(ChunkError::Interrupted) => Ended::Interrupted,
            Ok(ChunkError::Missing { hash }) => refused(Refused::ChunkMissing { hash }),
            Ok(ChunkError::Store(error @ synddb_storage::GetError::TooLarge { .. })) => {
                refused(Refused::TooLarge(error))
            }
            Ok(ChunkError::Store(error)) => Ended::Failed(Box::new(error.into())),
            Err(source) => failed(place, RestoreError::Fetch { hash, source }),
        },
        RestoreError::Interrupted => Ended::Interrupted,
        RestoreError::Chunk { hash, source } => refused(Refused::ChunkDamaged { hash, source }),
        error if error.is_of_machine() => failed(place, error),
        RestoreError::Exists { .. }
        | RestoreError::Sqlite(_)
        | RestoreError::Io { .. }
        | RestoreError::Invalid { .. }
        | RestoreError::Damaged { .. }
        | RestoreError::Index { .. }
        | RestoreError::State { .. }
        | RestoreError::Scan(_)
        | RestoreError::Schema(_) => {
            HaltCause::Diverged { sequence, source: Divergence::Snapshot(error) }.into()
        }
    }
}

fn failed(place: &Place, source: RestoreError) -> Ended {
    ReplicaError::Restore { file: place.staged(), source: Box::new(source) }.into()
}

/// Makes the replica what the staged file is, with its position, in one transaction. Nobody writes to either meanwhile.
pub(super) fn copy_over(place: &Place, context: &Context) -> Result<(), Ended> {
    let sqlite = |source: rusqlite::Error| ReplicaError::Sqlite {
        doing: "copy a snapshot over",
        file: place.file().to_owned(),
        source: source.into(),
    };
    let from = open(&place.staged(), OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sqlite)?;
    let mut to = open(place.file(), OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sqlite)?;
    // Held until the copy is done: nobody begins to read a file that is not in WAL mode.
    let _closed = fit_pages(place, context, &from, &to)?;
    let backup = Backup::new(&from, &mut to).map_err(sqlite)?;
    loop {
        match backup.step(-1).map_err(sqlite)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            StepResult::Busy | StepResult::Locked | _ => {
                warn!(file = %place.file().display(), "another connection writes to the replica; waiting for it");
                if context.stop.is_cancelled() {
                    return Err(Ended::Interrupted);
                }
                std::thread::sleep(RETRY);
            }
        }
    }
}

/// A database in WAL mode cannot get another page size. It leaves that mode first, for which nobody else may have it open: the door is
/// closed to queries, and returned closed. Other readers are waited for, and queries are let in between two tries.
fn fit_pages(
    place: &Place,
    context: &Context,
    from: &rusqlite::Connection,
    to: &rusqlite::Connection,
) -> Result<Option<Closed>, Ended> {
    let failed = |source: SqliteError| ReplicaError::Sqlite {
        doing: "change the page size of",
        file: place.file().to_owned(),
        source,
    };
    let page_size = |sqlite: &rusqlite::Connection| {
        let size = sqlite.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0));
        size.map_err(|error| failed(error.into()))
    };
    let (new, old) = (page_size(from)?, page_size(to)?);
    if new == old {
        return Ok(None);
    }
    loop {
        let closing = async {
            tokio::select! {
                closed = context.door.close() => closed,
                () = context.stop.cancelled() => None,
            }
        };
        let Some(closed) = context.runtime.block_on(closing) else { return Err(Ended::Interrupted) };
        if leave_wal(to, &context.stop).map_err(failed)? {
            return Ok(Some(closed));
        }
        if context.stop.is_cancelled() {
            return Err(Ended::Interrupted);
        }
        if !context.patient {
            return Err(ReplicaError::PageSize { file: place.file().to_owned(), from: old, to: new }.into());
        }
        warn!(
            file = %place.file().display(),
            "a snapshot of another page size needs the replica for itself for a moment; close whoever reads it"
        );
        drop(closed);
        std::thread::sleep(RETRY);
    }
}

/// Whether the database left WAL mode, before the patience with other readers ended.
fn leave_wal(sqlite: &rusqlite::Connection, stop: &CancellationToken) -> Result<bool, SqliteError> {
    let waited = Instant::now();
    loop {
        let mode =
            sqlite.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0));
        match mode.map_err(SqliteError::from) {
            Ok(mode) if mode.eq_ignore_ascii_case("delete") => return Ok(true),
            Ok(_) => {}
            Err(error) if error.is_busy() => {}
            Err(error) => return Err(error),
        }
        if waited.elapsed() >= READERS_PATIENCE || stop.is_cancelled() {
            return Ok(false);
        }
        std::thread::sleep(RETRY);
    }
}

fn open(file: &Path, flags: OpenFlags) -> rusqlite::Result<rusqlite::Connection> {
    // The path is whole, so that SQLite takes it for no URI.
    let sqlite = rusqlite::Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    sqlite.busy_timeout(PATIENCE)?;
    Ok(sqlite)
}
