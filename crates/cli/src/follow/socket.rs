//! The agent's socket in its folder, by a name that is always short enough.
//!
//! The name of a socket takes 107 bytes at most, and folders are often longer. So the folder is opened, and the socket is named below
//! the descriptor.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

const NAME: &str = "agent.sock";

/// The place of an agent's socket.
pub(crate) struct SocketPath {
    /// Keeps the descriptor open that the short name leads through.
    folder: File,
}

impl SocketPath {
    pub(crate) fn in_folder(folder: &Path) -> io::Result<Self> {
        Ok(Self { folder: File::open(folder)? })
    }

    /// A name that works as long as this value lives, in this process only.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{NAME}", self.folder.as_raw_fd()))
    }

    /// Removes what an agent that was killed left. Only the agent that holds the folder's lock may.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match std::fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
