//! How large the replica's WAL may become.
//!
//! SQLite copies the WAL back by itself, and begins it anew in the first moment in which all of it is copied back and nobody reads from it.
//! Where a log grows and readers overlap there is no such moment, however short each one reads: the WAL would grow for as long as they come.
//! So over a bound the door is closed for one, which each reader inside leaves within its time. Batches are applied meanwhile; who comes to
//! ask waits at the door.

use std::future::Future;
use std::pin::Pin;

use futures::FutureExt as _;
use tracing::{debug, warn};

use super::Ended;
use super::working::Working;
use crate::door::{Closed, Door};
use crate::metrics;
use synddb_protocol::id::StreamId;

/// What keeps a WAL within its bound.
pub(super) struct WalBound {
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
        Self { max, until: max, door, closing: None }
    }

    /// Looks at the WAL of a file in which no transaction is open. Waits for nobody.
    pub(super) fn look(&mut self, live: &Working, stream: StreamId) -> Result<(), Ended> {
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
        if closed.is_none() || live.empty_wal()? {
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
