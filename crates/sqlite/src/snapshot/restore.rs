//! Restoring a snapshot: nothing of it is used before all of it was checked.
//!
//! The chunks may be anybody's. They are written to a file beside the target that no other program knows of, and only what
//! passed every check gets the target's name. A failure leaves nothing behind; a power cut may leave the file beside it.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use synddb_protocol::DecodeError;
use synddb_protocol::hash::{ChunkHash, StateHash};
use synddb_protocol::submission::{Chunk, TextEncoding};

use super::image::Image;
use super::pages::Geometry;
use super::rebuild::IsOver;
use super::source::{FilePages, ReadPage as _};
use super::{header, rebuild};
use crate::connection::SqliteError;
use crate::name::beside;
use crate::schema::SchemaError;
use crate::state::{RunningState, StateError};

/// Why a snapshot was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A file that must not be there yet is there.
    #[error("the file exists; a restore replaces none, so move it away. path=`{}`", path.display())]
    Exists {
        /// The file: the target, a journal beside it, or what a restore that was killed left there.
        path: PathBuf,
    },
    /// The caller could not get a chunk.
    #[error("cannot fetch a chunk. hash=`{hash}`")]
    Fetch {
        /// The chunk.
        hash: ChunkHash,
        /// What the caller said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The bytes of a chunk are not those that the snapshot lists.
    #[error("a chunk is damaged; fetch it from elsewhere. hash=`{hash}`")]
    Chunk {
        /// The chunk.
        hash: ChunkHash,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// Whoever made the snapshot made it wrong.
    #[error("the snapshot is invalid; restore another. what=`{what}`")]
    Invalid {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The restored database fails SQLite's own check.
    #[error("the restored database is damaged; restore another snapshot. found=`{found}`")]
    Damaged {
        /// What `PRAGMA integrity_check` found first.
        found: String,
    },
    /// An index cannot be rebuilt: rows contradict it, or it needs what the application brings.
    #[error("cannot rebuild an index. index=`{name}`")]
    Index {
        /// The index.
        name: String,
        /// What SQLite said.
        source: SqliteError,
    },
    /// The restored database is not the one that the snapshot claims.
    #[error(
        "the restored database has another state hash; restore another snapshot. expected=`{expected}` found=`{found}`"
    )]
    State {
        /// What the snapshot claims.
        expected: StateHash,
        /// What the database has.
        found: StateHash,
    },
    /// The state hash cannot be computed.
    #[error("cannot scan the restored database")]
    Scan(#[from] StateError),
    /// The schema cannot be read.
    #[error("cannot read the schema of the restored database")]
    Schema(#[from] SchemaError),
    /// SQLite failed.
    #[error("cannot use the restored database")]
    Sqlite(#[from] SqliteError),
    /// Nobody wants it any more.
    #[error("the restore was asked to end")]
    Interrupted,
    /// The file system failed.
    #[error("cannot write the restored database. path=`{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RestoreError {
    /// Whether this machine failed (a full disk, a file that is there, a chunk that cannot be got, an end that was asked for). Otherwise the snapshot is not what it should
    /// be, and whoever restores it again finds the same.
    pub const fn is_of_machine(&self) -> bool {
        use rusqlite::ffi::{
            SQLITE_CONSTRAINT, SQLITE_CORRUPT, SQLITE_ERROR, SQLITE_MISMATCH, SQLITE_NOTADB, SQLITE_TOOBIG,
        };
        match self {
            Self::Sqlite(error) => !matches!(
                error.primary(),
                SQLITE_CONSTRAINT
                    | SQLITE_CORRUPT
                    | SQLITE_ERROR
                    | SQLITE_MISMATCH
                    | SQLITE_NOTADB
                    | SQLITE_TOOBIG
            ),
            Self::Exists { .. } | Self::Fetch { .. } | Self::Interrupted | Self::Io { .. } => true,
            Self::Chunk { .. }
            | Self::Invalid { .. }
            | Self::Damaged { .. }
            | Self::Index { .. }
            | Self::State { .. }
            | Self::Scan(_)
            | Self::Schema(_) => false,
        }
    }
}

/// Restores a snapshot into a new file, with chunks that `fetch` gets by name, and returns its state.
///
/// Chunks are asked for one after the other, runs first and then patches. A full scan gives the snapshot's state hash, every index is rebuilt, and
/// `PRAGMA integrity_check` passes, before the file is synced and renamed to `target`. No trigger runs, no view is read, no virtual table is
/// opened, and before the hash is known to be right nothing of the schema is computed. Rowids stay.
///
/// The file is in rollback-journal mode. Space of dropped and rebuilt things stays free in it.
///
/// # Errors
/// [`RestoreError`]; then neither `target` nor anything else is left.
pub fn restore<E: Into<Box<dyn Error + Send + Sync>>>(
    target: &Path,
    image: &Image<'_>,
    fetch: impl FnMut(&Chunk) -> Result<Vec<u8>, E>,
) -> Result<RunningState, RestoreError> {
    restore_until(target, image, || false, fetch)
}

/// The same, ended soon after `is_over` says that nobody wants it any more. That is asked often, also by SQLite while it works, but
/// not inside one call of a function.
///
/// # Errors
/// [`RestoreError`], [`RestoreError::Interrupted`] where it was ended; then neither `target` nor anything else is left.
pub fn restore_until<E: Into<Box<dyn Error + Send + Sync>>>(
    target: &Path,
    image: &Image<'_>,
    is_over: impl Fn() -> bool + Send + Sync + 'static,
    mut fetch: impl FnMut(&Chunk) -> Result<Vec<u8>, E>,
) -> Result<RunningState, RestoreError> {
    let is_over: IsOver = Arc::new(is_over);
    let invalid = |what| RestoreError::Invalid { what };
    let place = Place::find(target)?;
    let pages = image.check().map_err(invalid)?;
    let unfinished = place.create()?;
    let mut open = |chunk: &Chunk| {
        let hash = chunk.hash;
        if is_over() {
            return Err(RestoreError::Interrupted);
        }
        let stored = fetch(chunk).map_err(|source| RestoreError::Fetch { hash, source: source.into() })?;
        chunk.open(&stored, image.page_size).map_err(|source| RestoreError::Chunk { hash, source })
    };
    let page_bytes = image.page_size.get() as usize;
    let mut next = 1;
    for run in image.runs {
        unfinished.write(&open(run)?, next, page_bytes)?;
        // No page follows the last one that has a number.
        next = u32::try_from(run.pages).map_or(next, |pages| next.saturating_add(pages));
        unfinished.sync()?;
    }
    for patch in image.patches {
        let held = open(&patch.chunk)?;
        let mut rest = held.as_slice();
        for place in &patch.places {
            let (here, behind) = rest
                .split_at_checked(place.pages as usize * page_bytes)
                .ok_or_else(|| invalid("a patch has another number of pages than places"))?;
            if let Some(first) = place.first {
                unfinished.write(here, first, page_bytes)?;
            }
            rest = behind;
        }
        unfinished.sync()?;
    }
    let mut raw = FilePages { file: &unfinished.file, page_bytes };
    let geometry = page_one(&mut raw, pages, image.encoding)?;
    let mut rebuilt = || {
        let state = rebuild::prove(&unfinished.path, &mut raw, geometry, image.state, &is_over)?;
        rebuild::rebuild(&unfinished.path, &is_over)?;
        Ok(state)
    };
    // Whatever it ended with says nothing about the snapshot once it was interrupted.
    let state = rebuilt().map_err(|error| if is_over() { RestoreError::Interrupted } else { error })?;
    place.finish(unfinished)?;
    Ok(state)
}

/// What page 1 says, once everything that may lie there was laid there.
fn page_one(raw: &mut FilePages<'_>, pages: u32, encoding: TextEncoding) -> Result<Geometry, RestoreError> {
    let mut page_one = Vec::new();
    raw.read(1, &mut page_one).map_err(rebuild::refused)?;
    let geometry = Geometry::read(&page_one, pages).and_then(|geometry| {
        header::check(&page_one, pages, encoding)?;
        Ok(geometry)
    });
    geometry.map_err(|what| RestoreError::Invalid { what })
}

/// Where a database is restored to.
struct Place {
    folder: PathBuf,
    target: PathBuf,
    restoring: PathBuf,
}

impl Place {
    fn find(target: &Path) -> Result<Self, RestoreError> {
        let io = |source| RestoreError::Io { path: target.to_owned(), source };
        let name = target.file_name().ok_or_else(|| io(io::ErrorKind::InvalidFilename.into()))?;
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // An absolute path, since SQLite takes a relative one that begins with `file:` for a URI.
        let folder = folder.canonicalize().map_err(io)?;
        let target = folder.join(name);
        let restoring = beside(&target, ".restoring");
        let place = Self { folder, target, restoring };
        place.check()?;
        Ok(place)
    }

    /// SQLite would play a journal or WAL of an earlier file of that name into the new one.
    fn check(&self) -> Result<(), RestoreError> {
        for path in with_journals(&self.target).into_iter().chain(with_journals(&self.restoring)) {
            if path.symlink_metadata().is_ok() {
                return Err(RestoreError::Exists { path });
            }
        }
        Ok(())
    }

    fn create(&self) -> Result<Unfinished, RestoreError> {
        match OpenOptions::new().read(true).write(true).create_new(true).open(&self.restoring) {
            Ok(file) => Ok(Unfinished { path: self.restoring.clone(), file, remove: true }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(RestoreError::Exists { path: self.restoring.clone() })
            }
            Err(source) => Err(RestoreError::Io { path: self.restoring.clone(), source }),
        }
    }

    fn finish(&self, mut unfinished: Unfinished) -> Result<(), RestoreError> {
        unfinished.file.sync_all().map_err(|source| unfinished.failed(source))?;
        for path in with_journals(&self.target) {
            if path.symlink_metadata().is_ok() {
                return Err(RestoreError::Exists { path });
            }
        }
        fs::rename(&unfinished.path, &self.target).map_err(|source| unfinished.failed(source))?;
        unfinished.remove = false;
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| {
            // Nobody may rely on a name that a power cut can take back.
            fs::remove_file(&self.target).ok();
            RestoreError::Io { path: self.folder.clone(), source }
        })
    }
}

/// The file while it is written; removed unless it is finished.
struct Unfinished {
    path: PathBuf,
    file: File,
    remove: bool,
}

impl Unfinished {
    /// Writes pages to where the first of them belongs.
    fn write(&self, pages: &[u8], first: u32, page_bytes: usize) -> Result<(), RestoreError> {
        let offset = u64::from(first - 1) * page_bytes as u64;
        self.file.write_all_at(pages, offset).map_err(|source| self.failed(source))
    }

    /// Bit by bit: whoever syncs something else on this disk, as the application does at each commit, would wait for all of it.
    fn sync(&self) -> Result<(), RestoreError> {
        self.file.sync_data().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> RestoreError {
        RestoreError::Io { path: self.path.clone(), source }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.remove {
            for path in with_journals(&self.path) {
                // There may be none, and there is nobody left to tell of anything else.
                fs::remove_file(path).ok();
            }
        }
    }
}

/// The files that SQLite takes for one database.
fn with_journals(path: &Path) -> [PathBuf; 4] {
    ["", "-journal", "-wal", "-shm"].map(|suffix| beside(path, suffix))
}
