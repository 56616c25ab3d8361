//! HTTP about refusals: what rules found, signed where the process has a key to endorse with.

use serde::{Deserialize, Serialize};
use synddb_protocol::chain;
use synddb_protocol::http::Reason;
use synddb_protocol::id::{CommitNumber, IncarnationCounter, Sequence, StreamId, Timestamp};
use synddb_protocol::log::{self, RefusalWhy, ResolvedBy};
use synddb_protocol::signing::RegisteredSigner;
use synddb_service::axum::extract::State;
use synddb_service::axum::{self, Json};
use synddb_service::http::{OpenApiRouter, Refusal, routes};
use synddb_service::refusals;
use synddb_sqlite::query::Reading;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::violations::{self, How, Kept, Offending, Resolved, Violation, Why};
use crate::serve::Serving;

/// A refusal as a validator serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServedRefusal {
    /// Its number at this validator, by which it is resolved.
    pub id: u64,
    /// The rule.
    pub rule: String,
    /// The message: no checkpoint at or behind it is endorsed.
    pub sequence: Sequence,
    /// The incarnation.
    pub incarnation: IncarnationCounter,
    /// The commit; `None` of a snapshot.
    pub commit: Option<CommitNumber>,
    /// Log time of the message, in milliseconds since 1970.
    pub timestamp: Timestamp,
    /// Why the rule does not hold.
    pub why: Why,
    /// The same in words.
    pub detail: String,
    /// The rows that show it, each value as a query answers it.
    pub offending: Offending,
    /// How many violations of the rule this one stands for that came after it.
    pub further: u64,
    /// When it was resolved, in milliseconds since 1970; `None` while nothing from here on is endorsed.
    pub resolved_at: Option<Timestamp>,
    /// How it was resolved.
    pub how: Option<How>,
    /// Why, in somebody's words.
    pub because: Option<String>,
    /// The same signed, a COSE_Sign1 in hex; `None` where the process has no key to endorse with.
    pub signed: Option<String>,
}

/// The routes of this module.
pub(crate) fn routes() -> OpenApiRouter<Serving> {
    OpenApiRouter::new().routes(routes!(refusals))
}

refusals! {
    /// Of the list of refusals.
    OfRefusals:
}

/// List what is refused, and what was
///
/// The open ones first, oldest first, then the resolved ones, newest first: 256 at most. While one is open, no checkpoint at or behind its message is endorsed.
#[utoipa::path(
    get, path = "/refusals", tag = "endorsements", operation_id = "refusals",
    responses((status = 200, description = "The refusals.", body = Vec<ServedRefusal>), OfRefusals),
)]
async fn refusals(State(serving): State<Serving>) -> Result<Json<Vec<ServedRefusal>>, Refusal> {
    if !serving.view.is_shown() {
        let detail = "there is no replica whose refusals could be told; see /status";
        return Err(Refusal::new(Reason::Unavailable, detail));
    }
    let (file, stream, signer) = (serving.replica.clone(), serving.view.stream(), serving.signer.clone());
    let read = spawn_blocking(move || {
        let reading = Reading::open(&file).map_err(|error| chain(&error))?;
        let kept = violations::read(reading.trusted()).map_err(|error| chain(&error))?;
        Ok(kept.into_iter().map(|kept| served(kept, stream, signer.as_deref())).collect())
    });
    match read.await {
        Ok(Ok(refusals)) => Ok(Json(refusals)),
        Ok(Err(error)) => {
            let error: String = error;
            Err(Refusal::new(Reason::Unavailable, format!("refusals cannot be read: {error}")))
        }
        Err(_) => Err(Refusal::new(Reason::Internal, "refusals cannot be read")),
    }
}

fn served(kept: Kept, stream: StreamId, signer: Option<&RegisteredSigner>) -> ServedRefusal {
    let signed = signer.and_then(|signer| signed(&kept, stream).sign(signer).ok());
    let signed = signed.map(|signed| format!("0x{}", hex::encode(signed.to_bytes())));
    ServedRefusal { signed, ..ServedRefusal::from(kept) }
}

impl From<Kept> for ServedRefusal {
    /// Unsigned.
    fn from(kept: Kept) -> Self {
        let Kept { id, violation, further, through: _, resolved } = kept;
        let Violation { rule, sequence, epoch: _, timestamp, incarnation, commit, why, detail, offending } =
            violation;
        Self {
            id,
            rule,
            sequence,
            incarnation,
            commit,
            timestamp,
            why,
            detail,
            offending,
            further,
            resolved_at: resolved.as_ref().map(|resolved| resolved.at),
            how: resolved.as_ref().map(|resolved| resolved.how),
            because: resolved.map(|resolved| resolved.because),
            signed: None,
        }
    }
}

/// A violation as it is signed.
fn signed(kept: &Kept, stream: StreamId) -> log::Refusal {
    let Violation { rule, sequence, epoch, timestamp, incarnation, commit, why, detail, offending } =
        &kept.violation;
    let resolution = kept.resolved.as_ref().map(|Resolved { at, how, because }| log::Resolution {
        at: *at,
        by: match how {
            How::Resolved => ResolvedBy::Operator,
            How::RuleRemoved => ResolvedBy::RuleRemoved,
            How::Admitted => ResolvedBy::Admission,
        },
        because: because.clone(),
    });
    log::Refusal {
        stream,
        epoch: *epoch,
        sequence: *sequence,
        timestamp: *timestamp,
        rule: rule.clone(),
        incarnation: *incarnation,
        commit: *commit,
        why: match why {
            Why::Rows => RefusalWhy::Rows,
            Why::Unevaluated => RefusalWhy::Unevaluated,
            Why::TookTooLong => RefusalWhy::TookTooLong,
            Why::Messages => RefusalWhy::Messages,
            Why::Incarnation => RefusalWhy::Incarnation,
        },
        detail: detail.clone(),
        rows: serde_json::to_string(offending).unwrap_or_default(),
        further: kept.further,
        resolution,
    }
}
