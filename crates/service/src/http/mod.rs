//! The frame around every role's routes: probes, metrics, bounds, problems.
//!
//! ```text
//! listener -> bounded connections, each with times -> deadline -> bounded answers -> panic is a 500 -> route -> handler
//!                                                                                             \-> 404, 405 as problems
//! ```
//!
//! A handler extracts, calls and maps; what it refuses is a [`Refusal`]. Bodies are read by [`Payload`], whose bound stands in
//! its type, so no default of the framework is lower or higher than the protocol's.

pub mod answer;
mod connections;
mod credential;
mod document;
mod measure;
mod media;
mod pace;
mod payload;
mod probe;
mod query;
mod refusal;
mod serve;
mod tls;
mod yielding;

pub use connections::{ConnectionBounds, Peer};
pub use credential::{CheckEvidence, Gate, Presented};
pub use document::{About, bytes, document, is_code, refused, rendered};
pub use media::{Cbor, Declared, JsonText, MediaType, Octets, accepts};
pub use payload::{Payload, read_body};
pub use probe::{Probe, Readiness};
pub use query::Query;
pub use refusal::{BUSY_RETRY, Refusal, busy};
pub use serve::{Entrance, listen, serve};
pub use tls::{ClientCertificates, PeerCertificate, TlsConfig, TlsError, Transport};
pub use utoipa_axum::router::OpenApiRouter;
pub use utoipa_axum::routes;

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use synddb_protocol::http::Reason;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower_http::catch_panic::CatchPanicLayer;

use crate::telemetry::Metrics;
use probe::Probed;

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

/// The media type of a problem (RFC 9457, section 3).
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Puts the frame around `routes`: the routes that every process has, its document among them, problems for everything that has no
/// route, a deadline, and a 500 for a panic.
pub fn frame(about: &About, routes: OpenApiRouter, metrics: Metrics, probe: Probe) -> Router {
    measure::describe();
    let document = rendered(&document(about, routes.clone())).into();
    let probes: Router = probe::probes().with_state(Probed { metrics, probe, document }).into();
    Router::from(routes)
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
        .layer(map_response(answer::held))
        .layer(from_fn(in_time))
        .layer(from_fn(measure::measured))
}

/// Ends what takes longer than any request may.
async fn in_time(request: Request, next: Next) -> Response {
    let late = |_| {
        let detail = format!("no answer came in time. limit_s=`{}`", DEADLINE.as_secs());
        Refusal::new(Reason::Unavailable, detail).into_response()
    };
    tokio::time::timeout(DEADLINE, next.run(request)).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use synddb_protocol::http::Problem;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_and_what_fails_are_problems() {
        let routes = Router::new()
            .route("/never", get(std::future::pending::<()>))
            .route("/fault", get(|| async { unreachable!("a fault") as () }));
        let about = About { title: "Test", description: "A test." };
        let ready: Probe = std::sync::Arc::new(|| Readiness::Ready);
        let router = frame(&about, routes.into(), Metrics::detached(), ready);
        let service = TowerToHyperService::new(router);
        for (path, reason) in [
            ("/never", Reason::Unavailable),
            ("/fault", Reason::Internal),
            ("/none", Reason::NotFound),
            ("/problems/none", Reason::NotFound),
        ] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let answer = service.call(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::from_u16(reason.status()).unwrap(), "{path}");
            assert_eq!(answer.headers()["content-type"], PROBLEM_JSON, "{path}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<Problem>(&body).unwrap().reason(), &reason, "{path}");
        }
    }
}
