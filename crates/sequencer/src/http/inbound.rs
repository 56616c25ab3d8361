//! Inbound messages: what the bridge told the application, as soon as it is stored, and what the application said of it.

use synddb_protocol::http::{InboundList, InboundMessage, Reason};
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

/// What the bridge told the application
///
/// In the order of their nonces, 32 at most: who got less than `last` asks again behind the last one. A message is shown when it is stored. The application does
/// what it asks for, and inserts a row with its nonce into `inbound_messages` in the same transaction: nobody acknowledges one otherwise.
#[utoipa::path(
    get, path = "/messages/inbound", tag = "read", operation_id = "inbound", params(From),
    responses((status = 200, description = "The messages.", body = InboundList), OfMessages),
)]
pub(super) async fn list(
    State(front): State<Front>,
    Named(stream): Named,
    Query(From { from }): Query<From>,
) -> Result<Json<InboundList>, Refusal> {
    front.ask_mailbox(stream, move |mailbox| mailbox.inbound(from)).await.map(Json)
}

/// One inbound message
///
/// 404 while none with this nonce is stored.
#[utoipa::path(
    get, path = "/messages/inbound/{id}", tag = "read", operation_id = "inbound_message",
    params(("id" = String, Path, description = "The nonce.", pattern = "^[1-9][0-9]{0,19}$", example = "1")),
    responses((status = 200, description = "The message.", body = InboundMessage), OfMessage),
)]
pub(super) async fn message(
    State(front): State<Front>,
    Named(stream): Named,
    Nonce(nonce): Nonce,
) -> Result<Json<InboundMessage>, Refusal> {
    let found = front.ask_mailbox(stream, move |mailbox| mailbox.inbound_of(nonce)).await?;
    found.map(Json).ok_or_else(|| Refusal::new(Reason::NotFound, "no stored message has brought it"))
}

/// Inbound messages as they are stored
///
/// Server-sent events `inbound`, each with a message as JSON in `data` and its nonce as `id`, in the order of nonces, until the reader or the process goes.
#[utoipa::path(
    get, path = "/messages/inbound/stream", tag = "read", operation_id = "inbound_stream",
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
        let list = mailbox.inbound(from)?;
        Ok(Events::of("inbound", &list.messages, |message| message.nonce))
    };
    front.show_mailbox(stream, &headers, from, Direction { read, last: |known| known.delivered })
}
