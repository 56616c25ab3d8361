//! HTTP: what the replica is, and what is in it.
//!
//! A handler extracts, calls and maps. Queries run on blocking threads, each on a connection of its own, and no more at a time than
//! configured.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use synddb_protocol::hash::StateHash;
use synddb_protocol::http::{Reason, ReplicaAudit, ReplicaStatus};
use synddb_protocol::id::Sequence;
use synddb_service::axum::extract::State;
use synddb_service::axum::http::header;
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::axum::{self, Json, Router};
use synddb_service::http::{
    About, DEADLINE, Declared, JsonText, OpenApiRouter, Payload, Probe, Query as Asked, Readiness, Refusal,
    document, frame, rendered, routes,
};
use synddb_service::refusals;
use synddb_service::telemetry::Metrics;
use synddb_sqlite::query::{Cell, Limits, Oversize, QueryError, Reading};
use tokio::task::spawn_blocking;
use utoipa::{IntoParams, ToSchema};

use crate::auditors::{Auditors, MayAudit};
use crate::contents;
use crate::door::Door;
use crate::replica::position;
use crate::view::View;
use crate::watch::{Audits, NoAudit};

/// Longest body of a query, in bytes: its SQL and its parameters.
const QUERY_BYTES_MAX: usize = 1 << 20;
/// Largest integer that every reader of JSON takes exactly.
const INTEGER_MAX: u64 = 1 << 53;

/// How long the answer to an audit is waited for, unless somebody says otherwise.
const AUDIT_WAIT: Duration = Duration::from_secs(30);
/// The longest that somebody may say.
const AUDIT_WAIT_MAX: Duration = Duration::from_secs(110);

const _: () =
    assert!(AUDIT_WAIT_MAX.as_secs() < DEADLINE.as_secs(), "who waits is answered, and not cut off");

/// What handlers need.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) view: View,
    pub(crate) replica: PathBuf,
    pub(crate) limits: Limits,
    /// Longest time of one question about whole tables.
    pub(crate) scan_max: Duration,
    pub(crate) door: Door,
    pub(crate) audits: Audits,
    pub(crate) auditors: Auditors,
    pub(crate) lag_max: u64,
}

/// What the document of the process says of it.
const ABOUT: About = About {
    title: "SyndDB validator",
    description: "Follows a stored log, checks every step, and keeps a replica that strangers may ask. A read replica answers the same.",
};

/// The routes of a validator.
pub(crate) fn router(serving: Serving, metrics: Metrics) -> Router {
    let probe = probe(serving.view.clone(), serving.lag_max);
    frame(&ABOUT, routes().with_state(serving), metrics, probe)
}

/// The OpenAPI document of a validator, as it is served and checked in.
pub fn openapi() -> Vec<u8> {
    rendered(&document(&ABOUT, routes()))
}

fn routes() -> OpenApiRouter<Serving> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(query))
        .routes(routes!(audit))
        .merge(contents::routes())
}

refusals! {
    /// Nothing but what any request can meet.
    OfAny:
}

refusals! {
    /// Of what has the file scanned.
    OfAudit: "malformed", "forbidden", "busy"
}

refusals! {
    /// Of a query.
    OfQuery: "malformed", "too_slow", "too_large", "unsupported_media_type", "unprocessable", "busy"
}

fn probe(view: View, lag_max: u64) -> Probe {
    Arc::new(move || {
        let status = view.status();
        if let Some(halt) = status.halted {
            return Readiness::NotReady(format!("halted: {}", halt.detail));
        }
        if let Some(open) = status.gaps.iter().find(|gap| gap.to.is_none()) {
            return Readiness::NotReady(format!(
                "waiting for a snapshot behind the gap from {} on",
                open.from
            ));
        }
        let Some(sequence) = status.sequence else {
            return Readiness::NotReady("there is no verified replica yet".to_owned());
        };
        let behind = status.stored.map_or(0, |stored| stored.get().saturating_sub(sequence.get()));
        if behind > lag_max {
            return Readiness::NotReady(format!("{behind} messages behind what is stored"));
        }
        Readiness::Ready
    })
}

/// What is in the replica, and where and why it halted if it did
#[utoipa::path(
    get, path = "/status", tag = "replica", operation_id = "status",
    responses((status = 200, description = "The status.", body = ReplicaStatus), OfAny),
)]
async fn status(State(serving): State<Serving>) -> Json<ReplicaStatus> {
    Json(serving.view.status())
}

/// The query of `POST /audit`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// How long the answer is waited for, in milliseconds: 30,000 unless said, 110,000 at most.
    #[serde(default)]
    wait_ms: Option<u64>,
}

/// Have the replica scanned in full, and compared with what it should be
///
/// What is found is answered; a halt follows where the two differ. Who asks while a scan runs shares the next one. A credential is needed where
/// the process lists some, or can be reached from other machines.
#[utoipa::path(
    post, path = "/audit", tag = "replica", operation_id = "audit", params(AuditQuery),
    security((), ("bearer" = []), ("certificate" = []), ("evidence" = [])),
    responses((status = 200, description = "What the scan found.", body = ReplicaAudit), OfAudit),
)]
async fn audit(
    State(serving): State<Serving>,
    _: MayAudit,
    Asked(query): Asked<AuditQuery>,
) -> Result<Json<ReplicaAudit>, Refusal> {
    let unavailable = |detail| Refusal::new(Reason::Unavailable, detail);
    let status = serving.view.status();
    if status.halted.is_none() && status.gaps.iter().any(|gap| gap.to.is_none()) {
        return Err(unavailable("a gap is open; a later snapshot is waited for"));
    }
    let wait = query.wait_ms.map_or(AUDIT_WAIT, Duration::from_millis).min(AUDIT_WAIT_MAX);
    match tokio::time::timeout(wait, serving.audits.ask()).await {
        Ok(Ok(audit)) => Ok(Json(audit)),
        Ok(Err(NoAudit::Busy)) => {
            Err(Refusal::new(Reason::Busy, "as many wait for an audit as may at a time; try again"))
        }
        Ok(Err(NoAudit::NoOwner)) => {
            Err(unavailable("nothing is scanned: there is no replica yet, or it has halted; see /status"))
        }
        Ok(Err(NoAudit::TurnedAway)) => {
            Err(unavailable("the replica could not be scanned, or enough wait; ask again"))
        }
        Err(_) => Err(unavailable("the scan did not end in time; ask again with a longer wait_ms")),
    }
}

/// The body of `POST /query`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Query {
    /// One statement that reads, of at most 16 KiB.
    #[schema(example = "SELECT 1")]
    sql: String,
    /// The values of its parameters: numbers, strings, null, or `{"blob": "<hex>"}`, `{"text": "<hex>"}`, `{"integer": "..."}`, `{"real": "..."}`.
    #[serde(default)]
    #[schema(value_type = Vec<QueryValue>)]
    parameters: Vec<Value>,
    /// Cut an answer that is over its bounds instead of refusing it.
    #[serde(default)]
    truncate: bool,
}

/// What `POST /query` answers.
#[derive(Serialize, ToSchema)]
#[schema(as = QueryAnswer)]
struct Found {
    /// The names of the columns.
    columns: Vec<String>,
    /// The rows.
    #[schema(value_type = Vec<Vec<QueryValue>>)]
    rows: Vec<Vec<Value>>,
    /// The last message in the state that was read.
    sequence: Sequence,
    /// Its state hash.
    state: StateHash,
    /// Whether the answer was cut.
    truncated: bool,
}

/// Ask with SQL
///
/// One statement that reads one committed state of the replica, within bounds of rows, bytes and time.
#[utoipa::path(
    post, path = "/query", tag = "replica", operation_id = "query", request_body = Query,
    responses((status = 200, description = "What the statement finds.", body = Found), OfQuery),
)]
async fn query(
    State(serving): State<Serving>,
    _: Declared<JsonText>,
    asked: Payload<QUERY_BYTES_MAX>,
) -> Result<Response, Refusal> {
    let query: Query = serde_json::from_slice(&asked.bytes).map_err(|error| malformed(error.to_string()))?;
    let parameters: Vec<Cell> = query.parameters.iter().map(parameter).collect::<Result<_, _>>()?;
    if serving.view.standing().is_none() {
        return Err(Refusal::new(Reason::Unavailable, "there is no verified replica to ask; see /status"));
    }
    let Some(turn) = serving.door.enter() else {
        return Err(Refusal::new(Reason::Busy, "as many queries run as may at a time; try again"));
    };
    let oversize = if query.truncate { Oversize::Truncate } else { Oversize::Refuse };
    let fault = || Refusal::new(Reason::Internal, "the query met a fault");
    let answered = spawn_blocking(move || {
        let found = ask(&serving, &query.sql, &parameters, oversize)?;
        // Written here: a long answer takes longer than tasks may that others wait for.
        let written = serde_json::to_vec(&found).map_err(|_| fault());
        drop(turn);
        written
    });
    let written = answered.await.map_err(|_| fault())??;
    Ok(([(header::CONTENT_TYPE, "application/json")], written).into_response())
}

/// Reads one committed state: where it stands, and what the query finds in it.
fn ask(serving: &Serving, sql: &str, parameters: &[Cell], oversize: Oversize) -> Result<Found, Refusal> {
    let unreadable = |error: &dyn std::error::Error| {
        Refusal::new(
            Reason::Unavailable,
            format!("the replica cannot be read: {}", synddb_protocol::chain(error)),
        )
    };
    let reading = Reading::open(&serving.replica).map_err(|error| refusal(&error))?;
    let checkpoint = position::read(reading.trusted()).map_err(|error| unreadable(&error))?;
    let claim = checkpoint.claim();
    let Some(client) = &claim.client else { return Err(unreadable(&position::NoPosition::None)) };
    let (sequence, state) = (claim.size, client.state);
    let answer = reading.query(sql, parameters, serving.limits, oversize).map_err(|error| refusal(&error))?;
    let rows = answer.rows.into_iter().map(|row| row.into_iter().map(written).collect()).collect();
    Ok(Found { columns: answer.columns, rows, sequence, state, truncated: answer.truncated })
}

fn refusal(error: &QueryError) -> Refusal {
    let reason = match error {
        QueryError::NotARead { .. } => Reason::Unprocessable,
        QueryError::Sql(_) | QueryError::Parameters { .. } => Reason::Malformed,
        QueryError::TooLarge { limit, .. } => Reason::TooLarge { limit: *limit as u64 },
        QueryError::TooSlow { .. } | QueryError::Unreadable(_) => Reason::Unavailable,
    };
    Refusal::new(reason, synddb_protocol::chain(error))
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Malformed, detail)
}

/// A value: a number, a string, null, or an object for what JSON cannot say.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it says what `parameter` and `written` do, to the document")]
enum QueryValue {
    Null,
    Number(f64),
    Text(String),
    Written(WrittenValue),
}

/// What JSON cannot say: an integer beyond 2^53, an infinite real number, text that is not UTF-8 and bytes in hex.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it says what `parameter` and `written` do, to the document")]
enum WrittenValue {
    Integer(String),
    Real(String),
    Text(String),
    Blob(String),
}

/// A parameter from JSON, in the forms that an answer has.
fn parameter(value: &Value) -> Result<Cell, Refusal> {
    let refuse =
        || malformed("a parameter is a number, a string, null, or an object like {\"blob\": \"00ff\"}");
    match value {
        Value::Null => Ok(Cell::Null),
        Value::String(text) => Ok(Cell::Text(text.clone())),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Ok(Cell::Integer(integer)),
            (None, Some(real)) if number.is_f64() => Ok(Cell::Real(real)),
            _ => Err(malformed("an integer has at most 64 bits")),
        },
        Value::Object(form) if form.len() == 1 => {
            let Some((name, Value::String(text))) = form.iter().next() else { return Err(refuse()) };
            match name.as_str() {
                "blob" => hex::decode(text).map(Cell::Blob).map_err(|_| refuse()),
                "text" => hex::decode(text).map(Cell::Bytes).map_err(|_| refuse()),
                "integer" => text.parse().map(Cell::Integer).map_err(|_| refuse()),
                "real" => text.parse().map(Cell::Real).map_err(|_| refuse()),
                _ => Err(refuse()),
            }
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(refuse()),
    }
}

/// A value as JSON says it.
fn written(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(value) if value.unsigned_abs() <= INTEGER_MAX => value.into(),
        Cell::Integer(value) => json!({ "integer": value.to_string() }),
        // JSON has no infinity, and SQLite has no NaN.
        Cell::Real(value) if value.is_finite() => value.into(),
        Cell::Real(value) => json!({ "real": value.to_string() }),
        Cell::Text(text) => text.into(),
        Cell::Bytes(bytes) => json!({ "text": hex::encode(bytes) }),
        Cell::Blob(bytes) => json!({ "blob": hex::encode(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_from_its_form() {
        let cells = [
            Cell::Null,
            Cell::Integer(0),
            Cell::Integer(-(1 << 53)),
            Cell::Integer((1 << 53) + 1),
            Cell::Integer(i64::MIN),
            Cell::Real(0.5),
            Cell::Real(1.0),
            Cell::Real(f64::INFINITY),
            Cell::Real(f64::NEG_INFINITY),
            Cell::Text("né".to_owned()),
            Cell::Bytes(vec![0xff, 0]),
            Cell::Blob(vec![0, 0x0f, 0xf0]),
        ];
        for cell in cells {
            let text = serde_json::to_string(&written(cell.clone())).unwrap();
            let read = parameter(&serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!(read, cell, "{text}");
        }
        assert_eq!(serde_json::to_string(&written(Cell::Integer(1 << 53))).unwrap(), "9007199254740992");
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for text in [
            "true",
            "[1]",
            "{}",
            r#"{"blob":"0"}"#,
            r#"{"blob":"zz"}"#,
            r#"{"blob":1}"#,
            "18446744073709551615",
        ] {
            let refused = parameter(&serde_json::from_str(text).unwrap()).unwrap_err();
            assert_eq!(refused.reason(), &Reason::Malformed, "{text}");
        }
    }
}
