//! Why a benchmark has no figures.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::StreamId;
use synddb_sqlite::inspect::FileSystem;

use crate::exit::{CommandError, Exit};
use crate::peer::PeerError;

/// Why a benchmark has no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The folder lies in memory, where nothing ever waits for a disk.
    #[error(
        "the folder lies in memory, where a commit costs nothing; name a folder on a real disk with --dir. folder=`{}` file_system=`{file_system}`",
        folder.display()
    )]
    InMemory {
        /// The folder.
        folder: PathBuf,
        /// Where it lies.
        file_system: FileSystem,
    },
    /// There is no such folder, or nothing can be made there.
    #[error("cannot make a folder there; name another one with --dir. folder=`{}`", folder.display())]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The library that the writer is to write with cannot be loaded.
    #[error(
        "cannot load the SQLite to write with; `apt-get install libsqlite3-0` brings it, or name one with --sqlite. library=`{}`",
        library.display()
    )]
    NoLibrary {
        /// The library.
        library: PathBuf,
        /// What the loader says.
        source: libloading::Error,
    },
    /// The library lacks functions that a reference needs.
    #[error("the SQLite to write with lacks the session functions; name another one with --sqlite. library=`{}`", library.display())]
    NoSessions {
        /// The library.
        library: PathBuf,
    },
    /// The writer's SQLite failed.
    #[error("the writer's SQLite cannot {doing}: {message}. code=`{code}`")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// Its message.
        message: String,
        /// Its extended result code.
        code: i32,
    },
    /// A process ended before its work was done.
    #[error("the {name} ended. status=`{status}` said=`{said}`")]
    Ended {
        /// Which.
        name: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last that it said on standard error.
        said: String,
    },
    /// A process says what is no word of ours.
    #[error("the {name} says something else than it should. said=`{said}`")]
    Foreign {
        /// Which.
        name: &'static str,
        /// What it says, or the beginning of that.
        said: String,
    },
    /// A process takes too long.
    #[error("the {name} takes too long to {doing}. waited_s=`{waited_s}`")]
    TooLate {
        /// Which.
        name: &'static str,
        /// What was waited for.
        doing: &'static str,
        /// How long.
        waited_s: u64,
    },
    /// Not every commit was captured, or more than there were.
    #[error(
        "the agent has not captured what was committed; keep this output and report it. scenario=`{scenario}` committed=`{committed}` captured=`{captured}`"
    )]
    Lost {
        /// The scenario.
        scenario: String,
        /// Transactions that the writer committed.
        committed: u64,
        /// Commits that the agent captured.
        captured: u64,
    },
    /// What was captured is not what the database holds, or the replica is not.
    #[error(
        "the database is not what was captured; keep this output and report it. scenario=`{scenario}` captured=`{captured}` scanned=`{scanned}`"
    )]
    NotEqual {
        /// The scenario.
        scenario: String,
        /// The state hash of what was captured.
        captured: StateHash,
        /// The state hash of the database.
        scanned: StateHash,
    },
    /// The agent did not say of every commit when it was here and durable, although it captured all.
    #[error(
        "not every commit was seen on its way; report this. commits=`{commits}` captured=`{captured}` kept=`{kept}`"
    )]
    Unseen {
        /// Commits that the agent captured.
        commits: u64,
        /// How often it said that one was here.
        captured: usize,
        /// How often it said that some were durable.
        kept: usize,
    },
    /// A replica is not the application's database.
    #[error(
        "the replica is not the database; keep this output and report it. scenario=`{scenario}` difference=`{difference}`"
    )]
    Different {
        /// The scenario.
        scenario: String,
        /// In what they differ first.
        difference: String,
    },
    /// A row was not seen in the replica although everything is applied.
    #[error("not every commit was seen in the replica; report this. commits=`{commits}` seen=`{seen}`")]
    NotSeen {
        /// Commits that there were.
        commits: u64,
        /// The last one that was seen.
        seen: u64,
    },
    /// A sequencer answers, or a store holds, what it may not.
    #[error("the sequencer did what it may not; keep this output and report it. found=`{found}`")]
    Unacceptable {
        /// What was found.
        found: String,
    },
    /// The store does not hold what was acknowledged, each commit once and in the place that its receipt named.
    #[error(
        "the store does not hold what was acknowledged; keep this output and report it. stream=`{stream}` acknowledged=`{acknowledged}` stored=`{stored}`"
    )]
    NotAsAcknowledged {
        /// The stream.
        stream: StreamId,
        /// Commits that were acknowledged.
        acknowledged: usize,
        /// Commits that are stored.
        stored: usize,
    },
    /// It was asked to end.
    #[error("the benchmark was asked to end; nothing of it is left")]
    Interrupted,
    /// A process that was asked gave no answer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Something that another command does as well failed.
    #[error(transparent)]
    Command(#[from] Box<CommandError>),
    /// The operating system failed.
    #[error("cannot {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl BenchError {
    /// The exit code that tells this.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::InMemory { .. }
            | Self::NoRoom { .. }
            | Self::NoLibrary { .. }
            | Self::NoSessions { .. } => Exit::Refused,
            Self::Lost { .. }
            | Self::NotEqual { .. }
            | Self::Different { .. }
            | Self::Unacceptable { .. }
            | Self::NotAsAcknowledged { .. } => Exit::Different,
            Self::TooLate { .. } => Exit::TimedOut,
            Self::Interrupted => Exit::Incomplete,
            // One that ended well, too early, is no success.
            Self::Ended { status, .. } => {
                let exit = status.code().and_then(Exit::from_code);
                exit.filter(|exit| *exit != Exit::Done).unwrap_or(Exit::Failed)
            }
            Self::Command(error) => error.exit(),
            Self::Unseen { .. }
            | Self::NotSeen { .. }
            | Self::Sqlite { .. }
            | Self::Foreign { .. }
            | Self::Peer(_)
            | Self::System { .. } => Exit::Failed,
        }
    }

    /// An error of the operating system while `doing` something.
    pub(super) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

impl From<CommandError> for BenchError {
    fn from(error: CommandError) -> Self {
        Self::Command(Box::new(error))
    }
}
