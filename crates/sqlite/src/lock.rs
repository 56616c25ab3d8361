//! Locks on files that say which process owns something.
//!
//! The kernel lets go of them with the process, however that ends. They are `flock`s, so they have nothing to do with SQLite's own.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

/// How long somebody else's lock is waited for. A child that another thread of a program starts holds a copy of every lock until it
/// runs its own program, so a lock that is just given back may seem taken for a moment.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(5);

/// Takes the lock of a file for as long as the file is open.
///
/// # Errors
/// [`TryLockError::WouldBlock`] when another process keeps it.
pub fn take(file: &File) -> Result<(), TryLockError> {
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => std::thread::sleep(AGAIN),
            tried => return tried,
        }
    }
}
