//! Continuity: whether what a client sent follows what the log has of it.
//!
//! The sequencer asks before it gives a sequence, every reader asks again. The answer is the client's
//! next state, or the exact reason why not.

use crate::encoding::cbor::{Reader, Writer};
use crate::encoding::{Canonical, DecodeError};
use crate::hash::{CommitDigest, StateHash};
use crate::id::{CommitNumber, Incarnation, OutOfRange, PartIndex};
use crate::limits::GROUP_BYTES_MAX;
use crate::submission::{
    CommitKind, Commits, Content, Part, Predecessor, Snapshot, SnapshotPlace, Submission,
};

/// A huge commit of which the last part has not come yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenGroup {
    /// The part that must come next.
    pub next: PartIndex,
    /// How the commit came about; all parts agree.
    pub kind: CommitKind,
    /// The bodies of its parts so far, after decompression, in bytes.
    pub bytes: u64,
}

/// What the log has of its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientState {
    /// The running incarnation.
    pub incarnation: Incarnation,
    /// The commit that must come next, or whose parts are coming.
    pub next: CommitNumber,
    /// The digest that must be named as `prev`.
    pub last: CommitDigest,
    /// The huge commit that is coming in parts.
    pub group: Option<OpenGroup>,
    /// The state hash after the last whole commit.
    pub state: StateHash,
}

/// Why a submission or snapshot does not follow. Nothing was taken; each names what would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContinuityError {
    /// The log has no incarnation yet.
    #[error("a stream begins with the snapshot of its first incarnation")]
    NotBegun,
    /// Another incarnation runs.
    #[error("another incarnation runs. running=`{}` found=`{}`", running.counter, found.counter)]
    Incarnation {
        /// The one that runs.
        running: Incarnation,
        /// The one named.
        found: Incarnation,
    },
    /// A new incarnation is not the running one's successor, or the first of a stream is not number 1.
    #[error("the incarnation is no successor of the running one. found=`{}`", found.counter)]
    NoSuccessor {
        /// The one that wants to begin.
        found: Incarnation,
        /// The one it names as its predecessor.
        predecessor: Option<Incarnation>,
    },
    /// The commit is not the next one.
    #[error("this is not the next commit. expected=`{expected}` found=`{found}`")]
    Gap {
        /// The commit that must come next.
        expected: CommitNumber,
        /// The first one sent.
        found: CommitNumber,
    },
    /// The part is not the next one.
    #[error("this is not the next part. commit=`{commit}` expected=`{}` found=`{found:?}`", expected.get())]
    PartGap {
        /// The commit.
        commit: CommitNumber,
        /// The part that must come next; the first one when no group is open.
        expected: PartIndex,
        /// The part sent, or `None` for a whole commit.
        found: Option<PartIndex>,
    },
    /// What came before, as the client has it, is not what the log has: two agents, or changed content.
    #[error(
        "what came before is not what the log has. commit=`{commit}` expected=`{expected}` found=`{found}`"
    )]
    ContentMismatch {
        /// The commit sent.
        commit: CommitNumber,
        /// The digest that the log has.
        expected: CommitDigest,
        /// The digest named.
        found: CommitDigest,
    },
    /// The parts of one commit disagree about how it came about.
    #[error("the parts of a commit must agree about its kind. commit=`{commit}`")]
    MixedGroup {
        /// The commit.
        commit: CommitNumber,
    },
    /// The commit is larger than a group may be.
    #[error("the commit is over its limit, all parts together. commit=`{commit}` limit=`{GROUP_BYTES_MAX}`")]
    GroupTooLarge {
        /// The commit.
        commit: CommitNumber,
    },
    /// A snapshot inside an incarnation has another state hash than the log.
    #[error("the snapshot has another state hash than the log. expected=`{expected}` found=`{found}`")]
    StateMismatch {
        /// The state hash after the log's last commit.
        expected: StateHash,
        /// The snapshot's.
        found: StateHash,
    },
    /// A snapshot declares commits abandoned that the log has.
    #[error("only commits that the log lacks can be abandoned. next=`{next}` found=`{found}`")]
    AbandonedKnown {
        /// The log's next commit.
        next: CommitNumber,
        /// The last one declared abandoned.
        found: CommitNumber,
    },
    /// A new incarnation leaves a commit half sent without declaring it abandoned.
    #[error("a commit that came in part must be declared abandoned. commit=`{commit}`")]
    GroupNotAbandoned {
        /// The commit.
        commit: CommitNumber,
    },
    /// The counters are used up.
    #[error(transparent)]
    Exhausted(#[from] OutOfRange),
}

impl ClientState {
    /// The state after `submission`, whose body is `body_bytes` long after decompression.
    ///
    /// # Errors
    /// [`ContinuityError`] when it does not follow; the state stays as it is.
    pub fn after_submission(
        &self,
        submission: &Submission,
        body_bytes: u64,
    ) -> Result<Self, ContinuityError> {
        if submission.incarnation != self.incarnation {
            let (running, found) = (self.incarnation, submission.incarnation);
            return Err(ContinuityError::Incarnation { running, found });
        }
        match &submission.content {
            Content::Commits(commits) => self.after_commits(commits),
            Content::Part(part) => self.after_part(part, body_bytes),
        }
    }

    fn after_commits(&self, commits: &Commits) -> Result<Self, ContinuityError> {
        let first = commits.first();
        if let Some(group) = self.group {
            let (commit, expected) = (self.next, group.next);
            return Err(ContinuityError::PartGap { commit, expected, found: None });
        }
        self.check_follows(first.number, first.prev)?;
        Ok(Self {
            incarnation: self.incarnation,
            next: following(commits.last().number)?,
            last: commits.digest(),
            group: None,
            state: commits.state(),
        })
    }

    fn after_part(&self, part: &Part, body_bytes: u64) -> Result<Self, ContinuityError> {
        let commit = part.number;
        let (expected, kind, bytes) = match self.group {
            Some(group) => (group.next, group.kind, group.bytes),
            None => (PartIndex::FIRST, part.kind, 0),
        };
        if commit != self.next {
            return Err(ContinuityError::Gap { expected: self.next, found: commit });
        }
        if part.index != expected {
            return Err(ContinuityError::PartGap { commit, expected, found: Some(part.index) });
        }
        self.check_follows(commit, part.prev)?;
        if part.kind != kind {
            return Err(ContinuityError::MixedGroup { commit });
        }
        let bytes = bytes.saturating_add(body_bytes);
        if bytes > GROUP_BYTES_MAX {
            return Err(ContinuityError::GroupTooLarge { commit });
        }
        let mut after = Self { last: part.digest(), ..self.clone() };
        match part.last {
            Some(claim) => {
                after.next = following(commit)?;
                after.group = None;
                after.state = claim.state;
            }
            None => {
                let next = PartIndex::new(u64::from(part.index.get()) + 1)?;
                after.group = Some(OpenGroup { next, kind, bytes });
            }
        }
        Ok(after)
    }

    /// The state after a snapshot. `before` is what the log has of the client so far.
    ///
    /// # Errors
    /// [`ContinuityError`] when it does not follow.
    pub fn after_snapshot(before: Option<&Self>, snapshot: &Snapshot) -> Result<Self, ContinuityError> {
        match &snapshot.place {
            SnapshotPlace::Begins { predecessor } => {
                Self::check_begins(before, predecessor.as_ref(), snapshot.incarnation)?;
                Ok(Self {
                    incarnation: snapshot.incarnation,
                    next: CommitNumber::FIRST,
                    last: snapshot.digest(),
                    group: None,
                    state: snapshot.state,
                })
            }
            SnapshotPlace::After { commit, digest } => {
                let before = before.ok_or(ContinuityError::NotBegun)?;
                before.check_stands(snapshot, *commit, *digest)?;
                Ok(before.clone())
            }
        }
    }

    fn check_begins(
        before: Option<&Self>,
        predecessor: Option<&Predecessor>,
        found: Incarnation,
    ) -> Result<(), ContinuityError> {
        let named = predecessor.map(|predecessor| predecessor.incarnation);
        let no_successor = ContinuityError::NoSuccessor { found, predecessor: named };
        let (before, predecessor) = match (before, predecessor) {
            (None, None) if found.counter.previous().is_none() => return Ok(()),
            (Some(before), Some(predecessor)) => (before, predecessor),
            _ => return Err(no_successor),
        };
        let follows = before.incarnation.counter.next() == Some(found.counter);
        if !follows || predecessor.incarnation != before.incarnation {
            return Err(no_successor);
        }
        let next_part = before.group.map(|group| group.next);
        if (predecessor.next, predecessor.next_part) != (before.next, next_part) {
            return Err(ContinuityError::Gap { expected: before.next, found: predecessor.next });
        }
        if predecessor.last != before.last {
            let (expected, found) = (before.last, predecessor.last);
            return Err(ContinuityError::ContentMismatch { commit: before.next, expected, found });
        }
        match predecessor.abandoned_through {
            Some(found) if found < before.next => {
                Err(ContinuityError::AbandonedKnown { next: before.next, found })
            }
            None if before.group.is_some() => Err(ContinuityError::GroupNotAbandoned { commit: before.next }),
            Some(_) | None => Ok(()),
        }
    }

    fn check_stands(
        &self,
        snapshot: &Snapshot,
        commit: CommitNumber,
        digest: CommitDigest,
    ) -> Result<(), ContinuityError> {
        if snapshot.incarnation != self.incarnation {
            let (running, found) = (self.incarnation, snapshot.incarnation);
            return Err(ContinuityError::Incarnation { running, found });
        }
        if let Some(group) = self.group {
            let (commit, expected) = (self.next, group.next);
            return Err(ContinuityError::PartGap { commit, expected, found: None });
        }
        if following(commit)? != self.next {
            return Err(ContinuityError::Gap { expected: self.next, found: commit });
        }
        if digest != self.last {
            let (expected, found) = (self.last, digest);
            return Err(ContinuityError::ContentMismatch { commit, expected, found });
        }
        if snapshot.state != self.state {
            return Err(ContinuityError::StateMismatch { expected: self.state, found: snapshot.state });
        }
        Ok(())
    }

    fn check_follows(&self, commit: CommitNumber, prev: CommitDigest) -> Result<(), ContinuityError> {
        if commit != self.next {
            return Err(ContinuityError::Gap { expected: self.next, found: commit });
        }
        if prev != self.last {
            let (expected, found) = (self.last, prev);
            return Err(ContinuityError::ContentMismatch { commit, expected, found });
        }
        Ok(())
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.array(5);
        self.incarnation.write(writer);
        writer.uint(self.next);
        writer.bytes(self.last.as_bytes());
        match &self.group {
            Some(group) => {
                writer.array(3);
                writer.uint(group.next);
                group.kind.write(writer);
                writer.uint(group.bytes);
            }
            None => writer.null(),
        }
        writer.bytes(self.state.as_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_exact("client state", 5)?;
        let incarnation = Incarnation::read(reader)?;
        let next = reader.number("next commit")?;
        let last = CommitDigest::from_bytes(reader.array_of("last digest")?);
        let group = if reader.at_null() {
            reader.null("open group")?;
            None
        } else {
            reader.array_exact("open group", 3)?;
            let next = reader.number("part")?;
            let kind = CommitKind::read(reader)?;
            let bytes = reader.uint("bytes of the group")?;
            if next == PartIndex::FIRST || bytes > GROUP_BYTES_MAX {
                let why = "a group that is open has a part, and no more bytes than allowed";
                return Err(DecodeError::Invalid { what: "open group", why });
            }
            Some(OpenGroup { next, kind, bytes })
        };
        let state = StateHash::from_bytes(reader.array_of("state hash")?);
        Ok(Self { incarnation, next, last, group, state })
    }
}

fn following(commit: CommitNumber) -> Result<CommitNumber, OutOfRange> {
    CommitNumber::new(commit.get() + 1)
}
