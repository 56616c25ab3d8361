//! The names of a database's files, and which files they lead to.
//!
//! Nothing here opens a file: closing any descriptor of one would drop every lock that this process has on it (POSIX).

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The name of what stands beside a file: `app.db` and `-wal` give `app.db-wal`.
pub fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Which file it is, under whatever name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// The device that it lies on.
    pub device: u64,
    /// The number of its inode there.
    pub inode: u64,
}

impl FileId {
    /// The file that a name leads to.
    ///
    /// # Errors
    /// When it leads nowhere.
    pub fn at(name: &Path) -> io::Result<Self> {
        std::fs::metadata(name).map(|found| Self::of(&found))
    }

    /// The file that something is known of.
    pub fn of(found: &std::fs::Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }
}
