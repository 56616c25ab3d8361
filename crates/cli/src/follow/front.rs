//! The agent's HTTP front, for its own machine: `spec/api.md`, section 4.

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
use synddb_service::axum::routing::{get, post};
use synddb_service::axum::{Json, Router};
use synddb_service::http::{Query, Readiness, Refusal, WAIT_MAX, frame};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_sqlite::capture::WalPosition;
use tokio::net::{TcpListener, UnixListener};

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
    let router = routes(agent, metrics);
    Ok(async move {
        let over_socket = synddb_service::http::serve(socket, router.clone(), ended.clone());
        let over_loopback = async {
            match loopback {
                Some(listener) => synddb_service::http::serve(listener, router, ended).await,
                None => Ok(()),
            }
        };
        let (one, other) = tokio::join!(over_socket, over_loopback);
        path.clear()?;
        one.and(other)
    })
}

fn routes(agent: Agent, metrics: Metrics) -> Router {
    let probed = Arc::clone(&agent);
    let probe = Arc::new(move || match probed.status().problem {
        None => Readiness::Ready,
        Some(problem) => Readiness::NotReady(problem.detail),
    });
    let routes = Router::new()
        .route("/status", get(status))
        .route("/captured", get(captured))
        .route("/push", post(push))
        .route("/audit", post(audit))
        .route("/stop", post(stop))
        .with_state(agent);
    frame(routes, metrics, probe)
}

async fn status(State(agent): State<Agent>) -> Json<AgentStatus> {
    Json(agent.status())
}

#[derive(Deserialize)]
struct CapturedQuery {
    /// Left out, it asks for everything committed when the agent looks.
    position: Option<String>,
}

async fn captured(
    State(agent): State<Agent>,
    Query(query): Query<CapturedQuery>,
) -> Result<Json<Captured>, Refusal> {
    let position = query.position.as_deref().map(position).transpose()?;
    blocking(move || agent.captured(position)).await.map(Json)
}

#[derive(Deserialize)]
struct PushQuery {
    #[serde(default)]
    until: Until,
    #[serde(default)]
    wait_ms: u64,
}

async fn push(
    State(agent): State<Agent>,
    Query(query): Query<PushQuery>,
) -> Result<Json<AgentStatus>, Refusal> {
    let deadline = Instant::now() + Duration::from_millis(query.wait_ms).min(WAIT_MAX);
    let pushed = blocking(move || agent.push(query.until, deadline)).await?;
    pushed.map(Json).map_err(|error| Refusal::new(Reason::Unavailable, error.to_string()))
}

#[derive(Deserialize)]
struct AuditQuery {
    #[serde(default)]
    wait_ms: u64,
}

async fn audit(
    State(agent): State<Agent>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Audited>, Refusal> {
    let deadline = Instant::now() + Duration::from_millis(query.wait_ms).min(WAIT_MAX);
    let audited = blocking(move || agent.audit(deadline)).await?;
    audited.map(Json).map_err(|error| Refusal::new(Reason::Unavailable, error.to_string()))
}

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
