//! What enters an outbox and was not captured: a reconcile, and what an audit found.

use synddb_protocol::hash::StateHash;
use synddb_protocol::submission::{Changes, CommitKind, StateClaim};
use synddb_sqlite::capture::{CommittedState, Sink, WalPosition};
use synddb_sqlite::state::RunningState;

use super::packing::Claim;
use super::{Held, Outbox, OutboxError, SubmissionId};

impl Outbox {
    /// Takes the difference between the last captured state and the live one, as one commit of its own kind, whose claim says that the state was
    /// scanned. The budget does not bound it: while it is not kept nothing can be captured, and the snapshot that it saves would be larger.
    ///
    /// # Errors
    /// [`OutboxError::PollOpen`] when a poll is under way.
    pub fn reconciled(&mut self) -> Result<Reconciled<'_>, OutboxError> {
        if self.poll.is_some() {
            return Err(OutboxError::PollOpen);
        }
        self.is_admitted = true;
        Ok(Reconciled(self))
    }

    /// Keeps that a full scan of the application's own file at `position` found the state `scanned`: a commit that changes nothing. Whoever
    /// reads one in which it is not the captured state has proof that the capture missed something.
    ///
    /// # Errors
    /// [`OutboxError::PollOpen`] when a poll is under way; otherwise as of a poll, and nothing was kept.
    pub fn keep_audit(&mut self, position: WalPosition, scanned: StateHash) -> Result<(), OutboxError> {
        if self.poll.is_some() {
            return Err(OutboxError::PollOpen);
        }
        let claim = Claim::Known(StateClaim { state: self.state(), scanned: Some(scanned) });
        self.take_last(CommitKind::Transaction, Changes::default(), claim)?;
        self.keep(position)
    }
}

/// An outbox that takes a reconcile. What it took and was not told to keep is given up when this goes.
pub struct Reconciled<'o>(&'o mut Outbox);

impl Reconciled<'_> {
    /// The submission that follows `after` among those of the commits that were taken, or the first of them, exactly as it will be sent: for who looks at
    /// it before it is kept.
    ///
    /// # Errors
    /// [`OutboxError`] when it cannot be read.
    pub fn taken(&self, after: Option<SubmissionId>) -> Result<Option<Held>, OutboxError> {
        let Some(poll) = &self.0.poll else { return Ok(None) };
        let from = after.map_or(self.0.kept.next, SubmissionId::next);
        self.0.file.first(from, poll.next)
    }
}

impl Drop for Reconciled<'_> {
    fn drop(&mut self) {
        self.0.is_admitted = false;
        if self.0.poll.is_some() {
            // If that fails, the BEGIN of the next poll tells it again.
            self.0.give_up().ok();
        }
    }
}

impl Sink for Reconciled<'_> {
    type Error = OutboxError;

    fn piece(&mut self, changes: Changes) -> Result<(), OutboxError> {
        self.0.take_part(CommitKind::Reconcile, changes)
    }

    fn commit(&mut self, changes: Changes, state: &mut CommittedState<'_>) -> Result<(), OutboxError> {
        let state = state.hash();
        let claim = Claim::Known(StateClaim { state, scanned: Some(state) });
        self.0.take_last(CommitKind::Reconcile, changes, claim)?;
        self.0.or_give_up(Outbox::settle)
    }

    fn persist(&mut self, position: &WalPosition, _state: &RunningState) -> Result<(), OutboxError> {
        self.0.keep(*position)
    }
}
