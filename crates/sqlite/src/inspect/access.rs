//! Whether this user may write a database, and whether what it makes beside it stays the owner's.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::name::beside;

use rustix::fs::{Access as Wanted, AtFlags, CWD, accessat};

use super::Unfit;

/// What this user may do with a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// What this user may not write of the file, its folder, and what lies beside it.
    pub not_writable: Vec<PathBuf>,
    /// Who owns the file.
    pub owner: u32,
    /// Who asks.
    pub user: u32,
}

impl Access {
    /// Whether files that this user makes beside the database are the owner's: it is the owner, or SQLite may give them away.
    pub const fn is_owners(&self) -> bool {
        self.user == self.owner || self.user == 0
    }

    /// Refuses a user that may not write.
    ///
    /// # Errors
    /// [`Unfit::NotWritable`].
    pub fn check(&self) -> Result<(), Unfit> {
        match self.not_writable.first() {
            Some(path) => Err(Unfit::NotWritable { path: path.clone() }),
            None => Ok(()),
        }
    }
}

/// Asks the kernel; nothing is opened. `path` is free of links.
///
/// # Errors
/// When there is no such file.
pub fn access(path: &Path) -> io::Result<Access> {
    let owner = std::fs::metadata(path)?.uid();
    let folder = path.parent().unwrap_or(path).to_owned();
    let others = ["-wal", "-shm"].map(|suffix| beside(path, suffix));
    let asked = [path.to_owned(), folder].into_iter().chain(others.into_iter().filter(|file| file.exists()));
    let not_writable = asked.filter(|file| !is_writable(file)).collect();
    Ok(Access { not_writable, owner, user: rustix::process::geteuid().as_raw() })
}

fn is_writable(path: &Path) -> bool {
    accessat(CWD, path, Wanted::WRITE_OK, AtFlags::EACCESS).is_ok()
}
