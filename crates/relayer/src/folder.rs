//! Who owns a relayer's folder: one process, from before it opens anything to its end. The kernel lets go of the lock with the process, however that ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use synddb_sqlite::lock;

use crate::error::RelayerError;

/// The file that is locked. Nothing is ever in it.
const LOCK: &str = "lock";

/// What is in the folder is nobody else's.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A folder that this process owns for as long as this lives.
#[derive(Debug)]
pub(crate) struct OwnedFolder {
    _lock: File,
}

impl OwnedFolder {
    /// Takes a folder, which is made where it is missing.
    ///
    /// # Errors
    /// [`RelayerError::Owned`] when another process has it, [`RelayerError::Folder`] when it cannot be used.
    pub(crate) fn take(folder: &Path) -> Result<Self, RelayerError> {
        let unusable = |source| RelayerError::Folder { folder: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(unusable)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(FILE_MODE).open(folder.join(LOCK));
        let file = file.map_err(unusable)?;
        match lock::take(&file) {
            Ok(()) => Ok(Self { _lock: file }),
            Err(TryLockError::WouldBlock) => Err(RelayerError::Owned { folder: folder.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }
}

/// Makes a file that only its owner may read, where there is none, durably. SQLite gives its mode to those that it puts beside it.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => drop(made?),
    }
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
