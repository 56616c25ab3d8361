//! A log that somebody asks for, before anything of it is read: whether the store holds it, and whether who asks believes who leads it.

use std::sync::Arc;
use std::time::Duration;

use synddb_protocol::chain;
use synddb_protocol::id::{Epoch, KeyId, Sequence, StreamId};
use synddb_protocol::signing::{TrustedKeys, VerifyingKey};
use synddb_service::shutdown::Shutdown;
use synddb_storage::{BatchStore as _, GetError, Key, ObjectBatchStore, StoreUrl};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Problem;
use super::counted::Counted;
use super::epochs::{self, Epochs};
use super::report::Listed;
use crate::error::ValidatorError;
use crate::fetch::{NoAnswer, PatientStore};

/// How long the very first answer of a store is waited for. A store that never answered is more likely a wrong address than a trouble that passes.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(30);

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
        objects.hear(stream, shutdown, stop, FIRST_ANSWER_MAX).await?;
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

/// Whether one of the keys that somebody is about to believe leads a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// One of them leads an epoch.
    Known,
    /// The store does not say.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// Asks a store whether one of `keys` leads the log of `stream`, for whoever begins to follow it. Nothing is read but the epoch records, for
/// no longer than `patience`: who begins before the log does, or before the store can be reached, is not held up.
///
/// # Errors
/// [`Problem::Strangers`] when others lead it, and none of `keys` does.
pub async fn leadership(
    url: &StoreUrl,
    stream: StreamId,
    keys: &[VerifyingKey],
    patience: Duration,
) -> Result<Leadership, Problem> {
    let stop = CancellationToken::new();
    let _ending = stop.clone().drop_guard();
    let shutdown = Shutdown::new();
    let asking = Asked::about(url, Some(stream), keys, &shutdown, &stop);
    let unknown = |why: String| Ok(Leadership::Unknown { why });
    match timeout(patience, asking).await {
        Ok(Ok(asked)) if asked.epochs.are_led() => Ok(Leadership::Known),
        Ok(Ok(_)) => unknown("the store holds no record of who leads it".to_owned()),
        Ok(Err(problem @ Problem::Strangers { .. })) => Err(problem),
        Ok(Err(problem)) => unknown(chain(&problem)),
        Err(_) => unknown(format!("the store does not answer within {} s", patience.as_secs())),
    }
}

/// What a store holds, as far as it can be asked: a static host lists nothing.
pub(crate) struct Objects {
    pub(super) store: ObjectBatchStore,
    pub(crate) is_listed: bool,
}

impl Objects {
    /// Asks the store for the first object of a log, whatever the answer is. Once it answered it is waited for, for as long as it takes.
    async fn hear(
        &self,
        stream: StreamId,
        shutdown: &Shutdown,
        stop: &CancellationToken,
        within: Duration,
    ) -> Result<(), Problem> {
        let store = PatientStore::new(Arc::new(self.store.clone()), shutdown.clone(), stop.clone());
        let first = Key::Epoch { stream, epoch: Epoch::FIRST };
        let answer = tokio::select! {
            biased;
            () = shutdown.asked() => return Err(Problem::Interrupted { checked: None }),
            answer = timeout(within, store.get(&first)) => answer,
        };
        match answer {
            // What it is, and what is wrong with it, whoever reads it finds and tells.
            Ok(Ok(_) | Err(NoAnswer::Failed(GetError::TooLarge { .. }))) => Ok(()),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(Problem::Silent { waited_s: within.as_secs() }),
        }
    }

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn a_store_that_never_answers_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = ObjectBatchStore::open(&StoreUrl::folder(folder.path()).unwrap()).await.unwrap();
        let objects = Objects { store, is_listed: true };
        let stream = StreamId::from_bytes([7; 32]);
        let (shutdown, stop) = (Shutdown::new(), CancellationToken::new());
        let hear = |within| objects.hear(stream, &shutdown, &stop, within);
        // Nothing is there: that is an answer.
        hear(FIRST_ANSWER_MAX).await.unwrap();
        // A link to itself cannot be read, and is nothing that a retry may not help with.
        let first = folder.path().join(Key::Epoch { stream, epoch: Epoch::FIRST }.to_string());
        fs::create_dir_all(first.parent().unwrap()).unwrap();
        symlink(&first, &first).unwrap();
        let problem = hear(Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(problem, Problem::Silent { .. }), "{problem:?}");
        assert!(!problem.is_refusal() && !problem.is_of_log());
    }
}
