//! The log as it grows.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use synddb_protocol::http::Reason;
use synddb_protocol::id::{Epoch, Sequence};
use synddb_service::axum::body::Body;
use synddb_service::axum::extract::State;
use synddb_service::axum::http::{HeaderMap, header};
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::http::{Query, Refusal, accepts};
use synddb_service::{binary, refusals};
use utoipa::IntoParams;

use super::Front;
use super::deliver::not_leading;
use super::extract::{Named, busy};
use crate::live::{Form, NotShown};

/// Most readers of the process that are shown the log as it grows. What one of them does not take is at most a step of the ring.
pub(super) const LIVE_READERS_MAX: usize = 64;

/// What `GET /log/stream` takes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// The first message to be shown; the next one that is signed where it is missing.
    from: Option<Sequence>,
    /// The epoch of the message before `from`, as its receipt says: 404 when another one stands there.
    epoch: Option<Epoch>,
}

refusals! {
    /// Of the log as it grows.
    OfLog: "malformed", "not_found", "busy", "not_leading"
}

binary! {
    /// Items.
    Items: None, "A CBOR sequence (RFC 8742) of items, each an array: `[0, receipt, body, stored]`, `[1, checkpoint]`, `[2, from]`, `[3, from]`, `[4]` (`spec/api.md`, section 2)."
}

/// The log as it grows
///
/// Item by item, until the reader or the process goes, or the reader is sent to the store. As server-sent events with
/// `Accept: text/event-stream`: `message`, `stored`, `withdrawn` and `behind`, with JSON in `data`.
#[utoipa::path(
    get, path = "/log/stream", tag = "read", operation_id = "log",
    params(
        From,
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that a browser got, `N-E` or `N`; stands above `from` and `epoch`.", pattern = "^[0-9]{1,12}(-[1-9][0-9]{0,11})?$"),
    ),
    responses(
        (status = 200, description = "The log, without an end.", content((inline(Items) = "application/cbor-seq"), (String = "text/event-stream"))),
        OfLog
    ),
)]
pub(super) async fn stream(
    State(front): State<Front>,
    Named(stream): Named,
    headers: HeaderMap,
    Query(named): Query<From>,
) -> Result<Response, Refusal> {
    let form = if accepts(&headers, Form::Events.content_type()) { Form::Events } else { Form::Cbor };
    // What the address says is of the first time that a browser connected.
    let From { from, epoch } = resumed(&headers)?.unwrap_or(named);
    let feed = front.handle(stream)?.feed;
    let permit = Arc::clone(&front.0.live).try_acquire_owned().map_err(|_| busy())?;
    let reader = feed.read(from, epoch).map_err(not_shown)?;
    let pieces = (reader.pieces(form, front.0.shutdown.clone()), permit);
    let body = Body::from_stream(stream::unfold(pieces, |(mut pieces, permit)| async move {
        let piece = pieces.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(piece), (pieces, permit)))
    }));
    let headers = [(header::CONTENT_TYPE, form.content_type()), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// Where a browser goes on that was shown something before, and the epoch of what it was shown last.
fn resumed(headers: &HeaderMap) -> Result<Option<From>, Refusal> {
    let Some(last) = headers.get("last-event-id") else { return Ok(None) };
    let malformed = || Refusal::new(Reason::Malformed, "`Last-Event-ID` is not the id of an event");
    last.to_str().ok().and_then(read_id).map(Some).ok_or_else(malformed)
}

/// Reads the id of an event, as `live/form.rs` writes it.
fn read_id(id: &str) -> Option<From> {
    let (last, epoch) = match id.split_once('-') {
        Some((last, epoch)) => (last, Some(Epoch::new(epoch.parse().ok()?).ok()?)),
        None => (id, None),
    };
    let next = Sequence::new(last.parse::<u64>().ok()?.checked_add(1)?).ok()?;
    Some(From { from: Some(next), epoch })
}

fn not_shown(error: NotShown) -> Refusal {
    match error {
        NotShown::NotLed => not_leading(error.to_string()),
        NotShown::Past { .. } | NotShown::Withdrawn { .. } => {
            Refusal::new(Reason::NotFound, error.to_string())
        }
    }
}
