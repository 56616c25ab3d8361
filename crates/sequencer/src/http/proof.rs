//! Proofs over what is stored, and leaves.

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
use synddb_service::http::{Query, Refusal};
use tokio::sync::SemaphorePermit;

use super::deliver::unavailable;
use super::extract::{BUSY_RETRY, Last, Named, accepts};
use super::read::{CBOR, parse_range};
use super::{Front, leave};
use crate::proof::ProofError;

/// How long the store may take for one answer.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

/// What `GET /proof/inclusion` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfMessage {
    sequence: Sequence,
    size: Option<Sequence>,
}

/// `GET /proof/inclusion`
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

/// What `GET /proof/consistency` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfSize {
    from: Sequence,
    size: Option<Sequence>,
}

/// `GET /proof/consistency`
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

/// `GET /leaves/{start}_{end}`
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
