//! A log that somebody asks for, before anything of it is read: whether the store holds it, and whether who asks believes who leads it.

use std::sync::Arc;

use synddb_protocol::id::{KeyId, Sequence, StreamId};
use synddb_protocol::signing::{TrustedKeys, VerifyingKey};
use synddb_service::shutdown::Shutdown;
use synddb_storage::{BatchStore as _, Key, ObjectBatchStore, StoreUrl};
use tokio_util::sync::CancellationToken;

use super::Problem;
use super::counted::Counted;
use super::epochs::{self, Epochs};
use super::report::Listed;
use crate::error::ValidatorError;
use crate::fetch::{NoAnswer, PatientStore};

/// A stored log with a leader that is believed.
pub(crate) struct Asked {
    pub(crate) objects: Objects,
    /// The same store, asked until it answers, and counted.
    pub(crate) store: PatientStore,
    pub(crate) counted: Arc<Counted>,
    pub(crate) stream: StreamId,
    pub(crate) keys: TrustedKeys,
    pub(crate) epochs: Epochs,
}

impl Asked {
    /// Looks for the log.
    pub(crate) async fn about(
        url: &StoreUrl,
        stream: Option<StreamId>,
        pinned: &[VerifyingKey],
        shutdown: &Shutdown,
        stop: &CancellationToken,
    ) -> Result<Self, Problem> {
        let objects = ObjectBatchStore::open_existing(url).await.map_err(ValidatorError::from)?;
        let objects = Objects { store: objects, is_listed: url.is_writable() };
        let Some(stream) = stream else {
            return Err(Problem::NoStream { found: objects.streams().await? });
        };
        let counted = Arc::new(Counted::new(objects.store.clone()));
        let store = PatientStore::new(counted.clone(), shutdown.clone(), stop.clone());
        let keys = TrustedKeys::pinned(pinned.iter().copied());
        let epochs = tokio::select! {
            () = shutdown.asked() => return Err(Problem::Interrupted { checked: None }),
            epochs = epochs::read(&store, stream, &keys) => epochs.map_err(failed)?,
        };
        if epochs.is_empty() && objects.lack(stream).await? {
            return Err(Problem::Nothing { stream, found: objects.streams().await? });
        }
        if pinned.is_empty() {
            return Err(Problem::NoKeys { signers: epochs.signers() });
        }
        if epochs.are_of_strangers() {
            let pinned = Listed::of(pinned.iter().map(VerifyingKey::id).map(|id: KeyId| id.to_string()));
            return Err(Problem::Strangers { pinned, signers: epochs.signers() });
        }
        Ok(Self { objects, store, counted, stream, keys, epochs })
    }
}

/// What a store holds, as far as it can be asked: a static host lists nothing.
pub(crate) struct Objects {
    pub(super) store: ObjectBatchStore,
    pub(crate) is_listed: bool,
}

impl Objects {
    /// The streams of the store.
    pub(crate) async fn streams(&self) -> Result<Listed, Problem> {
        if !self.is_listed {
            return Ok(Listed::untold());
        }
        let streams = self.store.streams().await.map_err(Problem::List)?;
        Ok(Listed::of(streams.iter().map(StreamId::to_string)))
    }

    /// Whether the store is known to hold nothing at all of a stream.
    async fn lack(&self, stream: StreamId) -> Result<bool, Problem> {
        if !self.is_listed {
            let first = Key::Batch { stream, first: Sequence::FIRST };
            return Ok(self.store.get(&first).await.map_err(ValidatorError::from)?.is_none());
        }
        Ok(self.store.streams().await.map_err(Problem::List)?.binary_search(&stream).is_err())
    }
}

pub(super) fn failed(error: NoAnswer) -> Problem {
    match error {
        NoAnswer::GaveUp => Problem::Interrupted { checked: None },
        NoAnswer::Failed(error) => ValidatorError::from(error).into(),
    }
}
