//! What an agent tells while it runs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use synddb_protocol::http::Position;
use synddb_protocol::id::{Incarnation, StreamId};
use synddb_sqlite::capture::Lost;

use crate::capture::Audited;
use crate::evidence::Finding;
use crate::status::Problem;

/// Something that happened in an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The database is followed; everything committed from here on is captured.
    Attached {
        /// The stream.
        stream: StreamId,
        /// The incarnation.
        incarnation: Incarnation,
        /// Whether it goes on exactly where it was, or begins anew, and why.
        how: How,
        /// What is captured next.
        next: Position,
    },
    /// Another process holds the place in the WAL from now on, and outlives this one.
    Pinned {
        /// The number of that process.
        pid: u32,
    },
    /// No other process holds the place in the WAL: should this one be killed, there may be a gap. It is told once, and tried again.
    Unpinned {
        /// Why not.
        detail: String,
    },
    /// What was committed while no agent was attached could not be made one commit, so that a new incarnation begins.
    NotReconciled {
        /// Why not.
        detail: String,
    },
    /// The database was scanned in full, and compared with what was captured.
    Audited(Audited),
    /// A snapshot of the database is on the agent's disk. It was taken at one commit and is not sent yet.
    SnapshotSpooled {
        /// The incarnation that it begins.
        incarnation: Incarnation,
        /// Its chunks.
        chunks: u64,
        /// Their size, in bytes.
        bytes: u64,
    },
    /// A snapshot was seen stored; its chunks are gone from the agent's disk.
    SnapshotStored {
        /// The incarnation that it begins.
        incarnation: Incarnation,
    },
    /// The sequencer has taken what comes before this.
    Sequenced {
        /// What it is sent next.
        next: Position,
    },
    /// What comes before this was seen stored, and is gone from the agent's disk.
    Stored {
        /// What comes next.
        next: Position,
    },
    /// Another sequencer than before has taken what was sent.
    FailedOver {
        /// Its URL.
        sequencer: String,
    },
    /// A sequencer contradicts what it, or the one before it, has signed: two signed objects say so, which are kept.
    Evidence {
        /// What was found.
        finding: Finding,
        /// The same in words.
        detail: String,
        /// The file. Nothing when it could not be kept.
        file: Option<PathBuf>,
    },
    /// Something keeps the agent from doing its work. It is told once, and goes on being tried unless it says otherwise.
    Warning {
        /// What, and what to do.
        problem: Problem,
    },
    /// What kept the agent from sending is over.
    Recovered,
    /// The database is not followed, for the problem that was told before; it is attached again.
    Interrupted {
        /// Milliseconds until it is tried.
        again_ms: u64,
    },
    /// The agent was asked to end: what was committed until now is captured, and is being stored.
    Draining {
        /// What would be captured next.
        next: Option<Position>,
    },
    /// The agent ended.
    Ended {
        /// Whether everything that was captured is stored.
        complete: bool,
    },
}

/// How an incarnation came to be followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Exactly where it was left, whatever was committed in between.
    Resumed,
    /// In the same incarnation, after a gap: what differs is one commit of its own kind. The state is exact, and the transactions in the gap
    /// are not told apart any more.
    Reconciled {
        /// Why it could not go on exactly.
        because: Because,
        /// How many rows differ.
        rows: u64,
    },
    /// As a new incarnation, which begins with a snapshot.
    New {
        /// Why.
        because: Because,
    },
}

/// Why an incarnation is new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// The database was never followed before.
    FirstAttach,
    /// What was committed while no agent was attached is copied back to the database file already.
    CommittedMeanwhile,
    /// The WAL began anew, or is gone, while no agent was attached: what was committed meanwhile cannot be told.
    WalBeganAnew,
    /// The database is another file than before: it was put back from a backup, or made anew.
    Replaced,
    /// The WAL or the database file holds something else at the place where it was left: a file was exchanged.
    ContentDiffers,
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resumed => f.write_str("goes on exactly where it was left"),
            Self::Reconciled { because, rows } => {
                write!(f, "goes on after a gap, which is one commit now. rows=`{rows}`: {because}")
            }
            Self::New { because } => write!(f, "begins anew: {because}"),
        }
    }
}

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FirstAttach => "the database was never followed before",
            Self::CommittedMeanwhile => {
                "what was committed while no agent was attached cannot be told any more"
            }
            Self::WalBeganAnew => {
                "the WAL began anew, so what was committed while no agent was attached cannot be told"
            }
            Self::Replaced => "the database is another file than before",
            Self::ContentDiffers => "the database was exchanged",
        })
    }
}

type Listener = Box<dyn Fn(Event) + Send>;

/// Where events go. Clones go to the same place.
#[derive(Clone)]
pub(crate) struct Events(Arc<Mutex<Listener>>);

impl Events {
    pub(crate) fn to(on_event: impl Fn(Event) + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(on_event))))
    }

    pub(crate) fn say(&self, event: Event) {
        tracing::debug!(?event);
        // One at a time, in whatever order the threads come. A listener that panicked before is told again.
        (self.0.lock().unwrap_or_else(PoisonError::into_inner))(event);
    }
}

impl From<Lost> for Because {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::WalBeganAnew => Self::WalBeganAnew,
            Lost::CopiedBack => Self::CommittedMeanwhile,
            Lost::OtherFrames | Lost::OtherContent => Self::ContentDiffers,
        }
    }
}
