//! Removing what nobody needs: a capability of its own, so that a [`BatchStore`] stays a thing from which nothing goes.
//!
//! A log is create-only. What may go are manifests of snapshots and chunks, and nothing else, by type: [`Removable`] has no
//! constructor for the rest. Which of them nobody needs is not known here; whoever decides that reads the log.

use std::time::SystemTime;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{KeyId, Sequence, StreamId};

use crate::failure::{failure_of, io_failure};
use crate::key::{Folder, Key};
use crate::object::{Ability, Backend, ObjectBatchStore};
use crate::remote::{RETRIES_MAX, RETRY_WAIT};
use crate::store::{BatchStore, Failure, ListError};
use crate::survey::{Name, named};
use crate::url::Platform;

/// Removals that are under way at a time, at most.
const PARALLEL: usize = 16;

/// An object that may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Removable(Key);

impl Removable {
    /// The manifest of a snapshot.
    #[must_use]
    pub const fn manifest(stream: StreamId, sequence: Sequence, signer: KeyId) -> Self {
        Self(Key::Snapshot { stream, sequence, signer })
    }

    /// A chunk.
    #[must_use]
    pub const fn chunk(stream: StreamId, hash: ChunkHash) -> Self {
        Self(Key::Chunk { stream, hash })
    }

    /// Its name.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.0
    }
}

/// Something that lies in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name, which may be no key.
    pub name: Name,
    /// Its size.
    pub bytes: u64,
    /// When it was created, by the clock of the store. Who copies a store may make everything in it look younger.
    pub written: SystemTime,
}

/// A store from which manifests and chunks can be removed.
///
/// [`conformance::sweeping`](crate::conformance::sweeping) holds every implementation to these words.
#[async_trait]
pub trait Sweeper: BatchStore {
    /// Tells everything that lies in a folder, also what is no key, in no order. Everything is told whose put was answered before the call and
    /// that is not removed meanwhile.
    ///
    /// # Errors
    /// [`ListError::Failed`] when the store does not answer. Some may have been told by then: whoever decides by what is absent decides nothing.
    async fn tell(&self, folder: Folder, each: &mut (dyn FnMut(Stored) + Send)) -> Result<(), ListError>;

    /// The time by the clock that [`Stored::written`] is of, or a time before it: what the last answer stated. `None` where none stated any.
    ///
    /// Files are dated by this machine, or by the server of a file system that is shared; the latter's clock must go as this machine's does.
    fn now(&self) -> Option<SystemTime>;

    /// Removes objects.
    ///
    /// - **For good.** After `Ok` none of them is there, also after a power cut, for every get and listing that begins later.
    /// - **Idempotent.** What is absent is removed.
    /// - **Nothing else.** Other objects are untouched. The same key can be put again.
    ///
    /// # Errors
    /// [`RemoveError`]: any of them may be removed, or not.
    async fn remove(&self, objects: &[Removable]) -> Result<(), RemoveError>;
}

/// Why something was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The store did not remove an object.
    #[error("cannot remove object. key=`{key}`")]
    Failed {
        /// The object.
        key: Key,
        /// What happened.
        #[source]
        failure: Failure,
    },
}

impl RemoveError {
    /// Whether the same removal may succeed later.
    #[must_use]
    pub const fn retry_may_help(&self) -> bool {
        let Self::Failed { failure, .. } = self;
        failure.retry_may_help()
    }
}

#[async_trait]
impl Sweeper for ObjectBatchStore {
    async fn tell(&self, folder: Folder, each: &mut (dyn FnMut(Stored) + Send)) -> Result<(), ListError> {
        let failed = |failure| ListError::Failed { folder, failure };
        self.can(Ability::List).map_err(failed)?;
        let mut entries = self.objects().list(Some(&Path::from(folder.to_string())));
        while let Some(entry) = entries.try_next().await.map_err(|error| failed(failure_of(error)))? {
            let name = named(String::from(entry.location));
            each(Stored { name, bytes: entry.size, written: entry.last_modified.into() });
        }
        Ok(())
    }

    fn now(&self) -> Option<SystemTime> {
        self.time()
    }

    async fn remove(&self, objects: &[Removable]) -> Result<(), RemoveError> {
        let Some(first) = objects.first() else { return Ok(()) };
        self.can(Ability::Remove).map_err(|failure| RemoveError::Failed { key: *first.key(), failure })?;
        if let Backend::Folder(local) = self.backend() {
            let keys = objects.iter().map(|object| *object.key()).collect();
            let removed = local.remove_durably(keys).await;
            return removed.map_err(|(key, error)| RemoveError::Failed { key, failure: io_failure(error) });
        }
        let keys: Vec<Key> = objects.iter().map(|object| *object.key()).collect();
        let removals = stream::iter(keys).map(|key| self.remove_one(key));
        removals.buffer_unordered(PARALLEL).try_collect().await
    }
}

impl ObjectBatchStore {
    async fn remove_one(&self, key: Key) -> Result<(), RemoveError> {
        // Azure's client asks by a POST, which it does not send again when a connection breaks. A removal may be.
        let is_asked_once = matches!(self.backend(), Backend::Bucket(Platform::Azure));
        let mut retries = if is_asked_once { RETRIES_MAX } else { 0 };
        let mut wait = RETRY_WAIT;
        loop {
            let failure = match self.objects().delete(&Path::from(key.to_string())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => return Ok(()),
                Err(error) => failure_of(error),
            };
            if retries == 0 || !failure.retry_may_help() {
                return Err(RemoveError::Failed { key, failure });
            }
            retries -= 1;
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }
}

/// A shared store is a store.
#[async_trait]
impl<S: Sweeper + ?Sized> Sweeper for std::sync::Arc<S> {
    async fn tell(&self, folder: Folder, each: &mut (dyn FnMut(Stored) + Send)) -> Result<(), ListError> {
        (**self).tell(folder, each).await
    }

    fn now(&self) -> Option<SystemTime> {
        (**self).now()
    }

    async fn remove(&self, objects: &[Removable]) -> Result<(), RemoveError> {
        (**self).remove(objects).await
    }
}
