//! The files of a replica, the lock that one process holds on them, and what a killed process left.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use synddb_sqlite::connection::Connection;
use synddb_sqlite::name::beside;
use tracing::warn;

use crate::error::ReplicaError;

/// What SQLite lays beside a file, and replays into whatever file has the name.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What names a copy of a replica that diverged, before the sequence.
const DIVERGED: &str = ".diverged-";
/// The same of one that nobody found to differ.
const REPLACED: &str = ".replaced-";

/// How a replica leaves its place to a rebuilt one. The sequence is the one that it stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It is removed.
    Removed,
    /// It is kept as what diverged.
    Diverged(u64),
    /// It is kept, and nobody found it to differ.
    Replaced(u64),
}

/// Where a replica lies. Holds the lock until it goes.
#[derive(Debug)]
pub(crate) struct Place {
    file: PathBuf,
    folder: PathBuf,
    /// Locked by the kernel for this process, which gives it back however the process ends.
    lock: Arc<File>,
}

impl Place {
    /// Takes the place for this process, and removes what a killed one left of an unfinished snapshot, and what somebody left who moved
    /// the file away alone.
    ///
    /// # Errors
    /// [`ReplicaError::InUse`] when another process has it.
    pub(crate) fn take(file: &Path) -> Result<Self, ReplicaError> {
        let failed = |doing| move |source| ReplicaError::Io { doing, file: file.to_owned(), source };
        let name = file.file_name().ok_or_else(|| failed("name")(io::ErrorKind::InvalidFilename.into()))?;
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Whole, and free of links: a WAL lies beside the file itself.
        let folder = folder.canonicalize().map_err(failed("find the folder of"))?;
        let file = match folder.join(name).canonicalize() {
            Ok(file) => file,
            Err(_) => folder.join(name),
        };
        let folder = file.parent().map_or(folder, Path::to_owned);
        let io = |doing| {
            let file = file.clone();
            move |source| ReplicaError::Io { doing, file, source }
        };
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(beside(&file, ".lock"))
            .map_err(io("lock"))?;
        match synddb_sqlite::lock::take(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ReplicaError::InUse { file }),
            Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
        }
        let place = Self { file, folder, lock: Arc::new(lock) };
        place.remove_staged()?;
        place.remove_reference()?;
        if !place.is_taken() {
            place.remove_orphans()?;
        }
        Ok(place)
    }

    /// The lock, for whoever keeps the place longer than this.
    pub(crate) fn lock(&self) -> Arc<File> {
        Arc::clone(&self.lock)
    }

    /// The replica.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The folder that it lies in.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a snapshot is restored before it takes the replica's place: in a folder of its own, which nobody else may enter.
    pub(crate) fn staged(&self) -> PathBuf {
        self.staging().join("replica.db")
    }

    fn staging(&self) -> PathBuf {
        beside(&self.file, ".restoring")
    }

    /// Where the log is replayed to find out what the replica should be.
    pub(crate) fn reference_of(file: &Path) -> PathBuf {
        beside(file, ".reference")
    }

    /// Removes whatever there is of such a replay.
    fn remove_reference(&self) -> Result<(), ReplicaError> {
        self.remove(&Self::reference_of(&self.file))
    }

    /// Makes that folder, with nothing in it.
    pub(crate) fn make_staged(&self) -> Result<(), ReplicaError> {
        self.remove_staged()?;
        let made = DirBuilder::new().mode(0o700).create(self.staging());
        made.map_err(|error| self.io("make a folder beside", error))
    }

    /// Nobody else may read the staged file, also when it is the replica. What SQLite lays beside a file has the mode of the file.
    pub(crate) fn keep_staged_private(&self) -> Result<(), ReplicaError> {
        let kept = fs::set_permissions(self.staged(), Permissions::from_mode(0o600));
        kept.map_err(|error| self.io("keep others from", error))
    }

    /// Whether there is a replica.
    pub(crate) fn is_taken(&self) -> bool {
        self.file.symlink_metadata().is_ok()
    }

    /// Removes whatever there is of a snapshot beside the replica.
    pub(crate) fn remove_staged(&self) -> Result<(), ReplicaError> {
        self.remove(&self.staging())
    }

    fn remove(&self, what: &Path) -> Result<(), ReplicaError> {
        let removed = match what.symlink_metadata() {
            Ok(found) if found.is_dir() => fs::remove_dir_all(what),
            Ok(_) => fs::remove_file(what),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.io("remove what is left beside", error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes the replica out of its place, durably. Returns the file that it is kept as, if it is. A copy of its kind that was kept before goes
    /// after that: there is at most one, and whoever is killed in between leaves two.
    pub(crate) fn vacate(&self, leaving: Leaving) -> Result<Option<PathBuf>, ReplicaError> {
        if !self.is_taken() {
            return Ok(None);
        }
        // Whoever closes a database as the last one moves the WAL into the file. One that cannot be read keeps its WAL beside it.
        if let Ok(connection) = Connection::open(&self.file) {
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").ok();
        }
        let moved = |source| self.io("move away", source);
        let kept = match leaving {
            Leaving::Removed => None,
            Leaving::Diverged(sequence) => Some((DIVERGED, sequence)),
            Leaving::Replaced(sequence) => Some((REPLACED, sequence)),
        };
        let kept = kept.map(|(kind, sequence)| (kind, beside(&self.file, &format!("{kind}{sequence}"))));
        if let Some((kind, kept)) = &kept {
            for suffix in BESIDE {
                let (suffix, kept) = (beside(&self.file, suffix), beside(kept, suffix));
                match fs::rename(suffix, &kept) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        // One of an earlier copy of this name would be taken for a part of this one.
                        self.remove(&kept)?;
                    }
                    moving => moving.map_err(moved)?,
                }
            }
            fs::rename(&self.file, kept).map_err(moved)?;
            self.sync_folder().map_err(moved)?;
            self.remove_kept(kind, kept)?;
        } else {
            fs::remove_file(&self.file).map_err(|error| self.io("remove", error))?;
            self.sync_folder().map_err(moved)?;
        }
        self.remove_orphans()?;
        Ok(kept.map(|(_, kept)| kept))
    }

    /// Removes copies of one kind but this one.
    fn remove_kept(&self, kind: &str, but: &Path) -> Result<(), ReplicaError> {
        let Some(name) = self.file.file_name() else { return Ok(()) };
        let prefix = format!("{}{kind}", name.to_string_lossy());
        let but = but.file_name().unwrap_or_default().to_string_lossy();
        let listed = |source| self.io("look for what was kept of", source);
        for entry in fs::read_dir(&self.folder).map_err(listed)? {
            let entry = entry.map_err(listed)?;
            let is_kept = entry.file_name().to_string_lossy().strip_prefix(&prefix).is_some_and(|rest| {
                let number = BESIDE.iter().find_map(|suffix| rest.strip_suffix(suffix)).unwrap_or(rest);
                but.strip_prefix(&prefix) != Some(number)
                    && !number.is_empty()
                    && number.bytes().all(|byte| byte.is_ascii_digit())
            });
            if is_kept {
                fs::remove_file(entry.path()).map_err(|error| self.io("remove what was kept of", error))?;
            }
        }
        Ok(())
    }

    /// Removes, durably, what SQLite laid beside a replica that is not there any more: it would take it for a part of the next file of
    /// that name, and write old pages into it.
    fn remove_orphans(&self) -> Result<(), ReplicaError> {
        let mut found = false;
        for suffix in BESIDE {
            match fs::remove_file(beside(&self.file, suffix)) {
                Ok(()) => found = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.io("remove what was left without", error)),
            }
        }
        if !found {
            return Ok(());
        }
        warn!(file = %self.file.display(), "removed what SQLite kept beside a replica that is gone");
        self.sync_folder().map_err(|error| self.io("remove what was left without", error))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    /// Gives the staged file the replica's name, durably. There must be no replica yet, and nobody may have one open.
    pub(crate) fn rename_staged(&self) -> Result<(), ReplicaError> {
        // Gone before the name is given, also when the power fails between the two.
        self.remove_orphans()?;
        let renamed = fs::rename(self.staged(), &self.file).and_then(|()| self.sync_folder());
        renamed.map_err(|error| self.io("put a snapshot in the place of", error))?;
        self.remove_staged()
    }

    pub(crate) fn io(&self, doing: &'static str, source: io::Error) -> ReplicaError {
        ReplicaError::Io { doing, file: self.file.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_snapshot_gets_the_name_with_nothing_of_another_file_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("replica.db");
        let place = Place::take(&file).unwrap();
        place.make_staged().unwrap();
        fs::write(place.staged(), "new").unwrap();
        // Whoever takes the file away while the process runs leaves these.
        for suffix in BESIDE {
            fs::write(beside(&file, suffix), "old").unwrap();
        }
        place.rename_staged().unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        for suffix in BESIDE {
            assert!(!beside(&file, suffix).exists(), "{suffix}");
        }
    }

    #[test]
    fn what_lies_beside_a_replica_stays_until_the_replica_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("replica.db");
        let wal = beside(&file, "-wal");
        fs::write(&file, "replica").unwrap();
        fs::write(&wal, "its commits").unwrap();
        drop(Place::take(&file).unwrap());
        assert!(wal.exists());
        fs::remove_file(&file).unwrap();
        drop(Place::take(&file).unwrap());
        assert!(!wal.exists());
    }
}
