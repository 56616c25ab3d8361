//! `POST /query`: one statement of a stranger.
//!
//! ```text
//! body -> waits for the state that it names -> waits at the door -> one committed state is read -> JSON or CSV
//! ```
//!
//! Who waits for a state is not at the door yet, and takes nobody's place.

mod csv;
pub(crate) mod values;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use synddb_protocol::hash::StateHash;
use synddb_protocol::http::{Position, Reason};
use synddb_protocol::id::Sequence;
use synddb_service::axum;
use synddb_service::axum::Extension;
use synddb_service::axum::extract::State;
use synddb_service::axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::http::{
    BUSY_RETRY, DEADLINE, Declared, JsonText, OpenApiRouter, Payload, Peer, Refusal, WAIT_MAX, accepts,
    leave_to_wait, routes,
};
use synddb_service::refusals;
use synddb_sqlite::query::{Answer, Cell, Oversize, QueryError, Reading};
use utoipa::ToSchema;

use crate::aside::{Waiting, aside};
use crate::door::TurnedAway;
use crate::replica::position;
use crate::serve::Serving;
use crate::view::{NotThere, Standing};
use values::{Parameters, QueryValue};

pub use values::written;

/// Longest body of a query, in bytes: its SQL and its parameters.
const QUERY_BYTES_MAX: usize = 1 << 20;

/// How long a state is waited for, unless somebody says otherwise. [`WAIT_MAX`] is the longest that somebody may say.
const STATE_WAIT: Duration = Duration::from_secs(5);

const _: () =
    assert!(STATE_WAIT.as_secs() <= WAIT_MAX.as_secs() && WAIT_MAX.as_secs() * 2 < DEADLINE.as_secs());

/// The headers of an answer in CSV that say what JSON says beside its rows.
const SEQUENCE_HEADER: HeaderName = HeaderName::from_static("synddb-sequence");
const STATE_HEADER: HeaderName = HeaderName::from_static("synddb-state");
const TRUNCATED_HEADER: HeaderName = HeaderName::from_static("synddb-truncated");

/// The routes of this module.
pub(crate) fn routes() -> OpenApiRouter<Serving> {
    OpenApiRouter::new().routes(routes!(query))
}

refusals! {
    /// Of a query.
    OfQuery: "malformed", "too_slow", "too_large", "unsupported_media_type", "unprocessable", "busy", "not_yet"
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
    parameters: Parameters,
    /// Cut an answer that is over its bounds instead of refusing it.
    #[serde(default)]
    truncate: bool,
    /// Read only a state that has come as far as this.
    #[serde(default)]
    wait_for: Option<Awaited>,
    /// How long that is waited for, in milliseconds: 5,000 unless said, 30,000 at most.
    #[serde(default)]
    wait_ms: Option<u64>,
}

/// What a state has to contain: everything before a position, as an agent's status and a push tell one, or a message and everything before it.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "`wait_for` is {\"incarnation\": {\"counter\": N, \"nonce\": \"0x...\"}, \"commit\": N}, as an agent says it, or {\"sequence\": N}"
)]
enum Awaited {
    Before(Position),
    Message(AwaitedMessage),
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AwaitedMessage {
    /// A message of the log.
    sequence: Sequence,
}

impl Awaited {
    fn is_in(&self, standing: &Standing) -> bool {
        match self {
            Self::Before(position) => standing.next.reaches(position),
            Self::Message(message) => standing.sequence >= message.sequence,
        }
    }
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

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
}

impl Form {
    /// JSON, unless CSV is asked for alone.
    fn asked_for(headers: &HeaderMap) -> Self {
        let csv = accepts(headers, csv::MEDIA_TYPE) && !accepts(headers, "application/json");
        if csv { Self::Csv } else { Self::Json }
    }
}

/// Ask with SQL
///
/// One statement that reads one committed state of the replica, within bounds of rows, bytes, time and memory. Where as many run as may, a
/// query waits for its turn. An answer in CSV has `sequence`, `state` and `truncated` in the headers `Synddb-Sequence`, `Synddb-State` and `Synddb-Truncated`.
#[utoipa::path(
    post, path = "/query", tag = "replica", operation_id = "query", request_body = Query,
    responses(
        (status = 200, description = "What the statement finds.", content((Found = "application/json"), (String = "text/csv"))),
        OfQuery,
    ),
)]
async fn query(
    State(serving): State<Serving>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    _: Declared<JsonText>,
    asked: Payload<QUERY_BYTES_MAX>,
) -> Result<Response, Refusal> {
    let form = Form::asked_for(&headers);
    // What was read of the body is held for as long as the query waits and runs, in the body's room, and the body itself no longer.
    let Payload { bytes, room: _room } = asked;
    let query: Query = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    drop(bytes);
    let parameters = query.parameters.all()?;
    if let Some(awaited) = query.wait_for {
        come(&serving, awaited, query.wait_ms).await?;
    }
    shown(&serving)?;
    let turn = serving.door.enter(peer.map(|Extension(peer)| peer)).await.map_err(|away| {
        let detail = match away {
            TurnedAway::Full => "as many queries wait as may; try again",
            TurnedAway::Late => "no query ended in time for this one to begin; try again",
        };
        Refusal::new(Reason::Busy, detail).retry_after(BUSY_RETRY)
    })?;
    let oversize = if query.truncate { Oversize::Truncate } else { Oversize::Refuse };
    let (_waiting, is_over) = Waiting::begin();
    let answered = aside(move || {
        let read = Read::by(&serving, &query.sql, &parameters, oversize, is_over)?;
        // Read before, and not believed any more meanwhile.
        shown(&serving)?;
        // Written here: a long answer takes longer than tasks may that others wait for.
        let response = read.written(form);
        drop(turn);
        response
    });
    answered.await.map_err(|_| fault())?
}

/// What is not verified is shown to nobody.
fn shown(serving: &Serving) -> Result<(), Refusal> {
    let detail = "there is no verified replica to ask; see /status";
    serving.view.standing().map(|_| ()).ok_or_else(|| Refusal::new(Reason::Unavailable, detail))
}

/// Waits until the replica holds what is awaited.
async fn come(serving: &Serving, awaited: Awaited, wait_ms: Option<u64>) -> Result<(), Refusal> {
    let wait = wait_ms.map_or(STATE_WAIT, Duration::from_millis).min(WAIT_MAX);
    // Where too many wait, the time is up at once.
    let leave = leave_to_wait();
    let wait = if leave.is_some() { wait } else { Duration::ZERO };
    let there = serving.view.holds(move |standing| awaited.is_in(standing));
    match tokio::time::timeout(wait, there).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(NotThere)) => {
            let detail = "the replica has halted before what `wait_for` names; see /status";
            Err(Refusal::new(Reason::Unavailable, detail))
        }
        Err(_) => {
            let detail =
                "the replica does not hold what `wait_for` names yet; ask again, or with a longer wait_ms";
            Err(Refusal::new(Reason::NotYet, detail).retry_after(BUSY_RETRY))
        }
    }
}

/// What was read of one committed state, and where that stands.
struct Read {
    answer: Answer,
    sequence: Sequence,
    state: StateHash,
}

impl Read {
    fn by(
        serving: &Serving,
        sql: &str,
        parameters: &[Cell],
        oversize: Oversize,
        is_over: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, Refusal> {
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
        let answer = reading
            .until(is_over)
            .query(sql, parameters, serving.limits, oversize)
            .map_err(|error| refusal(&error))?;
        Ok(Self { answer, sequence, state })
    }

    fn written(self, form: Form) -> Result<Response, Refusal> {
        let Self { answer: Answer { columns, rows, truncated, .. }, sequence, state } = self;
        match form {
            Form::Json => {
                let rows = rows.into_iter().map(|row| row.into_iter().map(written).collect()).collect();
                let found = Found { columns, rows, sequence, state, truncated };
                let written = serde_json::to_vec(&found).map_err(|_| fault())?;
                Ok(([(header::CONTENT_TYPE, "application/json")], written).into_response())
            }
            Form::Csv => {
                let written = csv::written(&columns, rows).map_err(|_| fault())?;
                let value = |text: String| HeaderValue::try_from(text).map_err(|_| fault());
                let headers = [
                    (header::CONTENT_TYPE, HeaderValue::from_static(csv::CONTENT_TYPE)),
                    (SEQUENCE_HEADER, value(sequence.to_string())?),
                    (STATE_HEADER, value(state.to_string())?),
                    (TRUNCATED_HEADER, value(truncated.to_string())?),
                ];
                Ok((headers, written).into_response())
            }
        }
    }
}

fn refusal(error: &QueryError) -> Refusal {
    let reason = match error {
        QueryError::NotARead { .. } => Reason::Unprocessable,
        QueryError::Sql(_) | QueryError::Parameters { .. } => Reason::Malformed,
        QueryError::TooLarge { limit, .. } => Reason::TooLarge { limit: *limit as u64 },
        QueryError::TooSlow { .. } | QueryError::Unreadable(_) => Reason::Unavailable,
        QueryError::Uncounted => Reason::Internal,
    };
    Refusal::new(reason, synddb_protocol::chain(error))
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Malformed, detail)
}

fn fault() -> Refusal {
    Refusal::new(Reason::Internal, "the query met a fault")
}
