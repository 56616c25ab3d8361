//! HTTP: the row changes of the log as server-sent events.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use std::collections::BTreeSet;
use std::convert::Infallible;

use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use synddb_protocol::http::Reason;
use synddb_protocol::id::Sequence;
use synddb_service::axum;
use synddb_service::axum::Extension;
use synddb_service::axum::body::Body;
use synddb_service::axum::extract::State;
use synddb_service::axum::http::{HeaderMap, header};
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::http::{OpenApiRouter, Peer, Query, Refusal, busy, routes};
use synddb_service::refusals;
use utoipa::{IntoParams, ToSchema};

use super::{NotShown, Place};
use crate::serve::Serving;

/// Most tables that a reader names.
const TABLES_MAX: usize = 256;

/// The routes of this module.
pub(crate) fn routes() -> OpenApiRouter<Serving> {
    OpenApiRouter::new().routes(routes!(changes))
}

refusals! {
    /// Of the changes.
    OfChanges: "malformed", "range", "not_found", "not_kept", "busy"
}

/// What `GET /changes` takes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// The first message that is shown; the next one where it is missing.
    from: Option<Sequence>,
    /// The last message of which anything is shown, `from` or later: the stream ends behind what began in it. Without it, it has no end.
    through: Option<Sequence>,
    /// The tables that are shown, by their names with commas between, 256 at most; all where it is missing. A table whose name has a comma cannot be named.
    tables: Option<String>,
}

/// One event, as `EventSource` gives it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it says what `feed::render` writes, to the document")]
struct ChangeEvent {
    /// `snapshot`, `schema`, `commit` or `ended`; none of a comment.
    #[schema(nullable = false)]
    event: Option<String>,
    /// The place up to which everything was shown.
    #[schema(nullable = false, pattern = "^[0-9]{1,12}(-[1-9][0-9]{0,15}(-[0-9]{1,15})?)?$")]
    id: Option<String>,
    /// JSON in one line (`docs/changes.md`).
    #[schema(nullable = false)]
    data: Option<String>,
}

/// The row changes, as they come
///
/// Server-sent events without an end: `snapshot`, `schema`, `commit` and `ended`, with JSON in `data` (`docs/changes.md`). Only what is committed in the replica is
/// shown, and so stored and verified. Whoever comes back with the `id` of the last event goes on behind it.
#[utoipa::path(
    get, path = "/changes", tag = "replica", operation_id = "changes",
    params(
        Asked,
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was got, `S`, `S-C` or `S-C-I`; stands above `from`.", pattern = "^[0-9]{1,12}(-[1-9][0-9]{0,15}(-[0-9]{1,15})?)?$"),
    ),
    responses(
        (status = 200, description = "The changes, without an end.", content_type = "text/event-stream", body = ChangeEvent),
        OfChanges
    ),
)]
async fn changes(
    State(serving): State<Serving>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    if let (Some(from), Some(through)) = (asked.from, asked.through)
        && from > through
    {
        let detail = format!(
            "`from` is behind `through`, so nothing is between them. from=`{from}` through=`{through}`"
        );
        return Err(Refusal::new(Reason::Range, detail));
    }
    let malformed = |detail: &str| Refusal::new(Reason::Malformed, detail);
    let before = |from: Sequence| Place::Behind(from.get() - 1);
    // What the address says is of the first time that a browser connected.
    let place = match headers.get("last-event-id") {
        Some(id) => {
            let place = id.to_str().ok().and_then(Place::read);
            Some(place.ok_or_else(|| malformed("`Last-Event-ID` is not the id of an event"))?)
        }
        None => asked.from.map(before),
    };
    let tables = asked.tables.map(|names| names.split(',').map(str::to_owned).collect::<BTreeSet<_>>());
    if tables.as_ref().is_some_and(|tables| tables.len() > TABLES_MAX || tables.contains("")) {
        return Err(malformed("`tables` names 1 to 256 tables, with commas between"));
    }
    let client = peer.map(|Extension(peer)| peer);
    let pieces = serving.feed.read(client, place, asked.through, tables, serving.shutdown.clone());
    let pieces = pieces.map_err(not_shown)?;
    let body = Body::from_stream(stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.next().await?;
        Some((Ok::<Bytes, Infallible>(piece), pieces))
    }));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

fn not_shown(error: NotShown) -> Refusal {
    let detail = error.to_string();
    match error {
        NotShown::NoReplica => Refusal::new(Reason::Unavailable, detail),
        NotShown::Busy => busy(),
        NotShown::Past { .. } => Refusal::new(Reason::NotFound, detail),
        NotShown::NotKept { first, .. } => Refusal::new(Reason::NotKept { first }, detail),
    }
}
