//! Up to where a log is replayed, and what of each message is taken for that.

use synddb_protocol::id::{CommitNumber, IncarnationCounter, Sequence, Timestamp};
use synddb_protocol::log::{Entry, MessageHeader};
use synddb_protocol::submission::{Content, SnapshotPlace};
use synddb_service::calendar::utc;

/// The state that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum At {
    /// Everything that is stored.
    #[default]
    Newest,
    /// After a commit.
    Commit {
        /// Its incarnation; without one, the newest that has the commit.
        incarnation: Option<IncarnationCounter>,
        /// Its number; `None` is the snapshot that begins the incarnation.
        commit: Option<CommitNumber>,
    },
    /// After a message.
    Message(Sequence),
    /// After the last message whose log time is not behind this.
    Time(Timestamp),
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Newest => f.write_str("the end of the log"),
            Self::Commit { incarnation, commit } => {
                match commit {
                    Some(commit) => write!(f, "commit {commit}"),
                    None => f.write_str("the first snapshot"),
                }?;
                incarnation.map_or(Ok(()), |incarnation| write!(f, " of incarnation {incarnation}"))
            }
            Self::Message(sequence) => write!(f, "message {sequence}"),
            Self::Time(at) => f.write_str(&utc(*at)),
        }
    }
}

/// The same, with the incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Newest,
    Commit { incarnation: IncarnationCounter, commit: Option<CommitNumber> },
    Message(Sequence),
    Time(Timestamp),
}

/// What is taken of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: a later snapshot replaces it.
    Pass,
    /// All of it.
    Take,
    /// All of it, and nothing that follows.
    TakeLast,
    /// Its commits up to this one, and nothing that follows.
    TakeThrough(CommitNumber),
    /// Nothing, and nothing that follows: it stands behind what is asked for.
    Behind,
    /// The commit that is asked for did not come, and comes no more: its incarnation is over.
    Missed,
}

impl Target {
    /// What is taken of a message that follows those for which this was not the end.
    pub(super) fn step(self, header: &MessageHeader, entry: &Entry) -> Step {
        match self {
            Self::Newest => Step::Take,
            Self::Message(last) if header.sequence > last => Step::Behind,
            Self::Message(last) if header.sequence == last => Step::TakeLast,
            Self::Message(_) => Step::Take,
            Self::Time(at) if header.timestamp > at => Step::Behind,
            Self::Time(_) => Step::Take,
            Self::Commit { incarnation, commit } => step_to(incarnation, commit, entry),
        }
    }
}

fn step_to(incarnation: IncarnationCounter, wanted: Option<CommitNumber>, entry: &Entry) -> Step {
    let (found, content) = match entry {
        Entry::Snapshot(snapshot) => match snapshot.place {
            SnapshotPlace::Begins { .. } => (snapshot.incarnation.counter, None),
            // What it stands after was taken, or is passed.
            SnapshotPlace::After { .. } => return Step::Pass,
        },
        Entry::Submission(submission) => (submission.incarnation.counter, Some(&submission.content)),
        Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => return Step::Pass,
    };
    if found != incarnation {
        return if found > incarnation { Step::Missed } else { Step::Pass };
    }
    let ends = match (content, wanted) {
        (None, None) => true,
        (None, Some(_)) => false,
        // Its snapshot was the end.
        (Some(_), None) => return Step::Behind,
        (Some(Content::Commits(commits)), Some(wanted)) => {
            if commits.last().number > wanted {
                return Step::TakeThrough(wanted);
            }
            commits.last().number == wanted
        }
        (Some(Content::Part(part)), Some(wanted)) => part.number == wanted && part.last.is_some(),
    };
    if ends { Step::TakeLast } else { Step::Take }
}
