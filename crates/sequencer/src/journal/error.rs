//! What can go wrong with a journal.

use std::io;
use std::path::PathBuf;

use synddb_sqlite::connection::SqliteError;

/// Why a journal did not open, or did not take something.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process owns the file.
    #[error("another process has the journal open; stop that one first. file=`{}`", file.display())]
    Owned {
        /// The journal.
        file: PathBuf,
    },
    /// The file is something else, or of another stream.
    #[error("the file is no journal of this stream; name another folder, or move it away. file=`{}`", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// The file has a newer form.
    #[error(
        "upgrade required: the journal has a newer form. supported=`{supported}` found=`{found}` file=`{}`",
        file.display()
    )]
    Newer {
        /// The newest form that this program knows.
        supported: i64,
        /// The form found.
        found: i64,
        /// The journal.
        file: PathBuf,
    },
    /// A value in the file is not one that this program writes.
    #[error("the journal is damaged; restore it, or move it away so that clients send again. what=`{what}` file=`{}`", file.display())]
    Damaged {
        /// What is wrong.
        what: &'static str,
        /// The journal.
        file: PathBuf,
    },
    /// The disk is full. The transaction was given up, and the journal holds what it held before.
    #[error("the disk of the journal is full; make room")]
    Full,
    /// A folder cannot be made or synced.
    #[error("cannot make the folder of a journal durable. folder=`{}`", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// SQLite cannot do it. Whether the last transaction is durable is unknown until the journal is opened again.
    #[error("the journal fails; see the disk, then start again")]
    Sqlite(#[source] SqliteError),
}
