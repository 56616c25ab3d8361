//! Why an agent did not start, or ended.

use std::io;
use std::path::{Path, PathBuf};

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{OutOfRange, StreamId};
use synddb_protocol::{DecodeError, ParseError};
use synddb_sqlite::capture::CaptureError;
use synddb_sqlite::connection::SqliteError;
use synddb_sqlite::rusqlite::ffi;
use synddb_sqlite::schema::SchemaError;
use synddb_sqlite::snapshot::SnapshotError;
use synddb_sqlite::state::StateError;

use crate::config::{SEQUENCER_KEYS_MAX, SEQUENCERS_MAX};
use crate::credential::TlsError;
use crate::outbox::OutboxError;

/// Why an agent did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Another agent follows the database.
    #[error("another agent follows this database; stop that one first. folder=`{}`", folder.display())]
    Locked {
        /// The folder that it owns.
        folder: PathBuf,
    },
    /// The agent's folder cannot be used.
    #[error("cannot {doing}. path=`{}`", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The name of the stream cannot be read.
    #[error("the file does not name a stream; restore it, or remove the folder to begin another stream. file=`{}`", file.display())]
    Stream {
        /// The file.
        file: PathBuf,
        /// What it holds.
        source: ParseError,
    },
    /// The key that the sequencer was first seen to sign with cannot be read.
    #[error(
        "the file does not name a key; restore it, or remove it to believe the next sequencer that answers. file=`{}`",
        file.display()
    )]
    SequencerKey {
        /// The file.
        file: PathBuf,
        /// What it holds.
        source: ParseError,
    },
    /// Others may write the agent's folder, and with it what is sent in the agent's name.
    #[error(
        "others may write the agent's folder; take that away with `chmod go-w`, then start again. folder=`{}` mode=`{mode:o}`",
        folder.display()
    )]
    Writable {
        /// The folder.
        folder: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// An outbox belongs to another stream than the folder.
    #[error(
        "the outbox belongs to another stream; restore the folder as a whole. expected=`{expected}` found=`{found}`"
    )]
    OtherStream {
        /// The folder's.
        expected: StreamId,
        /// The outbox's.
        found: StreamId,
    },
    /// TLS cannot be spoken as it should be.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The sequencer's URL is none.
    #[error("the sequencer's URL must begin with http:// or https://. url=`{url}`")]
    Url {
        /// What was given.
        url: String,
    },
    /// One sequencer is named twice: it would be asked again in its own place.
    #[error("name each sequencer once. url=`{url}`")]
    SequencerTwice {
        /// Its URL.
        url: String,
    },
    /// No sequencer is named, or too many are.
    #[error("name at least one sequencer, and not too many. found=`{found}` max=`{SEQUENCERS_MAX}`")]
    Sequencers {
        /// How many are named.
        found: usize,
    },
    /// Too many keys of sequencers are named.
    #[error("too many keys of sequencers are named. found=`{found}` max=`{SEQUENCER_KEYS_MAX}`")]
    SequencerKeys {
        /// How many are named.
        found: usize,
    },
    /// This user may not write the database, which following it takes: for locks, and for the WAL.
    #[error("this user may not write the database; make the file and its folder writable for it. file=`{}`", file.display())]
    NotWritable {
        /// The database.
        file: PathBuf,
        /// What SQLite says.
        source: CaptureError,
    },
    /// The database cannot be followed, and that does not pass by itself.
    #[error("cannot follow the database")]
    Capture(#[from] CaptureError),
    /// No snapshot of the database can be taken.
    #[error("cannot take a snapshot of the database")]
    Snapshot(#[from] SnapshotError),
    /// The outbox failed.
    #[error("cannot keep what was captured")]
    Outbox(#[from] OutboxError),
    /// A snapshot on disk is none.
    #[error("a snapshot cannot be read back; keep a copy of the folder, and report this")]
    Manifest(#[from] DecodeError),
    /// There is no incarnation to go on with.
    #[error("there is no incarnation to go on with; begin one")]
    NothingLeft,
    /// A commit was handed over that is not the next one.
    #[error(
        "a commit was handed over that is not the next one; open the database anew. expected=`{expected}` found=`{found}`"
    )]
    OutOfOrder {
        /// The number of the next one.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// The numbers of incarnations are used up.
    #[error(transparent)]
    Exhausted(#[from] OutOfRange),
    /// Nothing could be captured for so long that the WAL was let go, rather than fill the application's disk.
    #[error(
        "the outbox is full and the WAL has grown past its bound, so it was let go; see why nothing is stored. bytes=`{bytes}` max=`{bytes_max}`"
    )]
    LetGo {
        /// The size of the WAL.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// A full scan of the database found something else than was captured.
    #[error(
        "the database is not what was captured, so it is attached anew; report this. captured=`{captured}` scanned=`{scanned}`"
    )]
    NotWhatWasCaptured {
        /// By what was captured.
        captured: StateHash,
        /// By the scan.
        scanned: StateHash,
    },
    /// The agent was asked to end before it had attached.
    #[error("the agent was asked to end before it was attached")]
    Stopped,
    /// A thread of the agent ended in a panic.
    #[error("a thread of the agent ended by a fault; its log has it. thread=`{thread}`")]
    Fault {
        /// Which.
        thread: &'static str,
    },
    /// Somebody else waited for the end of the agent and got the result.
    #[error("the result of this agent was taken already")]
    Joined,
}

impl AgentError {
    /// Whether trying again cannot help: somebody has to change something first.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Capture(error) => is_final(error),
            Self::Snapshot(SnapshotError::Schema(_) | SnapshotError::TooLarge { .. }) => true,
            Self::Snapshot(_) | Self::Io { .. } | Self::LetGo { .. } | Self::NotWhatWasCaptured { .. } => {
                false
            }
            Self::Outbox(error) => match error {
                OutboxError::Sqlite(_) => false,
                OutboxError::Owned { .. }
                | OutboxError::Exists { .. }
                | OutboxError::Missing { .. }
                | OutboxError::Foreign { .. }
                | OutboxError::Newer { .. }
                | OutboxError::Damaged { .. }
                | OutboxError::Exhausted(_) => true,
                // These are about one commit, which the snapshot of the next incarnation holds.
                OutboxError::Full { .. }
                | OutboxError::CommitTooLarge { .. }
                | OutboxError::TooManyParts { .. }
                | OutboxError::Refused { .. }
                | OutboxError::Unfinished { .. }
                | OutboxError::StateUntold { .. }
                | OutboxError::Mispacked { .. }
                | OutboxError::PollOpen
                | OutboxError::NotHeld { .. }
                | OutboxError::OtherPlace { .. }
                | OutboxError::OtherDigest { .. } => false,
            },
            Self::NotWritable { .. }
            | Self::Locked { .. }
            | Self::Stream { .. }
            | Self::SequencerKey { .. }
            | Self::Writable { .. }
            | Self::OtherStream { .. }
            | Self::Url { .. }
            | Self::Tls(_)
            | Self::SequencerTwice { .. }
            | Self::Sequencers { .. }
            | Self::SequencerKeys { .. }
            | Self::Manifest(_)
            | Self::NothingLeft
            | Self::OutOfOrder { .. }
            | Self::Exhausted(_)
            | Self::Stopped
            | Self::Fault { .. }
            | Self::Joined => true,
        }
    }
}

/// The file is no database, or this user may not write it.
const fn is_refused(error: &SqliteError) -> bool {
    matches!(error.primary(), ffi::SQLITE_NOTADB | ffi::SQLITE_READONLY | ffi::SQLITE_PERM)
}

/// What attaching to `database` failed with, in words for whoever may change that.
pub(crate) fn not_attached(error: CaptureError, database: &Path) -> AgentError {
    let sqlite = if let CaptureError::Sqlite(sqlite)
    | CaptureError::State(StateError::Sqlite(sqlite))
    | CaptureError::Schema(SchemaError::Sqlite(sqlite)) = &error
    {
        Some(sqlite.primary())
    } else {
        None
    };
    if matches!(sqlite, Some(ffi::SQLITE_READONLY | ffi::SQLITE_PERM)) {
        return AgentError::NotWritable { file: database.to_owned(), source: error };
    }
    error.into()
}

fn is_final(error: &CaptureError) -> bool {
    match error {
        CaptureError::Schema(error) | CaptureError::State(StateError::Schema(error)) => match error {
            SchemaError::Sqlite(error) => is_refused(error),
            SchemaError::Foreign { .. }
            | SchemaError::Reserved { .. }
            | SchemaError::HiddenRowid { .. }
            | SchemaError::TooWide { .. }
            | SchemaError::Damaged { .. } => true,
        },
        CaptureError::Missing { .. }
        | CaptureError::Unfit(_)
        | CaptureError::NotWal { .. }
        | CaptureError::Followed { .. } => true,
        CaptureError::Sqlite(error) | CaptureError::State(StateError::Sqlite(error)) => is_refused(error),
        CaptureError::State(StateError::NoRowid { .. })
        | CaptureError::Damaged(_)
        | CaptureError::Io { .. }
        | CaptureError::Busy
        | CaptureError::EncodingChanged
        | CaptureError::PageSizeChanged
        | CaptureError::Gap { .. }
        | CaptureError::Replaced { .. }
        | CaptureError::Stopped => false,
    }
}

/// Why a push did not come as far as asked.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The time is up. It goes on, and may be asked again.
    #[error("the time is up before everything is there; ask again")]
    TimedOut {
        /// How far it has come.
        status: Box<crate::status::AgentStatus>,
    },
    /// Sending has stopped, so it will not come there. The status says why.
    #[error("the agent sends no more; its status says why")]
    Stopped {
        /// How far it has come.
        status: Box<crate::status::AgentStatus>,
    },
    /// Too many callers wait.
    #[error("too many callers wait for this agent; ask again")]
    Busy,
    /// The agent has ended.
    #[error("the agent has ended")]
    Ended,
}
