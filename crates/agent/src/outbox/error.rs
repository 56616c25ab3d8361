//! What can go wrong with an outbox.

use std::path::PathBuf;

use synddb_protocol::DecodeError;
use synddb_protocol::hash::CommitDigest;
use synddb_protocol::id::{CommitNumber, OutOfRange};
use synddb_protocol::limits::{GROUP_BYTES_MAX, PARTS_MAX};
use synddb_sqlite::connection::SqliteError;

use super::SubmissionId;

/// Why an outbox did not open, take or forget something. Whatever failed, it holds what it held before.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// Another process owns the file.
    #[error("another process has the outbox open; stop that one first. file=`{}`", file.display())]
    Owned {
        /// The outbox.
        file: PathBuf,
    },
    /// A new outbox was to be made where a file is.
    #[error("there is a file already; open it, or remove it to begin anew. file=`{}`", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// There is no file to open.
    #[error("there is no outbox; create it first. file=`{}`", file.display())]
    Missing {
        /// Where it should be.
        file: PathBuf,
    },
    /// The file is something else, or was never begun.
    #[error("the file is no outbox; name another one, or remove it to begin anew. file=`{}`", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// The file has a newer form.
    #[error(
        "upgrade required: the outbox has a newer form. supported=`{supported}` found=`{found}` file=`{}`",
        file.display()
    )]
    Newer {
        /// The newest form that this program knows.
        supported: i64,
        /// The form found.
        found: i64,
        /// The outbox.
        file: PathBuf,
    },
    /// What the file says contradicts itself.
    #[error(
        "the outbox is damaged; keep a copy, remove it, and begin a new incarnation. what=`{what}` file=`{}`",
        file.display()
    )]
    Damaged {
        /// What is wrong with it.
        what: &'static str,
        /// The outbox.
        file: PathBuf,
    },
    /// The disk budget is used up. Nothing of the poll was taken.
    #[error(
        "the outbox is full; wait until some of it is stored, or raise the budget. bytes=`{bytes}` bytes_max=`{bytes_max}`"
    )]
    Full {
        /// What it would hold, in bytes.
        bytes: u64,
        /// What it may hold, in bytes.
        bytes_max: u64,
    },
    /// A commit over the bound that every reader has.
    #[error(
        "the commit is larger than any reader takes; write it as several. commit=`{commit}` limit=`{GROUP_BYTES_MAX}`"
    )]
    CommitTooLarge {
        /// The number it would have had.
        commit: CommitNumber,
    },
    /// A commit in more parts than any reader takes.
    #[error(
        "the commit has more parts than any reader takes; write it as several. commit=`{commit}` limit=`{PARTS_MAX}`"
    )]
    TooManyParts {
        /// The number it would have had.
        commit: CommitNumber,
    },
    /// A commit that holds something over a bound, such as a name, or is of a submission that a reader would refuse otherwise.
    #[error("the commit holds what no reader takes. commit=`{commit}`")]
    Refused {
        /// The number it would have had.
        commit: CommitNumber,
        /// The bound, or the rule.
        source: DecodeError,
    },
    /// A poll ended inside a commit.
    #[error("the poll ended before the commit's last piece. commit=`{commit}`")]
    Unfinished {
        /// The number it would have had.
        commit: CommitNumber,
    },
    /// A submission was to end where nobody has told the state, which would be a fault of the capture.
    #[error("the state before the commit was not told while it could be; attach again. commit=`{commit}`")]
    StateUntold {
        /// The commit behind the submission.
        commit: CommitNumber,
    },
    /// What was sealed is not what was packed, which would be a fault of the sealing.
    #[error("a submission has other commits than were packed; attach again. commit=`{commit}`")]
    Mispacked {
        /// The commit that was to come.
        commit: CommitNumber,
    },
    /// Something was to be forgotten while a poll is under way.
    #[error("a poll is under way; end it with `keep`, or give it up")]
    PollOpen,
    /// A submission that the outbox does not hold.
    #[error("the outbox does not hold this submission. submission=`{id}`")]
    NotHeld {
        /// The submission named.
        id: SubmissionId,
    },
    /// The digest seen stored is not the one of the submission.
    #[error(
        "what was seen stored is not what was sent; stop, and compare both. submission=`{id}` expected=`{expected}` found=`{found}`"
    )]
    OtherDigest {
        /// The submission named.
        id: SubmissionId,
        /// The digest the outbox has.
        expected: CommitDigest,
        /// The digest seen.
        found: CommitDigest,
    },
    /// What was seen stored ends where nothing ends that is held.
    #[error("what was seen stored is not what was sent; stop, and compare both. next=`{next}` end=`{end}`")]
    OtherPlace {
        /// The commit that the store expects next.
        next: CommitNumber,
        /// The commit that is captured next.
        end: CommitNumber,
    },
    /// The numbers of the incarnation are used up.
    #[error(transparent)]
    Exhausted(#[from] OutOfRange),
    /// SQLite could not do what was asked.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
}
