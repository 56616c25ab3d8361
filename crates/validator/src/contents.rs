//! HTTP about what is in the replica, in digests: what `synddb diff --remote` asks to find the first difference of two.
//!
//! Each answer is of one committed state and says which. It reads the file as it is, also that of a replica that halted because somebody
//! else wrote into it: then what the file holds is what is asked. Of a replica that holds what a revoked key signed, and of one that is being
//! rebuilt, it shows nothing. Strangers may ask. One question is answered at a time, within a time of its
//! own, and no further than somebody waits for it; an answer has at most [`ANSWER_BYTES_MAX`] bytes.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use synddb_protocol::chain;
use synddb_protocol::contents::{
    ANSWER_BYTES_MAX, Answer, At, Contents, QUESTION_BYTES_MAX, Rows, RowsQuery, SchemaObject,
    State as Committed,
};
use synddb_protocol::http::Reason;
use synddb_protocol::id::Sequence;
use synddb_service::axum;
use synddb_service::axum::extract::{FromRequest as _, Request, State};
use synddb_service::axum::http::{HeaderValue, header};
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::http::{Declared, JsonText, OpenApiRouter, Payload, Query, Refusal, routes};
use synddb_service::refusals;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::contents::{self, ContentsError};
use synddb_sqlite::query::Reading;
use utoipa::IntoParams;

use crate::aside::{Waiting, aside};
use crate::door::Scan;
use crate::replica::position;
use crate::serve::Serving;

/// How long a question may take to arrive.
const ARRIVAL_MAX: Duration = Duration::from_secs(10);

/// The routes of this module.
pub(crate) fn routes() -> OpenApiRouter<Serving> {
    OpenApiRouter::new()
        .routes(routes!(tables))
        .routes(routes!(rows))
        .routes(routes!(schema))
        .routes(routes!(states))
}

refusals! {
    /// Of a question about the whole replica.
    OfWhole: "too_large", "busy"
}

refusals! {
    /// Of one about rows.
    OfRows: "malformed", "not_found", "too_slow", "too_large", "unsupported_media_type", "busy"
}

refusals! {
    /// Of one about states.
    OfStates: "malformed", "too_large", "busy"
}

/// Count and digest the rows of every table
///
/// By a scan of the file as it is.
#[utoipa::path(
    get, path = "/tables", tag = "contents", operation_id = "tables",
    responses((status = 200, description = "What the tables hold.", body = Answer<Contents>), OfWhole),
)]
async fn tables(State(serving): State<Serving>) -> Result<Response, Refusal> {
    answer(serving, contents::contents).await
}

/// List the schema
#[utoipa::path(
    get, path = "/schema", tag = "contents", operation_id = "schema",
    responses((status = 200, description = "The objects of the schema.", body = Answer<Vec<SchemaObject>>), OfWhole),
)]
async fn schema(State(serving): State<Serving>) -> Result<Response, Refusal> {
    answer(serving, contents::schema).await
}

/// Digest or list rows of a table
#[utoipa::path(
    post, path = "/tables/rows", tag = "contents", operation_id = "rows", request_body = RowsQuery,
    responses((status = 200, description = "Runs of rows, or rows.", body = Answer<Rows>), OfRows),
)]
async fn rows(
    State(serving): State<Serving>,
    _: Declared<JsonText>,
    request: Request,
) -> Result<Response, Refusal> {
    let asked = Payload::<QUESTION_BYTES_MAX>::from_request(request, &());
    let asked = tokio::time::timeout(ARRIVAL_MAX, asked)
        .await
        .map_err(|_| Refusal::new(Reason::TooSlow, "the question does not arrive in time"))??;
    // A question that is still on its way takes nobody's turn. Only one is ever read.
    let turn = enter(&serving)?;
    let query: RowsQuery = serde_json::from_slice(&asked.bytes)
        .map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))?;
    answer_in(turn, serving, move |connection| contents::rows(connection, &query)).await
}

/// The query string of `GET /states`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Through {
    /// The last message that the states may be of.
    through: Sequence,
}

/// States that the replica was committed in
///
/// Newest first, at most 4096 of the last 65,536 messages.
#[utoipa::path(
    get, path = "/states", tag = "contents", operation_id = "states", params(Through),
    responses((status = 200, description = "The states.", body = Answer<Vec<Committed>>), OfStates),
)]
async fn states(
    State(serving): State<Serving>,
    Query(Through { through }): Query<Through>,
) -> Result<Response, Refusal> {
    answer(serving, move |connection| Ok(position::states(connection.sqlite(), through)?)).await
}

/// What was revoked is shown to nobody.
fn believed(serving: &Serving) -> Result<(), Refusal> {
    let detail = "what the replica holds is not believed any more; see /status";
    if serving.view.is_hidden() { Err(Refusal::new(Reason::Unavailable, detail)) } else { Ok(()) }
}

fn enter(serving: &Serving) -> Result<Scan, Refusal> {
    believed(serving)?;
    let busy = "another question about whole tables is being answered; try again";
    serving.door.enter_to_scan().ok_or_else(|| Refusal::new(Reason::Busy, busy))
}

/// Answers a question about the committed state of this moment.
async fn answer<T: Serialize + 'static>(
    serving: Serving,
    ask: impl FnOnce(&Connection) -> Result<T, ContentsError> + Send + 'static,
) -> Result<Response, Refusal> {
    let turn = enter(&serving)?;
    answer_in(turn, serving, ask).await
}

/// The same by whoever has the turn for it.
async fn answer_in<T: Serialize + 'static>(
    turn: Scan,
    serving: Serving,
    ask: impl FnOnce(&Connection) -> Result<T, ContentsError> + Send + 'static,
) -> Result<Response, Refusal> {
    let (_waiting, is_over) = Waiting::begin();
    let answered = aside(move || {
        let told = told(&serving, is_over, ask);
        drop(turn);
        // Read before, and revoked meanwhile.
        believed(&serving)?;
        told
    });
    let body = answered.await.map_err(|_| Refusal::new(Reason::Internal, "the question met a fault"))??;
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], body).into_response())
}

fn told<T: Serialize>(
    serving: &Serving,
    is_over: impl Fn() -> bool + Send + 'static,
    ask: impl FnOnce(&Connection) -> Result<T, ContentsError>,
) -> Result<Vec<u8>, Refusal> {
    let unreadable = |error: &dyn std::error::Error| {
        Refusal::new(Reason::Unavailable, format!("the replica cannot be read: {}", chain(error)))
    };
    let reading = Reading::open(&serving.replica).map_err(|error| unreadable(&error))?;
    let checkpoint = position::read(reading.trusted()).map_err(|error| unreadable(&error))?;
    let claim = checkpoint.claim();
    let Some(client) = &claim.client else { return Err(unreadable(&position::NoPosition::None)) };
    let at = At { stream: claim.stream, sequence: claim.size, state: client.state };
    let bounded = reading.into_bounded(serving.scan_max, is_over);
    let connection = bounded.map_err(|error| unreadable(&error))?;
    let found = ask(&connection).map_err(|error| refusal(serving, &error))?;
    let body = serde_json::to_vec(&Answer { at, found }).map_err(|error| unreadable(&error))?;
    if body.len() > ANSWER_BYTES_MAX {
        let reason = Reason::TooLarge { limit: ANSWER_BYTES_MAX as u64 };
        return Err(Refusal::new(reason, "the schema is too large to be told"));
    }
    Ok(body)
}

fn refusal(serving: &Serving, error: &ContentsError) -> Refusal {
    if error.is_interrupted() {
        let limit = serving.scan_max.as_millis();
        let detail =
            format!("the answer takes too long; raise `scan_ms_max` of this validator. limit_ms=`{limit}`");
        return Refusal::new(Reason::Unavailable, detail);
    }
    let reason = match error {
        ContentsError::State(_) => Reason::Unavailable,
        ContentsError::NoTable { .. } => Reason::NotFound,
        ContentsError::Key { .. } => Reason::Malformed,
        ContentsError::TooLarge { limit, .. } => Reason::TooLarge { limit: *limit as u64 },
    };
    Refusal::new(reason, chain(error))
}
