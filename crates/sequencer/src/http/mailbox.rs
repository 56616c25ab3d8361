//! What both directions of a mailbox are answered with: asking its ledger, and streams of events.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use synddb_protocol::chain;
use synddb_protocol::http::Reason;
use synddb_protocol::id::StreamId;
use synddb_service::axum::body::Body;
use synddb_service::axum::http::{HeaderMap, header};
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::http::Refusal;
use synddb_service::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::IntoParams;

use super::extract::{BUSY_RETRY, busy};
use super::{Front, leave};
use crate::aside::aside;
use crate::mailbox::{Known, LedgerError, Mailbox};
use crate::stream::{Phase, View};

/// How long nothing is said while nothing happens. Shorter than the patience of the proxies between.
const IDLE: Duration = Duration::from_secs(15);

/// What lists of messages take.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// The first nonce; 1 where it is missing.
    #[serde(default)]
    pub(super) from: u64,
}

/// Some of the messages of one direction, as events.
pub(super) struct Events {
    text: String,
    /// The first nonce behind them; `None` where there are none.
    next: Option<u64>,
}

impl Events {
    /// One event for each message, which has a nonce.
    pub(super) fn of<M: serde::Serialize>(name: &str, messages: &[M], nonce: impl Fn(&M) -> u64) -> Self {
        let event = |message: &M| {
            let data = serde_json::to_string(message).ok()?;
            Some(format!("event: {name}\nid: {}\ndata: {data}\n\n", nonce(message)))
        };
        let text = messages.iter().filter_map(event).collect();
        Self { text, next: messages.last().map(|last| nonce(last).saturating_add(1)) }
    }
}

/// One of both directions.
#[derive(Clone, Copy)]
pub(super) struct Direction {
    /// Its messages from a nonce on, as far as they are to be shown now.
    pub(super) read: fn(&Mailbox, u64) -> Result<Events, LedgerError>,
    /// The highest nonce that is known.
    pub(super) last: fn(&Known) -> u64,
}

/// Where a browser goes on that was shown something before.
fn resumed(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(last) = headers.get("last-event-id") else { return Ok(None) };
    let last = last.to_str().ok().and_then(|last| last.parse::<u64>().ok());
    let malformed = || Refusal::new(Reason::Malformed, "`Last-Event-ID` is not the id of an event");
    last.map(|last| Some(last.saturating_add(1))).ok_or_else(malformed)
}

/// Who is shown messages: a place among the nonces, and nothing else.
struct Reader {
    mailbox: Arc<Mailbox>,
    direction: Direction,
    known: watch::Receiver<Known>,
    view: watch::Receiver<View>,
    shutdown: Shutdown,
    next: u64,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// What comes next, once there is something. `None` at the end.
    async fn piece(&mut self) -> Option<Bytes> {
        let idle = tokio::time::sleep(IDLE);
        tokio::pin!(idle);
        loop {
            if self.shutdown.is_asked() {
                return None;
            }
            let Direction { read, last } = self.direction;
            // Whatever else is stored is none of this reader's.
            let of = |known: &Known| (last(known), known.level);
            let seen = of(&self.known.borrow_and_update());
            let (mailbox, from) = (Arc::clone(&self.mailbox), self.next);
            let events = match aside(move || read(&mailbox, from)).await {
                Ok(events) => events,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a reader of messages is let go");
                    return None;
                }
            };
            if let Some(next) = events.next {
                self.next = next;
                return Some(events.text.into());
            }
            tokio::select! {
                changed = self.known.wait_for(|known| of(known) != seen) => drop(changed.ok()?),
                () = &mut idle => return Some(Bytes::from_static(b":\n\n")),
                _ = self.view.wait_for(|view| matches!(view.phase, Phase::Deposed | Phase::Ended)) => return None,
                () = self.shutdown.asked() => return None,
            }
        }
    }
}

impl Front {
    fn mailbox(&self, stream: StreamId) -> Result<Arc<Mailbox>, Refusal> {
        let detail = "no bridge is configured here, so no message of it is read; set `bridge.chain_id` and `bridge.contract`";
        self.handle(stream)?.mailbox.ok_or_else(|| Refusal::new(Reason::NotFound, detail))
    }

    /// Asks the ledger of a stream.
    pub(super) async fn ask_mailbox<T: Send + 'static>(
        &self,
        stream: StreamId,
        ask: impl FnOnce(&Mailbox) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let mailbox = self.mailbox(stream)?;
        let _leave = leave(&self.0.ledgers).await?;
        aside(move || ask(&mailbox)).await.map_err(|error| {
            super::deliver::say(&error, "the ledger of messages does not answer a request");
            let detail = "the ledger of messages cannot be read; see the log of the service";
            Refusal::new(Reason::Unavailable, detail).retry_after(BUSY_RETRY)
        })
    }

    /// Shows the messages of one direction, from a nonce on or from where a browser stopped, until the reader or the process goes.
    pub(super) fn show_mailbox(
        &self,
        stream: StreamId,
        headers: &HeaderMap,
        from: u64,
        direction: Direction,
    ) -> Result<Response, Refusal> {
        let next = resumed(headers)?.unwrap_or(from);
        let mailbox = self.mailbox(stream)?;
        let view = self.handle(stream)?.view;
        let permit = Arc::clone(&self.0.live).try_acquire_owned().map_err(|_| busy())?;
        let known = mailbox.watch();
        let shutdown = self.0.shutdown.clone();
        let reader = Reader { mailbox, direction, known, view, shutdown, next, _permit: permit };
        let body = Body::from_stream(futures::stream::unfold(reader, |mut reader| async move {
            let piece = reader.piece().await?;
            Some((Ok::<Bytes, Infallible>(piece), reader))
        }));
        let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
        Ok((headers, body).into_response())
    }
}
