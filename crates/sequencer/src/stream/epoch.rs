//! One epoch of an owner: orders, journals, cuts and publishes.
//!
//! One put is outstanding at a time; meanwhile messages gather, so batches grow as the store gets slower. The bytes of a batch are
//! in the journal before its first put. An idle epoch sleeps: no timer runs, and the store is asked nothing. Before the epoch message
//! is stored nothing is taken, and after another leader was met nothing is taken ever again.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use synddb_protocol::http::{Position, Reason, StreamStatus};
use synddb_protocol::id::Sequence;
use synddb_protocol::log::{Batch, SignedCheckpoint, StatusLevel};
use synddb_storage::{Key, PutError};
use tokio::task::JoinHandle;

use super::owner::{Parts, log_time};
use super::{Answer, Command, Phase, group, publish};
use crate::journal::{CutBatch, JournalError, Stored};
use crate::lead::{LeadError, Opened, holds_own_messages};
use crate::metrics::StreamMetrics;
use crate::ordering::{Due, Ordering};

/// How long a full disk is left alone before the journal is tried again.
const FULL_DISK_PATIENCE: Duration = Duration::from_secs(1);

/// Why one epoch ended.
pub(super) enum End {
    /// What was accepted is stored, or there was no more time for it.
    Finished,
    /// The place that this epoch signed for is taken: the next epoch goes on behind it.
    Reopen,
}

/// Whether commands are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The epoch message is not stored yet.
    Fencing(Sequence),
    Leading,
    Deposed,
}

/// A batch that is being stored.
struct Outstanding {
    stored: Stored,
    task: JoinHandle<Result<(), PutError>>,
}

/// One epoch of one owner.
pub(super) struct Epoch<'o> {
    parts: &'o mut Parts,
    metrics: StreamMetrics,
    ordering: Ordering,
    standing: Standing,
    /// The last message that is stored, and the signed checkpoint after it.
    stored: Option<(Sequence, Bytes)>,
    stored_next: Option<Position>,
    outstanding: Option<Outstanding>,
    /// A batch that the full disk did not take yet.
    uncommitted: Option<(CutBatch, Stored)>,
    /// What is stored and could not be marked, because the disk was full.
    unmarked: Option<Stored>,
    drain_until: Option<Instant>,
}

impl<'o> Epoch<'o> {
    pub(super) fn new(parts: &'o mut Parts, metrics: StreamMetrics, opened: Opened) -> Self {
        let Opened { ordering, fence, stored } = opened;
        let mut epoch = Self {
            metrics,
            parts,
            ordering,
            standing: Standing::Fencing(fence),
            stored: None,
            stored_next: None,
            outstanding: None,
            uncommitted: None,
            unmarked: None,
            drain_until: None,
        };
        if let Some(stored) = &stored {
            epoch.remember(stored);
        }
        epoch.show();
        epoch
    }

    /// Leads until the epoch ends.
    pub(super) async fn run(mut self) -> Result<End, LeadError> {
        loop {
            let wake_at = self.cut_when_due()?;
            if self.drain_until.is_some() && self.is_drained() {
                return Ok(End::Finished);
            }
            let is_ending = self.drain_until.is_some();
            tokio::select! {
                biased;
                answered = answer_of(&mut self.outstanding) => {
                    if let Some(end) = self.settle(answered)? {
                        return Ok(end);
                    }
                }
                () = at(self.drain_until) => {
                    let unstored = self.parts.journal.unstored().messages;
                    tracing::warn!(unstored, "no more time to store; the journal keeps it for the next start");
                    return Ok(End::Finished);
                }
                () = self.parts.finish.asked(), if !is_ending => self.begin_drain(),
                command = self.parts.commands.recv(), if !is_ending => match command {
                    Some(command) => self.take_group(command)?,
                    None => self.begin_drain(),
                },
                () = at(wake_at) => {}
            }
        }
    }

    fn begin_drain(&mut self) {
        self.drain_until = Some(Instant::now() + self.parts.drain);
    }

    fn is_drained(&self) -> bool {
        let nothing_left = self.standing == Standing::Deposed || self.ordering.first_uncut().is_none();
        nothing_left && self.outstanding.is_none() && self.uncommitted.is_none()
    }

    /// Takes a command and those that wait behind it.
    fn take_group(&mut self, first: Command) -> Result<(), LeadError> {
        let mut commands = vec![first];
        while commands.len() < group::GROUP_MAX
            && let Ok(command) = self.parts.commands.try_recv()
        {
            commands.push(command);
        }
        if self.standing != Standing::Leading {
            for command in commands {
                let why = "this sequencer does not lead the stream";
                command.answer.send(Answer::Refused(Reason::NotLeading, why.to_owned())).ok();
            }
            return Ok(());
        }
        let budget = self.parts.journal_bytes_max;
        let taken = group::take(&mut self.ordering, &mut self.parts.journal, budget, commands, log_time())?;
        if taken > 0 {
            self.metrics.sequenced(taken, self.ordering.tip().last());
            self.show();
        }
        Ok(())
    }

    /// Cuts and begins to store the next batch, if nothing is outstanding and it is time. Says when to look again.
    fn cut_when_due(&mut self) -> Result<Option<Instant>, LeadError> {
        if self.standing == Standing::Deposed || self.outstanding.is_some() {
            return Ok(None);
        }
        let now = Instant::now();
        if let Some(stored) = self.unmarked.take()
            && !self.mark(stored)?
        {
            return Ok(Some(now + FULL_DISK_PATIENCE));
        }
        if self.uncommitted.is_none() {
            let is_urgent = self.drain_until.is_some() || matches!(self.standing, Standing::Fencing(_));
            match if is_urgent { self.ordering.due_at_end() } else { self.ordering.due(now) } {
                Due::Never => return Ok(None),
                Due::At(time) => return Ok(Some(time)),
                Due::Now(last) => self.uncommitted = Some(self.cut(last)?),
            }
        }
        let Some((batch, stored)) = self.uncommitted.take() else { return Ok(None) };
        match self.parts.journal.write_cut(&batch) {
            Ok(()) => self.begin_put(batch, stored),
            Err(JournalError::Full) => {
                self.uncommitted = Some((batch, stored));
                return Ok(Some(now + FULL_DISK_PATIENCE));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }

    fn cut(&mut self, last: Sequence) -> Result<(CutBatch, Stored), LeadError> {
        let cut = self.ordering.cut(last);
        let messages = self.parts.journal.messages(cut.first, cut.last)?;
        let bytes = cut.to_stored(messages).map_err(|_| self.parts.journal.damaged("messages"))?;
        let stored = Stored { last: cut.last, checkpoint: cut.checkpoint.to_bytes() };
        Ok((CutBatch { first: cut.first, last: cut.last, bytes }, stored))
    }

    fn begin_put(&mut self, batch: CutBatch, stored: Stored) {
        let key = Key::Batch { stream: self.parts.leader.stream, first: batch.first };
        tracing::debug!(%key, last = %batch.last, bytes = batch.bytes.len(), "cut a batch");
        self.metrics.cut();
        let (store, view, metrics) =
            (Arc::clone(&self.parts.store), self.parts.view.clone(), self.metrics.clone());
        let task = tokio::spawn(async move {
            publish::put(&*store, key, Bytes::from(batch.bytes), &view, &metrics).await
        });
        self.outstanding = Some(Outstanding { stored, task });
    }

    /// What the store's answer means.
    fn settle(&mut self, answered: Answered) -> Result<Option<End>, LeadError> {
        match answered {
            Answered::Stored(stored) => {
                self.published(stored)?;
                Ok(None)
            }
            Answered::Refused(PutError::Conflict { existing, .. }) => {
                let is_own = match Batch::from_stored(existing.as_bytes()) {
                    Ok(batch) => holds_own_messages(&self.parts.journal, &batch)?,
                    Err(_) => false,
                };
                Ok(self.conflicted(is_own))
            }
            Answered::Refused(PutError::ConflictTooLarge { .. }) => Ok(self.conflicted(false)),
            Answered::Refused(error) => Err(error.into()),
            // The runtime goes down, and this owner with it.
            Answered::Cancelled => Ok(Some(End::Finished)),
        }
    }

    fn published(&mut self, stored: Stored) -> Result<(), LeadError> {
        self.remember(&stored);
        self.metrics.published(stored.last);
        if let Standing::Fencing(fence) = self.standing
            && stored.last >= fence
        {
            self.standing = Standing::Leading;
            let (stream, epoch) = (self.parts.leader.stream, self.ordering.epoch());
            tracing::info!(%stream, %epoch, sequence = %stored.last, "leading the stream");
        }
        self.show();
        self.mark(stored)?;
        Ok(())
    }

    /// Says to the journal what is stored. Gives `false` when the disk is too full for it; that is made up for later.
    fn mark(&mut self, stored: Stored) -> Result<bool, LeadError> {
        match self.parts.journal.mark_stored(stored.clone()) {
            Ok(()) => Ok(true),
            Err(JournalError::Full) => {
                self.unmarked = Some(stored);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Something else stands where a batch of ours should. While fencing it decides for the next epoch; later it is the end of
    /// leading, unless it holds our own messages.
    fn conflicted(&mut self, is_own: bool) -> Option<End> {
        let (stream, epoch) = (self.parts.leader.stream, self.ordering.epoch());
        if is_own || self.standing != Standing::Leading {
            tracing::warn!(%stream, %epoch, "the place is taken; claiming the next epoch");
            return Some(End::Reopen);
        }
        tracing::error!(%stream, %epoch, "deposed: another sequencer leads; refusing all writes from here on");
        self.standing = Standing::Deposed;
        self.show();
        None
    }

    fn remember(&mut self, stored: &Stored) {
        let checkpoint = SignedCheckpoint::from_bytes(&stored.checkpoint);
        self.stored_next =
            checkpoint.ok().and_then(|checkpoint| checkpoint.claim().client.as_ref().map(Position::expected));
        self.stored = Some((stored.last, Bytes::from(stored.checkpoint.clone())));
    }

    /// Lets everybody see how things stand.
    fn show(&self) {
        let tip = self.ordering.tip();
        let status = StreamStatus {
            stream: tip.stream(),
            epoch: self.ordering.epoch(),
            key_id: self.parts.leader.key.id(),
            sequence: tip.last(),
            stored: self.stored.as_ref().map(|(last, _)| *last),
            sequenced_next: tip.client().map(Position::expected),
            stored_next: self.stored_next,
            state: tip.client().map(|client| client.state),
            timestamp: tip.timestamp(),
            status: StatusLevel::Healthy,
        };
        let phase = match self.standing {
            Standing::Fencing(_) => Phase::Opening,
            Standing::Leading => Phase::Leading,
            Standing::Deposed => Phase::Deposed,
        };
        self.parts.view.send_modify(|view| {
            view.phase = phase;
            view.status = Some(status);
            view.stored = self.stored.clone();
        });
    }
}

impl Drop for Epoch<'_> {
    fn drop(&mut self) {
        // A put that goes on for an epoch that ended would do no harm, and no good.
        if let Some(outstanding) = &self.outstanding {
            outstanding.task.abort();
        }
    }
}

/// How a put ended.
enum Answered {
    Stored(Stored),
    Refused(PutError),
    Cancelled,
}

/// Waits for the outstanding put, if there is one.
async fn answer_of(outstanding: &mut Option<Outstanding>) -> Answered {
    let Some(under_way) = outstanding else { return pending().await };
    let joined = (&mut under_way.task).await;
    let Some(done) = outstanding.take() else { return pending().await };
    match joined {
        Ok(Ok(())) => Answered::Stored(done.stored),
        Ok(Err(error)) => Answered::Refused(error),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Answered::Cancelled,
    }
}

/// Waits for a time; for none it waits for ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => pending().await,
    }
}
