//! Going on in the same incarnation where nobody can prove that nothing was committed in between.
//!
//! ```text
//! last state --applier--> + what the outbox holds behind it --> has the outbox's state? --yes--> against the live database
//! (a replica)             in a transaction that is never committed                                   |
//!                                                                  one commit of its own kind  <-----+
//!                                                                  --applied to the same replica--> has the live state? --> kept
//! ```
//!
//! What must stay true:
//!
//! - Nothing is believed of whoever made the replica: what it holds, with what the outbox holds behind it, hashes to what was captured last.
//! - Nothing is kept that was not applied once: the very bytes that will be sent make the live state of the last captured one.
//! - The commit and the position at which the live database was read are kept in one transaction.
//! - The state is exact. What the transactions in between were is lost, and the commit's kind tells every reader so.
//!
//! Knows nothing of stores. Where it does not come to an end, the caller begins a new incarnation, which is always possible.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use synddb_protocol::DecodeError;
use synddb_protocol::hash::StateHash;
use synddb_protocol::http::Position;
use synddb_protocol::id::{CommitNumber, Incarnation, StreamId};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{Body, ClientState, ContinuityError, Entry, MessageType};
use synddb_protocol::signing::VerifyingKey;
use synddb_protocol::submission::TextEncoding;
use synddb_sqlite::apply::position::{self, NoPosition};
use synddb_sqlite::apply::{Applier, ApplyError, SubmissionApplier, SubmissionError};
use synddb_sqlite::capture::{CaptureError, Sink as _, WalPosition};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::reconcile::{ReconcileError, difference};
use synddb_sqlite::state::RunningState;

use crate::config::Config;
use crate::error::AgentError;
use crate::home;
use crate::outbox::{Found, Held, Outbox, OutboxError, Reconciled, Wanted};
use crate::ship;

/// Where the last captured state comes from.
///
/// What is restored need not be trusted: it is used only when it proves to be that state.
pub trait LastState: fmt::Debug + Send + Sync {
    /// Brings a replica of the stream, in `folder`, as far as it can be brought, and names its file. The folder is there, is nobody else's, and
    /// what is left in it is found again by the next call. `sequencer_keys` are whom the agent believes. Called on a thread of the agent, which
    /// waits; ends soon after `stopping` is set.
    ///
    /// # Errors
    /// When there is none.
    fn restore(
        &self,
        stream: StreamId,
        sequencer_keys: &[VerifyingKey],
        folder: &Path,
        stopping: &AtomicBool,
    ) -> Result<PathBuf, Box<dyn Error + Send + Sync>>;
}

/// The application's database, in one read transaction.
#[derive(Clone, Copy)]
pub struct Live<'l> {
    /// The connection that has the transaction.
    pub reader: &'l Connection,
    /// By a full scan in it.
    pub state: &'l RunningState,
    /// Up to where it shows what was committed.
    pub position: WalPosition,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Outcome {
    /// The outbox has a commit that leads to the live state, and stands at its position.
    Reconciled {
        /// How many rows differ.
        rows: u64,
    },
    /// A new incarnation has to begin. The outbox is as it was.
    Impossible(Impossible),
}

/// Why the last captured state was not found, or does not lead to the live one.
#[derive(Debug, thiserror::Error)]
pub enum Impossible {
    /// Nobody said where the last state could come from.
    #[error("no store is named that the last captured state could be restored from")]
    NoSource,
    /// It could not be restored.
    #[error("the last captured state cannot be restored")]
    NotRestored(#[source] Box<dyn Error + Send + Sync>),
    /// The file is no replica that can be read.
    #[error("the restored replica cannot be read. file=`{}`", file.display())]
    Unreadable {
        /// The replica.
        file: PathBuf,
        /// Why not.
        source: ApplyError,
    },
    /// The file does not say where it stands.
    #[error("the restored replica does not say where it stands. file=`{}`", file.display())]
    NoPosition {
        /// The replica.
        file: PathBuf,
        /// Why not.
        source: NoPosition,
    },
    /// It is a replica of another stream.
    #[error("the restored replica is of another stream. expected=`{expected}` found=`{found}`")]
    OtherStream {
        /// The outbox's.
        expected: StreamId,
        /// The replica's.
        found: StreamId,
    },
    /// It stands in another incarnation: the snapshot of this one is not stored yet.
    #[error(
        "the restored replica is of another incarnation. expected=`{}` found=`{}`",
        expected.counter,
        found.counter
    )]
    OtherIncarnation {
        /// The outbox's.
        expected: Incarnation,
        /// The replica's.
        found: Incarnation,
    },
    /// A commit is stored in part.
    #[error("the restored replica stands inside a commit. commit=`{commit}`")]
    InsideCommit {
        /// The commit.
        commit: CommitNumber,
    },
    /// The outbox does not hold what comes next in it: the store that it came from lost something, or is behind.
    #[error("the outbox does not hold what follows the restored replica. commit=`{commit}`")]
    Behind {
        /// What comes next in the replica.
        commit: CommitNumber,
    },
    /// What the outbox holds cannot be read back.
    #[error("a submission that waits cannot be read back")]
    Held(#[from] DecodeError),
    /// What the outbox holds does not follow the replica.
    #[error("what waits does not follow the restored replica")]
    DoesNotFollow(#[from] ContinuityError),
    /// What the outbox holds cannot be applied to the replica.
    #[error("what waits does not apply to the restored replica")]
    NotApplicable(#[source] SubmissionError),
    /// It came to another state than was captured.
    #[error(
        "the restored replica has another state than was captured. captured=`{captured}` found=`{found}`"
    )]
    OtherState {
        /// By what was captured.
        captured: StateHash,
        /// The replica's.
        found: StateHash,
    },
    /// The application's database stores text otherwise than it did.
    #[error("the text encoding of the database changed. was=`{was:?}` is=`{is:?}`")]
    Encoding {
        /// In the last captured state.
        was: TextEncoding,
        /// In the live one.
        is: TextEncoding,
    },
    /// The two states cannot be compared.
    #[error("the last captured state cannot be compared with the live one")]
    NotCompared(#[source] CaptureError),
    /// What changed is more than any reader takes as one commit.
    #[error("what changed does not fit one commit")]
    TooMuch(#[source] OutboxError),
    /// What was found does not lead from one state to the other.
    #[error("what changed does not lead to the live state")]
    Unproven(#[source] SubmissionError),
}

/// Why an attempt ended: by what was found, or by a failure that has to be told.
enum Failed {
    Impossible(Impossible),
    Agent(AgentError),
}

impl<E: Into<Impossible>> From<E> for Failed {
    fn from(why: E) -> Self {
        Self::Impossible(why.into())
    }
}

/// Restores the last captured state from where the configuration says, and names its file.
///
/// # Errors
/// [`AgentError`] when the agent's own folder cannot be used or the key that it believes cannot be read, and [`AgentError::Stopped`] when
/// `stopping` was set.
pub fn restore_last(
    config: &Config,
    stream: StreamId,
    stopping: &AtomicBool,
) -> Result<Result<PathBuf, Impossible>, AgentError> {
    let Some(source) = &config.last_state else { return Ok(Err(Impossible::NoSource)) };
    let keys = ship::believed(config, &config.folder, stream)?;
    let folder = config.folder.join(home::LAST);
    home::make_folder(&folder)?;
    let restored = source.restore(stream, &keys, &folder, stopping);
    if stopping.load(Ordering::SeqCst) {
        return Err(AgentError::Stopped);
    }
    Ok(restored.map_err(Impossible::NotRestored))
}

/// Keeps in the outbox, as one commit of its own kind, what makes the live database of the last captured state.
///
/// `base` is a replica of the stream that nobody else writes meanwhile, at any place that the outbox still knows. It stays as it is.
///
/// # Errors
/// [`AgentError::Outbox`] when the outbox's disk fails, [`AgentError::Stopped`] when `stopping` was set; the outbox is as it was.
pub fn reconcile(
    base: &Path,
    live: Live<'_>,
    outbox: &mut Outbox,
    stopping: &AtomicBool,
) -> Result<Outcome, AgentError> {
    match attempt(base, live, outbox, stopping) {
        Ok(rows) => Ok(Outcome::Reconciled { rows }),
        Err(Failed::Impossible(why)) => Ok(Outcome::Impossible(why)),
        Err(Failed::Agent(error)) => Err(error),
    }
}

fn attempt(file: &Path, live: Live<'_>, outbox: &mut Outbox, stopping: &AtomicBool) -> Result<u64, Failed> {
    let mut base = Base::open(file, outbox)?;
    base.catch_up(outbox, stopping)?;
    let mut taking = outbox.reconciled().map_err(of_outbox)?;
    let connection = base.applier.applier().connection();
    let rows = difference(connection, live.reader, live.state, stopping, &mut taking);
    let rows = rows.map_err(|error| match error {
        ReconcileError::Encoding { base: was, live: is } => Impossible::Encoding { was, is }.into(),
        ReconcileError::Compare(source) => Impossible::NotCompared(source).into(),
        ReconcileError::Stopped => Failed::Agent(AgentError::Stopped),
        ReconcileError::Sink(error) => of_outbox(error),
    })?;
    base.prove(&taking, stopping)?;
    taking.persist(&live.position, live.state).map_err(of_outbox)?;
    Ok(rows)
}

/// The last captured state on its way. What is done to it is never committed.
struct Base {
    applier: SubmissionApplier,
    client: ClientState,
}

impl Base {
    fn open(file: &Path, outbox: &Outbox) -> Result<Self, Failed> {
        let unreadable = |source| Impossible::Unreadable { file: file.to_owned(), source };
        let nowhere = |source| Impossible::NoPosition { file: file.to_owned(), source };
        let connection = Connection::open(file).map_err(|error| unreadable(error.into()))?;
        let checkpoint = position::read(connection.sqlite()).map_err(nowhere)?;
        let claim = checkpoint.claim();
        let (expected, found) = (outbox.stream(), claim.stream);
        if expected != found {
            return Err(Impossible::OtherStream { expected, found }.into());
        }
        let client = claim.client.clone().ok_or_else(|| nowhere(NoPosition::None))?;
        let (expected, found) = (outbox.incarnation(), client.incarnation);
        if expected != found {
            return Err(Impossible::OtherIncarnation { expected, found }.into());
        }
        if client.group.is_some() {
            return Err(Impossible::InsideCommit { commit: client.next }.into());
        }
        let applier = Applier::over(connection).map_err(unreadable)?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut applier = SubmissionApplier::new(applier, folder);
        applier.begin().map_err(unreadable)?;
        Ok(Self { applier, client })
    }

    /// Applies what the outbox holds behind the replica's place, and checks that it comes to what was captured.
    fn catch_up(&mut self, outbox: &Outbox, stopping: &AtomicBool) -> Result<(), Failed> {
        let (incarnation, commit) = (self.client.incarnation, self.client.next);
        let mut wanted = Wanted::At(Position { incarnation, commit, part: None });
        loop {
            go_on(stopping)?;
            match outbox.find(&wanted).map_err(of_outbox)? {
                Found::Held(held) => {
                    wanted = Wanted::After(held.id);
                    self.take(held, Impossible::NotApplicable)?;
                }
                Found::NotYet => break,
                Found::Unknown => return Err(Impossible::Behind { commit }.into()),
            }
        }
        let (captured, found) = (outbox.state(), self.applier.applier().state().hash());
        let is_there = self.client.next == outbox.next_commit() && self.client.last == outbox.last_digest();
        if !is_there {
            return Err(Impossible::Behind { commit: self.client.next }.into());
        }
        if found != captured {
            return Err(Impossible::OtherState { captured, found }.into());
        }
        Ok(())
    }

    /// Applies what will be sent as any reader does, who compares the state with the claim.
    fn prove(&mut self, taking: &Reconciled<'_>, stopping: &AtomicBool) -> Result<(), Failed> {
        let mut after = None;
        while let Some(held) = taking.taken(after).map_err(of_outbox)? {
            go_on(stopping)?;
            after = Some(held.id);
            self.take(held, Impossible::Unproven)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        held: Held,
        refused: impl FnOnce(SubmissionError) -> Impossible,
    ) -> Result<(), Failed> {
        let body = Body::read(MessageType::Submission, held.body, BODY_BYTES_MAX)?;
        let bytes = body.content_bytes() as u64;
        if let Entry::Submission(submission) = body.into_entry() {
            self.client = self.client.after_submission(&submission, bytes)?;
            self.applier.take(&submission.content).map_err(refused)?;
        }
        Ok(())
    }
}

fn go_on(stopping: &AtomicBool) -> Result<(), Failed> {
    if stopping.load(Ordering::Relaxed) { Err(Failed::Agent(AgentError::Stopped)) } else { Ok(()) }
}

/// Tells what concerns the commit from what concerns the outbox.
fn of_outbox(error: OutboxError) -> Failed {
    match error {
        OutboxError::CommitTooLarge { .. }
        | OutboxError::TooManyParts { .. }
        | OutboxError::Refused { .. } => Impossible::TooMuch(error).into(),
        OutboxError::Owned { .. }
        | OutboxError::Exists { .. }
        | OutboxError::Missing { .. }
        | OutboxError::Foreign { .. }
        | OutboxError::Newer { .. }
        | OutboxError::Damaged { .. }
        | OutboxError::Full { .. }
        | OutboxError::Unfinished { .. }
        | OutboxError::StateUntold { .. }
        | OutboxError::Mispacked { .. }
        | OutboxError::PollOpen
        | OutboxError::NotHeld { .. }
        | OutboxError::OtherDigest { .. }
        | OutboxError::OtherPlace { .. }
        | OutboxError::Exhausted(_)
        | OutboxError::Sqlite(_) => Failed::Agent(error.into()),
    }
}
