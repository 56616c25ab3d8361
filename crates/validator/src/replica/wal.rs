//! How large the replica's WAL may become.
//!
//! What is committed is copied back into the file now and then, and SQLite begins the WAL anew in the first moment in which all of it is
//! copied back and nobody reads from it. Where a log grows and readers overlap there is no such moment, however short each one reads: the
//! WAL would grow for as long as they come. So over a bound the door is closed for one, which each reader inside leaves within its time.
//! Batches are applied meanwhile; who comes to ask waits at the door.
//!
//! SQLite's own way to copy back tries it again with every commit while readers are in the way, each time with what that costs the disk:
//! here it is tried once for each so many frames.

use std::future::Future;
use std::pin::Pin;

use futures::FutureExt as _;
use synddb_protocol::id::StreamId;
use tracing::{debug, warn};

use super::Ended;
use super::working::Working;
use crate::door::{Closed, Door};
use crate::metrics;

/// After how many frames more the WAL is copied back: as often as SQLite would by itself where nobody reads.
const FRAMES: i64 = 1000;

/// What keeps a WAL within its bound.
pub(super) struct WalBound {
    /// How many frames it had when it was last copied back.
    copied_at: i64,
    max: u64,
    /// Up to which size it is left alone.
    until: u64,
    door: Door,
    closing: Option<Closing>,
}

/// The door, while it closes.
pub(super) type Closing = Pin<Box<dyn Future<Output = Option<Closed>> + Send>>;

impl WalBound {
    pub(super) const fn new(max: u64, door: Door) -> Self {
        Self { copied_at: 0, max, until: max, door, closing: None }
    }

    /// Looks at the WAL of a file in which no transaction is open. Waits for nobody.
    pub(super) fn look(&mut self, live: &Working, stream: StreamId) -> Result<(), Ended> {
        let frames = live.wal_frames()?;
        if frames < self.copied_at {
            // It began anew.
            self.copied_at = 0;
        }
        if frames >= self.copied_at + FRAMES {
            live.copy_back()?;
            self.copied_at = frames;
        }
        if let Some(closing) = &mut self.closing {
            return match closing.now_or_never() {
                Some(closed) => self.closed(closed, live),
                None => Ok(()),
            };
        }
        let bytes = live.wal_bytes();
        metrics::wal(stream, bytes);
        if bytes <= self.until {
            return Ok(());
        }
        if live.empty_wal()? {
            self.until = self.max;
            return Ok(());
        }
        debug!(
            wal_bytes = bytes,
            "readers keep the WAL from beginning anew; the door is closed for a moment"
        );
        metrics::door_closed(stream);
        let door = self.door.clone();
        self.closing = Some(async move { door.close().await }.boxed());
        Ok(())
    }

    /// What to wait for, where nothing else is to be done.
    pub(super) const fn closing(&mut self) -> Option<&mut Closing> {
        self.closing.as_mut()
    }

    /// The door is closed, and is opened with the return of this.
    pub(super) fn closed(&mut self, closed: Option<Closed>, live: &Working) -> Result<(), Ended> {
        self.closing = None;
        let is_empty = live.empty_wal()?;
        drop(closed);
        if is_empty {
            self.until = self.max;
            return Ok(());
        }
        // Somebody reads the file without asking this process.
        let bytes = live.wal_bytes();
        self.until = bytes.saturating_add(self.max);
        warn!(
            wal_bytes = bytes,
            "a reader of another process keeps the WAL of the replica growing; end its transaction"
        );
        Ok(())
    }

    /// Somebody else needs the door.
    pub(super) fn let_go(&mut self) {
        self.closing = None;
    }
}
