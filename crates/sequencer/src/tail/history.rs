//! Whether the store ends on the history that a journal was written for.

use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{Batch, SignedCheckpoint};
use synddb_storage::{BatchStore, Key};

use super::Tail;
use crate::error::LeadError;
use crate::journal::Journal;

/// Whether the store ends on the history that the journal was written for. Changes nothing, neither here nor there.
///
/// # Errors
/// [`LeadError`] where the store lacks what the journal saw in it: it is another store, or an old copy, and must get nothing.
pub(super) async fn compare(
    store: &dyn BatchStore,
    journal: &Journal,
    tail: &Tail,
) -> Result<bool, LeadError> {
    let seen = journal.stored().map(|stored| stored.last);
    if let Some(stored) = seen
        && tail.last() < seen
    {
        return Err(LeadError::StoreBehind { ends_at: tail.last(), stored });
    }
    if let Some(epoch) = journal.epoch()
        && tail.leaders.next().is_some_and(|free| free <= epoch)
    {
        return Err(LeadError::ClaimLost { epoch });
    }
    is_own_history(store, journal, tail, tail.leaders.stream()).await
}

/// Whether everything that is stored is what the journal saw stored, or holds as its own.
async fn is_own_history(
    store: &dyn BatchStore,
    journal: &Journal,
    tail: &Tail,
    stream: StreamId,
) -> Result<bool, LeadError> {
    if journal.epoch().is_none() {
        return Ok(tail.stored.is_none());
    }
    let seen = journal.stored().map(|stored| stored.last);
    if seen == tail.last() {
        return Ok(has_same_root(journal, tail));
    }
    let mut next = seen.map_or(Some(Sequence::FIRST), Sequence::next);
    while let Some(first) = next
        && Some(first) <= tail.last()
    {
        // Batches are dense, so where the journal's last one ended, the next one begins.
        let Some(object) = store.get(&Key::Batch { stream, first }).await? else { return Ok(false) };
        let Ok(batch) = Batch::from_stored(&object) else { return Ok(false) };
        if !holds_own_messages(journal, &batch)? {
            return Ok(false);
        }
        next = batch.last().next();
    }
    Ok(true)
}

fn has_same_root(journal: &Journal, tail: &Tail) -> bool {
    let Some(stored) = journal.stored() else { return tail.stored.is_none() };
    let seen = SignedCheckpoint::from_bytes(&stored.checkpoint);
    seen.is_ok_and(|seen| {
        let found = tail.stored.as_ref().map(|stored| SignedCheckpoint::from_bytes(&stored.checkpoint));
        matches!(found, Some(Ok(found)) if found.claim().frontier == seen.claim().frontier)
    })
}

/// Whether all messages of a batch are in the journal as they stand there.
pub(crate) fn holds_own_messages(journal: &Journal, batch: &Batch) -> Result<bool, LeadError> {
    for message in batch.messages() {
        if journal.receipt(message.receipt.header().sequence)?.as_ref() != Some(&message.receipt) {
            return Ok(false);
        }
    }
    Ok(true)
}
