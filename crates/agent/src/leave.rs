//! Leaving a database for good: whether an agent runs, and taking away what it kept once all of it is stored.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use crate::error::AgentError;
use crate::home::{Home, LAST, SEQUENCER_KEY, failed, sync_folder};
use crate::outbox::{self, Outbox};
use crate::pin;

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

/// How many submissions and snapshots of an agent that has ended were not seen stored.
///
/// # Errors
/// [`AgentError`] when an agent runs, or what it kept cannot be read.
pub fn pending(folder: &Path) -> Result<u64, AgentError> {
    let home = Home::open(folder)?;
    // An agent that was killed has left it.
    pin::dismiss(folder);
    pending_of(&home)
}

fn pending_of(home: &Home) -> Result<u64, AgentError> {
    let mut pending = 0;
    for incarnation in home.incarnations()? {
        pending += u64::from(incarnation.spooled()?.is_some());
        pending += Outbox::open(&incarnation.outbox(), outbox::Options::default())?.pending().submissions;
    }
    Ok(pending)
}

/// Takes away what an agent that has ended kept in its folder, if all of it was seen stored. Gives the number of submissions and
/// snapshots that were not; then everything stays.
///
/// # Errors
/// [`AgentError`] when an agent runs, or what it kept cannot be read or removed.
pub fn forget(folder: &Path) -> Result<u64, AgentError> {
    let home = Home::open(folder)?;
    pin::dismiss(folder);
    let pending = pending_of(&home)?;
    if pending > 0 {
        return Ok(pending);
    }
    let incarnations = folder.join("incarnations");
    fs::rename(&incarnations, folder.join(LEFT))
        .and_then(|()| sync_folder(folder))
        .map_err(failed("put the incarnations away", &incarnations))?;
    finish(folder)?;
    Ok(0)
}

/// What the incarnations are called once they are left. The stream's name must not outlive them: an agent that found it alone would
/// begin with an incarnation that the log has already.
const LEFT: &str = "incarnations.left";

/// Goes on with what [`forget`] began, if a killed process left it half done.
pub(crate) fn finish(folder: &Path) -> Result<(), AgentError> {
    let left = folder.join(LEFT);
    if !left.exists() {
        return Ok(());
    }
    // Another stream may be another sequencer's.
    for name in [SEQUENCER_KEY, "stream"] {
        let file = folder.join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove what the agent was known by", &file)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let last = folder.join(LAST);
    match fs::remove_dir_all(&last) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove the last captured state", &last)(error));
        }
        Ok(()) | Err(_) => {}
    }
    // In this order also when the power fails: each step is durable before the next one.
    sync_folder(folder).map_err(failed("remove what the agent was known by", folder))?;
    fs::remove_dir_all(&left).map_err(failed("remove the incarnations", &left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::stream_of;

    #[test]
    fn a_leave_that_was_killed_half_way_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let stream = stream_of(folder.path()).unwrap();
        drop(Home::open(folder.path()).unwrap());
        // Killed after the first step.
        fs::rename(folder.path().join("incarnations"), folder.path().join(LEFT)).unwrap();
        assert_ne!(
            stream_of(folder.path()).unwrap(),
            stream,
            "the old name would begin at a counter that the log has"
        );
        assert!(!folder.path().join(LEFT).exists());
    }

    #[test]
    fn an_agent_that_runs_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_running(folder.path()).unwrap());
        let home = Home::open(folder.path()).unwrap();
        assert!(is_running(folder.path()).unwrap());
        assert!(matches!(forget(folder.path()), Err(AgentError::Locked { .. })));
        drop(home);
        fs::create_dir_all(folder.path().join(LAST).join("replica.db.restoring")).unwrap();
        assert_eq!(forget(folder.path()).unwrap(), 0);
        assert!(!folder.path().join("stream").exists() && !folder.path().join(LAST).exists());
    }
}
