//! What a command refuses before it touches anything.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use synddb_protocol::id::{Address, StreamId};
use synddb_protocol::log::QuorumError;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::inspect::{self, Head, Unfit, check_place};
use synddb_sqlite::rusqlite::ffi;
use synddb_storage::StoreUrl;

use crate::exit::CommandError;
use crate::output::printable;
use crate::peer::PeerError;

/// What was named on the command line and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// What nobody can guess was not said.
    #[error("{fix}, then run it again")]
    Untold {
        /// What to name, and how.
        fix: &'static str,
    },
    /// A token that nobody would accept.
    #[error(
        "a token that ends in the past is accepted nowhere; name a time to come with --expires. expires=`{expires}`"
    )]
    Over {
        /// When it would have ended.
        expires: String,
    },
    /// There is no such file.
    #[error("there is no such file; check the path. file=`{}`", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// What is compared from afar is no URL, and no file is there either.
    #[error("there is no such file; check the path, or write a URL as http://HOST:PORT. file=`{}`", printable(&file.display().to_string()))]
    NoReplica {
        /// What was named.
        file: PathBuf,
    },
    /// A URL where files are compared.
    #[error("this is no file; for a URL use --remote. url=`{}`", printable(&url.display().to_string()))]
    Url {
        /// The URL.
        url: PathBuf,
    },
    /// The database cannot be followed, or the file is none.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Both names lead to one file, or replica.
    #[error("both names lead to one database; name two. one=`{}` other=`{}`", one.display(), other.display())]
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
    /// A store through which nothing can be written.
    #[error(
        "a static host can only be read: name the store itself, as in gs://bucket/prefix, and let the host serve it. store=`{store}`"
    )]
    ReadOnlyStore {
        /// The store.
        store: Box<StoreUrl>,
    },
    /// A store that no other process reaches.
    #[error(
        "the processes of `dev` share a store, and nobody shares the memory of another process: leave --store out for a folder beside the database. store=`{store}`"
    )]
    UnsharedStore {
        /// The store.
        store: Box<StoreUrl>,
    },
    /// The log of the database is somewhere else.
    #[error(
        "the log of this database rests in another store: leave --store out to go on there, or begin another log in a folder of its own with --dir. store=`{known}` named=`{named}`"
    )]
    OtherStore {
        /// Where the log is.
        known: Box<StoreUrl>,
        /// What was named.
        named: Box<StoreUrl>,
    },
    /// The folder beside a database cannot be made.
    #[error("cannot make the folder for what belongs to the database; name another one with --dir. folder=`{}`", folder.display())]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nothing answers for a database.
    #[error("nothing runs for this database; start `synddb dev` or `synddb follow` on it. file=`{}`", database.display())]
    NothingRuns {
        /// The database.
        database: PathBuf,
    },
    /// No chain runs for a database.
    #[error("no bridge is known of this database; start `synddb dev --chain` on it, or leave the database out and name all by flags. file=`{}`", database.display())]
    NoBridge {
        /// The database.
        database: PathBuf,
    },
    /// No node is there.
    #[error("this is not the URL of a node of a chain; write it as in http://127.0.0.1:8545. rpc=`{url}`")]
    NoNode {
        /// What was named.
        url: String,
    },
    /// There is no bridge where one is recorded.
    #[error(
        "there is no contract where the bridge is recorded; deploy again, or name another record with --deployments. bridge=`{bridge}`"
    )]
    NotThere {
        /// Where.
        bridge: Address,
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
    /// A file that would be overwritten.
    #[error("the file is there, and is not overwritten; move it away, or name another folder with --dir. file=`{}`", file.display())]
    WouldOverwrite {
        /// The file.
        file: PathBuf,
    },
    /// A store of no stream, or of several.
    #[error("the store does not say which stream it is; name it with --stream. found=`{found}`")]
    WhichStream {
        /// Those that it holds.
        found: String,
    },
    /// A replica has no such violation.
    #[error("the replica has no violation of this number; `synddb rules list` tells them. id=`{id}`")]
    NoViolation {
        /// The number.
        id: u64,
    },
    /// A violation is resolved already.
    #[error("the violation is resolved already. id=`{id}` because=`{}`", printable(because))]
    IsResolved {
        /// The number.
        id: u64,
        /// Why.
        because: String,
    },
    /// A violation is not what it was when it was decided.
    #[error(
        "the violation is another one by now, or more was counted into it; look at it again (`synddb rules list`) and decide anew. id=`{id}`"
    )]
    HasChanged {
        /// The number.
        id: u64,
    },
    /// The validators that are named are no quorum.
    #[error("name validators of whom so many can endorse, each once")]
    NoQuorum {
        /// Why not.
        source: QuorumError,
    },
    /// A static host cannot be asked what it has.
    #[error("a static host lists nothing; name the store behind that host. store=`{store}`")]
    NotListed {
        /// The store.
        store: StoreUrl,
    },
    /// Replicas of different logs.
    #[error("the two are replicas of different logs; name two of one. one=`{one}` other=`{other}`")]
    OtherStream {
        /// The stream of the first.
        one: StreamId,
        /// The stream of the second.
        other: StreamId,
    },
    /// Nobody said where a validator is.
    #[error("no validator is known; start `synddb dev`, or name one with --validator URL")]
    NoValidator,
    /// The authority of a validator's certificate cannot be used.
    #[error("the authority of the validator's certificate cannot be used; name a file of certificates in PEM with --ca-file. file=`{}`", file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Commits are not stored yet.
    #[error(
        "not everything is stored yet; start `synddb follow` or `synddb dev` again and let it finish. submissions=`{submissions}`"
    )]
    NotStored {
        /// How many submissions wait.
        submissions: u64,
    },
    /// An agent runs that cannot be asked to end.
    #[error(
        "an agent runs in this folder and does not answer; end it, or the application that it is part of, first. folder=`{}`",
        folder.display()
    )]
    AgentRuns {
        /// The folder.
        folder: PathBuf,
        /// Why it cannot be asked.
        source: PeerError,
    },
    /// Others have the database open, so that its journal mode cannot be switched.
    #[error(
        "others have the database open, so it cannot be switched back; close it there, or detach without --restore-journal-mode. file=`{}`",
        file.display()
    )]
    StillOpen {
        /// The database.
        file: PathBuf,
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
        Err(error) if file.is_dir() || error.primary() == ffi::SQLITE_NOTADB => Err(no_database(file)),
        opened => Ok(opened?),
    }
}

fn no_database(file: &Path) -> CommandError {
    Refusal::from(Unfit::NotADatabase { path: file.to_owned() }).into()
}

/// Refuses what cannot be followed by where it lies, who may write it and its first bytes, without a lock: a database that somebody keeps
/// locked is one.
///
/// Only for a process that has no connection to the file: closing a file drops every lock that the process holds on it.
///
/// # Errors
/// [`Refusal`] when there is no file, it is no database, or it cannot be followed.
pub(crate) fn check_database(file: &Path) -> Result<(), CommandError> {
    match Head::read(file) {
        Ok(Head::Unfit(unfit)) => return Err(Refusal::from(unfit).into()),
        // What is damaged is refused by whoever reads it, with the page.
        Ok(Head::Empty | Head::Database(_) | Head::Damaged(_)) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Refusal::Missing { file: file.to_owned() }.into());
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(CommandError::system("read the database")(error));
        }
        Err(_) => return Err(no_database(file)),
    }
    check_place(file).map_err(Refusal::from)?;
    let file = file.canonicalize().map_err(CommandError::system("find the database"))?;
    let access = inspect::access(&file).map_err(CommandError::system("look at the database"))?;
    Ok(access.check().map_err(Refusal::from)?)
}

/// Refuses a store through which nothing can be written.
///
/// # Errors
/// [`Refusal::ReadOnlyStore`].
pub(crate) fn check_writable(store: &StoreUrl) -> Result<(), Refusal> {
    if store.is_writable() { Ok(()) } else { Err(Refusal::ReadOnlyStore { store: store.clone().into() }) }
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
