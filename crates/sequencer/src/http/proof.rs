//! Proofs over what is stored, and leaves.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use synddb_protocol::Canonical;
use synddb_protocol::http::{ConsistencyProof, InclusionProof, Reason};
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::SignedCheckpoint;
use synddb_protocol::proof::{Leaves, Proven};
use synddb_service::axum::Json;
use synddb_service::axum::extract::State;
use synddb_service::axum::http::HeaderMap;
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::http::{Query, Refusal, accepts};
use synddb_service::{binary, refusals};
use tokio::sync::SemaphorePermit;
use utoipa::IntoParams;

use super::deliver::unavailable;
use super::extract::{BUSY_RETRY, Last, Named};
use super::read::{CBOR, parse_range};
use super::{Front, leave};
use crate::proof::ProofError;

/// How long the store may take for one answer.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

/// What `GET /proof/inclusion` takes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfMessage {
    /// The message.
    sequence: Sequence,
    /// The size of the log; that of the newest stored checkpoint where it is missing.
    size: Option<Sequence>,
}

refusals! {
    /// Of a proof.
    OfProof: "malformed", "range", "not_found", "busy", "not_leading"
}

binary! {
    /// A proof.
    ProofInCbor: None, "A CBOR map `{1: {1: sequence or from, 2: size, 3: [hash, ...]}, 2: checkpoint}`."
}

binary! {
    /// Leaves.
    LeafHashes: Some(Leaves::BYTES_MAX), "A CBOR array of 32 bytes each: SHA-256 over a zero byte and the receipt."
}

/// Prove that a message stands in the log
///
/// RFC 9162, section 2.1.3, over what is stored, with the newest stored checkpoint. JSON is answered to `Accept: application/json`.
#[utoipa::path(
    get, path = "/proof/inclusion", tag = "read", operation_id = "inclusion", params(OfMessage),
    responses(
        (status = 200, description = "The proof.", content((inline(ProofInCbor) = "application/cbor"), (Proven<InclusionProof> = "application/json"))),
        OfProof
    ),
)]
pub(super) async fn inclusion(
    State(front): State<Front>,
    Named(stream): Named,
    headers: HeaderMap,
    Query(OfMessage { sequence, size }): Query<OfMessage>,
) -> Result<Response, Refusal> {
    let checkpoint = front.newest(stream)?;
    let size = check_sizes(sequence, size, &checkpoint)?;
    let _reading = front.leave_to_prove().await?;
    let proof: InclusionProof = timely(front.0.prover.inclusion(checkpoint.claim(), sequence, size)).await?;
    Ok(respond(&headers, Proven { proof, checkpoint }))
}

refusals! {
    /// Of leaves.
    OfLeaves: "range", "not_found", "busy", "not_leading"
}

/// What `GET /proof/consistency` takes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfSize {
    /// The size of the smaller log.
    from: Sequence,
    /// The size of the larger log; that of the newest stored checkpoint where it is missing.
    size: Option<Sequence>,
}

/// Prove that one log begins with another
///
/// RFC 9162, section 2.1.4, over what is stored, with the newest stored checkpoint. JSON is answered to `Accept: application/json`.
#[utoipa::path(
    get, path = "/proof/consistency", tag = "read", operation_id = "consistency", params(OfSize),
    responses(
        (status = 200, description = "The proof.", content((inline(ProofInCbor) = "application/cbor"), (Proven<ConsistencyProof> = "application/json"))),
        OfProof
    ),
)]
pub(super) async fn consistency(
    State(front): State<Front>,
    Named(stream): Named,
    headers: HeaderMap,
    Query(OfSize { from, size }): Query<OfSize>,
) -> Result<Response, Refusal> {
    let checkpoint = front.newest(stream)?;
    let size = check_sizes(from, size, &checkpoint)?;
    let _reading = front.leave_to_prove().await?;
    let proof: ConsistencyProof = timely(front.0.prover.consistency(checkpoint.claim(), from, size)).await?;
    Ok(respond(&headers, Proven { proof, checkpoint }))
}

/// The hashes of messages as leaves of the log tree
///
/// The answer may end before the range does, with at least one leaf: who got less asks again behind the last one.
#[utoipa::path(
    get, path = "/leaves/{range}", tag = "read", operation_id = "leaves",
    params(("range" = String, Path, description = "The first and the last sequence, with `_` between them: at most 4096 messages. A last one past what is stored means up to it.", pattern = "^[1-9][0-9]{0,11}_[1-9][0-9]{0,11}$", example = "1_64")),
    responses(
        (status = 200, description = "The leaves.", body = inline(LeafHashes), content_type = "application/cbor"),
        OfLeaves
    ),
)]
pub(super) async fn leaves(
    State(front): State<Front>,
    Named(stream): Named,
    Last(range): Last,
) -> Result<Response, Refusal> {
    let (start, end) = parse_range(&range)?;
    let handle = front.handle(stream)?;
    let stored = handle.view.borrow().stored.as_ref().map(|(last, _)| *last);
    let Some(stored) = stored.filter(|stored| start <= *stored) else {
        return Err(Refusal::new(Reason::NotFound, "this is past the last stored message"));
    };
    let end = end.min(stored);
    let leaves = match handle.feed.leaves(start, end) {
        Some(recent) => recent,
        None => {
            let _reading = front.leave_to_prove().await?;
            let read = front.0.prover.leaves(stream, start, end);
            timely(async { read.await.map_err(ProofError::from) }).await?
        }
    };
    Ok((CBOR, Leaves(leaves).to_bytes()).into_response())
}

impl Front {
    /// Leave to read the store, as one of those who read much.
    async fn leave_to_prove(&self) -> Result<[SemaphorePermit<'_>; 2], Refusal> {
        Ok([leave(&self.0.proofs).await?, leave(&self.0.reads).await?])
    }

    fn newest(&self, stream: StreamId) -> Result<SignedCheckpoint, Refusal> {
        let stored = self.handle(stream)?.view.borrow().stored.clone();
        let nothing = || Refusal::new(Reason::NotFound, "nothing is stored yet");
        let (_, checkpoint) = stored.ok_or_else(nothing)?;
        let unreadable = |_| Refusal::new(Reason::Internal, "the newest checkpoint cannot be read");
        SignedCheckpoint::from_bytes(&checkpoint).map_err(unreadable)
    }
}

/// The size that is meant: that of the newest checkpoint, unless it is named.
fn check_sizes(
    from: Sequence,
    size: Option<Sequence>,
    newest: &SignedCheckpoint,
) -> Result<Sequence, Refusal> {
    let stored = newest.claim().size;
    if from.max(size.unwrap_or(stored)) > stored {
        let detail = format!("so much of the log is not stored yet. stored=`{stored}`");
        return Err(Refusal::new(Reason::NotFound, detail));
    }
    match size {
        Some(size) if from > size => {
            let detail = format!("the log of {size} messages does not go as far");
            Err(Refusal::new(Reason::Range, detail))
        }
        size => Ok(size.unwrap_or(stored)),
    }
}

async fn timely<T>(proving: impl Future<Output = Result<T, ProofError>>) -> Result<T, Refusal> {
    match tokio::time::timeout(STORE_PATIENCE, proving).await {
        Ok(Ok(proven)) => Ok(proven),
        Ok(Err(ProofError::Stored(error))) => Err(unavailable(&error)),
        Ok(Err(ProofError::NoSuchProof(error))) => Err(Refusal::new(Reason::Range, error.to_string())),
        Ok(Err(error @ ProofError::DoesNotAddUp)) => {
            Err(Refusal::new(Reason::Unavailable, error.to_string()).retry_after(BUSY_RETRY))
        }
        Err(_) => {
            let detail = "the store takes too long; what it told is kept for the next try";
            Err(Refusal::new(Reason::Unavailable, detail).retry_after(BUSY_RETRY))
        }
    }
}

fn respond<P: Canonical + Serialize>(headers: &HeaderMap, proven: Proven<P>) -> Response {
    if accepts(headers, "application/json") {
        return Json(proven).into_response();
    }
    (CBOR, proven.to_bytes()).into_response()
}
