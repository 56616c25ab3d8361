//! Putting one batch into the store, until the store has answered.

use bytes::Bytes;
use synddb_protocol::chain;
use synddb_storage::{BatchStore, Key, Put, PutError};
use tokio::sync::watch;

use super::View;
use crate::backoff::Backoff;
use crate::metrics::StreamMetrics;

/// Puts a batch, and tries again for as long as that may help. Idempotent, because the bytes are always the same.
///
/// # Errors
/// [`PutError`] when the key holds something else, or no retry will help.
pub(super) async fn put(
    store: &dyn BatchStore,
    key: Key,
    bytes: Bytes,
    view: &watch::Sender<View>,
    metrics: &StreamMetrics,
) -> Result<Put, PutError> {
    let mut backoff = Backoff::new();
    loop {
        match store.put(&key, bytes.clone()).await {
            Ok(put) => {
                view.send_if_modified(|view| view.trouble.take().is_some());
                return Ok(put);
            }
            Err(error) if error.retry_may_help() => {
                tracing::warn!(%key, error = chain(&error), "the store does not take a batch; trying again");
                metrics.put_retried();
                view.send_modify(|view| view.trouble = Some("the store does not take a batch"));
                backoff.wait().await;
            }
            Err(error) => return Err(error),
        }
    }
}
