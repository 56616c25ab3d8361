//! How somebody resolves a violation: a file in a folder beside the replica, which the validator takes in.
//!
//! Whoever may write there may also write into the replica, so the file needs no other credential. A validator that runs takes it in within a few
//! seconds, one that does not when it starts.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synddb_protocol::id::Timestamp;
use synddb_sqlite::name::beside;
use tracing::warn;

use super::violations::Seen;

/// Longest reason, in bytes.
pub const BECAUSE_BYTES_MAX: usize = 1000;
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// Files that are taken in at a time.
const FILES_MAX: usize = 256;

/// What somebody decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// The number of the violation in this replica.
    pub id: u64,
    /// What it was when somebody decided. Where it is not any more, nothing is resolved.
    pub seen: Seen,
    /// When, in milliseconds since 1970, by the clock of whoever decided.
    pub at: Timestamp,
    /// Why.
    pub because: String,
}

/// Why nothing was left.
#[derive(Debug, thiserror::Error)]
pub enum ResolutionError {
    /// There is no reason, or it is too long.
    #[error("say in 1 to {BECAUSE_BYTES_MAX} bytes why the violation is resolved. found=`{found}`")]
    Because {
        /// Its length, in bytes.
        found: usize,
    },
    /// Somebody has decided already.
    #[error("a resolution of this violation waits for the validator; start it, or remove the file. file=`{}`", file.display())]
    Waits {
        /// The file.
        file: PathBuf,
    },
    /// The folder beside the replica cannot be written.
    #[error("the resolution cannot be left beside the replica. file=`{}`", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Where resolutions of a replica are left.
fn folder(replica: &Path) -> PathBuf {
    beside(replica, ".resolved")
}

impl Resolution {
    /// Leaves it beside a replica, whole or not at all. Returns the file, which is gone when the validator has taken it in.
    ///
    /// # Errors
    /// [`ResolutionError`].
    pub fn leave(&self, replica: &Path) -> Result<PathBuf, ResolutionError> {
        let found = self.because.len();
        if self.because.trim().is_empty() || found > BECAUSE_BYTES_MAX {
            return Err(ResolutionError::Because { found });
        }
        let folder = folder(replica);
        let file = folder.join(format!("{}.json", self.id));
        let written = || -> io::Result<()> {
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut staged = tempfile::NamedTempFile::new_in(&folder)?;
            serde_json::to_writer(&mut staged, self)?;
            staged.as_file().sync_all()?;
            staged.persist_noclobber(&file)?;
            File::open(&folder)?.sync_all()
        };
        written().map_err(|source| {
            let file = file.clone();
            if source.kind() == io::ErrorKind::AlreadyExists {
                ResolutionError::Waits { file }
            } else {
                ResolutionError::Io { file, source }
            }
        })?;
        Ok(file)
    }
}

impl Resolution {
    /// The file of one that waits for the validator to take it in.
    pub fn waiting(replica: &Path, id: u64) -> Option<PathBuf> {
        let file = folder(replica).join(format!("{id}.json"));
        file.is_file().then_some(file)
    }
}

/// What was left beside a replica, with the files. Of what is none, it is said and it is passed.
pub(super) fn left(replica: &Path) -> Vec<(PathBuf, Resolution)> {
    let Ok(entries) = fs::read_dir(folder(replica)) else { return Vec::new() };
    let mut left = Vec::new();
    for entry in entries.flatten().take(FILES_MAX) {
        let file = entry.path();
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match read(&file, replica) {
            Ok(resolution) => left.push((file, resolution)),
            Err(error) => {
                warn!(error = %error, file = %file.display(), "a resolution beside the replica is passed");
            }
        }
    }
    left.sort_by_key(|(_, resolution)| resolution.id);
    left
}

fn read(file: &Path, replica: &Path) -> io::Result<Resolution> {
    let invalid = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    let found = fs::symlink_metadata(file)?;
    if !found.is_file() {
        return Err(invalid("it is no file"));
    }
    if found.uid() != fs::metadata(replica)?.uid() && found.uid() != 0 {
        return Err(invalid("it is of another user than the replica"));
    }
    let mut text = Vec::new();
    File::open(file)?.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    let resolution: Resolution = serde_json::from_slice(&text)?;
    if resolution.because.is_empty() || resolution.because.len() > BECAUSE_BYTES_MAX {
        return Err(invalid("it gives no reason, or too long a one"));
    }
    Ok(resolution)
}

/// It was taken in.
pub(super) fn taken(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        // It is taken in again, and resolves nothing then.
        warn!(error = %error, file = %file.display(), "a resolution that was taken in cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::id::Sequence;

    use super::*;

    #[test]
    fn what_is_left_is_found_until_it_was_taken_in() {
        let scratch = tempfile::tempdir().unwrap();
        let replica = scratch.path().join("replica.db");
        fs::write(&replica, "").unwrap();
        assert_eq!(left(&replica), []);
        let seen = Seen { rule: "r".to_owned(), sequence: Sequence::new(3).unwrap(), further: 0 };
        let (at, because) = (Timestamp::from_ms(1).unwrap(), "a test account".to_owned());
        let resolution = Resolution { id: 7, seen, at, because };
        let file = resolution.leave(&replica).unwrap();
        assert_eq!(left(&replica), [(file.clone(), resolution.clone())]);
        let second = Resolution { because: "another reason".to_owned(), ..resolution.clone() };
        assert!(matches!(second.leave(&replica), Err(ResolutionError::Waits { .. })));
        assert_eq!(left(&replica), [(file.clone(), resolution.clone())], "the first one stands");
        fs::write(folder(&replica).join("8.json"), "{\"id\": 8").unwrap();
        assert_eq!(left(&replica).len(), 1, "half a file is passed");
        taken(&file);
        assert_eq!(left(&replica), []);
        for because in ["", "  ", &"x".repeat(BECAUSE_BYTES_MAX + 1)] {
            let nothing = Resolution { because: because.to_owned(), ..resolution.clone() };
            assert!(matches!(nothing.leave(&replica), Err(ResolutionError::Because { .. })));
        }
    }
}
