//! Outbound messages: what became of the application's rows, and the signatures over them.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use synddb_protocol::chain;
use synddb_protocol::http::{OutboundContent, OutboundList, OutboundStatus, Reason};
use synddb_protocol::id::StreamId;
use synddb_service::axum::Json;
use synddb_service::axum::body::Body;
use synddb_service::axum::extract::State;
use synddb_service::axum::http::{HeaderMap, header};
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::http::{Query, Refusal};
use synddb_service::refusals;
use synddb_service::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::IntoParams;

use super::extract::{BUSY_RETRY, Named, Nonce, busy};
use super::{Front, leave};
use crate::outbound::{LedgerError, Outbound};
use crate::stream::{Phase, View};

/// How long nothing is said while nothing happens. Shorter than the patience of the proxies between.
const IDLE: Duration = Duration::from_secs(15);

refusals! {
    /// Of many messages.
    OfMessages: "malformed", "not_found", "busy", "not_leading", "unavailable"
}

refusals! {
    /// Of one message.
    OfMessage: "not_found", "busy", "not_leading", "unavailable"
}

/// What lists of outbound messages take.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// The first nonce; 1 where it is missing.
    #[serde(default)]
    from: u64,
}

/// What became of outbound messages
///
/// In the order of their nonces, 100 at most: who got less than `last` asks again behind the last one. A row is known when its message is stored.
#[utoipa::path(
    get, path = "/messages/outbound", tag = "read", operation_id = "outbound", params(From),
    responses((status = 200, description = "The messages.", body = OutboundList), OfMessages),
)]
pub(super) async fn list(
    State(front): State<Front>,
    Named(stream): Named,
    Query(From { from }): Query<From>,
) -> Result<Json<OutboundList>, Refusal> {
    front.ask(stream, move |outbound| outbound.list(from)).await.map(Json)
}

/// What became of one outbound message
///
/// Signed with the key of the sequencer that is asked; refused for ever; or 404 while no stored message has brought the row.
#[utoipa::path(
    get, path = "/messages/outbound/{id}/status", tag = "read", operation_id = "outbound_status",
    params(("id" = String, Path, description = "The row's id, which is the nonce.", pattern = "^[1-9][0-9]{0,19}$", example = "1")),
    responses((status = 200, description = "The status.", body = OutboundStatus), OfMessage),
)]
pub(super) async fn status(
    State(front): State<Front>,
    Named(stream): Named,
    Nonce(nonce): Nonce,
) -> Result<Json<OutboundStatus>, Refusal> {
    let status = front.ask(stream, move |outbound| outbound.status(nonce)).await?;
    status.map(Json).ok_or_else(unknown)
}

/// A signed outbound message with its call data
///
/// What whoever executes it brings to the bridge, beside the signatures of validators. 404 also where the row is refused: its status says why.
#[utoipa::path(
    get, path = "/messages/outbound/{id}", tag = "read", operation_id = "outbound_content",
    params(("id" = String, Path, description = "The row's id, which is the nonce.", pattern = "^[1-9][0-9]{0,19}$", example = "1")),
    responses((status = 200, description = "The message.", body = OutboundContent), OfMessage),
)]
pub(super) async fn content(
    State(front): State<Front>,
    Named(stream): Named,
    Nonce(nonce): Nonce,
) -> Result<Json<OutboundContent>, Refusal> {
    let found = front.ask(stream, move |outbound| match outbound.status(nonce)? {
        Some(OutboundStatus::Signed(signed)) => outbound.content(signed).map(Ok),
        Some(OutboundStatus::Refused(refused)) => Ok(Err(Some(refused.detail))),
        Some(OutboundStatus::Waiting { detail, .. }) => Ok(Err(Some(detail))),
        None => Ok(Err(None)),
    });
    match found.await? {
        Ok(content) => Ok(Json(content)),
        Err(Some(detail)) => {
            Err(Refusal::new(Reason::NotFound, format!("the message is not signed: {detail}")))
        }
        Err(None) => Err(unknown()),
    }
}

/// Outbound messages as they become known
///
/// Server-sent events `outbound`, each with a status as JSON in `data` and its nonce as `id`, in the order of nonces, until the reader or the process goes.
#[utoipa::path(
    get, path = "/messages/outbound/stream", tag = "read", operation_id = "outbound_stream",
    params(
        From,
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that a browser got; stands above `from`.", pattern = "^[0-9]{1,20}$"),
    ),
    responses(
        (status = 200, description = "The messages, without an end.", body = String, content_type = "text/event-stream"),
        OfMessages
    ),
)]
pub(super) async fn stream(
    State(front): State<Front>,
    Named(stream): Named,
    headers: HeaderMap,
    Query(From { from }): Query<From>,
) -> Result<Response, Refusal> {
    let next = resumed(&headers)?.unwrap_or(from);
    let outbound = front.outbound(stream)?;
    let view = front.handle(stream)?.view;
    let permit = Arc::clone(&front.0.live).try_acquire_owned().map_err(|_| busy())?;
    let known = outbound.watch();
    let shutdown = front.0.shutdown.clone();
    let reader = Reader { outbound, known, view, shutdown, next, _permit: permit };
    let body = Body::from_stream(stream::unfold(reader, |mut reader| async move {
        let piece = reader.piece().await?;
        Some((Ok::<Bytes, Infallible>(piece), reader))
    }));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// Where a browser goes on that was shown something before.
fn resumed(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(last) = headers.get("last-event-id") else { return Ok(None) };
    let last = last.to_str().ok().and_then(|last| last.parse::<u64>().ok());
    let malformed = || Refusal::new(Reason::Malformed, "`Last-Event-ID` is not the id of an event");
    last.map(|last| Some(last.saturating_add(1))).ok_or_else(malformed)
}

/// Who is shown outbound messages: a place among the nonces, and nothing else.
struct Reader {
    outbound: Arc<Outbound>,
    known: watch::Receiver<u64>,
    view: watch::Receiver<View>,
    shutdown: Shutdown,
    next: u64,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// What comes next, once there is something. `None` at the end.
    async fn piece(&mut self) -> Option<Bytes> {
        loop {
            if self.shutdown.is_asked() {
                return None;
            }
            self.known.borrow_and_update();
            let (outbound, from) = (Arc::clone(&self.outbound), self.next);
            let list = match blocking(move || outbound.list(from)).await {
                Ok(list) => list,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a reader of outbound messages is let go");
                    return None;
                }
            };
            if let Some(last) = list.messages.last() {
                self.next = last.nonce().saturating_add(1);
                return Some(list.messages.iter().filter_map(event).collect::<String>().into());
            }
            tokio::select! {
                changed = self.known.changed() => changed.ok()?,
                () = tokio::time::sleep(IDLE) => return Some(Bytes::from_static(b":\n\n")),
                _ = self.view.wait_for(|view| matches!(view.phase, Phase::Deposed | Phase::Ended)) => return None,
                () = self.shutdown.asked() => return None,
            }
        }
    }
}

fn event(status: &OutboundStatus) -> Option<String> {
    let data = serde_json::to_string(status).ok()?;
    Some(format!("event: outbound\nid: {}\ndata: {data}\n\n", status.nonce()))
}

impl Front {
    fn outbound(&self, stream: StreamId) -> Result<Arc<Outbound>, Refusal> {
        let detail = "no bridge is configured here, so no outbound message is read; set `bridge.chain_id` and `bridge.contract`";
        self.handle(stream)?.outbound.ok_or_else(|| Refusal::new(Reason::NotFound, detail))
    }

    /// Asks the ledger of a stream.
    async fn ask<T: Send + 'static>(
        &self,
        stream: StreamId,
        ask: impl FnOnce(&Outbound) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let outbound = self.outbound(stream)?;
        let _leave = leave(&self.0.ledgers).await?;
        blocking(move || ask(&outbound)).await.map_err(|error| {
            super::deliver::say(&error, "the ledger of outbound messages does not answer a request");
            let detail = "the ledger of outbound messages cannot be read; see the log of the service";
            Refusal::new(Reason::Unavailable, detail).retry_after(BUSY_RETRY)
        })
    }
}

fn unknown() -> Refusal {
    Refusal::new(Reason::NotFound, "no stored message has brought this row")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
