//! Who owns a sequencer's folder: one process, from before it opens anything to its end, in every role.
//!
//! A journal has a lock of its own, but a standby opens none until it takes over. Without this, two standbys on one folder would look well until then.
//! What must stay true: the kernel lets go of the lock with the process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use synddb_sqlite::lock;

use crate::SequencerError;
use crate::journal::make_folder;

/// The file that is locked. Nothing is ever in it.
const LOCK: &str = "lock";

/// A folder that this process owns for as long as this lives.
#[derive(Debug)]
pub(crate) struct OwnedFolder {
    _lock: File,
}

impl OwnedFolder {
    /// Takes a folder, which is made where it is missing.
    ///
    /// # Errors
    /// [`SequencerError::Owned`] when another process has it, [`SequencerError::Unmade`] and [`SequencerError::Folder`] when it cannot be used.
    pub(crate) fn take(folder: &Path) -> Result<Self, SequencerError> {
        let unusable = |source| SequencerError::Folder { folder: folder.to_owned(), source };
        make_folder(folder).map_err(SequencerError::Unmade)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK));
        let file = file.map_err(unusable)?;
        match lock::take(&file) {
            Ok(()) => Ok(Self { _lock: file }),
            Err(TryLockError::WouldBlock) => Err(SequencerError::Owned { folder: folder.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }
}
