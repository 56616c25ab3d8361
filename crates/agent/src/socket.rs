//! A socket in the agent's folder, by a name that is always short enough.
//!
//! The name of a socket takes 107 bytes at most, and folders are often longer. So the folder is opened, and the socket is named below
//! the descriptor.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

/// The place of a socket in an agent's folder.
#[derive(Debug)]
pub struct SocketPath {
    /// Keeps the descriptor open that the short name leads through.
    folder: File,
    name: &'static str,
}

impl SocketPath {
    /// The socket at which a running agent answers.
    ///
    /// # Errors
    /// When the folder cannot be opened.
    pub fn of_agent(folder: &Path) -> io::Result<Self> {
        Ok(Self { folder: File::open(folder)?, name: "agent.sock" })
    }

    /// The socket at which a pin answers its agent.
    pub(crate) fn of_pin(folder: &Path) -> io::Result<Self> {
        Ok(Self { folder: File::open(folder)?, name: "pin.sock" })
    }

    /// A name that works as long as this value lives, in this process only.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", self.folder.as_raw_fd(), self.name))
    }

    /// Removes what a process that was killed left. Only the agent that holds the folder's lock may.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        match std::fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
