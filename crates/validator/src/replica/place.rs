//! The files of a replica, the lock that one process holds on them, and what a killed process left.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::ReplicaError;

/// Where a replica lies. Holds the lock until it goes.
#[derive(Debug)]
pub(crate) struct Place {
    file: PathBuf,
    folder: PathBuf,
    /// Locked by the kernel for this process, which gives it back however the process ends.
    _lock: File,
}

impl Place {
    /// Takes the place for this process, and removes what a killed one left of an unfinished snapshot.
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
            .open(with_suffix(&file, ".lock"))
            .map_err(io("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ReplicaError::InUse { file }),
            Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
        }
        let place = Self { file, folder, _lock: lock };
        place.remove_staged()?;
        Ok(place)
    }

    /// The replica.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The folder that it lies in.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a snapshot is restored before it takes the replica's place.
    pub(crate) fn staged(&self) -> PathBuf {
        with_suffix(&self.file, ".restoring")
    }

    /// Whether there is a replica.
    pub(crate) fn is_taken(&self) -> bool {
        self.file.symlink_metadata().is_ok()
    }

    /// Removes whatever there is of a snapshot beside the replica.
    pub(crate) fn remove_staged(&self) -> Result<(), ReplicaError> {
        let staged = self.staged();
        // The restore has a file of its own beside the staged one.
        for file in [with_suffix(&staged, ".restoring"), staged] {
            for suffix in ["", "-journal", "-wal", "-shm"] {
                match fs::remove_file(with_suffix(&file, suffix)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.io("remove what is left beside", error));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Gives the staged file the replica's name, durably. There must be no replica yet.
    pub(crate) fn rename_staged(&self) -> Result<(), ReplicaError> {
        let renamed = fs::rename(self.staged(), &self.file)
            .and_then(|()| File::open(&self.folder))
            .and_then(|folder| folder.sync_all());
        renamed.map_err(|error| self.io("put a snapshot in the place of", error))
    }

    pub(crate) fn io(&self, doing: &'static str, source: io::Error) -> ReplicaError {
        ReplicaError::Io { doing, file: self.file.clone(), source }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
