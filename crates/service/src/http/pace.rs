//! How fast what a client sends has to come.
//!
//! A body that drips holds a connection, a request and what came of it so far. So the pace is looked at for every route alike, below
//! all of them: whoever reads a body that is too slow is given [`TooSlow`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::connections::{Owed, Seat};

/// How far a body may be behind [`RATE_MIN`], however fast it came before.
const GRACE: Duration = Duration::from_secs(10);

/// How slowly a body may come, in bytes a second.
const RATE_MIN: u64 = 16 << 10;

/// How much of a body that nobody reads to its end is taken off the wire, in bytes, and for how long. Many clients read no answer before they have sent everything,
/// and who is closed upon while sending may never see it.
pub(super) const LEFTOVER_BYTES_MAX: usize = 10 << 20;
const LEFTOVER_TIME_MAX: Duration = Duration::from_secs(5);

/// That a body comes more slowly than it may.
#[derive(Debug, thiserror::Error)]
#[error("the body comes too slowly; at least {RATE_MIN} bytes a second are waited for, after {} s", GRACE.as_secs())]
pub(super) struct TooSlow;

/// A body that has to come at a pace.
pub(super) struct PacedBody {
    /// There is one while this lives.
    body: Option<Incoming>,
    leftover: Leftover,
    /// When it is too slow, unless more comes.
    latest: Instant,
    /// Waits until then. There is nothing that waits while nothing was waited for.
    deadline: Option<Pin<Box<Sleep>>>,
    /// What its connection owes while it is not whole.
    owed: Option<Owed>,
}

impl PacedBody {
    pub(super) fn new(body: Incoming, leftover: Leftover, seat: &Arc<Seat>) -> Self {
        let owed = (!body.is_end_stream()).then(|| Owed::body(seat));
        Self { body: Some(body), leftover, latest: Instant::now() + GRACE, deadline: None, owed }
    }
}

impl Drop for PacedBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        let owed = self.owed.take();
        if let (Leftover::Discarded, Ok(runtime)) = (self.leftover, Handle::try_current()) {
            // At most one of each connection, which reads no other request meanwhile. It ends with the connection, if not before.
            runtime.spawn(async move {
                timeout(LEFTOVER_TIME_MAX, discard(body)).await.ok();
                drop(owed);
            });
        }
    }
}

/// What becomes of the rest of a body that nobody reads to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftover {
    /// It is read, as far as [`LEFTOVER_BYTES_MAX`] and [`LEFTOVER_TIME_MAX`] go.
    Discarded,
    /// Nobody asks for it, since its client waits for being asked.
    Unasked,
}

async fn discard(mut body: Incoming) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > LEFTOVER_BYTES_MAX {
            return;
        }
    }
}

/// The time that so many more bytes give.
fn later(latest: Instant, bytes: usize) -> Instant {
    let given = Duration::from_micros(bytes as u64 * 1_000_000 / RATE_MIN);
    (latest + given).min(Instant::now() + GRACE)
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                this.latest = later(this.latest, frame.data_ref().map_or(0, Bytes::len));
            }
            if frame.is_none() || body.is_end_stream() {
                this.owed = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        let latest = this.latest;
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep_until(latest)));
        if deadline.deadline() != latest {
            deadline.as_mut().reset(latest);
        }
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_came_fast_gives_no_more_time_than_the_grace() {
        let begun = Instant::now();
        let mut latest = later(begun + GRACE, 1 << 20);
        assert_eq!(latest, begun + GRACE);
        // At the least rate it may go on for ever.
        for _ in 0..100 {
            tokio::time::advance(Duration::from_secs(1)).await;
            latest = later(latest, 16 << 10);
            assert_eq!(latest, Instant::now() + GRACE);
        }
        // A byte a second is too slow soon, whatever came before.
        let dripping = Instant::now();
        while latest > Instant::now() {
            tokio::time::advance(Duration::from_secs(1)).await;
            latest = later(latest, 1);
        }
        assert!(dripping.elapsed() <= GRACE + Duration::from_secs(1), "{:?}", dripping.elapsed());
    }
}
