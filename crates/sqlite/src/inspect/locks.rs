//! Who keeps a database from being read or written, as the kernel tells without a lock being taken.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

/// Where SQLite's locks lie (os.h): `PENDING_BYTE`, `RESERVED_BYTE`, and the range of shared locks.
const PENDING: u64 = 0x4000_0000;
const SHARED: u64 = PENDING + 2;
const SHARED_BYTES: u64 = 510;

/// A lock that is only a transaction's is gone after so long, mostly.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(5);

/// Which lock somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// Nobody may read: a transaction that commits, or `locking_mode=EXCLUSIVE`.
    Exclusive,
    /// Nobody may begin to read: a writer waits for readers to end.
    Pending,
}

/// Who has a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locker {
    /// Its process; `None` where the kernel does not name one, as with a process of another container.
    pub pid: Option<u32>,
    /// What it has.
    pub lock: Locked,
}

/// Who kept others out of a database for as long as was looked. Only for a process that has no connection to the file: closing it drops
/// every lock that the process holds on it.
///
/// # Errors
/// When the file cannot be opened, or its locks cannot be asked for.
pub fn locked(path: &Path) -> io::Result<Option<Locker>> {
    let file = File::open(path)?;
    let began = Instant::now();
    loop {
        let found = look(&file)?;
        if found.is_none() || began.elapsed() >= PATIENCE {
            return Ok(found);
        }
        std::thread::sleep(AGAIN);
    }
}

fn look(file: &File) -> io::Result<Option<Locker>> {
    for (start, length, lock) in [(SHARED, SHARED_BYTES, Locked::Exclusive), (PENDING, 1, Locked::Pending)] {
        let wanted = Flock {
            start,
            length,
            pid: None,
            // What a reader asks for: only a writer's lock stands in its way.
            typ: FlockType::ReadLock,
            offset_type: FlockOffsetType::Set,
        };
        if let Some(found) = fcntl_getlk(file, &wanted)? {
            let pid = found.pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
            return Ok(Some(Locker { pid, lock }));
        }
    }
    Ok(None)
}

/// Whether somebody holds the lock of a file that says who owns something (`lock.rs`). A shared lock is taken for a moment, which whoever
/// wants to own it waits for.
///
/// # Errors
/// When the file cannot be opened or locked.
pub fn owner_seems_to_run(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
