//! What is said of a log.

use serde::{Deserialize, Serialize};
use synddb_protocol::hash::{StateHash, TreeHash};
use synddb_protocol::id::{Epoch, KeyId, Sequence, StreamId, Timestamp};

/// Names that are written out of many, at most.
const LISTED_MAX: usize = 10;

/// Some names of many, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    first: Vec<String>,
    more: usize,
    is_told: bool,
}

impl Listed {
    /// What nobody can tell, because a static host lists nothing.
    pub(crate) const fn untold() -> Self {
        Self { first: Vec::new(), more: 0, is_told: false }
    }

    /// The first of these.
    pub(crate) fn of(names: impl IntoIterator<Item = String>) -> Self {
        let mut names = names.into_iter();
        let first = names.by_ref().take(LISTED_MAX).collect();
        Self { first, more: names.count(), is_told: true }
    }
}

impl std::fmt::Display for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.is_told {
            return f.write_str("not known, because a static host lists nothing");
        }
        if self.first.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.first.join(" "))?;
        if self.more > 0 { write!(f, " and {} more", self.more) } else { Ok(()) }
    }
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The last message that was checked.
    pub sequence: Option<Sequence>,
    /// The last message in the database that is rebuilt.
    pub rebuilt: Option<Sequence>,
    /// What was read so far.
    pub read: Read,
}

/// What was read of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Read {
    /// Batches, in bytes as stored.
    pub batch_bytes: u64,
    /// Chunks of snapshots; twice where they were checked and restored.
    pub chunks: u64,
    /// The same in bytes as stored.
    pub chunk_bytes: u64,
}

/// A log that is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The stream.
    pub stream: StreamId,
    /// Messages in the log.
    pub size: Sequence,
    /// The root of the log tree over them.
    pub root: TreeHash,
    /// The state hash that the last checkpoint claims; `None` before the first snapshot.
    pub state: Option<StateHash>,
    /// Log time at the end.
    pub timestamp: Timestamp,
    /// Whether the log ends between the parts of a commit.
    pub ends_between_parts: bool,
    /// The batches that hold it.
    pub batches: u64,
    /// What the messages are.
    pub counts: Counts,
    /// Who leads it: runs of epochs with one answer, from the first to the last that somebody claimed.
    pub epochs: Vec<EpochRun>,
    /// What was read.
    pub read: Read,
    /// The database that was rebuilt, where one was.
    pub rebuilt: Option<Rebuilt>,
    /// What else lies in the store; `None` where a static host cannot be asked.
    pub beside: Option<Beside>,
    /// What the replica that was named is told; `None` where none was named, or no database was rebuilt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaBegan>,
}

/// What a replica of a log that is whole is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "began", rename_all = "snake_case")]
pub enum ReplicaBegan {
    /// It began from a snapshot, and what came before was checked now.
    Checked {
        /// The last message in that snapshot.
        sequence: Sequence,
        /// Violations of its rules that were found before, and are open in it now.
        violations: u64,
    },
    /// It has begun with another snapshot meanwhile, or somebody else has told it: it is told nothing.
    Otherwise,
    /// It began with the first message, or what came before was checked earlier: there is nothing to be told.
    AtTheFirst,
}

/// How many messages there are of each type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Submissions, also those of one part.
    pub submissions: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Bridge events.
    pub inbound: u64,
    /// Changes of status.
    pub status: u64,
    /// Beginnings of epochs.
    pub epochs: u64,
    /// Whole commits in the submissions.
    pub commits: u64,
    /// Those of them that close a gap.
    pub reconciles: u64,
}

/// What an epoch's object says, and whether it is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "claim", rename_all = "snake_case")]
pub enum Claim {
    /// A trusted key leads it.
    Admitted {
        /// The name of the key.
        key_id: KeyId,
    },
    /// Another key claimed it; it is passed.
    Stranger {
        /// The name of the key.
        key_id: KeyId,
    },
    /// The object is no record of this epoch; it is passed.
    Damaged {
        /// What is wrong with it.
        why: String,
    },
    /// There are too many to tell them apart.
    More,
}

/// Epochs with one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRun {
    /// The first one.
    pub from: Epoch,
    /// The last one.
    pub to: Epoch,
    /// The answer.
    #[serde(flatten)]
    pub claim: Claim,
}

/// A database that was rebuilt from a log, and scanned in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// The last message in it.
    pub sequence: Sequence,
    /// Its state hash, which is the one claimed there.
    pub state: StateHash,
}

/// What lies in a store under the stream, and is no part of the log. Nobody reads it. A kind is `None` where the log is too large to tell.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Beside {
    /// Batches under numbers at which none of the log begins.
    pub batches: Option<Stray>,
    /// Epoch records behind the first epoch that nobody claimed.
    pub epochs: Stray,
    /// Chunks that no snapshot in the log and no manifest names: those that were stored before their snapshot, and those of one that is gone.
    pub chunks: Option<Stray>,
    /// Chunks that manifests of replicas' snapshots name and the log does not. Who restores from one checks them.
    #[serde(default)]
    pub replica_chunks: Option<Stray>,
    /// Manifests of replicas' snapshots, and endorsements: whoever uses one checks it.
    pub other: Stray,
    /// Objects whose names are no keys.
    pub unknown: Stray,
}

/// Objects that are no part of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stray {
    /// How many.
    pub count: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// The first of their names.
    pub first: Vec<String>,
}
