//! What passes from stage to stage: fetch, verify, apply.
//!
//! Trouble travels behind the batches that came before it, so that they are applied first, and only the last stage ends anything. So does the
//! end of the store: a channel that closes without it, where nobody asked to end, says that a stage met a fault.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ValidatorError;
use crate::replica::Asked;

/// Stored bytes of batches that are fetched and not applied, at most, and those of one batch more.
const AHEAD_BYTES_MAX: usize = 64 << 20;
/// Batches that are fetched and not verified, at most.
pub(crate) const FETCHED_MAX: usize = 8;
/// Batches that are verified and not applied, at most. Each may open to 128 MiB.
pub(crate) const VERIFIED_MAX: usize = 2;
/// How long what is under way may take once the process was asked to end.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(30);

const _: () = assert!(AHEAD_BYTES_MAX >= synddb_protocol::limits::BATCH_STORED_MAX);

/// What one stage hands to the next.
pub(crate) enum Item<B> {
    /// The next batch.
    Batch(Ahead<B>),
    /// The store held nothing more a moment ago.
    End,
    /// Nothing new came for a while: the file is looked at.
    Look,
    /// Somebody asks for a full scan of the replica.
    Audit(Asked),
    /// Nothing comes after this.
    Failed(Box<ValidatorError>),
}

/// What a stage's end is that nobody asked for, and that is not the end of the store.
pub(crate) const fn cut_off() -> ValidatorError {
    ValidatorError::Fault { part: "stages" }
}

/// A batch with the room that it takes of what may be fetched ahead. The room is given back when it goes.
pub(crate) struct Ahead<B> {
    pub(crate) batch: B,
    room: OwnedSemaphorePermit,
}

impl<B> Ahead<B> {
    /// Parts the batch from its room.
    pub(crate) fn split(self) -> (B, OwnedSemaphorePermit) {
        (self.batch, self.room)
    }

    /// A batch in this room.
    pub(crate) const fn of(batch: B, room: OwnedSemaphorePermit) -> Self {
        Self { batch, room }
    }
}

/// The room for what is fetched ahead, in stored bytes.
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AHEAD_BYTES_MAX)))
    }

    /// Waits for room for so many bytes. `None` never comes while the room is in use; it would mean that it was closed.
    pub(crate) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(AHEAD_BYTES_MAX)).unwrap_or(u32::MAX);
        Arc::clone(&self.0).acquire_many_owned(bytes).await.ok()
    }
}
