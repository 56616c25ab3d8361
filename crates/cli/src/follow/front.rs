//! The agent's HTTP front, for its own machine: `spec/api.md`, section 4.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use synddb_agent::{AgentStatus, Audited, Captured, Handle, SocketPath, Until};
use synddb_protocol::http::Reason;
use synddb_service::axum::extract::State;
use synddb_service::axum::http::StatusCode;
use synddb_service::axum::{self, Json, Router};
use synddb_service::http::{
    About, ConnectionBounds, OpenApiRouter, Query, Readiness, Refusal, Transport, WAIT_MAX, document, frame,
    rendered, routes,
};
use synddb_service::refusals;
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_sqlite::capture::WalPosition;
use tokio::net::{TcpListener, UnixListener};
use utoipa::IntoParams;

use crate::exit::CommandError;
use crate::folder::Folder;
use crate::output::{Event, Output, Process};

type Agent = Arc<Handle>;

/// Opens the socket, and the port where one was asked for. Returns what serves them until `ended` is asked.
pub(super) async fn serve(
    folder: Folder,
    port: Option<u16>,
    agent: Agent,
    metrics: Metrics,
    ended: Shutdown,
    output: Output,
) -> Result<impl Future<Output = io::Result<()>> + use<>, CommandError> {
    let failed = CommandError::system;
    let path = SocketPath::of_agent(folder.path()).map_err(failed("open the folder beside the database"))?;
    // The agent holds the folder's lock, so what is there was left by one that was killed.
    path.clear().map_err(failed("remove the socket of an earlier agent"))?;
    let socket = UnixListener::bind(path.path()).map_err(failed("open the agent's socket"))?;
    // The folder is its owner's alone, and so is this, whatever mask new files get.
    std::fs::set_permissions(path.path(), PermissionsExt::from_mode(0o600))
        .map_err(failed("close the agent's socket to others"))?;
    let loopback = match port {
        Some(port) => {
            let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
            Some(bound.map_err(failed("open the agent's port"))?)
        }
        None => None,
    };
    if let Some(listener) = &loopback {
        let address = listener.local_addr().map_err(failed("open the agent's port"))?;
        let url = format!("http://{address}");
        output.mention(&Event::Listening { process: Process::Agent, url, key: None, key_id: None });
    }
    let router = router(agent, metrics);
    Ok(async move {
        let bounds = ConnectionBounds::default();
        let over_socket =
            synddb_service::http::serve(socket, Transport::Plain, router.clone(), bounds, ended.clone());
        let over_loopback = async {
            match loopback {
                Some(listener) => {
                    synddb_service::http::serve(listener, Transport::Plain, router, bounds, ended).await
                }
                None => Ok(()),
            }
        };
        let (one, other) = tokio::join!(over_socket, over_loopback);
        path.clear()?;
        one.and(other)
    })
}

fn router(agent: Agent, metrics: Metrics) -> Router {
    let probed = Arc::clone(&agent);
    let probe = Arc::new(move || match probed.status().problem {
        None => Readiness::Ready,
        Some(problem) => Readiness::NotReady(problem.detail),
    });
    frame(&ABOUT, documented().with_state(agent), metrics, probe)
}

/// What the document of the process says of it.
const ABOUT: About = About {
    title: "SyndDB agent",
    description: "Captures every committed transaction of one database and ships it. It serves its own machine only: on the socket `agent.sock` in its \
        folder, and on a loopback port where one was asked for.",
};

/// The OpenAPI document of an agent, as it is served and checked in.
pub(crate) fn openapi() -> Vec<u8> {
    rendered(&document(&ABOUT, documented()))
}

fn documented() -> OpenApiRouter<Agent> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(captured))
        .routes(routes!(push))
        .routes(routes!(audit))
        .routes(routes!(stop))
}

refusals! {
    /// Nothing but what any request can meet.
    OfAny:
}

refusals! {
    /// Of a query string that may not fit.
    OfQuery: "malformed"
}

/// What the agent says of itself
#[utoipa::path(
    get, path = "/status", tag = "agent", operation_id = "status",
    responses((status = 200, description = "The status.", body = AgentStatus), OfAny),
)]
async fn status(State(agent): State<Agent>) -> Json<AgentStatus> {
    Json(agent.status())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CapturedQuery {
    /// A position in the WAL, 24 bytes in hex. Left out, it asks for everything committed when the agent looks.
    #[param(pattern = "^[0-9a-fA-F]{48}$")]
    position: Option<String>,
}

/// Whether everything up to a position in the WAL was captured
#[utoipa::path(
    get, path = "/captured", tag = "agent", operation_id = "captured", params(CapturedQuery),
    responses((status = 200, description = "Whether it was.", body = Captured), OfQuery),
)]
async fn captured(
    State(agent): State<Agent>,
    Query(query): Query<CapturedQuery>,
) -> Result<Json<Captured>, Refusal> {
    let position = query.position.as_deref().map(position).transpose()?;
    blocking(move || agent.captured(position)).await.map(Json)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PushQuery {
    /// How far it is to have come.
    #[serde(default)]
    #[param(inline)]
    until: Until,
    /// How long, in milliseconds; more than 30,000 is 30,000.
    #[serde(default)]
    wait_ms: u64,
}

/// Wait until everything that is committed now is sequenced or stored
///
/// 503 `unavailable` after the time, and at once where nothing is sent any more.
#[utoipa::path(
    post, path = "/push", tag = "agent", operation_id = "push", params(PushQuery),
    responses((status = 200, description = "It is.", body = AgentStatus), OfQuery),
)]
async fn push(
    State(agent): State<Agent>,
    Query(query): Query<PushQuery>,
) -> Result<Json<AgentStatus>, Refusal> {
    let deadline = Instant::now() + Duration::from_millis(query.wait_ms).min(WAIT_MAX);
    let pushed = blocking(move || agent.push(query.until, deadline)).await?;
    pushed.map(Json).map_err(|error| Refusal::new(Reason::Unavailable, error.to_string()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// How long, in milliseconds; more than 30,000 is 30,000.
    #[serde(default)]
    wait_ms: u64,
}

/// Have the database scanned in full, and compared with what was captured
///
/// A scan that runs already counts. 503 `unavailable` after the time; who asks again waits for the same scan.
#[utoipa::path(
    post, path = "/audit", tag = "agent", operation_id = "audit", params(AuditQuery),
    responses((status = 200, description = "What the scan found.", body = Audited), OfQuery),
)]
async fn audit(
    State(agent): State<Agent>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Audited>, Refusal> {
    let deadline = Instant::now() + Duration::from_millis(query.wait_ms).min(WAIT_MAX);
    let audited = blocking(move || agent.audit(deadline)).await?;
    audited.map(Json).map_err(|error| Refusal::new(Reason::Unavailable, error.to_string()))
}

/// Ask the agent to end
///
/// It captures and ships what is committed first; a push meanwhile is refused.
#[utoipa::path(
    post, path = "/stop", tag = "agent", operation_id = "stop",
    responses((status = 202, description = "It was asked."), OfAny),
)]
async fn stop(State(agent): State<Agent>) -> StatusCode {
    agent.stop();
    StatusCode::ACCEPTED
}

fn position(text: &str) -> Result<WalPosition, Refusal> {
    let mut bytes = [0; WalPosition::BYTES];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| Refusal::new(Reason::Malformed, "a position is 48 hex digits"))?;
    Ok(WalPosition::from_bytes(&bytes))
}

/// Asks the agent's threads, which answer when they come to it.
async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(ask)
        .await
        .map_err(|_| Refusal::new(Reason::Internal, "the agent's thread is gone; its log says why"))
}
