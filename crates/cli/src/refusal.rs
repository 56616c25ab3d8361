//! What a command refuses before it touches anything.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite::ffi;

use crate::exit::CommandError;

/// What was named on the command line and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such file.
    #[error("there is no such file; check the path. file=`{}`", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The file is no database, or encrypted.
    #[error("this is no database that SQLite can read; name one. file=`{}`", file.display())]
    NotADatabase {
        /// The file.
        file: PathBuf,
    },
    /// Both names lead to one file.
    #[error("both names lead to one file; name two. one=`{}` other=`{}`", one.display(), other.display())]
    SameFile {
        /// One name.
        one: PathBuf,
        /// The other one.
        other: PathBuf,
    },
    /// An earlier mirror left what is where the replica would be written.
    #[error(
        "an earlier mirror left the target; name another one, or use --replace. file=`{}`",
        file.display()
    )]
    TargetExists {
        /// What is there.
        file: PathBuf,
    },
    /// What is where the replica would be written was not made by a mirror.
    #[error("the target was not made by a mirror; move it away, or name another target. file=`{}`", file.display())]
    NotOurs {
        /// What is there.
        file: PathBuf,
    },
    /// The folder above is missing.
    #[error("the folder does not exist; make it. folder=`{}`", folder.display())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// `dev` runs for this folder.
    #[error("`synddb dev` runs in this folder; stop that one first. folder=`{}`", folder.display())]
    AlreadyRuns {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder beside a database cannot be made.
    #[error("cannot make the folder for what belongs to the database; name another one with --dir. folder=`{}`", folder.display())]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nothing answers for a database.
    #[error("nothing runs for this database; start `synddb dev` or `synddb follow` on it. file=`{}`", database.display())]
    NothingRuns {
        /// The database.
        database: PathBuf,
    },
    /// A database that is not followed from here.
    #[error("this database is not followed from its folder; name the folder with --dir if it is another. file=`{}`", database.display())]
    NotAttached {
        /// The database.
        database: PathBuf,
    },
    /// A store without anything of a stream.
    #[error("the store holds nothing of this stream; check --store and --stream")]
    NothingStored,
    /// Nobody said where a validator is.
    #[error("no validator is known; start `synddb dev`, or name one with --validator URL")]
    NoValidator,
    /// Commits are not stored yet.
    #[error(
        "not everything is stored yet; start `synddb follow` or `synddb dev` again and let it finish. submissions=`{submissions}`"
    )]
    NotStored {
        /// How many submissions wait.
        submissions: u64,
    },
    /// Another mirror writes to the target.
    #[error("another process mirrors to the target; stop that one first. file=`{}`", file.display())]
    InUse {
        /// The target.
        file: PathBuf,
    },
}

/// Opens a database to read it, inside a read transaction, and says in our words why it cannot be.
///
/// # Errors
/// [`Refusal`] when there is no database, otherwise what SQLite says.
pub(crate) fn open_to_read(file: &Path) -> Result<Connection, CommandError> {
    if !file.exists() {
        return Err(Refusal::Missing { file: file.to_owned() }.into());
    }
    match Connection::open_to_read(file) {
        Err(error) if file.is_dir() || error.primary() == ffi::SQLITE_NOTADB => {
            Err(Refusal::NotADatabase { file: file.to_owned() }.into())
        }
        opened => Ok(opened?),
    }
}

/// Refuses what is no database by its first bytes, without a lock: a database that somebody keeps locked is one.
///
/// Only for a process that has no connection to the file: closing a file drops every lock that the process holds on it.
///
/// # Errors
/// [`Refusal`] when there is no file, or it is no database.
pub(crate) fn check_database(file: &Path) -> Result<(), CommandError> {
    /// What every database file begins with (SQLite file format, section 1.3). One that nobody wrote to yet is empty.
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut head = Vec::new();
    let read = fs::File::open(file).and_then(|opened| opened.take(MAGIC.len() as u64).read_to_end(&mut head));
    match read {
        Ok(_) if head.is_empty() || head == MAGIC => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Refusal::Missing { file: file.to_owned() }.into())
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(CommandError::system("read the database")(error))
        }
        Ok(_) | Err(_) => Err(Refusal::NotADatabase { file: file.to_owned() }.into()),
    }
}

/// Refuses two names of one file, be it by a link of either kind.
///
/// # Errors
/// [`Refusal::SameFile`].
pub(crate) fn check_two_files(one: &Path, other: &Path) -> Result<(), Refusal> {
    let inode = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    match (inode(one), inode(other)) {
        (Some(first), Some(second)) if first == second => {
            Err(Refusal::SameFile { one: one.to_owned(), other: other.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The name of what stands beside a database: `app.db` and `-wal` give `app.db-wal`.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
