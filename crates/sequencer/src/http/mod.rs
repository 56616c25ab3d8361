//! The paths of `spec/api.md`, section 2. A handler extracts, calls and maps.
//!
//! The credential is checked before anything of a body is read, and room is taken for a body before it is.

mod deliver;
mod extract;
mod read;
mod write;

use std::sync::Arc;

use synddb_service::axum::Router;
use synddb_service::axum::routing::{get, post, put};
use synddb_service::secret::Token;
use synddb_service::shutdown::Shutdown;
use synddb_storage::BatchStore;
use tokio::sync::Semaphore;

use crate::admission::Admission;
use crate::registry::Registry;

/// Most answers that read batches from the store at a time; more wait.
const READS_MAX: usize = 8;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Front(Arc<Shared>);

struct Shared {
    token: Token,
    registry: Arc<Registry>,
    store: Arc<dyn BatchStore>,
    admission: Admission,
    reads: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl Front {
    pub(crate) fn new(
        token: Token,
        registry: Arc<Registry>,
        store: Arc<dyn BatchStore>,
        shutdown: Shutdown,
    ) -> Self {
        let (admission, reads) = (Admission::new(), Arc::new(Semaphore::new(READS_MAX)));
        Self(Arc::new(Shared { token, registry, store, admission, reads, shutdown }))
    }
}

/// The routes: for a stream by its name, and for the only one.
pub(crate) fn router(front: Front) -> Router {
    let of_stream = Router::new()
        .route("/submit", post(write::submit))
        .route("/snapshot", post(write::snapshot))
        .route("/snapshot/chunks/{hash}", put(write::chunk))
        .route("/batches/{range}", get(read::batches))
        .route("/checkpoint", get(read::checkpoint))
        .route("/status", get(read::status));
    Router::new()
        .route("/streams", get(read::streams))
        .nest("/streams/{stream}", of_stream.clone())
        .merge(of_stream)
        .with_state(front)
}
