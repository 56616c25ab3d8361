//! The owner of a stream: one thread that opens it and leads it, over as many epochs as it takes.
//!
//! ```text
//! open -> fencing -> leading -> (deposed) -> drained
//!   ^        |          |
//!   +--------+----------+   another leader's batch while fencing, or an older one of our own: wait, and claim the next epoch
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use synddb_protocol::chain;
use synddb_protocol::id::Timestamp;
use synddb_service::shutdown::Shutdown;
use synddb_storage::BatchStore;
use tokio::sync::{mpsc, watch};

use super::epoch::{End, Epoch};
use super::{Command, Phase, View};
use crate::backoff::Backoff;
use crate::journal::Journal;
use crate::lead::{self, LeadError, Leader, Opened};
use crate::metrics::StreamMetrics;

/// An epoch that lasted this long owes nothing to those before it: the next one is claimed as soon as the first was.
const SETTLED: Duration = Duration::from_secs(60);

/// What an owner is made of.
pub(crate) struct Parts {
    pub(crate) leader: Leader,
    pub(crate) store: Arc<dyn BatchStore>,
    pub(crate) journal: Journal,
    pub(crate) journal_bytes_max: u64,
    pub(crate) drain: Duration,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) view: watch::Sender<View>,
    pub(crate) finish: Shutdown,
}

/// The owner of a stream.
pub(crate) struct Owner {
    parts: Parts,
    metrics: StreamMetrics,
}

impl Owner {
    pub(crate) fn new(parts: Parts) -> Self {
        let metrics = StreamMetrics::new(parts.leader.stream);
        Self { parts, metrics }
    }

    /// Leads the stream until it is asked to finish.
    ///
    /// # Errors
    /// [`LeadError`] when nothing that this process can do helps.
    pub(crate) async fn run(mut self) -> Result<(), LeadError> {
        let ended = self.lead().await;
        self.parts.view.send_modify(|view| {
            view.phase = Phase::Ended;
            view.trouble = ended.as_ref().err().map(LeadError::in_brief);
        });
        ended
    }

    async fn lead(&mut self) -> Result<(), LeadError> {
        let mut backoff = Backoff::new();
        while let Some(opened) = self.open().await? {
            let begun = Instant::now();
            let end = Epoch::new(&mut self.parts, self.metrics.clone(), opened).run().await?;
            match end {
                End::Finished => return Ok(()),
                End::Reopen => self.parts.view.send_modify(|view| view.phase = Phase::Opening),
            }
            if begun.elapsed() > SETTLED {
                backoff = Backoff::new();
            }
            tokio::select! {
                () = self.parts.finish.asked() => return Ok(()),
                () = backoff.wait() => {}
            }
        }
        Ok(())
    }

    /// Opens the stream, however long the store does not answer. `None` when the process ends first.
    async fn open(&mut self) -> Result<Option<Opened>, LeadError> {
        let mut backoff = Backoff::new();
        let Parts { leader, store, journal, view, finish, .. } = &mut self.parts;
        loop {
            let opened = tokio::select! {
                biased;
                () = finish.asked() => return Ok(None),
                opened = lead::open(&**store, journal, leader, log_time) => opened,
            };
            let error = match opened {
                Ok(opened) => return Ok(Some(opened)),
                Err(error) if error.retry_may_help() => error,
                Err(error) => return Err(error),
            };
            let stream = leader.stream;
            tracing::warn!(%stream, error = chain(&error), "cannot lead the stream yet; trying again");
            view.send_modify(|view| view.trouble = Some(error.in_brief()));
            tokio::select! {
                () = finish.asked() => return Ok(None),
                () = backoff.wait() => {}
            }
        }
    }
}

/// What the wall clock says. The order sees to it that log time never goes back.
pub(super) fn log_time() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = u64::try_from(since_1970.as_millis()).unwrap_or_default();
    Timestamp::from_ms(ms).unwrap_or(Timestamp::ZERO)
}
