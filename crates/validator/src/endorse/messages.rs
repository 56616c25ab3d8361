//! HTTP about outbound messages: what became of a row here, and this validator's signature over it.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use serde::Deserialize;
use synddb_protocol::chain;
use synddb_protocol::http::{
    OUTBOUND_LISTED_MAX, OutboundList, OutboundRefused, OutboundSignature, OutboundStatus, Reason,
};
use synddb_protocol::id::{KeyId, StreamId};
use synddb_protocol::signing::Domain;
use synddb_service::axum::extract::rejection::PathRejection;
use synddb_service::axum::extract::{Path, State};
use synddb_service::axum::{self, Json};
use synddb_service::http::{OpenApiRouter, Query as Asked, Refusal, routes};
use synddb_service::refusals;
use synddb_sqlite::query::Reading;
use tokio::task::spawn_blocking;
use utoipa::IntoParams;

use super::outbound::signed;
use crate::rules::{SeenMessage, last_seen, seen};
use crate::serve::Serving;

/// The routes of this module.
pub(crate) fn routes() -> OpenApiRouter<Serving> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(status)).routes(routes!(signature))
}

refusals! {
    /// Of outbound messages.
    OfOutbound: "malformed", "not_found", "unprocessable"
}

/// The query of `GET /outbound`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The first id: 1 unless said.
    #[serde(default)]
    from: Option<u64>,
}

/// List outbound messages, in their order, and what became of each here
///
/// Those that commits of the log brought, 100 at most.
#[utoipa::path(
    get, path = "/outbound", tag = "outbound", operation_id = "outbound", params(ListQuery),
    responses((status = 200, description = "The messages.", body = OutboundList), OfOutbound),
)]
async fn list(
    State(serving): State<Serving>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<OutboundList>, Refusal> {
    read(serving, query.from.unwrap_or(1), OUTBOUND_LISTED_MAX).await.map(Json)
}

/// What became of an outbound message here
///
/// It is signed once this validator has endorsed a checkpoint that covers it. What is refused is refused for ever.
#[utoipa::path(
    get, path = "/outbound/{id}", tag = "outbound", operation_id = "outbound_status",
    params(("id" = u64, Path, description = "The row's id.", minimum = 1)),
    responses((status = 200, description = "What became of it.", body = OutboundStatus), OfOutbound),
)]
async fn status(
    State(serving): State<Serving>,
    id: Result<Path<u64>, PathRejection>,
) -> Result<Json<OutboundStatus>, Refusal> {
    one(serving, id).await.map(Json)
}

/// The signature of this validator over an outbound message
///
/// As a bridge takes it. Whoever reads it computes the digest from the fields, and recovers the key.
#[utoipa::path(
    get, path = "/outbound/{id}/signature", tag = "outbound", operation_id = "outbound_signature",
    params(("id" = u64, Path, description = "The row's id.", minimum = 1)),
    responses((status = 200, description = "The signature.", body = OutboundSignature), OfOutbound),
)]
async fn signature(
    State(serving): State<Serving>,
    id: Result<Path<u64>, PathRejection>,
) -> Result<Json<OutboundSignature>, Refusal> {
    match one(serving, id).await? {
        OutboundStatus::Signed(signed) => Ok(Json(signed)),
        OutboundStatus::Waiting { detail, .. } => Err(Refusal::new(Reason::NotFound, detail)),
        OutboundStatus::Refused(OutboundRefused { detail, sequence, .. }) => {
            let detail = format!("it is never signed, by message {sequence}: {detail}");
            Err(Refusal::new(Reason::Unprocessable, detail))
        }
    }
}

async fn one(serving: Serving, id: Result<Path<u64>, PathRejection>) -> Result<OutboundStatus, Refusal> {
    let id = id.ok().map(|Path(id)| id).filter(|id| (1..=i64::MAX.unsigned_abs()).contains(id));
    let Some(id) = id else {
        return Err(Refusal::new(Reason::Malformed, "an id is a whole number of 1 or more"));
    };
    let found = read(serving, id, 1).await?.messages.into_iter().next();
    found.filter(|found| found.nonce() == id).ok_or_else(|| {
        let detail = "no commit of the verified log brought such a row, as far as this validator has read";
        Refusal::new(Reason::NotFound, detail)
    })
}

async fn read(serving: Serving, from: u64, count_max: usize) -> Result<OutboundList, Refusal> {
    let unavailable = |detail: String| Refusal::new(Reason::Unavailable, detail);
    if !serving.view.is_shown() {
        return Err(unavailable("there is no replica whose messages could be told; see /status".to_owned()));
    }
    let read = spawn_blocking(move || {
        let reading = Reading::open(&serving.replica).map_err(|error| chain(&error))?;
        let seen = seen(reading.trusted(), from, None, count_max).map_err(|error| chain(&error))?;
        let last = last_seen(reading.trusted()).map_err(|error| chain(&error))?;
        let signs = serving.bridge.and(serving.signer.as_ref()).map(|signer| signer.id());
        let stream = serving.view.stream();
        let told = seen.into_iter().map(|seen| told(&serving, seen, stream, signs, serving.bridge));
        Ok(OutboundList { messages: told.collect::<Result<_, String>>()?, last })
    });
    let read: Result<_, String> =
        read.await.map_err(|_| unavailable("the replica cannot be read".to_owned()))?;
    read.map_err(unavailable)
}

fn told(
    serving: &Serving,
    seen: SeenMessage,
    stream: StreamId,
    signs: Option<KeyId>,
    bridge: Option<Domain>,
) -> Result<OutboundStatus, String> {
    let SeenMessage { nonce, sequence, .. } = seen;
    if let Some((sequence, detail)) = seen.refused {
        return Ok(OutboundStatus::Refused(OutboundRefused { nonce, sequence, detail }));
    }
    let waiting = |detail: &str| OutboundStatus::Waiting { nonce, sequence, detail: detail.to_owned() };
    let (Some(key), Some(domain)) = (signs, bridge) else {
        return Ok(waiting("this process signs for no bridge"));
    };
    let found = signed(&serving.replica, stream, nonce, key).map_err(|error| chain(&error))?;
    let Some(found) = found else {
        return Ok(waiting(
            "it is signed once this validator endorses a checkpoint that covers it; see /status",
        ));
    };
    let is_it =
        seen.message(stream).is_some_and(|message| message.digest(&domain).to_string() == found.digest);
    if is_it {
        return Ok(OutboundStatus::Signed(found));
    }
    let detail = "this key signed another content under its id before".to_owned();
    Ok(OutboundStatus::Refused(OutboundRefused { nonce, sequence, detail }))
}
