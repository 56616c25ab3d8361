//! Outbound messages: what became of the application's rows, and the signatures over them.

use synddb_protocol::http::{OutboundContent, OutboundList, OutboundStatus, Reason};
use synddb_service::axum::Json;
use synddb_service::axum::extract::State;
use synddb_service::axum::http::HeaderMap;
use synddb_service::axum::response::Response;
use synddb_service::http::{Query, Refusal};
use synddb_service::refusals;

use super::Front;
use super::extract::{Named, Nonce};
use super::mailbox::{Direction, Events, From};
use crate::mailbox::Mailbox;

refusals! {
    /// Of many messages.
    OfMessages: "malformed", "not_found", "busy", "not_leading", "unavailable"
}

refusals! {
    /// Of one message.
    OfMessage: "not_found", "busy", "not_leading", "unavailable"
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
    front.ask_mailbox(stream, move |mailbox| mailbox.outbound(from)).await.map(Json)
}

/// What became of one outbound message
///
/// Signed with the key of the sequencer that is asked; refused for ever; waiting for the application to catch up with its inbound messages; or 404 while no stored message has brought the row.
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
    let status = front.ask_mailbox(stream, move |mailbox| mailbox.status(nonce)).await?;
    status.map(Json).ok_or_else(unknown)
}

/// A signed outbound message with its call data
///
/// What whoever executes it brings to the bridge, beside the signatures of validators. 404 also where the row is refused or waits: its status says why.
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
    let found = front.ask_mailbox(stream, move |mailbox| match mailbox.status(nonce)? {
        Some(OutboundStatus::Signed(signed)) => mailbox.content(signed).map(Ok),
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
/// Server-sent events `outbound`, each with a status as JSON in `data` and its nonce as `id`, in the order of nonces; one that waits when it is signed, and those behind it then; until the reader or the process goes.
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
    let read = |mailbox: &Mailbox, from| {
        let mut messages = mailbox.outbound(from)?.messages;
        // What waits is shown when it is signed, and what is behind it then.
        let waits = messages.iter().position(|status| matches!(status, OutboundStatus::Waiting { .. }));
        messages.truncate(waits.unwrap_or(messages.len()));
        Ok(Events::of("outbound", &messages, OutboundStatus::nonce))
    };
    front.show_mailbox(stream, &headers, from, Direction { read, last: |known| known.outbound })
}

fn unknown() -> Refusal {
    Refusal::new(Reason::NotFound, "no stored message has brought this row")
}
