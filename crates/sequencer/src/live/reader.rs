//! One reader on its way through the ring: it takes a piece when its connection takes one, and else holds nothing.

use std::time::Duration;

use bytes::Bytes;
use synddb_service::shutdown::Shutdown;
use tokio::sync::watch;

use super::Form;
use super::ring::{Cursor, Ring};
use crate::metrics;

/// How long nothing is said while nothing happens. Shorter than the patience of the proxies between.
const IDLE: Duration = Duration::from_secs(15);

/// A reader.
pub(crate) struct Reader {
    ring: watch::Receiver<Ring>,
    cursor: Cursor,
    /// It was shown a message, so that being behind means being slow.
    is_live: bool,
    _counted: Counted,
}

impl Reader {
    pub(super) fn new(ring: watch::Receiver<Ring>, cursor: Cursor) -> Self {
        Self { ring, cursor, is_live: false, _counted: Counted::new() }
    }

    /// What it is shown, in this form, until the process is asked to end.
    pub(crate) const fn pieces(self, form: Form, shutdown: Shutdown) -> Pieces {
        Pieces { reader: Some(self), form, shutdown }
    }
}

/// What a reader is shown, piece by piece.
pub(crate) struct Pieces {
    /// `None` behind the last piece.
    reader: Option<Reader>,
    form: Form,
    shutdown: Shutdown,
}

impl Pieces {
    /// The next piece, once there is one. `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            let reader = self.reader.as_mut()?;
            if self.shutdown.is_asked() {
                return None;
            }
            // Messages are cloned under the lock, which copies no body, and written behind it.
            let step = reader.ring.borrow_and_update().step(&mut reader.cursor);
            if !step.is_empty() {
                let was_live = reader.is_live;
                reader.is_live |= !step.messages.is_empty();
                if let Some(from) = step.behind {
                    if was_live && step.withdrawn.is_none() {
                        metrics::reader_dropped();
                        tracing::debug!(%from, "a reader is too slow, and goes on in the store");
                    }
                    self.reader = None;
                }
                return Some(Bytes::from(self.form.write(&step)));
            }
            tokio::select! {
                changed = reader.ring.changed() => changed.ok()?,
                () = tokio::time::sleep(IDLE) => return Some(Bytes::from(self.form.idle())),
                () = self.shutdown.asked() => return None,
            }
        }
    }
}

/// That a reader is counted while this lives.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::readers(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::readers(-1.0);
    }
}

#[cfg(test)]
mod tests {
    use synddb_protocol::Canonical as _;
    use synddb_protocol::id::{Epoch, Sequence};
    use synddb_protocol::live::LogItem;

    use super::super::Live;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_idle_reader_is_told_so_and_ends_with_the_process_or_the_stream() {
        let (live, feed) = Live::new();
        live.opened(Sequence::FIRST, Epoch::FIRST, None);
        let shutdown = Shutdown::new();
        let pieces = |form| feed.read(None, None).unwrap().pieces(form, shutdown.clone());
        let (mut sequence, mut events) = (pieces(Form::Cbor), pieces(Form::Events));
        // Time passes by itself while everybody waits.
        let begun = tokio::time::Instant::now();
        assert_eq!(LogItem::from_bytes(&sequence.next().await.unwrap()).unwrap(), LogItem::Idle);
        assert_eq!(events.next().await.unwrap(), &b":\n\n"[..]);
        assert!(begun.elapsed() >= IDLE);
        drop(live);
        assert!(sequence.next().await.is_none(), "the owner is gone");
        shutdown.ask();
        assert!(events.next().await.is_none());
    }
}
