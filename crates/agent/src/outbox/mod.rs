//! What was captured and not yet seen in the store, durably.
//!
//! ```text
//! follower --piece, commit--> packer --> sealer --exact bytes--> file --next--> who sends
//!          --persist--------> one COMMIT: submissions, position, numbers, digest
//! ```
//!
//! What must stay true:
//!
//! - A poll is kept whole or not at all, together with the position it ends at. So a commit enters exactly once, in commit order (I1).
//! - The bytes that were kept are the bytes that are sent, each time.
//! - Nothing is deleted that its owner did not see stored (I3).
//! - One process owns an outbox.
//!
//! Knows nothing of the WAL, of networks, and of time but what its spans say. It decides neither when to send nor what was stored.

mod error;
mod file;
mod find;
mod packing;
mod reconciled;
mod sealing;

use std::path::Path;

use synddb_protocol::hash::{CommitDigest, StateHash};
use synddb_protocol::id::{CommitNumber, Incarnation, StreamId};
use synddb_protocol::submission::{Changes, CommitKind, StateClaim};
use synddb_protocol::trace::Sampling;
use synddb_sqlite::capture::{CommittedState, Sink, WalPosition};
use synddb_sqlite::killable::reached;
use synddb_sqlite::state::RunningState;

pub use error::OutboxError;
pub use find::{Admitted, Found, Wanted};
pub use packing::Holds;
pub use reconciled::Reconciled;

#[cfg(test)]
pub(crate) use file::failing;
use file::{File, Place};
use packing::{Claim, Packed, Packer, Sealed, Tail};
use sealing::Sealer;

use crate::span::Captured;

/// What bounds an outbox, and what it tells of.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of submissions from which on it takes no further poll. The last poll that it took may have brought it above.
    pub bytes_max: u64,
    /// Which submissions are traced, here and where they are sent.
    pub traces: Sampling,
}

impl Default for Options {
    fn default() -> Self {
        Self { bytes_max: 4 << 30, traces: Sampling::NONE }
    }
}

/// The snapshot that an incarnation begins with, and the place in the WAL where it was taken.
#[derive(Debug, Clone, Copy)]
pub struct Beginning {
    /// The stream.
    pub stream: StreamId,
    /// The incarnation.
    pub incarnation: Incarnation,
    /// The snapshot's digest, which the first commit names as `prev`.
    pub snapshot: CommitDigest,
    /// The state hash of the database in it.
    pub state: StateHash,
    /// Up to where it shows what was committed.
    pub position: WalPosition,
}

/// Names a submission in one outbox. Dense and ascending; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubmissionId(u64);

impl SubmissionId {
    const FIRST: Self = Self(1);

    /// The number, 1 or more.
    pub const fn get(self) -> u64 {
        self.0
    }

    const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The one before; what is before the first one is never held.
    pub(crate) const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for SubmissionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A submission that the outbox holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name here.
    pub id: SubmissionId,
    /// What is in it.
    pub holds: Holds,
    /// The digest of its last commit, or of its part.
    pub digest: CommitDigest,
    /// The exact bytes to send: a message body (`synddb_protocol::log::Body`).
    pub body: Vec<u8>,
}

/// How much an outbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Submissions.
    pub submissions: u64,
    /// Their bodies, in bytes.
    pub bytes: u64,
}

/// What was captured and not yet seen in the store.
///
/// What a poll gives is visible only after [`Outbox::keep`]. After any error of a poll, in here or in the follower, the outbox
/// is as before that poll, and another follower goes on from [`Outbox::position`]. Since a follower ends at an error, its owner asks
/// [`Outbox::has_room`] before each poll.
pub struct Outbox {
    file: File,
    options: Options,
    /// What the file says.
    kept: Place,
    /// The oldest submission held; the next one's id when there is none.
    head: SubmissionId,
    /// The bodies held, in bytes.
    bytes: u64,
    /// The poll under way.
    poll: Option<Poll>,
    /// Makes the bytes of what the poll fills. It outlives the poll, so that its thread is started once.
    sealer: Sealer,
    /// Whether whoever polls has asked for room before ([`Outbox::admitted`]).
    is_admitted: bool,
}

/// What one poll gave so far. The submissions that it filled stand in a transaction that is not committed.
struct Poll {
    packer: Packer,
    next: SubmissionId,
    /// The commit that the next submission begins with.
    next_commit: CommitNumber,
    bytes: u64,
    /// What of it is traced.
    traced: Captured,
}

impl Outbox {
    /// Makes the outbox of an incarnation, durably.
    ///
    /// # Errors
    /// [`OutboxError::Exists`] when there is a file, [`OutboxError::Owned`] when another process is making it.
    pub fn create(path: &Path, beginning: &Beginning, options: Options) -> Result<Self, OutboxError> {
        let Beginning { stream, incarnation, snapshot, state, position } = *beginning;
        let tail = Tail { next: CommitNumber::FIRST, last: snapshot, state };
        let kept = Place { stream, incarnation, position, tail, next: SubmissionId::FIRST };
        let file = File::create(path, &kept)?;
        let (head, sealer) = (SubmissionId::FIRST, Sealer::new(tail.last));
        Ok(Self { file, options, kept, head, bytes: 0, poll: None, sealer, is_admitted: false })
    }

    /// Opens an outbox as its last owner left it, however that one ended.
    ///
    /// # Errors
    /// [`OutboxError`] when there is none, another process owns it, or it cannot be trusted.
    pub fn open(path: &Path, options: Options) -> Result<Self, OutboxError> {
        let file = File::open(path)?;
        let kept = file.read_place()?;
        let head = file.first(SubmissionId(0), kept.next)?.map_or(kept.next, |held| held.id);
        let bytes = file.bytes_through(kept.next)?;
        if head < kept.next {
            let newest = file.digest(SubmissionId(kept.next.get() - 1))?;
            if newest != Some(kept.tail.last) {
                return Err(file.damaged("the newest submission is not the last one kept"));
            }
        }
        let sealer = Sealer::new(kept.tail.last);
        Ok(Self { file, options, kept, head, bytes, poll: None, sealer, is_admitted: false })
    }

    /// Opens an outbox anew after something in it failed. Whether a COMMIT that failed is durable, only the file knows, so nothing may
    /// be said of the outbox before.
    ///
    /// # Errors
    /// [`OutboxError`] as of [`Outbox::open`].
    pub fn reopen(self) -> Result<Self, OutboxError> {
        let (path, options) = (self.file.path().to_owned(), self.options);
        // Its lock goes with it.
        drop(self);
        Self::open(&path, options)
    }

    /// The stream.
    pub const fn stream(&self) -> StreamId {
        self.kept.stream
    }

    /// The incarnation.
    pub const fn incarnation(&self) -> Incarnation {
        self.kept.incarnation
    }

    /// Up to where everything captured is kept.
    pub const fn position(&self) -> WalPosition {
        self.kept.position
    }

    /// The number of the next commit.
    pub const fn next_commit(&self) -> CommitNumber {
        self.kept.tail.next
    }

    /// What the next commit names as `prev`.
    pub const fn last_digest(&self) -> CommitDigest {
        self.kept.tail.last
    }

    /// The state hash of the database at the position.
    pub const fn state(&self) -> StateHash {
        self.kept.tail.state
    }

    /// How much is held.
    pub const fn pending(&self) -> Pending {
        Pending { submissions: self.kept.next.get() - self.head.get(), bytes: self.bytes }
    }

    /// Whether the budget leaves room for a poll. One that is asked for anyway may fail as [`OutboxError::Full`].
    pub const fn has_room(&self) -> bool {
        self.bytes < self.options.bytes_max || self.bytes == 0
    }

    /// The oldest submission held.
    ///
    /// # Errors
    /// [`OutboxError`] when it cannot be read.
    pub fn next(&self) -> Result<Option<Held>, OutboxError> {
        self.file.first(self.head, self.kept.next)
    }

    /// The submission that follows `id`.
    ///
    /// # Errors
    /// [`OutboxError`] when it cannot be read.
    pub fn after(&self, id: SubmissionId) -> Result<Option<Held>, OutboxError> {
        self.file.first(id.next().max(self.head), self.kept.next)
    }

    /// Forgets a submission that was seen stored, and all before it: they are links of one chain, so they are stored as well.
    /// `stored` is the digest seen, of the submission's last commit or of its part.
    ///
    /// # Errors
    /// [`OutboxError`] when the submission is not held or has another digest; everything stays.
    pub fn forget_through(&mut self, id: SubmissionId, stored: CommitDigest) -> Result<(), OutboxError> {
        if self.poll.is_some() {
            return Err(OutboxError::PollOpen);
        }
        if id < self.head || id >= self.kept.next {
            return Err(OutboxError::NotHeld { id });
        }
        match self.file.digest(id)? {
            Some(expected) if expected == stored => {}
            Some(expected) => return Err(OutboxError::OtherDigest { id, expected, found: stored }),
            None => return Err(self.file.damaged("a submission is missing")),
        }
        let bytes = self.file.bytes_through(id)?;
        self.file.delete_through(id)?;
        reached("forgotten");
        self.head = id.next();
        self.bytes = self.bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Takes a piece of a commit of which more comes. The rows of all pieces are one changeset, cut at any byte.
    ///
    /// # Errors
    /// [`OutboxError`]; the poll is given up.
    pub fn take_piece(&mut self, changes: Changes) -> Result<(), OutboxError> {
        self.take_part(CommitKind::Transaction, changes)
    }

    /// Takes a whole commit, or the last piece of one. `state` is the database's after it.
    ///
    /// # Errors
    /// [`OutboxError`]; the poll is given up.
    pub fn take_commit(&mut self, changes: Changes, state: StateHash) -> Result<(), OutboxError> {
        self.take_last(CommitKind::Transaction, changes, Claim::Known(StateClaim { state, scanned: None }))
    }

    /// Ends a poll: everything taken since the last one, and the position, in one transaction that survives a power cut when this
    /// returns. A poll that took nothing and ends where the last one did writes nothing.
    ///
    /// # Errors
    /// [`OutboxError`]; the poll is given up.
    pub fn keep(&mut self, position: WalPosition) -> Result<(), OutboxError> {
        self.keep_with(position, None)
    }

    /// Keeps whole commits that their maker has durably, all of them or none, also above the budget: while they wait elsewhere nobody can go on,
    /// and what bounds them is whoever made them.
    ///
    /// # Errors
    /// [`OutboxError`]; nothing was kept.
    pub fn keep_above_budget(
        &mut self,
        commits: Vec<(Changes, StateHash)>,
        position: WalPosition,
    ) -> Result<(), OutboxError> {
        self.is_admitted = true;
        let kept = commits
            .into_iter()
            .try_for_each(|(changes, state)| self.take_commit(changes, state))
            .and_then(|()| self.keep(position));
        self.is_admitted = false;
        kept
    }

    /// Gives the poll under way up, after the follower failed in it. The outbox is as before it.
    ///
    /// # Errors
    /// [`OutboxError::Sqlite`] when SQLite cannot roll back; open the outbox anew then.
    pub fn give_up(&mut self) -> Result<(), OutboxError> {
        self.poll = None;
        self.file.rollback()
    }

    fn take_part(&mut self, kind: CommitKind, changes: Changes) -> Result<(), OutboxError> {
        self.or_give_up(|outbox| {
            let packed = outbox.polling()?.packer.piece(kind, changes)?;
            outbox.stage(packed)
        })
    }

    fn take_last(
        &mut self,
        kind: CommitKind,
        changes: Changes,
        claim: Claim<'_, '_>,
    ) -> Result<(), OutboxError> {
        self.or_give_up(|outbox| {
            let packer = &mut outbox.polling()?.packer;
            // Whoever measures how soon a commit is here listens to this, and how soon it is durable, to `kept`.
            tracing::trace!(name: "captured", commit = packer.next().get(), "captured");
            let packed = packer.commit(kind, changes, claim)?;
            outbox.stage(packed)
        })
    }

    /// Ends a poll at whose end the database has this state, where not every commit of it came with its own.
    fn keep_with(&mut self, position: WalPosition, state: Option<&RunningState>) -> Result<(), OutboxError> {
        if self.poll.is_none() && position == self.kept.position {
            return Ok(());
        }
        self.or_give_up(|outbox| outbox.end_poll(position, state))
    }

    /// The poll under way, begun if there is none.
    fn polling(&mut self) -> Result<&mut Poll, OutboxError> {
        if self.poll.is_none() {
            if !self.is_admitted && !self.has_room() {
                return Err(self.full());
            }
            self.file.begin()?;
            self.sealer.begin(self.kept.tail.last);
        }
        let (Place { stream, incarnation, tail, next, .. }, options) = (self.kept, self.options);
        let begin = || Poll {
            packer: Packer::new(stream, incarnation, tail),
            next,
            next_commit: tail.next,
            bytes: 0,
            traced: Captured::begin(options.traces),
        };
        Ok(self.poll.get_or_insert_with(begin))
    }

    /// Has what the poll filled sealed, and writes what is into its transaction.
    fn stage(&mut self, packed: Vec<Packed>) -> Result<(), OutboxError> {
        for packed in packed {
            if let Some(sealed) = self.sealer.next(packed)? {
                self.insert(&sealed)?;
            }
        }
        Ok(())
    }

    /// Writes what is still being sealed into the transaction as well.
    fn settle(&mut self) -> Result<(), OutboxError> {
        let Some(sealed) = self.sealer.settle()? else { return Ok(()) };
        self.insert(&sealed)
    }

    fn insert(&mut self, sealed: &Sealed) -> Result<(), OutboxError> {
        let Some(poll) = &mut self.poll else { return Ok(()) };
        poll.next_commit = sealed.holds.follows(poll.next_commit)?;
        self.file.insert(poll.next, sealed)?;
        poll.next = poll.next.next();
        poll.bytes += sealed.body.len() as u64;
        poll.traced.note(self.kept.stream, sealed.holds, &sealed.body);
        Ok(())
    }

    fn end_poll(&mut self, position: WalPosition, state: Option<&RunningState>) -> Result<(), OutboxError> {
        let (packed, state) = self.polling()?.packer.end(state.map(|state| || state.hash()))?;
        self.settle()?;
        if let Some(packed) = packed {
            let sealed = self.sealer.now(packed)?;
            self.insert(&sealed)?;
        }
        let last = self.sealer.last();
        let poll = self.polling()?;
        if poll.next_commit != poll.packer.next() {
            return Err(OutboxError::Mispacked { commit: poll.next_commit });
        }
        let (next, bytes) = (poll.next, poll.bytes);
        let tail = Tail { next: poll.packer.next(), last, state };
        let kept = Place { position, tail, next, ..self.kept };
        self.file.write_place(&kept)?;
        self.file.commit()?;
        // The last commit that is durable now; 0 before the first.
        tracing::debug!(name: "kept", commit = kept.tail.next.get() - 1, "kept");
        if let Some(poll) = self.poll.take() {
            poll.traced.kept();
        }
        self.kept = kept;
        self.bytes += bytes;
        Ok(())
    }

    /// Undoes the whole poll when a step of it fails. If that fails too, the first failure is told: the second follows from it, and
    /// the next poll's BEGIN tells it again.
    fn or_give_up(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<(), OutboxError>,
    ) -> Result<(), OutboxError> {
        step(self).inspect_err(|_| {
            self.give_up().ok();
        })
    }

    fn full(&self) -> OutboxError {
        OutboxError::Full { bytes: self.bytes, bytes_max: self.options.bytes_max }
    }
}

impl Sink for Outbox {
    type Error = OutboxError;

    fn apart(&mut self, state: &mut CommittedState<'_>) -> Result<(), OutboxError> {
        // Where nothing was taken yet, what was kept says the state.
        if let Some(poll) = &mut self.poll {
            poll.packer.apart(state);
        }
        Ok(())
    }

    fn piece(&mut self, changes: Changes) -> Result<(), OutboxError> {
        self.take_piece(changes)
    }

    fn commit(&mut self, changes: Changes, state: &mut CommittedState<'_>) -> Result<(), OutboxError> {
        self.take_last(CommitKind::Transaction, changes, Claim::Behind(state))
    }

    fn persist(&mut self, position: &WalPosition, state: &RunningState) -> Result<(), OutboxError> {
        self.keep_with(*position, Some(state))
    }
}
