//! Inbound messages: what the log has of them is compared with the chain, and outbound messages wait while the application, or the log, is too late with them.
//!
//! ```text
//! nodes --> follow.rs --> notes.rs: what the bridge sent, on the disk --+
//!                                                                      +--> core.rs: may it be endorsed, may outbound messages be signed?
//! log --> rules/inbound.rs: what came by it, in the replica -----------+
//! ```
//!
//! What must stay true:
//!
//! - Nothing is endorsed that covers an inbound message which was not compared, or is another one on the chain (`tests/it/ruled/inbox.rs`). What a replica lacks
//!   that began with a snapshot, it cannot compare: who is believed of that is [`crate::endorse`]'s question.
//! - What waits is signed once it may be, and blocks no checkpoint.
//! - Nodes that do not tell take nothing back, and nothing of them is missed.

mod core;
mod follow;
mod notes;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use synddb_protocol::id::{StreamId, Timestamp};
use synddb_protocol::log::{Checkpoint, InboundState};
use synddb_protocol::signing::Domain;
use synddb_sqlite::connection::SqliteError;
use synddb_sqlite::query::{QueryError, Reading};
use tokio::sync::Notify;
use tracing::error;

use self::core::{Core, Next};
pub(super) use self::core::{Held, Unlike, in_time};
pub(super) use self::follow::Following;
pub(super) use self::notes::NotNotable;
use self::notes::Notes;
use crate::metrics;
use crate::replica::position::{self, NoPosition};
use crate::rules::inbound_between;
use crate::view::View;

/// Messages that are compared at a time.
const COMPARED_AT_ONCE: usize = 1024;

/// Why nothing can be compared now.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotCompared {
    /// The replica cannot be read.
    #[error("what came by the log of inbound messages cannot be read")]
    Replica(#[from] QueryError),
    /// The same, row by row.
    #[error("what came by the log of inbound messages cannot be read")]
    Came(#[source] SqliteError),
    /// Nor where it stands.
    #[error("where the replica stands cannot be read")]
    Position(#[from] NoPosition),
    /// What the chain has is not known.
    #[error(transparent)]
    Notes(#[from] NotNotable),
}

/// Which bridge, and which replica.
#[derive(Debug)]
struct At {
    stream: StreamId,
    bridge: Domain,
    replica: PathBuf,
    view: View,
    inclusion_ms: u64,
}

/// What is known of inbound messages. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Inbox {
    at: Arc<At>,
    core: Arc<Mutex<Core>>,
    moved: Arc<Notify>,
    wanted: Arc<Notify>,
}

impl Inbox {
    pub(super) fn new(
        stream: StreamId,
        bridge: Domain,
        replica: PathBuf,
        view: View,
        inclusion_ms: u64,
    ) -> Self {
        let at = At { stream, bridge, replica, view, inclusion_ms };
        Self { at: Arc::new(at), core: Arc::default(), moved: Arc::default(), wanted: Arc::default() }
    }

    /// Whether what a checkpoint covers is what the chain has. Reads the disk only where it is not known.
    pub(super) fn alike(&self, inbound: Option<InboundState>) -> Result<Result<(), Unlike>, NotCompared> {
        let known = self.lock().alike(self.at.bridge, inbound);
        if !matches!(known, Err(Unlike::NotYet { .. } | Unlike::Silent { .. })) {
            return Ok(known);
        }
        self.compare()?;
        Ok(self.lock().alike(self.at.bridge, inbound))
    }

    /// Whether the log has by now whatever it must have. Reads the disk.
    pub(super) fn included(&self) -> Result<Result<(), Held>, NotCompared> {
        // What is signed for is in a replica, and so it is shown.
        let Some(delivered) = self.compare()? else { return Ok(Err(Held::Unseen)) };
        let included = self.lock().included(delivered, self.at.inclusion_ms, now());
        if matches!(included, Err(Held::Unseen)) {
            self.wanted.notify_one();
        }
        Ok(included)
    }

    /// Something is known that was not.
    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Compares what both have by now. Gives how many messages the log has, where the replica is what it was. Reads the disk.
    fn compare(&self) -> Result<Option<u64>, NotCompared> {
        let At { stream, replica, view, .. } = &*self.at;
        if !view.is_shown() {
            return Ok(None);
        }
        let reading = Reading::open(replica)?;
        let position = position::read(reading.trusted())?;
        let delivered = delivered(position.claim());
        let before = self.lock().compared();
        if before < delivered {
            let notes = Notes::open(replica)?;
            loop {
                let after = self.lock().compared();
                let sent = notes.sent(after, delivered, COMPARED_AT_ONCE)?;
                let Some((last, _)) = sent.last() else { break };
                let came = inbound_between(reading.trusted(), after, *last);
                let came = came.map_err(|error| NotCompared::Came(error.into()))?;
                let mut core = self.lock();
                if let Some(nonce) = core.compare(&sent, &came) {
                    metrics::inbound_forged(*stream);
                    error!(
                        nonce,
                        "the log has another inbound message than the chain; nothing from there on is endorsed"
                    );
                }
                // Neither where one is another, nor where somebody else compares as well.
                if core.compared() == after {
                    break;
                }
            }
        }
        let compared = self.lock().compared();
        metrics::inbound_compared(*stream, compared);
        if compared > before {
            self.moved.notify_one();
        }
        Ok(Some(delivered))
    }

    /// Everything that the chain has was seen: so many, and what comes next in the log, if anything does.
    fn saw(&self, sent: u64, next: Option<Next>) {
        self.lock().saw(sent, next);
        self.moved.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many inbound messages the log has, by a checkpoint.
pub(super) fn delivered(claim: &Checkpoint) -> u64 {
    claim.inbound.map_or(0, |inbound| inbound.delivered())
}

/// The time by the clock of this machine, in which the chain counts as well.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or_default()).unwrap_or(Timestamp::ZERO)
}
