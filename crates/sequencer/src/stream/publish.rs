//! Putting one batch into the store, until the store has answered.
//!
//! Nothing that the store says ends this but an answer about the bytes: what was accepted is in the journal, and whoever runs the store may give back what it
//! denies today. So a store that is away, full, misconfigured or forbidden is asked again, after waits that stay below [`LONGEST`](crate::backoff::LONGEST), and
//! the trouble stands where everybody sees it. The log says it when it comes, a few times an hour while it lasts, and when it is over; one attempt that fails
//! and succeeds a moment later is no line.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use synddb_protocol::chain;
use synddb_service::trouble::Trouble;
use synddb_storage::{BatchStore, Failure, Key, Put, PutError};
use tokio::sync::watch;
use tokio::time::timeout;

use super::View;
use crate::backoff::Backoff;
use crate::error::in_brief_of;
use crate::metrics::StreamMetrics;
use crate::stored::missing_of;

/// A put that takes longer is said to be late, beside the time that its bytes take to be sent. It goes on.
const LATE: Duration = Duration::from_secs(10);

/// The slowest uplink that is not called late, in bytes a second.
const SLOWEST_UPLINK: u64 = 128 << 10;

/// What is said of a store that is away, whether it fails at once or says nothing.
const NOT_TAKEN: &str = "the store does not take a batch";

/// Puts the batches of one stream. Clones are the same.
#[derive(Clone)]
pub(super) struct Publisher {
    store: Arc<dyn BatchStore>,
    view: watch::Sender<View>,
    metrics: StreamMetrics,
    trouble: Arc<Mutex<Trouble>>,
}

impl Publisher {
    pub(super) fn new(store: Arc<dyn BatchStore>, view: watch::Sender<View>, metrics: StreamMetrics) -> Self {
        Self { store, view, metrics, trouble: Arc::default() }
    }

    /// Puts a batch, and tries again until the store took it, or told what stands there. Idempotent, because the bytes are always the same.
    ///
    /// # Errors
    /// [`PutError`] when the key holds something else, or the bytes are none that a store takes.
    pub(super) async fn put(&self, key: Key, bytes: Bytes) -> Result<Put, PutError> {
        let began = Instant::now();
        let mut backoff = Backoff::new();
        let patience = LATE + Duration::from_secs(bytes.len() as u64 / SLOWEST_UPLINK);
        let mut is_first = true;
        loop {
            let mut put = pin!(self.store.put(&key, bytes.clone()));
            let answer = match timeout(patience, &mut put).await {
                Ok(answer) => answer,
                Err(late) => {
                    self.show(NOT_TAKEN);
                    self.say(&key, NOT_TAKEN, &late);
                    put.await
                }
            };
            match answer {
                Ok(put) => {
                    self.over();
                    self.metrics.put(began.elapsed());
                    return Ok(put);
                }
                Err(error) => {
                    let PutError::Failed { failure, .. } = &error else {
                        self.over();
                        return Err(error);
                    };
                    let brief = in_brief_of(failure, NOT_TAKEN);
                    self.metrics.put_retried();
                    self.show(brief);
                    if is_first && matches!(failure, Failure::Unavailable(_)) {
                        tracing::debug!(%key, error = chain(&error), "{brief}; trying again");
                    } else {
                        self.say(&key, brief, &error);
                    }
                }
            }
            is_first = false;
            backoff.wait().await;
        }
    }

    /// Says which chunks are not there that the snapshots of a stored batch name: somebody removed them before the log named them
    /// (`spec/storage.md`, section 10). Whoever sent the snapshot looks as well, and puts them again; he may be gone.
    pub(super) async fn look_for_chunks(&self, key: &Key, object: Bytes) {
        let stream = key.stream();
        match timeout(LATE, missing_of(&*self.store, stream, object)).await {
            Ok(Ok(missing)) => {
                let Some(first) = missing.first() else { return };
                self.metrics.lacks_chunks(missing.len() as u64);
                tracing::error!(%key, missing = missing.len(), %first,
                    "a stored snapshot names chunks that the store lacks; keep its agent running, which puts them again");
            }
            Ok(Err(error)) => {
                tracing::warn!(%key, error = chain(&error), "nobody knows whether the store has the chunks of a stored snapshot");
            }
            Err(late) => {
                tracing::warn!(%key, error = chain(&late), "nobody knows whether the store has the chunks of a stored snapshot");
            }
        }
    }

    fn show(&self, brief: &'static str) {
        self.view.send_if_modified(|view| view.trouble.replace(brief) != Some(brief));
    }

    fn say(&self, key: &Key, brief: &'static str, error: &(dyn std::error::Error + Sync)) {
        if let Some(lasting) = self.trouble().met(Instant::now(), brief) {
            tracing::warn!(%key, error = chain(error), attempts = lasting.times, lasts_s = lasting.lasts.as_secs(),
                "{brief}; trying again, and accepting on until the journal is full");
        }
    }

    fn over(&self) {
        self.view.send_if_modified(|view| view.trouble.take().is_some());
        if let Some(lasting) = self.trouble().over(Instant::now()) {
            let stream = self.view.borrow().status.as_ref().map(|status| status.stream);
            tracing::info!(
                ?stream,
                attempts = lasting.times,
                lasts_s = lasting.lasts.as_secs(),
                "the store takes batches again"
            );
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        // When something was said is right whoever panicked.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
