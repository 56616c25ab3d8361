//! How a command ends.

use std::io;
use std::process::ExitCode;

use synddb_agent::outbox::OutboxError;
use synddb_protocol::DecodeError;
use synddb_protocol::log::ContinuityError;
use synddb_sqlite::apply::ApplyError;
use synddb_sqlite::capture::{CaptureError, PollError};
use synddb_sqlite::compare::CompareError;
use synddb_sqlite::connection::SqliteError;
use synddb_sqlite::snapshot::{RestoreError, SnapshotError};
use synddb_sqlite::state::StateError;

use crate::mirror::Divergence;
use crate::refusal::Refusal;

/// The exit codes, which scripts may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or equal.
    Done,
    /// 1: the databases differ.
    Different,
    /// 2: the command line, or what it names, is refused. Also what clap exits with.
    Refused,
    /// 3: the command failed on the way.
    Failed,
}

impl Exit {
    /// The code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Different => 1,
            Self::Refused => 2,
            Self::Failed => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// What was named cannot be used.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A replica is not what the application's database is.
    #[error(transparent)]
    Diverged(#[from] Box<Divergence>),
    /// Following the application's database failed.
    #[error("cannot follow the source")]
    Capture(#[from] CaptureError),
    /// The snapshot of the application's database failed.
    #[error("cannot take a snapshot of the source")]
    Snapshot(#[from] SnapshotError),
    /// The replica's first state could not be made.
    #[error("cannot restore the snapshot")]
    Restore(#[from] RestoreError),
    /// Applying to the replica failed.
    #[error("cannot open or write the target")]
    Apply(#[from] ApplyError),
    /// The outbox failed.
    #[error("cannot keep what was captured")]
    Outbox(#[from] OutboxError),
    /// A submission from our own outbox is none.
    #[error("a submission cannot be read back; keep the outbox and report this")]
    Submission(#[from] DecodeError),
    /// A submission from our own outbox does not follow the one before.
    #[error("a submission does not follow the one before; keep the outbox and report this")]
    Continuity(#[from] ContinuityError),
    /// The application wrote whenever both were compared.
    #[error(
        "the source was written all the while, so it cannot be compared; verify while the application pauses"
    )]
    NeverStill,
    /// Comparing failed.
    #[error("cannot compare")]
    Compare(#[from] CompareError),
    /// Scanning failed.
    #[error("cannot compute the state hash")]
    State(#[from] StateError),
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The operating system failed.
    #[error("cannot {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl CommandError {
    /// The exit code that tells this.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Refused(_)
            | Self::Capture(
                CaptureError::Schema(_) | CaptureError::Missing { .. } | CaptureError::NotWal { .. },
            ) => Exit::Refused,
            Self::Diverged(_) => Exit::Different,
            Self::Capture(_)
            | Self::Snapshot(_)
            | Self::Restore(_)
            | Self::Apply(_)
            | Self::Outbox(_)
            | Self::Submission(_)
            | Self::Continuity(_)
            | Self::NeverStill
            | Self::Compare(_)
            | Self::State(_)
            | Self::Sqlite(_)
            | Self::System { .. } => Exit::Failed,
        }
    }

    /// An error of the operating system while `doing` something.
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

impl From<PollError<OutboxError>> for CommandError {
    fn from(error: PollError<OutboxError>) -> Self {
        match error {
            PollError::Capture(error) => error.into(),
            PollError::Sink(error) => error.into(),
        }
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
