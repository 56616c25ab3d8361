//! What a journal is worth after a restart: whether the store ends on the history that it was written for.
//!
//! If it does and nobody else claimed the stream since, what was acknowledged and not stored is published with its old signatures. In every other
//! case it must never be published: another leader may have given these places to others. It is kept in a `.fenced` file, and
//! the clients send it again from their outboxes.

use synddb_protocol::id::{KeyId, Sequence, StreamId};
use synddb_protocol::log::{Batch, SignedCheckpoint};
use synddb_storage::{BatchStore, Key};

use super::LeadError;
use super::tail::Tail;
use crate::journal::{Journal, Unstored};

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

/// Makes the journal agree with where the store ends: it goes on from there, or begins anew there.
pub(super) fn settle(journal: &mut Journal, tail: &Tail, is_own: bool, own: KeyId) -> Result<(), LeadError> {
    let stream = tail.leaders.stream();
    let seen = journal.stored().map(|stored| stored.last);
    if is_own && !is_claimed_by_others(journal, tail, own) {
        if let Some(stored) = tail.stored.clone()
            && Some(stored.last) > seen
        {
            journal.mark_stored(stored)?;
        }
        return Ok(());
    }
    if journal.unstored() != Unstored::default() {
        let copy = journal.copy_fenced()?;
        tracing::warn!(%stream, messages = journal.unstored().messages, file = %copy.display(),
            "another leader came in between: what was not stored is never published; clients send it again");
    }
    Ok(journal.begin_anew(tail.stored.clone())?)
}

/// Whether a key that is not ours claimed an epoch after the one that the journal was written under.
fn is_claimed_by_others(journal: &Journal, tail: &Tail, own: KeyId) -> bool {
    let epoch = journal.epoch();
    tail.claims.iter().any(|(claimed, key)| Some(*claimed) > epoch && *key != Some(own))
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
