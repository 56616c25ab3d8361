//! What is read from the store on behalf of those who ask: batches, resends that the journal has forgotten, missing chunks.
//!
//! Nothing here is verified: what is stored is signed, and whoever gets it checks it. Nothing here waits or tries again.

mod chunks;
mod resend;

pub(crate) use chunks::missing;
pub(crate) use resend::search;

use bytes::Bytes;
use synddb_protocol::DecodeError;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::limits::BATCH_MESSAGES_MAX;
use synddb_protocol::log::Batch;
use synddb_storage::{BatchStore, GetError, Key, ListError, PageLimit, Start};

/// Most bytes of batches in one answer, unless the first one alone is larger.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why the store does not tell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoredError {
    /// It does not answer a get.
    #[error(transparent)]
    Get(#[from] GetError),
    /// It does not answer a listing.
    #[error(transparent)]
    List(#[from] ListError),
    /// It holds something that is no batch.
    #[error("a batch in the store cannot be read")]
    Unreadable(#[from] DecodeError),
    /// What is asked for is not stored, or not yet.
    #[error("this is not stored yet; ask again later. sequence=`{sequence}`")]
    NotYet {
        /// The message that is missing.
        sequence: Sequence,
    },
}

/// The batches, as stored, that cover the messages from `start` to `end`: the first of them where they are too many bytes.
pub(crate) async fn batches(
    store: &dyn BatchStore,
    stream: StreamId,
    start: Sequence,
    end: Sequence,
) -> Result<Vec<Bytes>, StoredError> {
    let (first, mut last) = batch_with(store, stream, start).await?;
    let mut bytes = first.len();
    let mut batches = vec![first];
    while last < end
        && let Some(next) = last.next()
        && let Some(object) = store.get(&Key::Batch { stream, first: next }).await?
    {
        bytes += object.len();
        if bytes > ANSWER_BYTES_MAX {
            break;
        }
        last = decode(object.clone()).await?.last();
        batches.push(object);
    }
    Ok(batches)
}

/// The batch that holds a message, as stored, and its last message.
async fn batch_with(
    store: &dyn BatchStore,
    stream: StreamId,
    sequence: Sequence,
) -> Result<(Bytes, Sequence), StoredError> {
    // Whoever follows the log asks for the beginning of a batch, and costs one get.
    let mut object = store.get(&Key::Batch { stream, first: sequence }).await?;
    if object.is_none()
        && let Some(key) = last_key_before(store, stream, sequence).await?
    {
        object = store.get(&key).await?;
    }
    let object = object.ok_or(StoredError::NotYet { sequence })?;
    let last = decode(object.clone()).await?.last();
    if last < sequence {
        return Err(StoredError::NotYet { sequence });
    }
    Ok((object, last))
}

/// The key of the last batch that begins at or before a message and may hold it.
async fn last_key_before(
    store: &dyn BatchStore,
    stream: StreamId,
    sequence: Sequence,
) -> Result<Option<Key>, StoredError> {
    let end = Key::Batch { stream, first: sequence };
    let earliest = sequence.get().saturating_sub(BATCH_MESSAGES_MAX as u64 - 1).max(1);
    let first = Sequence::new(earliest).unwrap_or(Sequence::FIRST);
    let mut start = Some(Start::At(Key::Batch { stream, first }));
    let mut found = None;
    while let Some(place) = start {
        let page = store.list(&place, PageLimit::MAX).await?;
        found = page.keys.iter().rfind(|key| **key <= end).copied().or(found);
        let is_past = page.keys.last().is_some_and(|last| *last > end);
        start = page.next.filter(|_| !is_past);
    }
    Ok(found)
}

/// Opens a batch away from the tasks that must not wait for it.
async fn decode(object: Bytes) -> Result<Batch, StoredError> {
    let decoded = tokio::task::spawn_blocking(move || Batch::from_stored(&object)).await;
    match decoded {
        Ok(batch) => Ok(batch?),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
