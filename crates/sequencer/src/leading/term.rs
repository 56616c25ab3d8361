//! One epoch that this process claimed: orders, journals, cuts, and has batches stored.
//!
//! One put is outstanding at a time; meanwhile messages gather, so batches grow as the store gets slower. Before the epoch message
//! is stored nothing is taken, and after another leader was met nothing is taken ever again.

use std::time::{Duration, Instant};

use bytes::Bytes;
use synddb_protocol::http::{Position, StreamStatus};
use synddb_protocol::id::Sequence;
use synddb_protocol::log::{Batch, InboundState};
use synddb_sqlite::killable::reached;
use synddb_storage::{Put, PutError};

use super::{Effect, Leader, Now, Shown, expected_after, group};
use crate::error::LeadError;
use crate::journal::{CutBatch, Journal, JournalError, Stored};
use crate::ordering::{Due, Ordering};
use crate::stream::{Command, Phase};
use crate::tail::holds_own_messages;

/// How long a full disk is left alone before the journal is tried again.
const FULL_DISK_PATIENCE: Duration = Duration::from_secs(1);

/// Whether commands are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The epoch message is not stored yet.
    Fencing(Sequence),
    Leading,
    Deposed,
}

/// What follows from an answer of the store.
pub(super) enum Next {
    GoOn,
    /// The place that this epoch signed for is taken: the next epoch goes on behind it.
    Reopen,
}

/// One epoch.
pub(super) struct Term {
    ordering: Ordering,
    standing: Standing,
    /// The last message that is stored, and the signed checkpoint after it.
    stored: Option<(Sequence, Bytes)>,
    stored_next: Option<Position>,
    /// The end of the batch that is being stored.
    outstanding: Option<Stored>,
    /// A batch that the full disk did not take yet.
    uncommitted: Option<(CutBatch, Stored)>,
    /// What is stored and could not be marked, because the disk was full.
    unmarked: Option<Stored>,
    /// When the disk that was full is tried again.
    full_until: Option<Instant>,
    #[cfg(test)]
    planted: Option<super::Planted>,
}

impl Term {
    /// The epoch of `ordering`, whose message `fence` is signed and journalled.
    pub(super) fn begin(ordering: Ordering, fence: Sequence, stored: Option<&Stored>) -> Self {
        let mut term = Self {
            ordering,
            standing: Standing::Fencing(fence),
            stored: None,
            stored_next: None,
            outstanding: None,
            uncommitted: None,
            unmarked: None,
            full_until: None,
            #[cfg(test)]
            planted: None,
        };
        if let Some(stored) = stored {
            term.remember(stored);
        }
        term
    }

    /// Whether what clients send is taken.
    pub(super) fn leads(&self) -> bool {
        self.standing == Standing::Leading
    }

    /// Whether everything that was accepted is stored, or nobody may store it any more.
    pub(super) fn is_drained(&self) -> bool {
        let nothing_left = self.standing == Standing::Deposed || self.ordering.first_uncut().is_none();
        nothing_left && self.outstanding.is_none() && self.uncommitted.is_none()
    }

    /// Takes what clients sent as one group.
    pub(super) fn take_group(
        &mut self,
        journal: &mut Journal,
        leader: &Leader,
        now: Now,
        commands: Vec<Command>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LeadError> {
        let taken = group::take(&mut self.ordering, journal, leader.journal_max, commands, now);
        let is_new = !taken.signed.is_empty();
        if is_new {
            // First: who has an answer finds what it promises among what is shown.
            effects.push(Effect::Signed(taken.signed));
        }
        effects.extend(taken.answers.into_iter().map(Effect::Answer));
        if is_new {
            effects.push(Effect::Show(Box::new(self.shown(leader))));
        }
        Ok(taken.done?)
    }

    /// Cuts and begins to store the next batch, if nothing is outstanding and it is time. Says when to look again.
    pub(super) fn cut_when_due(
        &mut self,
        journal: &mut Journal,
        leader: &Leader,
        now: Now,
        is_ending: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<Option<Instant>, LeadError> {
        if self.standing == Standing::Deposed || self.outstanding.is_some() {
            return Ok(None);
        }
        if let Some(until) = self.full_until.filter(|until| *until > now.instant) {
            return Ok(Some(until));
        }
        if let Some(stored) = self.unmarked.take()
            && !self.mark(journal, stored)?
        {
            return Ok(self.rest_of_full_disk(now));
        }
        if self.uncommitted.is_none() {
            let is_urgent = is_ending || matches!(self.standing, Standing::Fencing(_));
            match if is_urgent { self.ordering.due_at_end() } else { self.ordering.due(now.instant) } {
                Due::Never => return Ok(None),
                Due::At(time) => return Ok(Some(time)),
                Due::Now(last) => self.uncommitted = Some(self.cut(journal, last)?),
            }
        }
        let Some((batch, stored)) = self.uncommitted.take() else { return Ok(None) };
        reached("cut");
        #[cfg(test)]
        let written = match self.planted {
            Some(super::Planted::PutsUnjournalled) => Ok(()),
            _ => journal.write_cut(&batch),
        };
        #[cfg(not(test))]
        let written = journal.write_cut(&batch);
        match written {
            Ok(()) => {
                reached("cut journalled");
                let CutBatch { first, last, bytes } = batch;
                let stream = leader.stream;
                tracing::debug!(%stream, %first, %last, bytes = bytes.len(), "cut a batch");
                effects.push(Effect::Put { first, object: Bytes::from(bytes) });
                self.outstanding = Some(stored);
                Ok(None)
            }
            Err(JournalError::Full) => {
                self.uncommitted = Some((batch, stored));
                Ok(self.rest_of_full_disk(now))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn rest_of_full_disk(&mut self, now: Now) -> Option<Instant> {
        self.full_until = Some(now.instant + FULL_DISK_PATIENCE);
        self.full_until
    }

    fn cut(&mut self, journal: &Journal, last: Sequence) -> Result<(CutBatch, Stored), LeadError> {
        let cut = self.ordering.cut(last);
        let messages = journal.messages(cut.first, cut.last)?;
        let bytes = cut.to_stored(messages).map_err(|_| journal.damaged("messages"))?;
        let stored = Stored { last: cut.last, checkpoint: cut.checkpoint.to_bytes() };
        Ok((CutBatch { first: cut.first, last: cut.last, bytes }, stored))
    }

    /// What the store's answer to the outstanding batch means.
    pub(super) fn take_put(
        &mut self,
        journal: &mut Journal,
        leader: &Leader,
        answer: Result<Put, PutError>,
        effects: &mut Vec<Effect>,
    ) -> Result<Next, LeadError> {
        let Some(stored) = self.outstanding.take() else { return Ok(Next::GoOn) };
        #[cfg(test)]
        let answer = super::planted::take_put(self.planted, answer);
        let existing = match answer {
            Ok(Put::Created | Put::Unchanged) => {
                self.take_stored(journal, leader, stored, effects)?;
                return Ok(Next::GoOn);
            }
            Err(PutError::Conflict { existing, .. }) => Some(existing),
            Err(PutError::ConflictTooLarge { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let is_own = match existing.map(|existing| Batch::from_stored(existing.as_bytes())) {
            Some(Ok(batch)) => holds_own_messages(journal, &batch)?,
            Some(Err(_)) | None => false,
        };
        let (stream, epoch) = (leader.stream, self.ordering.epoch());
        if is_own || self.standing != Standing::Leading {
            tracing::warn!(%stream, %epoch, "the place is taken; claiming the next epoch");
            return Ok(Next::Reopen);
        }
        tracing::error!(%stream, %epoch, "deposed: another sequencer leads; refusing all writes from here on");
        self.standing = Standing::Deposed;
        effects.push(Effect::Deposed);
        effects.push(Effect::Show(Box::new(self.shown(leader))));
        Ok(Next::GoOn)
    }

    fn take_stored(
        &mut self,
        journal: &mut Journal,
        leader: &Leader,
        stored: Stored,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LeadError> {
        reached("put answered");
        self.remember(&stored);
        if let Standing::Fencing(fence) = self.standing
            && stored.last >= fence
        {
            self.standing = Standing::Leading;
            reached("fence stored");
            let (stream, epoch) = (leader.stream, self.ordering.epoch());
            tracing::info!(%stream, %epoch, sequence = %stored.last, "leading the stream");
        }
        effects.push(Effect::Stored(stored.clone()));
        effects.push(Effect::Show(Box::new(self.shown(leader))));
        self.mark(journal, stored)?;
        reached("marked");
        Ok(())
    }

    /// Says to the journal what is stored. Gives `false` when the disk is too full for it; that is made up for later.
    fn mark(&mut self, journal: &mut Journal, stored: Stored) -> Result<bool, LeadError> {
        match journal.mark_stored(stored.clone()) {
            Ok(()) => Ok(true),
            Err(JournalError::Full) => {
                self.unmarked = Some(stored);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn remember(&mut self, stored: &Stored) {
        self.stored_next = expected_after(&stored.checkpoint);
        self.stored = Some((stored.last, Bytes::from(stored.checkpoint.clone())));
    }

    /// How things stand.
    pub(super) fn shown(&self, leader: &Leader) -> Shown {
        let tip = self.ordering.tip();
        let status = StreamStatus {
            stream: tip.stream(),
            epoch: self.ordering.epoch(),
            key_id: leader.key.id(),
            sequence: tip.last(),
            stored: self.stored.as_ref().map(|(last, _)| *last),
            sequenced_next: tip.client().map(Position::expected),
            stored_next: self.stored_next,
            state: tip.client().map(|client| client.state),
            timestamp: tip.timestamp(),
            status: tip.status(),
        };
        let phase = match self.standing {
            Standing::Fencing(_) => Phase::Opening,
            Standing::Leading => Phase::Leading,
            Standing::Deposed => Phase::Deposed,
        };
        let delivered = tip.inbound().map_or(0, InboundState::delivered);
        Shown { phase, status: Some(status), delivered, stored: self.stored.clone() }
    }
}

#[cfg(test)]
impl Term {
    /// Has the epoch do something wrong.
    pub(super) fn plant(&mut self, planted: super::Planted) {
        self.planted = Some(planted);
        if planted == super::Planted::LeadsUnfenced {
            self.standing = Standing::Leading;
        }
    }
}
