//! The thread that rebuilds the database: verified batches in, a file out that is as the application's was.
//!
//! As the owner of a replica it restores each snapshot that begins an incarnation, applies what follows, and compares every state that
//! the log claims. It keeps no position: what it makes is thrown away unless it is finished.

use std::path::PathBuf;

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{CommitNumber, IncarnationCounter, Sequence, StreamId, Timestamp};
use synddb_protocol::log::{Entry, VerifiedBatch, VerifiedMessage};
use synddb_protocol::submission::{Commit, CommitKind, Content, Snapshot, SnapshotPlace, Submission};
use synddb_sqlite::apply::{Applier, ApplyError, SubmissionApplier};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::snapshot::Image;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::target::{Step, Target};
use crate::error::{Divergence, HaltCause, ReplicaError, ValidatorError};
use crate::fetch::PatientStore;
use crate::pipeline::{Item, cut_off};
use crate::replica::{Chunks, Ended, Place, blame, stage};

/// A transaction ends behind so many bytes of bodies.
const TRANSACTION_BYTES: usize = 16 << 20;

/// How the file is written: nothing of it counts before all of it is there, and then it is synced as a whole. 64 MiB of pages are kept in
/// memory, since rows of a commit are all over the file.
const PRAGMAS: &str = "PRAGMA synchronous = OFF; PRAGMA cache_size = -65536";

/// What the rebuilding thread needs of the process around it.
pub(super) struct Context {
    pub(super) runtime: Handle,
    pub(super) store: PatientStore,
    pub(super) stream: StreamId,
    pub(super) stop: CancellationToken,
    /// Hears the last message that was taken or passed.
    pub(super) reached: watch::Sender<Option<Sequence>>,
}

/// Where the database stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) incarnation: IncarnationCounter,
    /// `None` at the snapshot that begins the incarnation.
    pub(super) commit: Option<CommitNumber>,
    /// The message that the commit, or its last part, stands in, or that holds the snapshot.
    pub(super) sequence: Sequence,
    pub(super) timestamp: Timestamp,
    pub(super) state: StateHash,
    /// Whether the log claims the state of this very commit.
    pub(super) is_claimed: bool,
}

/// A place of a message in log time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) sequence: Sequence,
    pub(super) timestamp: Timestamp,
}

/// What came of it. A commit that is not there is no error of the log.
#[derive(Debug)]
pub(super) enum Over {
    /// The database stands in the file where it was asked for.
    Rebuilt {
        file: PathBuf,
        stand: Stand,
        /// The commit of which some parts, and not all, are at or before what was asked for.
        unfinished: Option<CommitNumber>,
        /// The message behind what was asked for that says that something in between was not captured.
        gap: Option<Sequence>,
    },
    /// What is asked for stands before the first snapshot, which is here; `None` when there is none up to the end.
    TooEarly { snapshot: Option<Stamp>, last: Option<Stamp> },
    /// The log ends, or the incarnation, without the commit or the message that is asked for.
    Missing {
        /// What its incarnation came to, if it was met.
        stand: Option<Stand>,
        /// The commit of which parts are there.
        unfinished: Option<CommitNumber>,
        /// The end of the log, if that was met.
        last: Option<Stamp>,
    },
}

/// A database that is being rebuilt.
struct Working {
    applier: SubmissionApplier,
    file: PathBuf,
    stand: Stand,
    /// The commit of which parts came.
    group: Option<CommitNumber>,
    /// Bytes of bodies in the open transaction.
    bytes: usize,
}

/// What is left to do.
enum Next {
    /// More messages are needed.
    More,
    /// The database stands where it was asked for. What follows is looked at only to know whether something was not captured.
    Look,
    Over(Over),
}

pub(super) struct Rebuild {
    place: Place,
    target: Target,
    context: Context,
    working: Option<Working>,
    last: Option<Stamp>,
    /// Whether what was asked for was passed.
    is_behind: bool,
}

impl Rebuild {
    /// Rebuilds. Takes a thread of its own.
    ///
    /// # Errors
    /// [`ValidatorError`]; `None` when it was asked to end.
    pub(super) fn run(
        place: Place,
        target: Target,
        context: Context,
        from: Receiver<Item<Box<VerifiedBatch>>>,
    ) -> Result<Option<Over>, ValidatorError> {
        let mut rebuild = Self { place, target, context, working: None, last: None, is_behind: false };
        match rebuild.follow(from) {
            Ok(over) => Ok(Some(over)),
            Err(Ended::Interrupted) => Ok(None),
            Err(Ended::Failed(error)) => Err(*error),
            Err(Ended::Halted(cause)) => {
                let from = rebuild.last.and_then(|last| last.sequence.next()).unwrap_or(Sequence::FIRST);
                Err(cause.into_error(from, from))
            }
        }
    }

    fn follow(&mut self, mut from: Receiver<Item<Box<VerifiedBatch>>>) -> Result<Over, Ended> {
        loop {
            if self.context.stop.is_cancelled() {
                return Err(Ended::Interrupted);
            }
            match from.blocking_recv() {
                Some(Item::Batch(ahead)) => {
                    let (batch, _room) = ahead.split();
                    if let Next::Over(over) = self.batch(&batch)? {
                        return Ok(over);
                    }
                }
                Some(Item::End) => return self.ends(),
                // What comes behind what was asked for was only looked at.
                Some(Item::Failed(error)) if self.is_behind && self.working.is_some() => {
                    warn!(error = %synddb_protocol::chain(&*error), "what follows is not known");
                    return self.rebuilt(None);
                }
                Some(Item::Failed(error)) => return Err(Ended::Failed(error)),
                Some(Item::Look | Item::Audit(_)) => {}
                None if self.context.store.may_end() => return Err(Ended::Interrupted),
                None => return Err(Ended::Failed(Box::new(cut_off()))),
            }
        }
    }

    fn batch(&mut self, batch: &VerifiedBatch) -> Result<Next, Ended> {
        for message in batch.messages() {
            if self.context.stop.is_cancelled() {
                return Err(Ended::Interrupted);
            }
            match self.message(message)? {
                Next::More | Next::Look => {}
                Next::Over(over) => return Ok(Next::Over(over)),
            }
        }
        if self.is_behind {
            return Ok(Next::Look);
        }
        if let Some(working) = &mut self.working {
            working.check(batch)?;
            working.bytes += batch.messages().iter().map(VerifiedMessage::body_bytes).sum::<usize>();
            if working.bytes >= TRANSACTION_BYTES {
                working.commit()?;
            }
        }
        Ok(Next::More)
    }

    fn message(&mut self, message: &VerifiedMessage) -> Result<Next, Ended> {
        let (header, entry) = (message.header(), message.entry());
        let stamp = Stamp { sequence: header.sequence, timestamp: header.timestamp };
        if self.is_behind {
            return self.look(stamp, entry);
        }
        let step = self.target.step(header, entry);
        let next = match step {
            Step::Pass => Next::More,
            Step::Take => {
                self.take(stamp, entry, None)?;
                Next::More
            }
            Step::TakeThrough(commit) => {
                self.take(stamp, entry, Some(commit))?;
                self.reached(stamp)?
            }
            Step::TakeLast => {
                self.take(stamp, entry, None)?;
                self.reached(stamp)?
            }
            Step::Behind => {
                self.is_behind = true;
                return self.look(stamp, entry);
            }
            Step::Missed => Next::Over(self.missing(None)?),
        };
        self.last = Some(stamp);
        self.context.reached.send_replace(Some(stamp.sequence));
        Ok(next)
    }

    /// What was asked for is there, if there is anything yet.
    fn reached(&mut self, stamp: Stamp) -> Result<Next, Ended> {
        self.last = Some(stamp);
        self.is_behind = true;
        match self.target {
            // A commit is what it is, whatever follows.
            Target::Commit { .. } => Ok(Next::Over(self.rebuilt(None)?)),
            Target::Newest | Target::Message(_) | Target::Time(_) => Ok(Next::Look),
        }
    }

    /// A message behind what was asked for: the first one of the client tells whether something in between was not captured, and the first
    /// snapshot where the log could be asked for something.
    fn look(&mut self, stamp: Stamp, entry: &Entry) -> Result<Next, Ended> {
        let is_gap = match entry {
            Entry::Snapshot(snapshot) => matches!(snapshot.place, SnapshotPlace::Begins { .. }),
            Entry::Submission(submission) => is_reconcile(submission),
            Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => return Ok(Next::Look),
        };
        Ok(Next::Over(match self.working {
            Some(_) => self.rebuilt(is_gap.then_some(stamp.sequence))?,
            None => Over::TooEarly { snapshot: Some(stamp), last: None },
        }))
    }

    /// The log ends.
    fn ends(&mut self) -> Result<Over, Ended> {
        let last = self.last;
        match self.target {
            Target::Newest | Target::Time(_) if self.working.is_some() => self.rebuilt(None),
            Target::Message(_) if self.is_behind && self.working.is_some() => self.rebuilt(None),
            Target::Message(_) if !self.is_behind => self.missing(last),
            Target::Commit { .. } => self.missing(last),
            Target::Newest | Target::Time(_) | Target::Message(_) => {
                Ok(Over::TooEarly { snapshot: None, last })
            }
        }
    }

    fn missing(&mut self, last: Option<Stamp>) -> Result<Over, Ended> {
        let (stand, unfinished) = match self.working.as_ref() {
            Some(working) => (Some(working.stand), working.group),
            None => (None, None),
        };
        Ok(Over::Missing { stand, unfinished, last })
    }

    /// The database is there. Nothing has it open any more.
    fn rebuilt(&mut self, gap: Option<Sequence>) -> Result<Over, Ended> {
        let Some(mut working) = self.working.take() else {
            return Err(Ended::Failed(Box::new(ValidatorError::Fault { part: "restore" })));
        };
        working.commit()?;
        let Working { applier, file, mut stand, group, .. } = working;
        stand.state = applier.applier().state().hash();
        drop(applier);
        Ok(Over::Rebuilt { file, stand, unfinished: group, gap })
    }

    /// Takes what a message carries; of whole commits those up to `through`.
    fn take(&mut self, stamp: Stamp, entry: &Entry, through: Option<CommitNumber>) -> Result<(), Ended> {
        match entry {
            Entry::Snapshot(snapshot) if matches!(snapshot.place, SnapshotPlace::Begins { .. }) => {
                self.begin(stamp, snapshot)
            }
            Entry::Submission(submission) => {
                let Some(working) = &mut self.working else { return Ok(()) };
                working.take(stamp, &submission.content, through)
            }
            // A snapshot after a commit has that commit's state hash, which the batch's verification compared. The others change no row.
            Entry::Snapshot(_) | Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => Ok(()),
        }
    }

    /// Restores the snapshot that begins an incarnation, in place of everything before.
    fn begin(&mut self, stamp: Stamp, snapshot: &Snapshot) -> Result<(), Ended> {
        // Closed before its file goes.
        self.working = None;
        let context = &self.context;
        let (chunks, stop) = (snapshot.chunks.clone(), context.stop.clone());
        let chunks = Chunks::fetch(&context.runtime, context.store.clone(), context.stream, chunks, stop);
        stage(&self.place, stamp.sequence, &Image::of_snapshot(snapshot), chunks)?;
        let file = self.place.staged();
        let sqlite = |source| ReplicaError::Sqlite { doing: "open", file: file.clone(), source };
        let connection = Connection::open(&file).map_err(sqlite)?;
        connection.execute(PRAGMAS).map_err(sqlite)?;
        let applier = Applier::over(connection).map_err(|source| failed(&file, source))?;
        let applier = SubmissionApplier::new(applier, self.place.folder());
        let stand = Stand {
            incarnation: snapshot.incarnation.counter,
            commit: None,
            sequence: stamp.sequence,
            timestamp: stamp.timestamp,
            state: snapshot.state,
            is_claimed: true,
        };
        self.working = Some(Working { applier, file, stand, group: None, bytes: 0 });
        Ok(())
    }
}

impl Working {
    fn take(&mut self, stamp: Stamp, content: &Content, through: Option<CommitNumber>) -> Result<(), Ended> {
        self.transact()?;
        match content {
            Content::Commits(commits) => {
                let commits = commits.as_slice();
                let wanted = |commit: &Commit| through.is_none_or(|through| commit.number <= through);
                let (now, rest) = commits.split_at(commits.partition_point(wanted));
                self.apply(stamp.sequence, now)?;
                if let Some(last) = now.last() {
                    self.stands(stamp, last.number, last.state.is_some());
                }
                self.rehearse(stamp.sequence, rest)
            }
            Content::Part(part) => {
                let applied = self.applier.take(content);
                applied.map_err(|error| blame(&self.file, stamp.sequence, error))?;
                self.group = part.last.is_none().then_some(part.number);
                if self.group.is_none() {
                    self.stands(stamp, part.number, true);
                }
                Ok(())
            }
        }
    }

    /// Applies what nobody asked for, so that the state that the whole submission claims is compared, and takes it back.
    fn rehearse(&mut self, sequence: Sequence, rest: &[Commit]) -> Result<(), Ended> {
        if rest.is_empty() {
            return Ok(());
        }
        self.commit()?;
        self.transact()?;
        self.apply(sequence, rest)?;
        self.applier.rollback().map_err(|source| failed(&self.file, source))
    }

    fn apply(&mut self, sequence: Sequence, commits: &[Commit]) -> Result<(), Ended> {
        let applied = self.applier.take_commits(commits);
        applied.map(drop).map_err(|error| blame(&self.file, sequence, error))
    }

    const fn stands(&mut self, stamp: Stamp, commit: CommitNumber, is_claimed: bool) {
        self.stand.commit = Some(commit);
        self.stand.sequence = stamp.sequence;
        self.stand.timestamp = stamp.timestamp;
        self.stand.is_claimed = is_claimed;
    }

    /// Compares the state with what the checkpoint of a batch claims that was taken whole.
    fn check(&self, batch: &VerifiedBatch) -> Result<(), Ended> {
        let claim = batch.checkpoint().claim();
        let (sequence, found) = (claim.size, self.applier.applier().state().hash());
        match claim.client.as_ref().map(|client| client.state) {
            Some(expected) if expected != found => {
                let source = Divergence::Rebuilt { expected, found };
                Err(HaltCause::Diverged { sequence, source }.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn transact(&mut self) -> Result<(), Ended> {
        if self.applier.applier().is_open() {
            return Ok(());
        }
        self.applier.begin().map_err(|source| failed(&self.file, source))
    }

    fn commit(&mut self) -> Result<(), Ended> {
        self.bytes = 0;
        if !self.applier.applier().is_open() {
            return Ok(());
        }
        self.applier.commit().map_err(|source| failed(&self.file, source))
    }
}

fn is_reconcile(submission: &Submission) -> bool {
    let kind = match &submission.content {
        Content::Commits(commits) => commits.first().kind,
        Content::Part(part) => part.kind,
    };
    matches!(kind, CommitKind::Reconcile)
}

fn failed(file: &std::path::Path, source: ApplyError) -> Ended {
    ReplicaError::Apply { file: file.to_owned(), source: Box::new(source) }.into()
}
