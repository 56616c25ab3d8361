//! What is read from the store on behalf of those who ask: batches, resends that the journal has forgotten, missing chunks.
//!
//! Nothing here is verified: what is stored is signed, and whoever gets it checks it. Nothing here waits or tries again.

mod chunks;
mod resend;
mod run;

pub(crate) use chunks::missing_of;
pub(crate) use resend::search;
pub(crate) use run::{Run, run_with};

use std::collections::VecDeque;

use bytes::Bytes;
use synddb_protocol::DecodeError;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::limits::BATCH_MESSAGES_MAX;
use synddb_protocol::log::Batch;
use synddb_storage::{BatchStore, GetError, Key, ListError, PageLimit, Start};

use crate::error::in_brief_of;

/// Most bytes of batches in one answer, unless the first one alone is larger.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Most objects that are looked into for the batch that holds one message.
const CANDIDATES_MAX: usize = 16;

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

impl StoredError {
    /// What strangers may know of it: addresses and causes stand in the log of the service.
    pub(crate) fn in_brief(&self) -> String {
        match self {
            Self::Get(GetError::Failed { failure, .. }) | Self::List(ListError::Failed { failure, .. }) => {
                format!("{}; try again", in_brief_of(failure, "the store does not answer"))
            }
            Self::Get(GetError::TooLarge { .. }) | Self::List(ListError::Foreign { .. }) => {
                "the store holds what is not of this system".to_owned()
            }
            Self::Unreadable(_) | Self::NotYet { .. } => self.to_string(),
        }
    }
}

/// The batches, as stored, that cover the messages from `start` to `end`: the first of them where they are too many bytes.
pub(crate) async fn batches(
    store: &dyn BatchStore,
    stream: StreamId,
    start: Sequence,
    end: Sequence,
) -> Result<Vec<Bytes>, StoredError> {
    let (first, batch) = batch_with(store, stream, start).await?;
    let mut last = batch.last();
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

/// The batch that holds a message, as stored and opened.
///
/// What somebody else put between the batches of the log is passed over, as long as it is no batch of its name.
async fn batch_with(
    store: &dyn BatchStore,
    stream: StreamId,
    sequence: Sequence,
) -> Result<(Bytes, Batch), StoredError> {
    // Whoever follows the log asks for the beginning of a batch, and costs one get.
    let mut refused = match named(store, stream, sequence).await {
        Ok(Some(found)) => return Ok(found),
        Ok(None) => StoredError::NotYet { sequence },
        Err(error @ StoredError::Unreadable(_)) => error,
        Err(error) => return Err(error),
    };
    for first in before(store, stream, sequence).await? {
        match named(store, stream, first).await {
            Ok(Some((object, batch))) if batch.last() >= sequence => return Ok((object, batch)),
            Ok(_) => {}
            Err(error @ StoredError::Unreadable(_)) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

/// The batch of this name, as stored and opened. `None` also for a batch that belongs under another name.
async fn named(
    store: &dyn BatchStore,
    stream: StreamId,
    first: Sequence,
) -> Result<Option<(Bytes, Batch)>, StoredError> {
    let Some(object) = store.get(&Key::Batch { stream, first }).await? else { return Ok(None) };
    let batch = decode(object.clone()).await?;
    Ok((batch.first() == first).then_some((object, batch)))
}

/// The names before a message of the objects that may be the batch which holds it, the last one first.
async fn before(
    store: &dyn BatchStore,
    stream: StreamId,
    sequence: Sequence,
) -> Result<Vec<Sequence>, StoredError> {
    let earliest = sequence.get().saturating_sub(BATCH_MESSAGES_MAX as u64 - 1).max(1);
    let first = Sequence::new(earliest).unwrap_or(Sequence::FIRST);
    let mut start = Some(Start::At(Key::Batch { stream, first }));
    let mut found = VecDeque::new();
    while let Some(place) = start {
        let page = store.list(&place, PageLimit::MAX).await?;
        let mut is_past = false;
        for key in page.keys {
            let Key::Batch { first, .. } = key else { continue };
            is_past = first >= sequence;
            if is_past {
                break;
            }
            found.push_front(first);
            found.truncate(CANDIDATES_MAX);
        }
        start = page.next.filter(|_| !is_past);
    }
    Ok(found.into())
}

/// Opens a batch away from the tasks that must not wait for it.
async fn decode(object: Bytes) -> Result<Batch, StoredError> {
    let decoded = tokio::task::spawn_blocking(move || Batch::from_stored(&object)).await;
    match decoded {
        Ok(batch) => Ok(batch?),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
