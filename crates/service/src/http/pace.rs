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
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connections::{Owed, Seat};

/// How far a body may be behind [`RATE_MIN`], however fast it came before.
const GRACE: Duration = Duration::from_secs(10);

/// How slowly a body may come, in bytes a second.
const RATE_MIN: u64 = 16 << 10;

/// That a body comes more slowly than it may.
#[derive(Debug, thiserror::Error)]
#[error("the body comes too slowly; at least {RATE_MIN} bytes a second are waited for, after {} s", GRACE.as_secs())]
pub(super) struct TooSlow;

/// A body that has to come at a pace.
pub(super) struct PacedBody {
    body: Incoming,
    /// When it is too slow, unless more comes.
    latest: Instant,
    /// Waits until then. There is nothing that waits while nothing was waited for.
    deadline: Option<Pin<Box<Sleep>>>,
    /// What its connection owes while it is not whole.
    owed: Option<Owed>,
}

impl PacedBody {
    pub(super) fn new(body: Incoming, seat: &Arc<Seat>) -> Self {
        let owed = (!body.is_end_stream()).then(|| Owed::body(seat));
        Self { body, latest: Instant::now() + GRACE, deadline: None, owed }
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
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                this.latest = later(this.latest, frame.data_ref().map_or(0, Bytes::len));
            }
            if frame.is_none() || this.body.is_end_stream() {
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
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
