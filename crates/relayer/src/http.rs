//! HTTP: what the relayer does, and where each message stands. A handler extracts, calls and maps.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use synddb_protocol::http::Reason;
use synddb_protocol::id::{Address, StreamId};
use synddb_service::axum::extract::rejection::PathRejection;
use synddb_service::axum::extract::{Path, State};
use synddb_service::axum::{self, Json};
use synddb_service::http::{
    About, OpenApiRouter, Probe, Query, Readiness, Refusal, document, rendered, routes,
};
use synddb_service::refusals;
use utoipa::{IntoParams, ToSchema};

use crate::journal::{Counted, JournalError, Reader};
use crate::message::RelayedMessage;

/// What the document of the process says of it.
pub(crate) const ABOUT: About = About {
    title: "SyndDB relayer",
    description: "Brings outbound messages of one stream to its bridge under the signatures of sequencer and validators, and pays the gas.",
};

/// What a relayer says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayerStatus {
    /// The stream.
    pub stream: StreamId,
    /// The chain, by its EIP-155 id.
    pub chain_id: u64,
    /// The bridge there.
    pub bridge: Address,
    /// The account that pays.
    pub account: Address,
    /// What it has, in wei: a decimal number. `None` while that is not known.
    pub balance: Option<String>,
    /// The highest message that a sequencer has signed, as far as it was found; 0 for none.
    pub known: u64,
    /// The highest message that nothing changes any more; 0 for none.
    pub settled: u64,
    /// Messages that may still change.
    pub open: u64,
    /// The newest checkpoint on the chain, where checkpoints are brought; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// What is in the way of everything, if something is.
    pub failing: Option<String>,
}

/// Messages, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayedMessages {
    /// From the nonce that was asked for: 100 at most.
    pub messages: Vec<RelayedMessage>,
}

/// What the relayer shows while it runs: written by it, read by handlers.
#[derive(Debug, Clone)]
pub(crate) struct View(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    status: Mutex<RelayerStatus>,
    folder: PathBuf,
}

impl View {
    pub(crate) fn new(status: RelayerStatus, folder: PathBuf) -> Self {
        Self(Arc::new(Shown { status: Mutex::new(status), folder }))
    }

    /// Changes what is shown.
    pub(crate) fn update(&self, change: impl FnOnce(&mut RelayerStatus)) {
        change(&mut self.0.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is shown.
    pub(crate) fn status(&self) -> RelayerStatus {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it can do its work.
    pub(crate) fn probe(&self) -> Probe {
        let view = self.clone();
        Arc::new(move || view.status().failing.map_or(Readiness::Ready, Readiness::NotReady))
    }

    /// Reads what is remembered, where that does not hold up others.
    async fn read<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Reader) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let folder = self.0.folder.clone();
        let read = tokio::task::spawn_blocking(move || what(&Reader::open(&folder)?));
        let failed =
            || Refusal::new(Reason::Unavailable, "the relayer's queue cannot be read; its log says why");
        read.await.map_err(|_| failed())?.map_err(|error| {
            tracing::warn!(error = %synddb_protocol::chain(&error), "cannot read the queue");
            failed()
        })
    }

    /// How messages stand.
    pub(crate) async fn counted(&self) -> Counted {
        self.read(Reader::counted).await.unwrap_or_default()
    }
}

/// The OpenAPI document of a relayer, as it is served and checked in.
pub fn openapi() -> Vec<u8> {
    rendered(&document(&ABOUT, paths()))
}

/// The routes of a relayer.
pub(crate) fn router(view: View) -> OpenApiRouter {
    paths().with_state(view)
}

fn paths() -> OpenApiRouter<View> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(list)).routes(routes!(message))
}

refusals! {
    /// Nothing but what any request can meet.
    OfAny:
}

refusals! {
    /// Of many messages.
    OfMessages: "malformed"
}

refusals! {
    /// Of one message.
    OfMessage: "malformed", "not_found"
}

/// What the relayer does, and what is in its way
#[utoipa::path(
    get, path = "/status", tag = "relayer", operation_id = "status",
    responses((status = 200, description = "The status.", body = RelayerStatus), OfAny),
)]
async fn status(State(view): State<View>) -> Json<RelayerStatus> {
    Json(view.status())
}

/// The query of `GET /messages`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct From {
    /// The first nonce; 1 where it is missing.
    #[serde(default)]
    from: u64,
}

/// Where messages stand
///
/// In the order of their nonces, 100 at most: who got so many asks again behind the last one.
#[utoipa::path(
    get, path = "/messages", tag = "messages", operation_id = "messages", params(From),
    responses((status = 200, description = "The messages.", body = RelayedMessages), OfMessages),
)]
async fn list(
    State(view): State<View>,
    Query(From { from }): Query<From>,
) -> Result<Json<RelayedMessages>, Refusal> {
    let messages = view.read(move |reader| reader.list(from)).await?;
    Ok(Json(RelayedMessages { messages }))
}

/// Where one message stands
#[utoipa::path(
    get, path = "/messages/{nonce}", tag = "messages", operation_id = "message",
    params(("nonce" = u64, Path, description = "The row's id.", minimum = 1)),
    responses((status = 200, description = "The message.", body = RelayedMessage), OfMessage),
)]
async fn message(
    State(view): State<View>,
    nonce: Result<Path<u64>, PathRejection>,
) -> Result<Json<RelayedMessage>, Refusal> {
    let Ok(Path(nonce)) = nonce else {
        return Err(Refusal::new(Reason::Malformed, "a nonce is a whole number of 1 or more"));
    };
    let found = view.read(move |reader| reader.message(nonce)).await?;
    let unknown =
        || Refusal::new(Reason::NotFound, "the sequencer has told of no such message that is signed");
    found.map(Json).ok_or_else(unknown)
}
