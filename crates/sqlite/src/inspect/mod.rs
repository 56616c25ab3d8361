//! Looks at a database from outside, and changes nothing: whether it can be followed, who has it open, and with which SQLite.
//!
//! ```text
//! names and numbers    file_system.rs, access.rs     nothing is opened
//! the file's own bytes head.rs, locks.rs             opened and closed: only where this process has no connection to the file
//! through SQLite       open.rs, schema.rs            a connection that writes neither the file nor what lies beside it
//! other processes      processes.rs, version.rs      what the kernel shows of them
//! ```
//!
//! What must stay true: no byte of the database, its WAL and its wal-index changes, no file is made, and no lock outlives the call.
//!
//! Knows nothing of agents and their folders.

mod access;
mod file_system;
mod head;
mod locks;
mod open;
mod processes;
mod schema;
mod version;

use std::path::{Path, PathBuf};

pub use access::{Access, access};
pub use file_system::{FileSystem, FileSystemKind};
pub use head::{Form, Head, JournalMode};
pub use locks::{Locked, Locker, locked, owner_seems_to_run};
pub use open::{Opened, ReadBy, open};
pub use processes::{Processes, User, name_of, users_of};
pub use schema::{Module, cannot_follow, modules};
pub use version::{Version, Weakness};

/// Why a database cannot be followed, before anything is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// Its locks and its shared memory end at this machine, or are not there at all.
    NetworkFileSystem {
        /// The database.
        path: PathBuf,
        /// Where it lies.
        file_system: FileSystem,
    },
    /// SQLite cannot read it.
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// SQLite cannot read it, and its bytes look drawn by chance.
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// A form of the file that SQLite's own releases do not read and write, such as WAL2.
    Form {
        /// The file.
        path: PathBuf,
        /// The versions that the header demands of whoever writes and reads.
        versions: [u8; 2],
    },
    /// Following takes locks, and locks take the right to write.
    NotWritable {
        /// The file or folder that cannot be written.
        path: PathBuf,
    },
}

impl Unfit {
    /// What to do about it.
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::NetworkFileSystem { .. } => {
                "move it to a local disk of the machine on which the application runs"
            }
            Self::NotADatabase { .. } => "name one",
            Self::Encrypted { .. } => {
                "decrypt it, or have the application hand its commits over itself (the crate `synddb-client`)"
            }
            Self::Form { .. } => "switch it to journal_mode=DELETE with the SQLite that made it, then to WAL",
            Self::NotWritable { .. } => "make the file and its folder writable for it",
        }
    }

    /// What was seen, with its values.
    pub fn seen(&self) -> String {
        format!("{}. {}", self.what(), self.values())
    }

    const fn what(&self) -> &'static str {
        match self {
            Self::NetworkFileSystem { .. } => {
                "a database on a network file system cannot be followed, since locks and shared memory end at the machine"
            }
            Self::NotADatabase { .. } => "this is no database that SQLite can read",
            Self::Encrypted { .. } => {
                "this is no database that SQLite can read without a key: it looks encrypted"
            }
            Self::Form { .. } => {
                "the database has a form that SQLite's own releases do not know, such as WAL2"
            }
            Self::NotWritable { .. } => "this user may not write the database",
        }
    }

    fn values(&self) -> String {
        let (Self::NetworkFileSystem { path, .. }
        | Self::NotADatabase { path }
        | Self::Encrypted { path }
        | Self::Form { path, .. }
        | Self::NotWritable { path }) = self;
        let file = format!("file=`{}`", path.display());
        match self {
            Self::NetworkFileSystem { file_system, .. } => format!("{file} file_system=`{file_system}`"),
            Self::Form { versions: [write, read], .. } => format!("{file} write=`{write}` read=`{read}`"),
            Self::NotADatabase { .. } | Self::Encrypted { .. } | Self::NotWritable { .. } => file,
        }
    }
}

/// What was seen, what to do, and the values.
impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}. {}", self.what(), self.fix(), self.values())
    }
}

impl std::error::Error for Unfit {}

/// Refuses a place where a database cannot be followed, whatever it holds. The file is not opened, so that whoever has a connection to it
/// may ask as well.
///
/// # Errors
/// [`Unfit::NetworkFileSystem`].
pub fn check_place(path: &Path) -> Result<(), Unfit> {
    // A place that cannot be asked for is refused by whoever opens it, in better words.
    match FileSystem::of(path) {
        Ok(file_system) => file_system.check(path),
        Err(_) => Ok(()),
    }
}
