//! Handing what a client sent to the owner of its stream, and making the owner's answer a response.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use synddb_protocol::Canonical as _;
use synddb_protocol::chain;
use synddb_protocol::http::{Reason, Receipts};
use synddb_protocol::id::{Epoch, StreamId};
use synddb_protocol::log::{Body, Entry};
use synddb_protocol::submission::SnapshotPlace;
use synddb_service::axum::http::{StatusCode, header};
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::http::Refusal;
use synddb_service::trouble::Trouble;
use synddb_storage::Key;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::extract::busy;
use super::{Front, leave};
use crate::admission::Room;
use crate::journal::Found;
use crate::ordering::Held;
use crate::registry::OpenStreamError;
use crate::stored::{self, StoredError};
use crate::stream::{Answer, Command, Handle, Phase};

/// When to try again where a stream is not led yet, or not any more.
const LEAD_RETRY: Duration = Duration::from_secs(1);

/// The longest wait that is named where a stream rests. Asking costs the store nothing, and a new start ends every rest.
const REST_RETRY: Duration = Duration::from_secs(5);

/// How long the request that begins a stream waits until it is led.
const BEGIN_WAIT: Duration = Duration::from_secs(10);

impl Front {
    /// Has an opened body ordered, and answers with its receipts.
    pub(super) async fn deliver(
        &self,
        stream: StreamId,
        body: Body,
        room: Room,
    ) -> Result<Response, Refusal> {
        let handle = self.led(stream, body.entry()).await?;
        // Kept in case the store has to be asked first whether it is new.
        let again = matches!(body.entry(), Entry::Snapshot(_)).then(|| body.clone());
        let answer = send(&handle, body, room, false).await?;
        match (answer, again) {
            (Answer::LookUp(held, None), Some(body)) => match self.look_up(&handle, stream, held).await? {
                Found::Receipts(receipts) => Ok(respond(StatusCode::OK, receipts)),
                Found::Absent | Found::Differs(_) | Found::Elsewhere => {
                    let room = self.0.bodies.take(body.content_bytes()).ok_or_else(busy)?;
                    self.translate(&handle, stream, send(&handle, body, room, true).await?).await
                }
            },
            (answer, _) => self.translate(&handle, stream, answer).await,
        }
    }

    async fn translate(
        &self,
        handle: &Handle,
        stream: StreamId,
        answer: Answer,
    ) -> Result<Response, Refusal> {
        match answer {
            Answer::Taken(receipt) => Ok(respond(StatusCode::CREATED, vec![receipt])),
            Answer::Known(receipts) => Ok(respond(StatusCode::OK, receipts)),
            Answer::Refused(Reason::NotLeading, detail) => Err(not_leading(detail)),
            Answer::Refused(reason, detail) => Err(Refusal::new(reason, detail)),
            Answer::LookUp(held, otherwise) => match self.look_up(handle, stream, held).await? {
                Found::Receipts(receipts) => Ok(respond(StatusCode::OK, receipts)),
                Found::Differs(expected) => {
                    let reason = Reason::ContentMismatch { expected, found: held.digest };
                    Err(Refusal::new(reason, "its place was given to other content long ago"))
                }
                Found::Absent | Found::Elsewhere => {
                    Err(Refusal::new(otherwise.unwrap_or(Reason::Internal), "it never got a place"))
                }
            },
        }
    }

    async fn look_up(&self, handle: &Handle, stream: StreamId, held: Held) -> Result<Found, Refusal> {
        let stored = handle.view.borrow().stored.as_ref().map(|(last, _)| *last);
        let _looking = leave(&self.0.look_ups).await?;
        stored::search(&*self.0.store, stream, stored, held).await.map_err(|error| unavailable(&error))
    }

    /// The owner of a stream that is led. One that nobody leads is opened where that is right.
    async fn led(&self, stream: StreamId, entry: &Entry) -> Result<Handle, Refusal> {
        let (handle, is_new) = match self.0.registry.get(stream) {
            Some(handle) => (handle, false),
            None => (self.open(stream, entry).await?, true),
        };
        if is_new {
            let mut view = handle.view.clone();
            let led = view.wait_for(|view| view.phase != Phase::Opening);
            // Whether it was in time, and for what it ended, is told by the phase.
            tokio::time::timeout(BEGIN_WAIT, led).await.map(|led| led.map(drop)).ok();
        }
        let (phase, trouble) = {
            let view = handle.view.borrow();
            (view.phase, view.trouble)
        };
        match phase {
            Phase::Leading => Ok(handle),
            Phase::Opening => Err(not_leading(being_opened(trouble))),
            Phase::Deposed => Err(not_leading("another sequencer leads the stream; send it there")),
            Phase::Ended => Err(not_leading("the stream ended here; see the log of the service")),
        }
    }

    /// Begins to lead a stream: for the snapshot that begins it, or when the store has a log of it already.
    async fn open(&self, stream: StreamId, entry: &Entry) -> Result<Handle, Refusal> {
        self.check_admitted(stream)?;
        self.0.registry.check_free(stream).map_err(|error| not_opened(stream, &error))?;
        if !begins_stream(entry) {
            let key = Key::Epoch { stream, epoch: Epoch::FIRST };
            let claimed = self.0.store.get(&key).await.map_err(|error| unavailable(&error.into()))?;
            if claimed.is_none() {
                return Err(Refusal::new(Reason::NotBegun, "begin the stream with a snapshot"));
            }
        }
        tracing::info!(%stream, "a client asks to lead the stream");
        self.0.registry.lead(stream).map_err(|error| not_opened(stream, &error))
    }

    /// Whether this process may lead the stream.
    pub(super) fn check_admitted(&self, stream: StreamId) -> Result<(), Refusal> {
        let detail = "the configuration of this sequencer does not admit the stream";
        let admitted = self.0.registry.admits(stream);
        if admitted { Ok(()) } else { Err(Refusal::new(Reason::NotFound, detail)) }
    }
}

/// The refusal where no owner of a stream begins.
fn not_opened(stream: StreamId, error: &OpenStreamError) -> Refusal {
    match error {
        // No time cures it, so none is named to try again after.
        OpenStreamError::TooMany => Refusal::new(Reason::Unprocessable, error.to_string()),
        OpenStreamError::Resting { wait, .. } => Refusal::new(Reason::NotLeading, error.to_string())
            .retry_after((*wait).clamp(LEAD_RETRY, REST_RETRY)),
        OpenStreamError::StandingBy => not_leading(error.to_string()),
        OpenStreamError::Journal(_) | OpenStreamError::Thread(_) => {
            tracing::error!(%stream, error = chain(error), "cannot open the stream");
            Refusal::new(
                Reason::Internal,
                "the journal of the stream does not open; see the log of the service",
            )
        }
    }
}

/// Whether an entry can be the first that a client ever sends.
fn begins_stream(entry: &Entry) -> bool {
    let Entry::Snapshot(snapshot) = entry else { return false };
    let is_first = snapshot.incarnation.counter.previous().is_none();
    is_first && matches!(snapshot.place, SnapshotPlace::Begins { predecessor: None })
}

async fn send(handle: &Handle, body: Body, room: Room, is_looked_up: bool) -> Result<Answer, Refusal> {
    let (answer, answered) = oneshot::channel();
    let command = Command { body, is_looked_up, acknowledged: 0, answer, room };
    match handle.commands.try_send(command) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => return Err(busy()),
        Err(TrySendError::Closed(_)) => return Err(not_leading("the stream ended here")),
    }
    answered.await.map_err(|_| not_leading("the stream ended before it took this; send it again"))
}

fn respond(status: StatusCode, receipts: Vec<synddb_protocol::log::Receipt>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/cbor")], Receipts(receipts).to_bytes()).into_response()
}

/// What is said of a stream that is not led yet, and of what stands in the way.
pub(super) fn being_opened(trouble: Option<&'static str>) -> String {
    let trouble = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
    format!("the epoch of this sequencer is not stored yet{trouble}; try again")
}

/// The refusal where the stream is not led, not yet or no more.
pub(super) fn not_leading(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::NotLeading, detail).retry_after(LEAD_RETRY)
}

/// What requests met of the store, which is one for all streams. They come as often as clients ask, and their lines must not.
static TROUBLE: Mutex<Trouble> = Mutex::new(Trouble::new());

/// Says that a request met a store that does not do what it should, if it is time to say that again.
pub(super) fn say(error: &(dyn std::error::Error + Sync), what: &'static str) {
    let lasting = TROUBLE.lock().unwrap_or_else(PoisonError::into_inner).met(Instant::now(), what);
    if let Some(lasting) = lasting {
        tracing::warn!(error = chain(error), so_far = lasting.times, "{what}");
    }
}

/// The refusal where the store does not tell.
pub(super) fn unavailable(error: &StoredError) -> Refusal {
    say(error, "the store does not answer a request's read");
    Refusal::new(Reason::Unavailable, error.in_brief()).retry_after(LEAD_RETRY)
}
