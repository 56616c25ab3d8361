//! How a command ends.

use std::io;
use std::process::{ExitCode, ExitStatus};

use synddb_agent::AgentError;
use synddb_agent::outbox::OutboxError;
use synddb_chain::{DeploymentError, EndpointError};
use synddb_protocol::DecodeError;
use synddb_protocol::hash::StateHash;
use synddb_protocol::http::Halt;
use synddb_protocol::log::ContinuityError;
use synddb_relayer::{RelayerError, ReportError};
use synddb_sequencer::SequencerError;
use synddb_service::config::ConfigError;
use synddb_service::credentials::EditError;
use synddb_service::process::ProcessError;
use synddb_service::secret::SecretError;
use synddb_sqlite::apply::ApplyError;
use synddb_sqlite::capture::{CaptureError, PollError};
use synddb_sqlite::compare::CompareError;
use synddb_sqlite::connection::SqliteError;
use synddb_sqlite::contents::ContentsError;
use synddb_sqlite::messages::MessagesError;
use synddb_sqlite::snapshot::{RestoreError, SnapshotError};
use synddb_sqlite::state::StateError;
use synddb_storage::StoreUrlError;
use synddb_validator::ValidatorError;
use synddb_validator::fsck::Problem;
use synddb_validator::gathered::GatherError;
use synddb_validator::gc;
use synddb_validator::restore::Problem as RestoreProblem;
use synddb_validator::rules::{ResolutionError, RulesFileError};

use crate::bench::BenchError;
use crate::dev::ChainError;
use crate::inspect::InspectError;
use crate::mirror::Divergence;
use crate::output::Process;
use crate::peer::PeerError;
use crate::refusal::Refusal;

/// The exit codes, which scripts may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or equal.
    Done,
    /// 1: the databases differ, a replica halted, or a log is refused.
    Different,
    /// 2: the command line, or what it names, is refused. Also what clap exits with.
    Refused,
    /// 3: the command failed on the way.
    Failed,
    /// 4: what was waited for did not come in time.
    TimedOut,
    /// 5: not everything was done: ended as asked, or the store has not got it yet. What follows a log goes on at the next start; what goes
    /// through one once begins anew.
    Incomplete,
}

impl Exit {
    /// The code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Different => 1,
            Self::Refused => 2,
            Self::Failed => 3,
            Self::TimedOut => 4,
            Self::Incomplete => 5,
        }
    }

    /// The meaning of a code that a process of ours ended with.
    pub(crate) const fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            0 => Self::Done,
            1 => Self::Different,
            2 => Self::Refused,
            3 => Self::Failed,
            4 => Self::TimedOut,
            5 => Self::Incomplete,
            _ => return None,
        })
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
    /// A database cannot be asked about its contents.
    #[error("cannot read what is in the file")]
    Contents(#[from] ContentsError),
    /// Scanning failed.
    #[error("cannot compute the state hash")]
    State(#[from] StateError),
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file of credentials cannot be used or changed.
    #[error(transparent)]
    Credentials(#[from] EditError),
    /// A store was named that there cannot be.
    #[error(transparent)]
    StoreUrl(#[from] StoreUrlError),
    /// The process cannot begin.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The agent cannot start, or ended.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The sequencer cannot start, or ended.
    #[error(transparent)]
    Sequencer(#[from] SequencerError),
    /// The validator cannot start, or ended.
    #[error(transparent)]
    Validator(#[from] ValidatorError),
    /// The relayer cannot start, or ended.
    #[error(transparent)]
    Relayer(#[from] RelayerError),
    /// No equivocation is reported.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// `dev` has no chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The record of a deployment cannot be used.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// A node of a chain gave no answer.
    #[error(transparent)]
    Node(#[from] EndpointError),
    /// A process that was asked gave no answer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A process of `dev` ended for good.
    #[error("the {process} cannot go on; what it said says why. {status}")]
    Over {
        /// Which.
        process: Process,
        /// How it ended.
        status: ExitStatus,
    },
    /// The replica stopped.
    #[error("the replica has halted: {}", .0.detail)]
    Halted(Box<Halt>),
    /// The replica stands at the same place and holds something else.
    #[error(
        "the replica holds another history than the database; was one of them put back from a backup? expected=`{expected}` found=`{found}`"
    )]
    AnotherHistory {
        /// What the database hashes to.
        expected: StateHash,
        /// What the replica hashes to.
        found: StateHash,
    },
    /// A stored log is not whole.
    #[error(transparent)]
    Verify(#[from] Box<Problem>),
    /// A store was not swept.
    #[error(transparent)]
    Sweep(#[from] Box<gc::Problem>),
    /// A database was not restored.
    #[error(transparent)]
    Restored(#[from] Box<RestoreProblem>),
    /// A file of rules cannot be used.
    #[error(transparent)]
    Rules(#[from] RulesFileError),
    /// What was decided of a violation cannot be left.
    #[error(transparent)]
    Resolution(#[from] ResolutionError),
    /// The message tables cannot be made.
    #[error(transparent)]
    Messages(#[from] MessagesError),
    /// Endorsements cannot be read.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// An object cannot be shown.
    #[error(transparent)]
    Inspect(Box<InspectError>),
    /// A benchmark failed.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The time is over.
    #[error("the time is over: {what}: {detail}")]
    TimedOut {
        /// What did not happen.
        what: &'static str,
        /// How far it was.
        detail: String,
    },
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
    pub fn exit(&self) -> Exit {
        match self {
            Self::Refused(_)
            | Self::Config(_)
            | Self::Secret(_)
            | Self::Credentials(
                EditError::Refused(_)
                | EditError::Taken { .. }
                | EditError::Listed { .. }
                | EditError::Unlisted { .. },
            )
            | Self::StoreUrl(_)
            | Self::Rules(_)
            | Self::Deployment(_)
            | Self::Report(
                ReportError::Unreadable { .. }
                | ReportError::TwoKinds
                | ReportError::Nothing(_)
                | ReportError::Refused(_),
            )
            | Self::Node(EndpointError::OtherChain { .. })
            | Self::Chain(ChainError::NoProgram { .. } | ChainError::NoContracts { .. })
            | Self::Resolution(ResolutionError::Because { .. } | ResolutionError::Waits { .. })
            | Self::Messages(MessagesError::Other { .. })
            | Self::Capture(
                CaptureError::Schema(_)
                | CaptureError::Unfit(_)
                | CaptureError::Missing { .. }
                | CaptureError::NotWal { .. }
                | CaptureError::Followed { .. },
            ) => Exit::Refused,
            Self::Diverged(_)
            | Self::AnotherHistory { .. }
            | Self::Halted(_)
            | Self::Validator(ValidatorError::Halted { .. }) => Exit::Different,
            Self::Process(error) if error.is_refusal() => Exit::Refused,
            Self::Sequencer(error) if error.is_refusal() => Exit::Refused,
            Self::Relayer(error) if error.is_refusal() => Exit::Refused,
            Self::Verify(problem) => {
                let is_interrupted = matches!(**problem, Problem::Interrupted { .. });
                of_log(is_interrupted, problem.is_of_log(), problem.is_refusal())
            }
            Self::Sweep(problem) => {
                of_log(problem.is_interrupted(), problem.is_of_log(), problem.is_refusal())
            }
            Self::Restored(problem) => {
                let is_interrupted = matches!(**problem, RestoreProblem::Interrupted);
                of_log(is_interrupted, problem.is_of_log(), problem.is_refusal())
            }
            Self::Inspect(error) => error.exit(),
            Self::Bench(error) => error.exit(),
            Self::TimedOut { .. } => Exit::TimedOut,
            Self::Over { status, .. } => status.code().and_then(Exit::from_code).unwrap_or(Exit::Failed),
            Self::Agent(AgentError::Stopped) | Self::Validator(ValidatorError::NoSnapshot { .. }) => {
                Exit::Incomplete
            }
            Self::Agent(AgentError::Fault { .. }) => Exit::Failed,
            // A start that must fail again is not tried again.
            Self::Validator(error) if error.is_refusal() => Exit::Refused,
            Self::Agent(error) if error.is_final() => Exit::Refused,
            Self::Capture(_)
            | Self::Snapshot(_)
            | Self::Restore(_)
            | Self::Apply(_)
            | Self::Outbox(_)
            | Self::Submission(_)
            | Self::Continuity(_)
            | Self::NeverStill
            | Self::Compare(_)
            | Self::Contents(_)
            | Self::State(_)
            | Self::Sqlite(_)
            | Self::Credentials(_)
            | Self::Process(_)
            | Self::Agent(_)
            | Self::Sequencer(_)
            | Self::Validator(_)
            | Self::Relayer(_)
            | Self::Report(_)
            | Self::Chain(_)
            | Self::Node(_)
            | Self::Peer(_)
            | Self::Resolution(_)
            | Self::Messages(_)
            | Self::Gather(_)
            | Self::System { .. } => Exit::Failed,
        }
    }

    /// An error of the operating system while `doing` something.
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

/// The exit code of who went through a stored log, and ended for one of these reasons or another.
const fn of_log(is_interrupted: bool, is_of_log: bool, is_refusal: bool) -> Exit {
    if is_interrupted {
        Exit::Incomplete
    } else if is_of_log {
        Exit::Different
    } else if is_refusal {
        Exit::Refused
    } else {
        Exit::Failed
    }
}

impl From<InspectError> for CommandError {
    fn from(error: InspectError) -> Self {
        Self::Inspect(Box::new(error))
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
