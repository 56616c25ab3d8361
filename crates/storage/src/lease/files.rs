//! The lease of a stream as a file, for file systems have no put that compares.
//!
//! ```text
//! lock   {stream}/lease#0     held by one writer at a time, of all processes
//! read   {stream}/lease       is it what was expected?
//! write  {stream}/lease#1
//! rename {stream}/lease#1 -> {stream}/lease
//! unlock
//! ```
//!
//! Readers take no lock: a rename shows them one content or the next. Nothing is synced, because a lease need not survive a power
//! cut. The two other names end in `#` and digits, as staging files do, and no listing shows them. A writer that was stopped while it
//! held the lock keeps the others out until it goes on or is gone, so they wait only [`LOCK_PATIENCE`].

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::LEASE_BYTES_MAX;

/// How long a writer waits for the one before it.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// How long it waits before it tries the lock again.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// Why a lease was not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileLeaseError {
    #[error("the file is too large for a lease. size=`{0}`")]
    TooLarge(u64),
    #[error("the file holds something else than was expected")]
    Conflict,
    #[error("another process writes the lease, and does not end")]
    Busy,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the file at `place` holds.
pub(super) fn read(place: &Path) -> Result<Option<Bytes>, FileLeaseError> {
    let mut file = match File::open(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let size = file.metadata()?.len();
    if size > LEASE_BYTES_MAX as u64 {
        return Err(FileLeaseError::TooLarge(size));
    }
    let mut bytes = Vec::with_capacity(LEASE_BYTES_MAX);
    // Files here are replaced and never written to, so that none grows while it is read.
    file.by_ref().take(LEASE_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(Some(Bytes::from(bytes)))
}

/// Writes the file at `place` if it holds what is expected.
pub(super) fn write(place: &Path, expected: Option<&Bytes>, bytes: &Bytes) -> Result<(), FileLeaseError> {
    if let Some(folder) = place.parent() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
    }
    let _lock = lock(&place.with_file_name("lease#0"))?;
    // One that is too large is not what anybody expected.
    let found = match read(place) {
        Err(FileLeaseError::TooLarge(_)) => return Err(FileLeaseError::Conflict),
        found => found?,
    };
    if found.as_ref() != expected {
        return Err(FileLeaseError::Conflict);
    }
    let staging = place.with_file_name("lease#1");
    fs::write(&staging, bytes)?;
    fs::rename(&staging, place)?;
    Ok(())
}

/// The lock, which ends with the file that is returned.
fn lock(place: &Path) -> Result<File, FileLeaseError> {
    let file = File::options().create(true).truncate(false).write(true).open(place)?;
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(FileLeaseError::Busy),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that was stopped while it held the lock keeps others from writing, not from reading, and not for ever.
    #[test]
    fn a_lock_that_nobody_gives_back_is_waited_for_within_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("lease");
        let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
        write(&place, None, &one).unwrap();
        let held = lock(&folder.path().join("lease#0")).unwrap();
        assert!(matches!(write(&place, Some(&one), &two), Err(FileLeaseError::Busy)));
        assert_eq!(read(&place).unwrap(), Some(one.clone()));
        drop(held);
        write(&place, Some(&one), &two).unwrap();
        assert_eq!(read(&place).unwrap(), Some(two));
    }
}
