//! Says in the log how far the application is behind with its inbound messages, and has a checkpoint say what it has acknowledged.
//!
//! Both go by what is stored, as every reader goes: nothing is said before the ledger has read what was stored when this was looked at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use synddb_chain::follow::Deadlines;
use synddb_protocol::chain;
use synddb_protocol::id::{Epoch, Sequence, Timestamp};
use synddb_protocol::log::{Entry, SignedCheckpoint, Status, StatusLevel};
use synddb_service::trouble::Trouble;
use tokio::sync::watch;

use super::inbound::Oldest;
use super::orders::{NotOrdered, Orders};
use super::{Known, LedgerError, Mailbox};
use crate::aside::aside;
use crate::leading::Now;
use crate::stream::{Phase, View};

/// Least time between two looks, so that acknowledgements that come one by one do not each get a message.
const PAUSE: Duration = Duration::from_secs(1);

/// What is said of a status that is not kept.
const NOT_KEPT: &str = "the status of inbound messages is not kept";

/// Why nothing is said now.
#[derive(Debug, thiserror::Error)]
enum NotSaid {
    /// The ledger does not tell.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The log does not take it.
    #[error("a status is not put into the log")]
    Order(#[from] NotOrdered),
}

/// What the log says by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    epoch: Option<Epoch>,
    /// The last message that is stored.
    stored: Option<Sequence>,
    /// Log time.
    now: Timestamp,
    /// The status, by the last message that says one.
    level: StatusLevel,
    /// What the newest stored checkpoint claims to be acknowledged.
    acknowledged: u64,
}

/// Keeps the status in the log, until the owner of the stream ends or is deposed.
pub(super) async fn keep_status(
    mailbox: Arc<Mailbox>,
    deadlines: Deadlines,
    orders: Orders,
    mut view: watch::Receiver<View>,
) {
    let mut ends = view.clone();
    let ended = ends.wait_for(|view| matches!(view.phase, Phase::Deposed | Phase::Ended));
    let keeping = async {
        let (mut known, mut trouble) = (mailbox.watch(), Trouble::new());
        let mut ours = None;
        loop {
            let led = view.wait_for(|view| view.phase == Phase::Leading && view.status.is_some());
            let Ok(said) = led.await.map(|view| said(&view)) else { return };
            // Readers go by what is stored. On a busy stream more is stored by the time that this much is read: this much is enough.
            if known.wait_for(|known| known.read >= said.stored).await.is_err() {
                return;
            }
            let rest = match look(&mailbox, deadlines, &orders, said, &mut ours).await {
                Ok(rest) => {
                    trouble.over(Instant::now());
                    rest
                }
                Err(error) => {
                    if let Some(lasting) = trouble.met(Instant::now(), NOT_KEPT) {
                        tracing::warn!(stream = %mailbox.stream, error = chain(&error), attempts = lasting.times,
                            "{NOT_KEPT}; trying again");
                    }
                    Some(PAUSE)
                }
            };
            tokio::time::sleep(rest.unwrap_or(PAUSE)).await;
            // Where nothing waits, nothing becomes late.
            if rest.is_none() && known.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        _ = ended => {}
        () = keeping => {}
    }
}

fn said(view: &View) -> Said {
    let checkpoint = view.stored.as_ref().and_then(|(_, bytes)| SignedCheckpoint::from_bytes(bytes).ok());
    Said {
        epoch: view.status.as_ref().map(|status| status.epoch),
        stored: view.stored.as_ref().map(|(last, _)| *last),
        now: log_time(view),
        level: view.status.as_ref().map(|status| status.status).unwrap_or_default(),
        acknowledged: checkpoint.map_or(0, |checkpoint| checkpoint.claim().inbox_consumed),
    }
}

/// Whoever led before may have had a clock that is ahead of this one.
fn log_time(view: &View) -> Timestamp {
    let clock = Now::by_the_clock().log_time;
    view.status.as_ref().map_or(clock, |status| clock.max(status.timestamp))
}

/// Looks once, and has put into the log what is due. Says when to look again; `None` where nothing can become due before more is known. `ours` is where the last
/// one stands, by its epoch: until that is stored, checkpoints say what they said before.
async fn look(
    mailbox: &Arc<Mailbox>,
    deadlines: Deadlines,
    orders: &Orders,
    said: Said,
    ours: &mut Option<(Option<Epoch>, Sequence)>,
) -> Result<Option<Duration>, NotSaid> {
    let ledger = Arc::clone(mailbox);
    let (known, oldest) = aside(move || ledger.oldest()).await?;
    let is_under_way = ours.is_some_and(|(epoch, ours)| epoch == said.epoch && said.stored < Some(ours));
    if known.read < said.stored || is_under_way {
        return Ok(Some(PAUSE));
    }
    let now = said.now;
    let level = deadlines.level(oldest.map(|oldest| oldest.since), now);
    let Some(status) = due(&known, oldest, level, said) else {
        let next = |oldest: Oldest| deadlines.next(oldest.since, now).map_or(PAUSE, |next| until(now, next));
        return Ok(oldest.map(|oldest| next(oldest).min(PAUSE)));
    };
    if level != said.level {
        tracing::warn!(stream = %mailbox.stream, ?level, reason = status.reason, "the status of the stream changes");
    }
    let placed = orders.order(&[Entry::Status(status)], known.consumed).await?;
    *ours = placed.map(|at| (said.epoch, at));
    Ok(Some(PAUSE))
}

const fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::from_millis(then.as_ms().saturating_sub(now.as_ms()))
}

/// What has to be said, if something has.
fn due(known: &Known, oldest: Option<Oldest>, level: StatusLevel, said: Said) -> Option<Status> {
    let acknowledged = known.consumed.min(known.delivered);
    if level == said.level && acknowledged <= said.acknowledged {
        return None;
    }
    let reason = oldest.map_or_else(
        || format!("all inbound messages up to {} are acknowledged", known.delivered),
        |Oldest { nonce, since }| {
            format!("inbound message {nonce} is not acknowledged; it came at {} ms", since.as_ms())
        },
    );
    Some(Status { level, reason })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_status_is_due_when_it_changes_or_more_is_acknowledged_than_checkpoints_say() {
        let at = |sequence| Some(Sequence::new(sequence).unwrap());
        let known = Known { read: at(9), delivered: 3, consumed: 2, ..Known::default() };
        let oldest = Some(Oldest { nonce: 3, since: Timestamp::from_ms(7).unwrap() });
        let said = Said {
            epoch: None,
            stored: at(9),
            now: Timestamp::ZERO,
            level: StatusLevel::Healthy,
            acknowledged: 2,
        };
        assert_eq!(due(&known, oldest, StatusLevel::Healthy, said), None);
        let status = due(&known, oldest, StatusLevel::Warned, said).unwrap();
        assert_eq!(status.level, StatusLevel::Warned);
        assert!(status.reason.contains("message 3"), "{status:?}");
        let status = due(&known, oldest, StatusLevel::Healthy, Said { acknowledged: 1, ..said }).unwrap();
        assert_eq!(status.level, StatusLevel::Healthy);
        // What nobody delivered cannot be acknowledged, whatever the application says.
        let hasty = Known { consumed: 8, ..known };
        let all = Said { acknowledged: 3, ..said };
        assert_eq!(due(&hasty, None, StatusLevel::Healthy, all), None);
    }
}
