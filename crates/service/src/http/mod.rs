//! The frame around every role's routes: probes, metrics, bounds, problems.
//!
//! ```text
//! listener -> bounded connections, each with times -> deadline -> panic is a 500 -> route -> handler
//!                                                                          \-> 404, 405 as problems
//! ```
//!
//! A handler extracts, calls and maps; what it refuses is a [`Refusal`]. Bodies are read by [`Payload`], whose bound stands in
//! its type, so no default of the framework is lower or higher than the protocol's.

mod measure;
mod payload;
mod query;
mod refusal;
mod serve;

pub use payload::Payload;
pub use query::Query;
pub use refusal::{Refusal, check_bearer};
pub use serve::{Reach, serve};

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use synddb_protocol::http::Reason;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::telemetry::Metrics;

/// The longest that any handler may take. Long polls are bounded by [`WAIT_MAX`].
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The longest wait that a long poll may ask for.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// Most requests of this process that wait for something to happen. Others are answered at once, as if their time were up.
const WAITS_MAX: usize = 256;

static WAITS: Semaphore = Semaphore::const_new(WAITS_MAX);

/// Leave to wait, for a long poll: `None` when too many wait already, so that whoever waits never keeps out who works.
pub fn leave_to_wait() -> Option<SemaphorePermit<'static>> {
    WAITS.try_acquire().ok()
}

/// Whether a process can do its work now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, for this reason.
    NotReady(String),
}

/// Says whether the process can do its work.
pub type Probe = Arc<dyn Fn() -> Readiness + Send + Sync>;

#[derive(Clone)]
struct Frame {
    metrics: Metrics,
    probe: Probe,
}

/// Puts the frame around `routes`: `/livez`, `/readyz`, `/metrics`, problems for everything that has no route, a deadline, and
/// a 500 for a panic.
pub fn frame(routes: Router, metrics: Metrics, probe: Probe) -> Router {
    measure::describe();
    let probes = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .with_state(Frame { metrics, probe });
    routes
        .merge(probes)
        .fallback(|| async { Refusal::new(Reason::NotFound, "no resource has this path") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(
                Reason::MethodNotAllowed,
                "the header `Allow` names the methods that this path takes",
            )
        })
        .layer(CatchPanicLayer::custom(|_| {
            Refusal::new(Reason::Internal, "the request met a fault; the service's log has it")
                .into_response()
        }))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, DEADLINE))
        .layer(axum::middleware::from_fn(measure::measured))
}

async fn readyz(State(frame): State<Frame>) -> Response {
    match (frame.probe)() {
        Readiness::Ready => "ready\n".into_response(),
        Readiness::NotReady(why) => Refusal::new(Reason::Unavailable, why).into_response(),
    }
}

async fn exposition(State(frame): State<Frame>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], frame.metrics.render()).into_response()
}
