//! A resend that the journal has forgotten: found in the store by halving over the checkpoints of its batches.
//!
//! A checkpoint says what must come next of the client, and that only ever grows, so the first batch whose checkpoint is past the place
//! holds it. Whatever is stored is history: the owner of the stream is not asked.

use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::limits::{BODY_BYTES_MAX, RECEIPTS_MAX};
use synddb_protocol::log::{Batch, Body, ClientState, Message, MessageType, Receipt};
use synddb_storage::{BatchStore, Key};

use super::{StoredError, batch_with, decode};
use crate::journal::Found;
use crate::ordering::{Held, What, digest_within};

/// Looks up what a client sent before in what is stored up to `stored`.
pub(crate) async fn search(
    store: &dyn BatchStore,
    stream: StreamId,
    stored: Option<Sequence>,
    wanted: Held,
) -> Result<Found, StoredError> {
    let Some(stored) = stored else { return Ok(Found::Absent) };
    let Some(mut batch) = first_past(store, stream, stored, &wanted).await? else {
        return Ok(Found::Absent);
    };
    let mut seeker = Seeker { wanted, receipts: Vec::new() };
    loop {
        let last = batch.last();
        let step = tokio::task::spawn_blocking(move || {
            let found = seeker.look_into(batch.messages());
            (seeker, found)
        });
        let found;
        (seeker, found) = match step.await {
            Ok(step) => step,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if let Some(found) = found? {
            return Ok(found);
        }
        let Some(first) = last.next() else { return Ok(Found::Absent) };
        batch = match store.get(&Key::Batch { stream, first }).await? {
            Some(object) => decode(object).await?,
            // Its beginning is stored. The rest may be accepted, and then it will be.
            None if !seeker.receipts.is_empty() => return Err(StoredError::NotYet { sequence: first }),
            None => return Ok(Found::Absent),
        };
    }
}

/// The first batch whose checkpoint is past the place.
async fn first_past(
    store: &dyn BatchStore,
    stream: StreamId,
    stored: Sequence,
    wanted: &Held,
) -> Result<Option<Batch>, StoredError> {
    let (mut low, mut high) = (Sequence::FIRST.get(), stored.get());
    let mut found = None;
    while low <= high {
        let middle = low + (high - low) / 2;
        let sequence = Sequence::new(middle).unwrap_or(Sequence::FIRST);
        let (_, batch) = batch_with(store, stream, sequence).await?;
        if is_past(batch.checkpoint().claim().client.as_ref(), wanted) {
            high = batch.first().get() - 1;
            found = Some(batch);
        } else {
            low = batch.last().get() + 1;
        }
    }
    Ok(found)
}

/// Whether the log has the beginning of what is wanted, or never will.
fn is_past(client: Option<&ClientState>, wanted: &Held) -> bool {
    let Some(client) = client else { return false };
    let (running, incarnation) = (client.incarnation.counter, wanted.incarnation.counter);
    if running != incarnation {
        return running > incarnation;
    }
    match wanted.what {
        What::Begins => true,
        What::Commits { first, .. } => client.next > first,
        What::After { commit } => client.next > commit,
        What::Part { commit, index } => {
            let has_part = client.next == commit && client.group.is_some_and(|group| group.next > index);
            client.next > commit || has_part
        }
    }
}

/// Goes through messages in order, and gathers the receipts of those that hold what is wanted.
struct Seeker {
    wanted: Held,
    receipts: Vec<Receipt>,
}

impl Seeker {
    /// Looks into the messages of one batch. `None` when the next batch must be looked into.
    fn look_into(&mut self, messages: &[Message]) -> Result<Option<Found>, StoredError> {
        for message in messages {
            let message_type = message.receipt.header().message_type;
            match message_type {
                MessageType::Submission | MessageType::Snapshot => {}
                MessageType::Inbound | MessageType::Status | MessageType::Epoch => continue,
            }
            let body = Body::read(message_type, message.body.clone(), BODY_BYTES_MAX)?;
            let Some(held) = Held::of(body.entry()) else { continue };
            if let Some(found) = self.look_at(&held, &body, &message.receipt) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn look_at(&mut self, held: &Held, body: &Body, receipt: &Receipt) -> Option<Found> {
        let wanted = self.wanted;
        if held.incarnation != wanted.incarnation {
            let is_later = held.incarnation.counter >= wanted.incarnation.counter;
            return is_later.then_some(Found::Absent);
        }
        match (wanted.what, held.what) {
            (What::Begins, What::Begins) => Some(self.compared(held.digest, receipt)),
            (What::Begins, _) => Some(Found::Absent),
            (What::After { .. }, What::After { .. }) if held.digest == wanted.digest => {
                Some(self.compared(held.digest, receipt))
            }
            // A snapshot stands before the next commit, or nowhere.
            (What::After { commit }, What::Commits { first, .. } | What::Part { commit: first, .. }) => {
                (first > commit).then_some(Found::Absent)
            }
            (What::Part { commit, index }, What::Part { commit: held_commit, index: held_index }) => {
                let is_it = (commit, index) == (held_commit, held_index);
                is_it.then(|| self.compared(held.digest, receipt))
            }
            (What::Part { commit, .. }, What::Commits { first, last }) => {
                // It came whole the first time.
                (first..=last).contains(&commit).then_some(Found::Differs(held.digest))
            }
            (What::Commits { first, last }, What::Commits { first: held_first, last: held_last }) => {
                if held_last < first {
                    return None;
                }
                if held_last < last {
                    return self.gather(receipt);
                }
                if held_first > last {
                    return Some(Found::Absent);
                }
                let digest = digest_within(body.entry(), last).unwrap_or(held.digest);
                Some(self.compared(digest, receipt))
            }
            // It came in parts the first time.
            (What::Commits { last, .. }, What::Part { commit, .. }) => {
                (commit >= last).then_some(Found::Differs(held.digest))
            }
            (
                What::Commits { .. } | What::Part { .. } | What::After { .. },
                What::Begins | What::After { .. },
            ) => None,
        }
    }

    fn compared(&mut self, digest: synddb_protocol::hash::CommitDigest, receipt: &Receipt) -> Found {
        if digest != self.wanted.digest {
            return Found::Differs(digest);
        }
        self.receipts.push(receipt.clone());
        Found::Receipts(std::mem::take(&mut self.receipts))
    }

    /// Keeps a receipt that covers a part of what is wanted. More than an answer holds cover nothing that could be sent.
    fn gather(&mut self, receipt: &Receipt) -> Option<Found> {
        if self.receipts.len() >= RECEIPTS_MAX {
            return Some(Found::Absent);
        }
        self.receipts.push(receipt.clone());
        None
    }
}
