//! The application's database as it was, from a store alone: after a commit, after a message, or at a time of the log.
//!
//! ```text
//! survey (how far the log goes) --> fetch --> verify --> rebuild (a scratch file beside the target)
//!                                                          \--> examined --> synced, and given its name
//! ```
//!
//! - Nothing unverified leads to it: signatures, bodies, links, every old value of every row, and every state that the log claims.
//! - The target is a database like the application's and nothing else: no table of ours, no WAL. It is created whole or not at all, and replaces
//!   nothing.
//! - Memory does not grow with the log: a few batches and chunks, and SQLite's cache.
//!
//! A submission holds many commits, and a state can be asked for that lies inside of one. Then the rest of it is applied and taken back, so that
//! the state that the whole of it claims is compared all the same.
//!
//! Knows nothing of other streams, and does not know whether the store keeps something back at its end.

mod out;
mod rebuild;
mod survey;
mod target;
mod walk;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{CommitNumber, IncarnationCounter, Sequence, StreamId, Timestamp};
use synddb_protocol::signing::VerifyingKey;
use synddb_service::calendar::utc;
use synddb_service::shutdown::Shutdown;
use synddb_sqlite::snapshot::RestoreError;
use synddb_storage::StoreUrl;
use tokio_util::sync::CancellationToken;

pub use self::target::At;

use self::out::Out;
use self::survey::{End, Resolved};
use self::walk::Walk;
use crate::error::{ReplicaError, ValidatorError};
use crate::fsck::{self, Asked, Read};
use crate::replica::Place;

/// The name of the database in the scratch folder.
const SCRATCH: &str = "restored.db";

/// Which state of which log is restored, and whom it is believed of.
#[derive(Debug, Clone)]
pub struct Question {
    /// The store. It must exist.
    pub store: StoreUrl,
    /// The stream.
    pub stream: Option<StreamId>,
    /// The keys that may lead the log, pinned by whoever asks.
    pub keys: Vec<VerifyingKey>,
    /// The state.
    pub at: At,
    /// The file that becomes the database. It must not exist, and its folder must.
    pub file: PathBuf,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// The log is read and verified to find out where a commit is.
    Surveying,
    /// The log is read, verified and applied.
    Replaying,
    /// The database is scanned in full, and checked by SQLite.
    Examining,
}

/// How far a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub doing: Doing,
    /// The last message that was read.
    pub sequence: Option<Sequence>,
    /// The last one of the log, as far as the store tells.
    pub of: Option<Sequence>,
    /// What was read so far.
    pub read: Read,
}

/// A database that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The stream.
    pub stream: StreamId,
    /// The incarnation.
    pub incarnation: IncarnationCounter,
    /// The last commit in it; `None` at the snapshot that begins the incarnation.
    pub commit: Option<CommitNumber>,
    /// The message that this commit stands in, or the snapshot.
    pub sequence: Sequence,
    /// When that message got its place: log time.
    pub timestamp: Timestamp,
    /// The state hash, by a full scan of the file.
    pub state: StateHash,
    /// Whether the log claims this state at this very commit. Otherwise it claims one that the commits behind it lead to, which was compared.
    pub is_claimed: bool,
    /// A commit of which only some parts stand at or before what was asked for. Nothing of it is in the database.
    pub unfinished: Option<CommitNumber>,
    /// The next message of the application's when that says that something before it was not captured commit by commit: the application's database
    /// may have been further on at the time that was asked for.
    pub gap: Option<Sequence>,
    /// What SQLite's own check finds in the database, if anything. The application's has it as well, where the state is the same and indexes are
    /// not to blame.
    pub damage: Option<String>,
    /// The size of the file, in bytes.
    pub bytes: u64,
    /// What was read.
    pub read: Read,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The log is refused, or there is none, or nobody is believed, or the machine failed.
    #[error(transparent)]
    Log(fsck::Problem),
    /// The target is there, or something that SQLite would take for a part of it.
    #[error("the file exists, and a restore replaces none; move it away, or name another. file=`{}`", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The folder of the target cannot be used.
    #[error("there is no folder for the file; make it, or name another file. file=`{}`", file.display())]
    NoFolder {
        /// The target.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log holds no such commit, or no such incarnation.
    #[error("the log does not hold {at}{}; ask for what it has. found=`{found}`", parts(unfinished))]
    NoCommit {
        /// What was asked for.
        at: At,
        /// What the log holds.
        found: String,
        /// The commit, where it began to come in parts.
        unfinished: Option<CommitNumber>,
    },
    /// The log ends before that message.
    #[error("the log ends before message {asked}; ask for one that it has. last=`{}`", size.map_or(0, Sequence::get))]
    NoMessage {
        /// What was asked for.
        asked: Sequence,
        /// The last message.
        size: Option<Sequence>,
    },
    /// There was no database in the log yet.
    #[error(
        "the log has no database yet at {at}; ask for its first snapshot or later. snapshot=`message {sequence}` of=`{}`",
        utc(*timestamp)
    )]
    TooEarly {
        /// What was asked for.
        at: At,
        /// The message of the first snapshot.
        sequence: Sequence,
        /// When it got its place.
        timestamp: Timestamp,
    },
    /// There is no snapshot in the log.
    #[error(
        "the log has no snapshot yet, so there is no database to restore; wait until the agent has sent its first. last=`{}`",
        size.map_or(0, Sequence::get)
    )]
    NoSnapshot {
        /// The last message.
        size: Option<Sequence>,
    },
    /// The rebuilt database cannot be read back.
    #[error("cannot examine the restored database. file=`{}`", file.display())]
    Examine {
        /// The target.
        file: PathBuf,
        /// Why not.
        source: Box<RestoreError>,
    },
    /// The file system failed.
    #[error("cannot write the restored database. file=`{}`", file.display())]
    Write {
        /// The target.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was asked to end.
    #[error("ended as asked; nothing is left of it")]
    Interrupted,
}

fn parts(unfinished: &Option<CommitNumber>) -> String {
    unfinished.map_or_else(String::new, |commit| format!(", only parts of commit {commit}"))
}

impl Problem {
    /// Whether another start must fail again until somebody changes what was named.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Log(problem) => problem.is_refusal(),
            Self::Exists { .. }
            | Self::NoFolder { .. }
            | Self::NoCommit { .. }
            | Self::NoMessage { .. }
            | Self::TooEarly { .. }
            | Self::NoSnapshot { .. } => true,
            Self::Examine { .. } | Self::Write { .. } | Self::Interrupted => false,
        }
    }

    /// Whether the log is to blame.
    pub const fn is_of_log(&self) -> bool {
        matches!(self, Self::Log(problem) if problem.is_of_log())
    }
}

impl From<fsck::Problem> for Problem {
    fn from(problem: fsck::Problem) -> Self {
        if matches!(problem, fsck::Problem::Interrupted { .. }) {
            return Self::Interrupted;
        }
        Self::Log(problem)
    }
}

impl From<ReplicaError> for Problem {
    fn from(error: ReplicaError) -> Self {
        Self::Log(ValidatorError::from(error).into())
    }
}

/// Restores a database.
///
/// # Errors
/// [`Problem`]. The file does not exist then, and nothing is left beside it.
pub async fn run(
    question: Question,
    shutdown: Shutdown,
    mut on_progress: impl FnMut(Progress) + Send,
) -> Result<Restored, Problem> {
    let out = Out::at(&question.file)?;
    let stop = CancellationToken::new();
    // Whoever stops waiting for this ends every part of it.
    let _ending = stop.clone().drop_guard();
    let asked = Asked::about(&question.store, question.stream, &question.keys, &shutdown, &stop).await?;
    let end = End::of(&asked).await?;
    let mut walk = Walk { asked, shutdown, stop, of: end.map(|end| end.size), on_progress: &mut on_progress };
    let target = match End::resolve(end.as_ref(), question.at)? {
        Resolved::Known(target) => target,
        Resolved::Unknown { commit } => walk.survey(commit).await?,
    };
    let scratch = out.scratch()?;
    let place = Place::take(&scratch.path().join(SCRATCH))?;
    let over = walk.replay(target, place).await?;
    let (file, restored) = walk.judge(question.at, target, over)?;
    let restored = walk.examine(&question.file, file.clone(), restored).await?;
    out.publish(&file)?;
    Ok(restored)
}
