//! The log as it grows.

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
use synddb_service::http::{Query, Refusal};

use super::Front;
use super::deliver::not_leading;
use super::extract::{Named, accepts, busy};
use crate::live::{Form, NotShown};

/// Most readers of the process that are shown the log as it grows. What one of them does not take is at most a step of the ring.
pub(super) const LIVE_READERS_MAX: usize = 64;

/// What `GET /log/stream` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    from: Option<Sequence>,
    epoch: Option<Epoch>,
}

/// `GET /log/stream`
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
