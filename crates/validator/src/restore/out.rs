//! Where the restored database is written: created whole, or not at all, and never over something else.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use synddb_sqlite::name::beside;
use tempfile::{TempDir, TempPath};

use super::Problem;

/// What SQLite takes for a part of the database of a name.
const BESIDE: [&str; 4] = ["", "-journal", "-wal", "-shm"];

/// A file that does not exist yet.
#[derive(Debug)]
pub(super) struct Out {
    file: PathBuf,
    folder: PathBuf,
}

impl Out {
    /// Makes sure that the file can be made. Nothing is made yet.
    pub(super) fn at(file: &Path) -> Result<Self, Problem> {
        let no_folder = |source| Problem::NoFolder { file: file.to_owned(), source };
        let name = file.file_name().ok_or_else(|| no_folder(io::ErrorKind::InvalidFilename.into()))?;
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let folder = folder.canonicalize().map_err(no_folder)?;
        let out = Self { file: folder.join(name), folder };
        out.check()?;
        Ok(out)
    }

    /// SQLite would play a journal or WAL of an earlier file of that name into the new one.
    fn check(&self) -> Result<(), Problem> {
        let exists = BESIDE.map(|suffix| beside(&self.file, suffix));
        match exists.into_iter().find(|path| path.symlink_metadata().is_ok()) {
            Some(path) => Err(Problem::Exists { path }),
            None => Ok(()),
        }
    }

    /// A folder of its own beside it, on the same disk, which goes with this value, and which nobody else may enter.
    pub(super) fn scratch(&self) -> Result<TempDir, Problem> {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (prefix, private) = (format!("{name}.restoring-"), Permissions::from_mode(0o700));
        let made = tempfile::Builder::new().prefix(&prefix).permissions(private).tempdir_in(&self.folder);
        made.map_err(|source| self.failed(source))
    }

    /// Gives the rebuilt file its name, durably.
    pub(super) fn publish(&self, rebuilt: &Path) -> Result<(), Problem> {
        File::open(rebuilt).and_then(|file| file.sync_all()).map_err(|source| self.failed(source))?;
        self.check()?;
        let rebuilt = TempPath::try_from_path(rebuilt).map_err(|source| self.failed(source))?;
        if let Err(error) = rebuilt.persist_noclobber(&self.file) {
            return Err(match error.error {
                source if source.kind() == io::ErrorKind::AlreadyExists => {
                    Problem::Exists { path: self.file.clone() }
                }
                source => self.failed(source),
            });
        }
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| {
            // Nobody may rely on a name that a power cut can take back.
            fs::remove_file(&self.file).ok();
            self.failed(source)
        })
    }

    fn failed(&self, source: io::Error) -> Problem {
        Problem::Write { file: self.file.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_name_that_somebody_took_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("restored.db");
        let out = Out::at(&file).unwrap();
        let scratch = out.scratch().unwrap();
        assert_eq!(scratch.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let rebuilt = scratch.path().join("rebuilt.db");
        for suffix in BESIDE {
            fs::write(&rebuilt, "rebuilt").unwrap();
            let there = beside(&file, suffix);
            fs::write(&there, "somebody's").unwrap();
            let taken = out.publish(&rebuilt);
            assert!(
                matches!(&taken, Err(Problem::Exists { path }) if path.ends_with(there.file_name().unwrap()))
            );
            assert_eq!(fs::read(&there).unwrap(), b"somebody's");
            fs::remove_file(&there).unwrap();
        }
        out.publish(&rebuilt).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"rebuilt");
        assert!(Out::at(&file).is_err());
        drop(scratch);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for file in [folder.path().join("absent/restored.db"), PathBuf::from("/"), PathBuf::from("..")] {
            let refused = Out::at(&file);
            assert!(matches!(refused, Err(Problem::NoFolder { .. })), "{refused:?}");
        }
    }
}
