//! Captures every committed transaction of a database, from the WAL, beside whatever writes it.
//!
//! ```text
//! wal_index says what is committed -> frames of one commit -> what they touched -> rows before and after -> changes -> sink
//! files.rs                            frames.rs               marks.rs, tree.rs     rows.rs, table.rs       out.rs
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `attach.rs` | where the way begins |
//! | `follower.rs` | the way along the WAL, and what must stay true on it |
//! | `counted.rs` | whether as many commits were captured as SQLite has counted |
//! | `resume.rs` | going on exactly where another follower was left |
//! | `audit.rs` | a full scan of the database where a follower stands |
//! | `hold.rs`, `recycle.rs` | read transactions held hand over hand; how the WAL stays small |
//! | `pin.rs` | the same held in another process, which outlives this one |
//! | `files.rs`, `frames.rs`, `view.rs` | bytes of the three files; commits in the WAL; pages before and after one |
//! | `database.rs` | what is known at the position, and one commit's way through it |
//! | `map.rs`, `marks.rs`, `tree.rs` | what each page is; what a commit touched; which pages of a tree changed |
//! | `rows.rs`, `table.rs`, `out.rs` | rows before and after; as changes; on their way to the sink |
//! | `tally.rs` | what rows add to the state, until somebody asks for it; hashed on a thread of its own (`state/hashing.rs`) |
//! | `wake.rs` | sleeping until something may have been committed, or somebody rings |
//! | `embedded/` | the other way to capture: one connection, from inside its transactions |
//! | `probes/` | what tests ask: what a commit did to the trees, and faults that they plant |
//!
//! [`Follower`] goes along the WAL and holds read transactions so that nothing is lost (hold.rs). It needs no hook, no trigger, no
//! table in the application's schema, and no driver of its own.
//!
//! Knows nothing of streams, commit numbers and submissions: those are the sink's.

mod attach;
mod audit;
mod counted;
mod database;
pub mod embedded;
mod files;
mod follower;
mod frames;
mod hold;
mod map;
mod marks;
pub(crate) mod out;
mod pin;
mod portion;
pub mod probes;
mod recycle;
mod resume;
mod rows;
pub(crate) mod table;
mod tally;
mod tree;
mod turn;
mod view;
mod wake;

use std::path::PathBuf;

use synddb_protocol::submission::Changes;

pub use audit::Auditor;
pub use follower::{Committed, Follower, Reach};
pub use hold::committed_position;
pub use pin::{Pin, Pinning};
pub use resume::{Left, Lost};
pub use tally::CommittedState;
pub use wake::Waker;

use crate::connection::SqliteError;
use crate::file::Damaged;
use crate::file::wal::{Checksum, Salts};
use crate::inspect::Unfit;
use crate::schema::SchemaError;
use crate::state::{RunningState, StateError};

/// Most bytes of rows in one piece of a commit. Even when they cannot be compressed, they fit the body of a message.
pub const PIECE_BYTES: usize = 4 << 20;

/// A sink hears of a commit that changes more than so many bytes before it is given anything of it ([`Sink::apart`]).
pub const APART_BYTES: usize = 256 << 10;

const _: () = {
    assert!(PIECE_BYTES <= synddb_protocol::limits::BODY_COMPRESSED_MAX / 2);
    // So it hears of every commit that comes in pieces.
    assert!(APART_BYTES <= PIECE_BYTES);
};

/// A place in the application's WAL: everything up to it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalPosition {
    /// The generation of the WAL.
    pub salts: Salts,
    /// The last captured frame; 0 before the first.
    pub frame: u32,
    /// The checksum of that frame.
    pub checksum: Checksum,
    /// Pages of the database after it; 0 where the WAL was empty.
    pub pages: u32,
}

impl WalPosition {
    /// How many bytes a position takes on disk.
    pub const BYTES: usize = 24;

    /// The position as it is kept on disk.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let words =
            [self.salts[0], self.salts[1], self.frame, self.checksum[0], self.checksum[1], self.pages];
        let mut bytes = [0; Self::BYTES];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// The position that was kept.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| crate::file::u32_at(bytes, 4 * at).unwrap_or(0);
        Self { salts: [word(0), word(1)], frame: word(2), checksum: [word(3), word(4)], pages: word(5) }
    }
}

/// 48 hex digits: [`WalPosition::to_bytes`].
impl std::fmt::Display for WalPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position in a WAL is 48 lower-case hex digits")]
pub struct NoPosition;

impl std::str::FromStr for WalPosition {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        if text.len() != 2 * Self::BYTES || !text.bytes().all(|byte| digit(&byte)) {
            return Err(NoPosition);
        }
        let mut bytes = [0; Self::BYTES];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| NoPosition)?;
        }
        Ok(Self::from_bytes(&bytes))
    }
}

/// Takes captured commits, and keeps them.
///
/// The commits of one poll come in commit order; each is either one `commit`, or some `piece`s and then one `commit`. The rows of
/// a commit in pieces are one changeset, cut between the pieces at any byte; its schema changes come in the first piece, everything else
/// in the last. After an error the follower stops for good: what was persisted is all there is.
///
/// Only between two commits there is a state to ask for, and to know it is work. So a sink asks for the one that it claims, no later than this: behind
/// a commit in `commit`, in `apart`, or in `persist`.
pub trait Sink {
    /// What can go wrong.
    type Error;

    /// The next commit changes the schema, or more than [`APART_BYTES`] of rows or of changes, so that it may not go where the ones before it are.
    /// The state is the database's before it, which from here on cannot be asked for any more. Of a reconcile nothing is told.
    ///
    /// # Errors
    /// When the state cannot be kept.
    fn apart(&mut self, _state: &mut CommittedState<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// A piece of a commit that is too large for one; more follow.
    ///
    /// # Errors
    /// When it cannot be taken.
    fn piece(&mut self, changes: Changes) -> Result<(), Self::Error>;

    /// A whole commit, or its last piece. `state` is the database's after it.
    ///
    /// # Errors
    /// When it cannot be taken.
    fn commit(&mut self, changes: Changes, state: &mut CommittedState<'_>) -> Result<(), Self::Error>;

    /// The end of a poll: keep all commits given so far and the position, durably and in one transaction. What was given survives a
    /// power cut on the application's disk already. `state` is the database's at the position.
    ///
    /// # Errors
    /// When they cannot be kept.
    fn persist(&mut self, position: &WalPosition, state: &RunningState) -> Result<(), Self::Error>;
}

/// How large the WAL may become, in bytes of frames.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// From here on the held read transaction is moved on as commits are captured, so that the application's own checkpoints can copy
    /// frames back.
    pub swap_bytes: u64,
    /// From here on the follower takes the write lock for a moment, to let the next writer begin the WAL anew. It does so only when
    /// little is left to capture.
    pub recycle_bytes: u64,
    /// About here a writer that is faster than the follower is made to wait, rather than fill its disk: from five eighths on for moments, from
    /// here on for longer ones.
    pub bytes_max: u64,
}

impl Options {
    /// The usual proportions, for a WAL of at most about so many bytes.
    pub const fn for_wal(bytes_max: u64) -> Self {
        Self { swap_bytes: bytes_max / 20, recycle_bytes: bytes_max / 2, bytes_max }
    }
}

impl Default for Options {
    /// For a WAL of at most about 64 MiB.
    fn default() -> Self {
        Self::for_wal(64 << 20)
    }
}

/// Why following stopped, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// SQLite could not do what was asked.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// A change of the schema cannot be replicated.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The state could not be scanned.
    #[error(transparent)]
    State(#[from] StateError),
    /// The database or its WAL is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// A file could not be read.
    #[error("cannot {doing} a file. path=`{path}`")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no such file, or it is no regular one.
    #[error("there is no database file here; create it first. path=`{path}`")]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// The database lies where none can be followed.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The database cannot be switched to WAL mode.
    #[error(
        "cannot switch the database to WAL mode; close other connections, or run `PRAGMA journal_mode=WAL` yourself. \
         mode=`{mode}`"
    )]
    NotWal {
        /// The mode it is in.
        mode: String,
    },
    /// Other connections kept the database busy for as long as was waited.
    #[error("the database is busy; another connection holds a lock for long, end its transaction")]
    Busy,
    /// The text encoding changed, which SQLite allows only while a database is empty.
    #[error("the text encoding of the database changed; attach again")]
    EncodingChanged,
    /// The page size or the reserved bytes changed under the follower.
    #[error("the page size of the database changed; attach again")]
    PageSizeChanged,
    /// Frames are gone that were not captured: something ignored the locks.
    #[error("frames of the WAL are gone before they were captured; attach again. frame=`{frame}`")]
    Gap {
        /// The first one.
        frame: u32,
    },
    /// Somebody else follows the database. Two would stand in the way of each other's checkpoints, and send every commit twice.
    #[error("another agent or mirror follows this database; stop that one first. path=`{}`", path.display())]
    Followed {
        /// The database.
        path: PathBuf,
    },
    /// The database or its WAL was removed, or another file has its name: the application writes elsewhere now.
    #[error("the file was removed or replaced by another one; attach again. path=`{}`", path.display())]
    Replaced {
        /// The name that leads elsewhere.
        path: PathBuf,
    },
    /// An earlier error ended this follower.
    #[error("the follower stopped at an earlier error; attach again")]
    Stopped,
}

/// Why a poll failed.
#[derive(Debug, thiserror::Error)]
pub enum PollError<E> {
    /// Capturing failed.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The sink failed.
    #[error("the captured commits cannot be kept")]
    Sink(#[source] E),
}

impl<E> From<SqliteError> for PollError<E> {
    fn from(error: SqliteError) -> Self {
        Self::Capture(error.into())
    }
}

impl<E> From<Damaged> for PollError<E> {
    fn from(error: Damaged) -> Self {
        Self::Capture(error.into())
    }
}

/// What a follower has seen since it attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Commits captured.
    pub commits: u64,
    /// Row changes captured.
    pub rows: u64,
    /// How often the WAL began anew.
    pub wal_resets: u64,
    /// Largest WAL seen, in bytes of frames.
    pub wal_bytes_max: u64,
    /// How often the write lock was taken.
    pub write_locks: u64,
    /// How long it was held altogether, in microseconds: the application could read then, and not write.
    pub write_locked_us: u64,
    /// The longest time.
    pub write_locked_us_max: u64,
    /// Frames that the application's SQLite committed and did not sum up (a fault of versions up to 3.50.1): after a power cut it would
    /// lose them by itself.
    pub unsummed_frames: u64,
}
