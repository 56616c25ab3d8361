//! Which file lies under a name.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A file, whatever its name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    /// Of the file under this name, if there is one.
    pub(super) fn of(file: &Path) -> Option<Self> {
        let found = fs::metadata(file).ok()?;
        Some(Self(found.dev(), found.ino()))
    }
}
