//! HTTP about endorsements.

use synddb_protocol::http::{Reason, ServedEndorsement};
use synddb_protocol::id::Sequence;
use synddb_protocol::log::SignedEndorsement;
use synddb_service::axum::extract::rejection::PathRejection;
use synddb_service::axum::extract::{Path, State};
use synddb_service::axum::{self, Json};
use synddb_service::http::{OpenApiRouter, Refusal, routes};
use synddb_service::refusals;

use crate::serve::Serving;

/// The routes of this module.
pub(crate) fn routes() -> OpenApiRouter<Serving> {
    OpenApiRouter::new().routes(routes!(newest)).routes(routes!(endorsement))
}

refusals! {
    /// Of an endorsement.
    OfEndorsement: "malformed", "not_found"
}

/// The newest endorsement of this validator
///
/// It lies in the store, as those before it do.
#[utoipa::path(
    get, path = "/endorsements", tag = "endorsements", operation_id = "newest_endorsement",
    responses((status = 200, description = "The endorsement.", body = ServedEndorsement), OfEndorsement),
)]
async fn newest(State(serving): State<Serving>) -> Result<Json<ServedEndorsement>, Refusal> {
    serving.shown.newest().and_then(|sequence| answer(&serving, sequence)).map(Json).ok_or_else(none)
}

/// The endorsement of a message by this validator
///
/// Only checkpoints at the end of batches are endorsed. The last 256 are served; the store has all.
#[utoipa::path(
    get, path = "/endorsements/{sequence}", tag = "endorsements", operation_id = "endorsement",
    params(("sequence" = u64, Path, description = "The last message of the checkpoint.", minimum = 1)),
    responses((status = 200, description = "The endorsement.", body = ServedEndorsement), OfEndorsement),
)]
async fn endorsement(
    State(serving): State<Serving>,
    sequence: Result<Path<u64>, PathRejection>,
) -> Result<Json<ServedEndorsement>, Refusal> {
    let named = sequence.ok().and_then(|Path(sequence)| Sequence::new(sequence).ok());
    let Some(sequence) = named else {
        return Err(Refusal::new(Reason::Malformed, "a sequence is a whole number of 1 or more"));
    };
    answer(&serving, sequence).map(Json).ok_or_else(none)
}

fn none() -> Refusal {
    let detail = "this validator serves no endorsement there: none is due, it endorses nothing, or it is older than those that are kept";
    Refusal::new(Reason::NotFound, detail)
}

fn answer(serving: &Serving, sequence: Sequence) -> Option<ServedEndorsement> {
    let signed = serving.shown.at(sequence)?;
    served(&signed)
}

/// As it is served. `None` for what nobody could have endorsed.
fn served(signed: &SignedEndorsement) -> Option<ServedEndorsement> {
    let endorsement = signed.endorsement();
    let claim = endorsement.checkpoint.claim();
    Some(ServedEndorsement {
        validator: signed.recover()?,
        sequence: claim.size,
        epoch: claim.epoch,
        timestamp: claim.timestamp,
        root: claim.root(),
        state: claim.client.as_ref()?.state,
        inbox_consumed: claim.inbox_consumed,
        chain_id: endorsement.domain.chain_id,
        registry: endorsement.domain.contract,
        digest: signed.digest().to_string(),
        signature: signed.signature().to_string(),
        endorsement: format!("0x{}", hex::encode(signed.to_bytes())),
    })
}
