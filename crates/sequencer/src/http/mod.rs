//! The paths of `spec/api.md`, section 2. A handler extracts, calls and maps.
//!
//! The credential is checked before anything of a body is read, and room is taken for each piece of a body before it is kept.

mod deliver;
mod extract;
mod inbound;
mod live;
mod mailbox;
mod outbound;
mod proof;
mod read;
mod write;

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use synddb_protocol::limits::{BATCH_STORED_MAX, CHUNK_STORED_MAX};
use synddb_service::axum;
use synddb_service::axum::http::StatusCode;
use synddb_service::axum::http::header::{CONNECTION, HeaderValue};
use synddb_service::axum::middleware::map_response;
use synddb_service::axum::response::Response;
use synddb_service::http::{About, Gate, OpenApiRouter, Refusal, document, rendered, routes};
use synddb_service::shutdown::Shutdown;
use synddb_storage::BatchStore;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::admission::{Admission, BODIES_BYTES};
use crate::proof::Prover;
use crate::registry::Registry;
use crate::stored::ANSWER_BYTES_MAX;

/// Most answers that read batches from the store at a time; more wait, for [`PATIENCE`].
const READS_MAX: usize = 8;

/// Most answers among them that prove or list leaves. They take many reads, and leave room for those who read batches.
const PROOFS_MAX: usize = 4;

/// Most resends that are looked up in the store at a time; more wait, for [`PATIENCE`]. Readers never keep them out.
const LOOK_UPS_MAX: usize = 8;

/// Most answers that have outbound messages signed at a time; more wait, for [`PATIENCE`].
const LEDGERS_MAX: usize = 4;

/// How long a request waits for others that read the store.
const PATIENCE: Duration = Duration::from_secs(10);

/// All batches together that are read and on their way to readers, in bytes.
const ANSWERS_BYTES: usize = 512 << 20;

const _: () = assert!(PROOFS_MAX < READS_MAX);
const _: () = assert!(ANSWER_BYTES_MAX < ANSWERS_BYTES && BATCH_STORED_MAX < ANSWERS_BYTES);

/// All chunks together that are on their way to the store, in bytes.
const CHUNKS_BYTES: usize = 256 << 20;

const _: () = assert!(CHUNK_STORED_MAX < CHUNKS_BYTES);

/// Most bodies that are opened at a time for each processor, which is what opening takes.
const OPENS_PER_PROCESSOR: usize = 1;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Front(Arc<Shared>);

struct Shared {
    gate: Gate,
    registry: Arc<Registry>,
    store: Arc<dyn BatchStore>,
    prover: Prover,
    /// Room for bodies.
    bodies: Admission,
    /// Room for what is on its way to readers.
    answers: Admission,
    /// Room for chunks on their way to the store.
    chunks: Admission,
    reads: Semaphore,
    proofs: Semaphore,
    look_ups: Semaphore,
    opens: Semaphore,
    /// Leave to read the ledger of a mailbox, and to have outbound messages signed.
    ledgers: Semaphore,
    /// Leave to be shown a log as it grows.
    live: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl Front {
    pub(crate) fn new(
        gate: Gate,
        registry: Arc<Registry>,
        store: Arc<dyn BatchStore>,
        shutdown: Shutdown,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Shared {
            gate,
            registry,
            prover: Prover::new(Arc::clone(&store)),
            store,
            bodies: Admission::new(BODIES_BYTES),
            answers: Admission::new(ANSWERS_BYTES),
            chunks: Admission::new(CHUNKS_BYTES),
            reads: Semaphore::new(READS_MAX),
            proofs: Semaphore::new(PROOFS_MAX),
            look_ups: Semaphore::new(LOOK_UPS_MAX),
            opens: Semaphore::new(processors * OPENS_PER_PROCESSOR),
            ledgers: Semaphore::new(LEDGERS_MAX),
            live: Arc::new(Semaphore::new(live::LIVE_READERS_MAX)),
            shutdown,
        }))
    }
}

/// Leave to do what only some may do at a time.
///
/// # Errors
/// 429 when it does not come in time.
async fn leave(of: &Semaphore) -> Result<SemaphorePermit<'_>, Refusal> {
    let permit = tokio::time::timeout(PATIENCE, of.acquire()).await;
    permit.map_err(|_| extract::busy())?.map_err(|_| extract::busy())
}

/// What the document of the process says of it.
pub(crate) const ABOUT: About = About {
    title: "SyndDB sequencer",
    description: "Puts what agents send in one order, signs it, and stores it. Paths that begin with `/streams/{stream}` are of that stream; the same \
        without it are of the only stream that is led here.",
};

/// The routes: for a stream by its name, and for the only one.
pub(crate) fn router(front: Front) -> OpenApiRouter {
    routes().layer(map_response(let_go)).with_state(front)
}

/// The OpenAPI document of a sequencer, as it is served and checked in.
pub fn openapi() -> Vec<u8> {
    rendered(&document(&ABOUT, routes()))
}

fn routes() -> OpenApiRouter<Front> {
    let of_stream = OpenApiRouter::new()
        .routes(routes!(write::submit))
        .routes(routes!(write::snapshot))
        .routes(routes!(write::chunk))
        .routes(routes!(read::batches))
        .routes(routes!(live::stream))
        .routes(routes!(inbound::list))
        .routes(routes!(inbound::stream))
        .routes(routes!(inbound::message))
        .routes(routes!(outbound::list))
        .routes(routes!(outbound::stream))
        .routes(routes!(outbound::content))
        .routes(routes!(outbound::status))
        .routes(routes!(proof::leaves))
        .routes(routes!(proof::inclusion))
        .routes(routes!(proof::consistency))
        .routes(routes!(read::checkpoint))
        .routes(routes!(read::status));
    OpenApiRouter::new()
        .routes(routes!(read::streams))
        .nest("/streams/{stream}", of_stream.clone())
        .merge(of_stream)
}

/// Ends the connection of who was told 503: where several sequencers are behind one address, the next one may lead to who can do it.
async fn let_go(mut response: Response) -> Response {
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
