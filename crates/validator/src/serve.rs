//! HTTP: what the replica is, and what is in it.
//!
//! A handler extracts, calls and maps. Queries run on blocking threads, each on a connection of its own, and no more at a time than
//! configured.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use synddb_protocol::http::{Reason, ReplicaAudit, ReplicaStatus};
use synddb_protocol::signing::{Domain, RegisteredSigner};
use synddb_service::axum::extract::State;
use synddb_service::axum::{self, Json, Router};
use synddb_service::http::{
    About, DEADLINE, OpenApiRouter, Probe, Query as Asked, Readiness, Refusal, document, frame, rendered,
    routes,
};
use synddb_service::refusals;
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_sqlite::query::Limits;
use utoipa::IntoParams;

use crate::auditors::{Auditors, MayAudit};
use crate::contents;
use crate::door::Door;
use crate::endorse::{self, Shown};
use crate::feed::{self, Feed};
use crate::query;
use crate::rules;
use crate::snapshots::{self, Shelf};
use crate::view::View;
use crate::watch::{Audits, NoAudit};

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
    /// The snapshots in the store.
    pub(crate) shelf: Shelf,
    pub(crate) feed: Feed,
    /// The key that endorses, where anything is endorsed.
    pub(crate) signer: Option<Arc<RegisteredSigner>>,
    /// The bridge for which outbound messages are signed, if they are.
    pub(crate) bridge: Option<Domain>,
    /// What this validator has endorsed.
    pub(crate) shown: Shown,
    /// Asked when what is served without an end has to end.
    pub(crate) shutdown: Shutdown,
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
        .routes(routes!(audit))
        .merge(query::routes())
        .merge(contents::routes())
        .merge(snapshots::routes())
        .merge(feed::routes())
        .merge(endorse::routes())
        .merge(endorse::outbound_routes())
        .merge(rules::routes())
}

refusals! {
    /// Nothing but what any request can meet.
    OfAny:
}

refusals! {
    /// Of what has the file scanned.
    OfAudit: "malformed", "forbidden", "busy"
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
