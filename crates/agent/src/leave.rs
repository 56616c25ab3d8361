//! Leaving a database for good: whether an agent runs, and taking away what it kept once all of it is stored.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use crate::error::AgentError;
use crate::home::{Home, failed};
use crate::outbox::{self, Outbox};

/// Whether an agent owns a folder now.
///
/// # Errors
/// [`AgentError`] when the folder's lock cannot be tried.
pub fn is_running(folder: &Path) -> Result<bool, AgentError> {
    let file = folder.join("agent.lock");
    let lock = match File::options().write(true).open(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(failed("open the agent's lock", &file))?,
    };
    match lock.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(failed("lock the agent's folder", &file)(error)),
    }
}

/// Takes away what an agent that has ended kept in its folder, if all of it was seen stored. Gives the number of submissions and
/// snapshots that were not; then everything stays.
///
/// # Errors
/// [`AgentError`] when an agent runs, or what it kept cannot be read or removed.
pub fn forget(folder: &Path) -> Result<u64, AgentError> {
    let home = Home::open(folder)?;
    let mut pending = 0;
    for incarnation in home.incarnations()? {
        pending += u64::from(incarnation.spooled()?.is_some());
        pending += Outbox::open(&incarnation.outbox(), outbox::Options::default())?.pending().submissions;
    }
    if pending > 0 {
        return Ok(pending);
    }
    let (incarnations, stream) = (folder.join("incarnations"), folder.join("stream"));
    fs::remove_dir_all(&incarnations).map_err(failed("remove the incarnations", &incarnations))?;
    // Last: as long as the stream has a name, the rest is known to be its.
    fs::remove_file(&stream).map_err(failed("remove the name of the stream", &stream))?;
    Ok(0)
}
