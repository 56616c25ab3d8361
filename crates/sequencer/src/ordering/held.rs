//! What of its client a message holds: what a resend is recognised by.

use synddb_protocol::hash::CommitDigest;
use synddb_protocol::id::{CommitNumber, Incarnation, PartIndex};
use synddb_protocol::log::Entry;
use synddb_protocol::submission::{Content, Snapshot, SnapshotPlace, Submission};

/// What of its client a message, or something that was sent, holds.
///
/// Two that hold the same place with the same digest are the same content, and so is everything before them: the digest of a
/// commit binds all that its client sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The incarnation that its numbers belong to.
    pub incarnation: Incarnation,
    /// The place.
    pub what: What,
    /// The digest of the last commit, of the part, or of the snapshot.
    pub digest: CommitDigest,
}

/// A place in what a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Whole commits.
    Commits {
        /// The first one.
        first: CommitNumber,
        /// The last one.
        last: CommitNumber,
    },
    /// One part of a commit.
    Part {
        /// The commit.
        commit: CommitNumber,
        /// The part.
        index: PartIndex,
    },
    /// The snapshot that begins the incarnation.
    Begins,
    /// A snapshot after a commit.
    After {
        /// The commit.
        commit: CommitNumber,
    },
}

impl Held {
    /// What an entry holds; `None` for what no client sends.
    pub fn of(entry: &Entry) -> Option<Self> {
        match entry {
            Entry::Submission(submission) => Some(Self::of_submission(submission)),
            Entry::Snapshot(snapshot) => Some(Self::of_snapshot(snapshot)),
            Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => None,
        }
    }

    pub(super) fn of_submission(submission: &Submission) -> Self {
        let (what, digest) = match &submission.content {
            Content::Commits(commits) => {
                let (first, last) = (commits.first().number, commits.last().number);
                (What::Commits { first, last }, commits.digest())
            }
            Content::Part(part) => (What::Part { commit: part.number, index: part.index }, part.digest()),
        };
        Self { incarnation: submission.incarnation, what, digest }
    }

    pub(super) fn of_snapshot(snapshot: &Snapshot) -> Self {
        let what = match snapshot.place {
            SnapshotPlace::Begins { .. } => What::Begins,
            SnapshotPlace::After { commit, .. } => What::After { commit },
        };
        Self { incarnation: snapshot.incarnation, what, digest: snapshot.digest() }
    }
}

/// The digest of a whole commit inside an entry.
pub fn digest_within(entry: &Entry, number: CommitNumber) -> Option<CommitDigest> {
    let Entry::Submission(submission) = entry else { return None };
    let Content::Commits(commits) = &submission.content else { return None };
    commits.as_slice().iter().find(|commit| commit.number == number).map(|commit| commit.digest())
}
