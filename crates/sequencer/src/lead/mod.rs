//! Beginning to lead a stream: find where the store ends, claim an epoch, settle what the journal holds, sign the epoch message.
//!
//! ```text
//! find the tail -> compare the journal -> claim an epoch -> settle the journal -> put what was cut
//!       ^                                                                               |    |
//!       +------------------ wait <------ another leader's batch is there ---------------+    v
//!                                                              sign the epoch message <- adopt the rest
//! ```
//!
//! What must stay true:
//!
//! - A store that the journal was not written for gets no object: whatever refuses it comes before the claim.
//! - A conflict ends the epoch in which something was signed for that place (ADR 7): every attempt claims the next one first.
//! - A batch that was cut is put with its exact bytes before anything else.
//! - Nothing is acknowledged here. The caller does that once the epoch message is stored: the batch that holds it is the fence (I6).

mod claim;
mod error;
mod history;
mod last;
mod tail;

pub use error::LeadError;
pub(crate) use history::holds_own_messages;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use synddb_protocol::id::{Sequence, StreamId, Timestamp};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{Batch, BatchError, SignedEpochRecord};
use synddb_protocol::signing::{SigningKey, TrustedKeys};
use synddb_storage::{BatchStore, Key, PutError};

use crate::backoff::Backoff;
use crate::config::Batching;
use crate::journal::{Journal, Stored};
use crate::ordering::Ordering;
use tail::Tail;

/// Who leads, and by which rules.
pub(crate) struct Leader {
    pub(crate) stream: StreamId,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) trusted: TrustedKeys,
    pub(crate) batching: Batching,
}

/// A stream whose epoch message is signed and journalled, and not stored yet.
pub(crate) struct Opened {
    pub(crate) ordering: Ordering,
    /// The epoch message. Once it is stored, the stream is led.
    pub(crate) fence: Sequence,
    /// What is stored already.
    pub(crate) stored: Option<Stored>,
}

/// Opens a stream, over as many epochs as it takes.
pub(crate) async fn open(
    store: &dyn BatchStore,
    journal: &mut Journal,
    leader: &Leader,
    now: impl Fn() -> Timestamp,
) -> Result<Opened, LeadError> {
    let stream = leader.stream;
    // A claim is an object for ever, so no store that refuses every batch gets them in a hurry.
    let mut backoff = Backoff::new();
    loop {
        let mut tail = Tail::find(store, stream, &leader.trusted).await?;
        let is_own = history::compare(store, journal, &tail).await?;
        let (epoch, record) = claim::claim(store, stream, &leader.key, &mut tail).await?;
        tracing::info!(%stream, %epoch, key = %leader.key.id(), "claimed an epoch");
        history::settle(journal, &tail, is_own, leader.key.id())?;
        if !put_cut(store, journal, &mut tail).await? {
            tracing::warn!(%stream, %epoch, "another batch stands where one was cut; claiming the next epoch");
            backoff.wait().await;
            continue;
        }
        let inbox_consumed = tail.inbox_consumed;
        let key = Arc::clone(&leader.key);
        let mut ordering = Ordering::new(tail.tip.clone(), epoch, key, leader.batching, inbox_consumed);
        adopt(journal, &tail, &mut ordering)?;
        let fence = sign_epoch(journal, &mut ordering, &record, now())?;
        return Ok(Opened { ordering, fence, stored: tail.stored });
    }
}

/// Puts the batch that was cut before the process ended, if there is one. Gives `false` when something else is there.
async fn put_cut(store: &dyn BatchStore, journal: &mut Journal, tail: &mut Tail) -> Result<bool, LeadError> {
    let Some(cut) = journal.cut()? else { return Ok(true) };
    let first = cut.first;
    let batch = Batch::from_stored(&cut.bytes);
    let batch = batch.map_err(|source| LeadError::UnreadableTail { first, source })?;
    let key = Key::Batch { stream: tail.leaders.stream(), first };
    match store.put(&key, Bytes::from(cut.bytes)).await {
        Ok(_) => {
            tail.advance(batch.checkpoint().clone())?;
            if let Some(stored) = tail.stored.clone() {
                journal.mark_stored(stored)?;
            }
            Ok(true)
        }
        Err(PutError::Conflict { .. } | PutError::ConflictTooLarge { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes over what was signed before and is not stored, with its old signatures.
fn adopt(journal: &Journal, tail: &Tail, ordering: &mut Ordering) -> Result<(), LeadError> {
    let Some(last) = journal.last_unstored()? else { return Ok(()) };
    let refuse = |sequence, source| LeadError::Contradiction { sequence, source: Box::new(source) };
    while let Ok(sequence) = ordering.tip().next()
        && sequence <= last
    {
        // One at a time: together they may be more than fits the memory.
        for message in journal.messages(sequence, sequence)? {
            let body_bytes = message.body.len();
            let message = message
                .verify(&tail.leaders, BODY_BYTES_MAX)
                .map_err(|source| refuse(sequence, BatchError::Message { sequence, source }))?;
            ordering
                .adopt(&message, body_bytes, Instant::now())
                .map_err(|source| refuse(sequence, BatchError::Log { sequence, source }))?;
        }
        if ordering.tip().last() != Some(sequence) {
            let source = synddb_protocol::log::LogError::Sequence { expected: sequence, found: last };
            return Err(refuse(sequence, BatchError::Log { sequence, source }));
        }
    }
    Ok(())
}

fn sign_epoch(
    journal: &mut Journal,
    ordering: &mut Ordering,
    record: &SignedEpochRecord,
    now: Timestamp,
) -> Result<Sequence, LeadError> {
    let signed = ordering.draft().sign_epoch(now, record)?;
    journal.begin()?;
    let written = journal.insert(&signed).and_then(|()| journal.write_epoch(ordering.epoch()));
    match written {
        Ok(()) => journal.commit()?,
        Err(error) => return Err(journal.give_up().err().unwrap_or(error).into()),
    }
    let fence = signed.message.receipt.header().sequence;
    ordering.accept([signed.placed], Instant::now());
    Ok(fence)
}
