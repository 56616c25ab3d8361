//! What makes the owner look at its file while nothing comes: the clock, and whoever asks for an audit.
//!
//! Both come behind the batches that are on their way, through the same bounded channel, and keep nothing open: when the last stage before
//! the owner has ended, so have they.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use synddb_protocol::http::ReplicaAudit;
use synddb_protocol::log::VerifiedBatch;
use tokio::sync::mpsc::{Sender, WeakSender};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use crate::config::Config;
use crate::pipeline::Item;

/// The longest time between two looks whether somebody wrote into the file while nothing is applied.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// How many ask for an audit at a time. More are turned away at once, so that they take no connection while the owner is busy.
const ASKING_MAX: usize = 64;

type ToOwner = WeakSender<Item<Box<VerifiedBatch>>>;

/// Where audits are asked for. Clones are the same.
#[derive(Clone)]
pub(crate) struct Audits {
    to: Arc<OnceLock<ToOwner>>,
    turns: Arc<Semaphore>,
}

impl Default for Audits {
    fn default() -> Self {
        Self { to: Arc::default(), turns: Arc::new(Semaphore::new(ASKING_MAX)) }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAudit {
    /// As many ask as may.
    Busy,
    /// No owner is there, or it ended.
    NoOwner,
    /// The owner could not do it, or has enough who wait.
    TurnedAway,
}

impl Audits {
    /// The owner is asked through this from here on.
    pub(crate) fn open(&self, to: &Sender<Item<Box<VerifiedBatch>>>) {
        self.to.set(to.downgrade()).ok();
    }

    /// Asks for a full scan, and waits for what it finds.
    pub(crate) async fn ask(&self) -> Result<ReplicaAudit, NoAudit> {
        let _turn = self.turns.try_acquire().map_err(|_| NoAudit::Busy)?;
        let to = self.to.get().and_then(WeakSender::upgrade).ok_or(NoAudit::NoOwner)?;
        let (asked, told) = oneshot::channel();
        to.send(Item::Audit(Some(asked))).await.map_err(|_| NoAudit::NoOwner)?;
        drop(to);
        told.await.map_err(|_| NoAudit::TurnedAway)
    }
}

/// Sends looks and audits by the clock, until nobody is there to look.
pub(crate) async fn tick(to: ToOwner, config: &Config) {
    let every = Duration::from_millis(config.poll_ms_max).min(LOOK_MAX);
    let interval = Some(config.audit_interval_ms).filter(|ms| *ms > 0).map(Duration::from_millis);
    let mut audited = Instant::now();
    loop {
        let left = interval.map(|interval| interval.saturating_sub(audited.elapsed()));
        tokio::time::sleep(left.map_or(every, |left| left.min(every))).await;
        let Some(to) = to.upgrade() else { return };
        if interval.is_some_and(|interval| audited.elapsed() >= interval) {
            audited = Instant::now();
            if to.send(Item::Audit(None)).await.is_err() {
                return;
            }
        } else {
            // Where batches wait, whoever applies them looks.
            to.try_send(Item::Look).ok();
        }
    }
}
