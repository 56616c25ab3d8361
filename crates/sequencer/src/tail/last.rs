//! The last batch of a log, among objects that somebody else may have put between.
//!
//! Whoever can write to the store can put anything under any free number. So a listing is only a hint for where to begin: an object
//! counts when it is a batch of this stream under its own name and a trusted key signed its checkpoint. Batches are dense, so from
//! any of them gets of the next number lead to the end, and nothing behind the first number that is absent belongs to the log.

use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::limits::BATCH_MESSAGES_MAX;
use synddb_protocol::log::{Batch, SignedCheckpoint};
use synddb_protocol::signing::{SignatureError, TrustedKeys};
use synddb_storage::{BatchStore, GetError, Key, PageLimit, Start, last_batch};

use crate::error::LeadError;

/// Most objects that one look of the halving reads. Batches that are missed behind so many foreign ones are found by gets later.
const TRIES_MAX: usize = 16;

/// The checkpoint of the last batch.
///
/// # Errors
/// [`LeadError`] where the next object of the log is nothing that can be gone on with.
pub(super) async fn last_checkpoint(
    store: &dyn BatchStore,
    stream: StreamId,
    trusted: &TrustedKeys,
) -> Result<Option<SignedCheckpoint>, LeadError> {
    let log = Log { store, stream, trusted };
    let Some(listed) = last_batch(store, stream).await? else { return log.follow(None).await };
    match log.read(listed).await {
        Ok(Some(batch)) => log.follow(Some(batch)).await,
        Ok(None) => Err(LeadError::MissingTail { first: listed }),
        Err(error) if error.is_of_the_object() => {
            tracing::warn!(%stream, first = %listed, error = synddb_protocol::chain(&error),
                "the last object among the batches is none of this log; looking for the last that is");
            let found = log.halve(listed).await?;
            log.follow(found).await
        }
        Err(error) => Err(error),
    }
}

struct Log<'s> {
    store: &'s dyn BatchStore,
    stream: StreamId,
    trusted: &'s TrustedKeys,
}

impl Log<'_> {
    /// Goes on from a batch, or from the first number, until a number is absent.
    async fn follow(&self, from: Option<Batch>) -> Result<Option<SignedCheckpoint>, LeadError> {
        let mut next = from.as_ref().map_or(Some(Sequence::FIRST), |batch| batch.last().next());
        let mut last = from.map(|batch| batch.checkpoint().clone());
        while let Some(first) = next
            && let Some(batch) = self.read(first).await?
        {
            next = batch.last().next();
            last = Some(batch.checkpoint().clone());
        }
        Ok(last)
    }

    /// A batch below `end`, as late as halving finds one. Where the log goes past a number, one of its batches begins at most
    /// [`BATCH_MESSAGES_MAX`] behind it.
    async fn halve(&self, end: Sequence) -> Result<Option<Batch>, LeadError> {
        let (mut low, mut high) = (Sequence::FIRST.get(), end.get());
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_behind(Sequence::new(middle).unwrap_or(Sequence::FIRST)).await? {
                Some(batch) => {
                    low = batch.last().get() + 1;
                    found = Some(batch);
                }
                None => high = middle,
            }
        }
        Ok(found)
    }

    /// A batch that begins at a number or soon behind it.
    async fn first_behind(&self, from: Sequence) -> Result<Option<Batch>, LeadError> {
        let end = from.get() + BATCH_MESSAGES_MAX as u64;
        let mut start = Some(Start::At(Key::Batch { stream: self.stream, first: from }));
        let mut tries = 0;
        while let Some(place) = start {
            let page = self.store.list(&place, PageLimit::MAX).await?;
            for key in page.keys {
                let Key::Batch { first, .. } = key else { continue };
                if first.get() >= end || tries == TRIES_MAX {
                    return Ok(None);
                }
                tries += 1;
                match self.read(first).await {
                    Ok(Some(batch)) => return Ok(Some(batch)),
                    Ok(None) => {}
                    Err(error) if error.is_of_the_object() => {}
                    Err(error) => return Err(error),
                }
            }
            start = page.next;
        }
        Ok(None)
    }

    /// The batch of this name, if there is an object.
    async fn read(&self, first: Sequence) -> Result<Option<Batch>, LeadError> {
        let object = match self.store.get(&Key::Batch { stream: self.stream, first }).await {
            Ok(Some(object)) => object,
            Ok(None) => return Ok(None),
            Err(GetError::TooLarge { .. }) => return Err(LeadError::ForeignTail { first }),
            Err(error) => return Err(error.into()),
        };
        let batch = Batch::from_stored(&object);
        let batch = batch.map_err(|source| LeadError::UnreadableTail { first, source })?;
        let (checkpoint, key) = (batch.checkpoint(), batch.checkpoint().key());
        if batch.first() != first || checkpoint.claim().stream != self.stream {
            return Err(LeadError::ForeignTail { first });
        }
        let known = self.trusted.get(key).ok_or(SignatureError::UntrustedKey { key });
        match known.and_then(|_| checkpoint.recover()) {
            Ok(_) => Ok(Some(batch)),
            Err(source) => Err(LeadError::UntrustedTail { epoch: checkpoint.claim().epoch, key, source }),
        }
    }
}
