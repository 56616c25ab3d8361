//! HTTP about snapshots: which lie in the store.
//!
//! Strangers ask, and the store is asked for them: at most once in [`FRESH`], however many ask.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use synddb_protocol::chain;
use synddb_protocol::http::{Reason, StoredSnapshot};
use synddb_protocol::id::StreamId;
use synddb_service::axum::extract::State;
use synddb_service::axum::{self, Json};
use synddb_service::http::{OpenApiRouter, Refusal, routes};
use synddb_service::refusals;
use synddb_storage::BatchStore;
use tokio::sync::Mutex;

use super::listed::newest;
use crate::serve::Serving;

/// How long an answer is given again.
const FRESH: Duration = Duration::from_secs(5);
/// How long a store may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Snapshots that are told, at most.
const TOLD_MAX: usize = 64;

/// What is known of the snapshots in the store. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    store: Arc<OnceLock<(Arc<dyn BatchStore>, StreamId)>>,
    known: Arc<Mutex<Option<Known>>>,
}

struct Known {
    since: Instant,
    told: Result<Vec<StoredSnapshot>, String>,
}

impl Shelf {
    /// From here on this store is asked.
    pub(crate) fn open(&self, store: &Arc<dyn BatchStore>, stream: StreamId) {
        self.store.set((Arc::clone(store), stream)).ok();
    }

    async fn newest(&self) -> Result<Vec<StoredSnapshot>, String> {
        let Some((store, stream)) = self.store.get() else {
            return Err("the store is not open yet".to_owned());
        };
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.since.elapsed() < FRESH) {
            return known.told.clone();
        }
        let told = match tokio::time::timeout(PATIENCE, newest(&**store, *stream, TOLD_MAX)).await {
            Ok(Ok(found)) => {
                let told = |named: &super::listed::Named| StoredSnapshot {
                    sequence: named.sequence,
                    signer: named.signer,
                };
                Ok(found.iter().map(told).collect())
            }
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("the store does not answer".to_owned()),
        };
        known.insert(Known { since: Instant::now(), told }).told.clone()
    }
}

/// The routes of this module.
pub(crate) fn routes() -> OpenApiRouter<Serving> {
    OpenApiRouter::new().routes(routes!(snapshots))
}

refusals! {
    /// Of the list of snapshots.
    OfSnapshots:
}

/// List the newest snapshots in the store
///
/// Newest first, at most 64, by their names. That one is there says nothing of what it holds: whoever begins from it checks that.
#[utoipa::path(
    get, path = "/snapshots", tag = "snapshots", operation_id = "snapshots",
    responses((status = 200, description = "The snapshots.", body = Vec<StoredSnapshot>), OfSnapshots),
)]
async fn snapshots(State(serving): State<Serving>) -> Result<Json<Vec<StoredSnapshot>>, Refusal> {
    let told = serving.shelf.newest().await;
    told.map(Json)
        .map_err(|why| Refusal::new(Reason::Unavailable, format!("snapshots cannot be listed: {why}")))
}
