//! What came of it, and why it did not.

use serde::{Deserialize, Serialize};
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{KeyId, Sequence, StreamId};
use synddb_storage::{ListError, OpenError, RemoveError, StoreUrl};

use super::chunks::Tally;
use super::log::LogFault;
use super::retention::Fate;
use crate::error::ValidatorError;
use crate::fetch::NoAnswer;
use crate::fsck::Listed;

/// Manifests of which it is told one by one what becomes of them, at most.
const JUDGED_MAX: usize = 1000;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The last message of the log that was read.
    pub sequence: Option<Sequence>,
    /// Stored bytes of batches that were read.
    pub batch_bytes: u64,
    /// Manifests that were read.
    pub manifests: u64,
    /// Manifests that were removed.
    pub manifests_removed: u64,
    /// Chunks that were removed.
    pub chunks_removed: u64,
}

/// What stays and what goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Swept {
    /// What stays.
    pub kept: Tally,
    /// What was removed, or would be.
    pub removed: Tally,
}

/// What becomes of one manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The message of its snapshot.
    pub sequence: Sequence,
    /// The signer in its name.
    pub signer: KeyId,
    /// Its size; that of its chunks is not in it.
    pub bytes: u64,
    /// Whether it stays, and why.
    pub fate: Fate,
}

/// As many as are told, by their places, and how many are not. What goes is told before what stays: that is what cannot be undone.
pub(super) fn told(mut judged: Vec<Judged>) -> (Vec<Judged>, u64) {
    let untold = judged.len().saturating_sub(JUDGED_MAX);
    if untold > 0 {
        judged.sort_by_key(|one| (one.fate.stays(), one.sequence, one.signer));
        judged.truncate(JUDGED_MAX);
    }
    judged.sort_by_key(|one| (one.sequence, one.signer));
    (judged, untold as u64)
}

/// Why something stays that could go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Left {
    /// It was asked to end.
    Asked,
    /// A manifest that is kept cannot be read, so no chunk is removed: it might name any.
    Unreadable {
        /// The manifest.
        manifest: String,
    },
}

/// What was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The stream.
    pub stream: StreamId,
    /// Messages of the log, all of which were read.
    pub size: Sequence,
    /// Whether nothing was removed because only the answer was asked for.
    pub dry_run: bool,
    /// Manifests of snapshots.
    pub manifests: Swept,
    /// What becomes of each manifest, by its place, where only the answer was asked for. Where there are too many, those that go are told first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub judged: Vec<Judged>,
    /// Manifests that are not told there, because there are too many.
    #[serde(default)]
    pub untold: u64,
    /// Of the manifests that stay, those that stay because they are young.
    #[serde(default)]
    pub young_manifests: Tally,
    /// Of the manifests that stay, those that restore nothing: they are young, and will go.
    pub broken: Tally,
    /// Chunks.
    pub chunks: Swept,
    /// Of the chunks that stay, those that nobody names, because they are young.
    pub young: Tally,
    /// What lies among the chunks and is none. It stays.
    pub unknown: Tally,
    /// Why something stays that could go.
    pub left: Option<Left>,
}

/// Why it did not come to its end. Nothing was removed, unless it is [`Problem::Partly`].
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The store can only be read.
    #[error(
        "a static host can only be read, and tells no names: name the bucket or folder that it serves. url=`{url}`"
    )]
    Static {
        /// The address.
        url: StoreUrl,
    },
    /// Nobody said which log.
    #[error("no stream is named, and the store holds several or none; choose with --stream. found=`{found}`")]
    NoStream {
        /// The streams of which the store holds something.
        found: Listed,
    },
    /// The store holds no batch of that stream.
    #[error(
        "the store holds no log of this stream; check the store and --stream. stream=`{stream}` found=`{found}`"
    )]
    Nothing {
        /// The stream.
        stream: StreamId,
        /// The streams of which the store holds something.
        found: Listed,
    },
    /// The signers that are named have no snapshot that could be kept.
    #[error(
        "none of the signers that are named has a snapshot in the store from which a database can be restored, so those of all others would go; \
         check --signer, or leave it out"
    )]
    NoSigner,
    /// No answer of the store stated a time.
    #[error(
        "the store does not say what time it is, so nobody knows how old its objects are: its answers must have the header `Date`; does a proxy remove it?"
    )]
    NoClock,
    /// The store cannot be opened, or does not answer, or a part of this failed.
    #[error(transparent)]
    Validator(#[from] ValidatorError),
    /// The store cannot be listed.
    #[error("cannot list what the store holds, so nobody knows what is needed")]
    List(#[source] ListError),
    /// Something lies among the manifests that is none.
    #[error(
        "among the manifests lies an object that is none, which may be what a later release writes: use that release, or move it away. object=`{object}`"
    )]
    Foreign {
        /// Its name.
        object: String,
    },
    /// There is more than can be remembered.
    #[error("the store holds more than this can keep in mind. what=`{what}` limit=`{limit}`")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many can be.
        limit: usize,
    },
    /// The log cannot be read to its end, and what cannot be read may name any chunk.
    #[error(
        "the log cannot be read to its end, so nobody knows which chunks it needs; `synddb verify` says more. sequence=`{sequence}`"
    )]
    Log {
        /// The first message of the batch that is at fault.
        sequence: Sequence,
        /// What is wrong with it.
        #[source]
        source: Box<LogFault>,
    },
    /// A chunk was removed, and somebody who began before names it now.
    #[error(
        "a chunk was removed that became needed at that moment: let its writer put it again, or put it back from a copy of the store. \
         hash=`{hash}` by=`{by}`"
    )]
    Needed {
        /// The chunk.
        hash: ChunkHash,
        /// Who names it.
        by: String,
    },
    /// The store does not let something be removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// It was asked to end.
    #[error("ended as asked, before anything was removed")]
    Interrupted,
    /// Something was removed before it failed, and the next run goes on.
    #[error(
        "ended on the way; at least this was removed, which nobody needed, and another run goes on. manifests=`{manifests}` chunks=`{chunks}`"
    )]
    Partly {
        /// Manifests that were removed.
        manifests: u64,
        /// Chunks that were removed.
        chunks: u64,
        /// Why it ended.
        #[source]
        source: Box<Problem>,
    },
}

impl Problem {
    /// Whether another start must fail again until somebody changes what was named.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Static { .. }
            | Self::NoStream { .. }
            | Self::Nothing { .. }
            | Self::NoSigner
            | Self::NoClock => true,
            Self::Validator(error) => error.is_refusal(),
            Self::Partly { source, .. } => source.is_refusal(),
            Self::List(_)
            | Self::Foreign { .. }
            | Self::TooMany { .. }
            | Self::Log { .. }
            | Self::Needed { .. }
            | Self::Remove(_)
            | Self::Interrupted => false,
        }
    }

    /// Whether what is stored is to blame.
    pub fn is_of_log(&self) -> bool {
        match self {
            Self::Log { .. } | Self::Foreign { .. } | Self::Needed { .. } => true,
            Self::Partly { source, .. } => source.is_of_log(),
            Self::Static { .. }
            | Self::NoStream { .. }
            | Self::Nothing { .. }
            | Self::NoSigner
            | Self::NoClock
            | Self::Validator(_)
            | Self::List(_)
            | Self::TooMany { .. }
            | Self::Remove(_)
            | Self::Interrupted => false,
        }
    }

    /// Whether it ended because it was asked to.
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Interrupted => true,
            Self::Partly { source, .. } => source.is_interrupted(),
            Self::Static { .. }
            | Self::NoStream { .. }
            | Self::Nothing { .. }
            | Self::NoSigner
            | Self::NoClock
            | Self::Validator(_)
            | Self::List(_)
            | Self::Foreign { .. }
            | Self::TooMany { .. }
            | Self::Log { .. }
            | Self::Needed { .. }
            | Self::Remove(_) => false,
        }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        Self::Validator(error.into())
    }
}

impl From<NoAnswer> for Problem {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::GaveUp => Self::Interrupted,
            NoAnswer::Failed(error) => Self::Validator(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::id::Address;

    use super::*;

    #[test]
    fn of_too_many_manifests_those_that_go_are_told_and_the_others_counted() {
        let one = |sequence: u64| Judged {
            sequence: Sequence::new(sequence).unwrap(),
            signer: Address::from_bytes([1; 20]),
            bytes: 1,
            fate: if sequence.is_multiple_of(3) { Fate::Superseded } else { Fate::Young },
        };
        let all: Vec<Judged> = (1..=1200).map(one).collect();
        assert_eq!(told(all[..1000].to_vec()), (all[..1000].to_vec(), 0));
        let (some, untold) = told(all);
        assert_eq!((some.len(), untold), (1000, 200));
        assert_eq!(some.iter().filter(|one| !one.fate.stays()).count(), 400);
        assert!(some.is_sorted_by_key(|one| one.sequence));
    }
}
