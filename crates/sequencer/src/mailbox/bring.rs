//! Brings what the bridge tells the application into the log, once the chain calls it final.
//!
//! The log is the only memory: the next message is the one behind its last. So nothing is brought twice or left out, whoever led before, and however often this
//! begins anew.

use std::sync::Arc;
use std::time::Instant;

use synddb_chain::Endpoint;
use synddb_chain::follow::{Cursor, FollowError, Follower, Nodes, hear_blocks};
use synddb_protocol::chain;
use synddb_protocol::id::{Epoch, InboundNonce, OutOfRange};
use synddb_protocol::log::Entry;
use synddb_service::trouble::Trouble;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use super::orders::{NotOrdered, Orders};
use super::{LedgerError, Mailbox};
use crate::aside::aside;
use crate::stream::{Phase, View};

/// What is said of a chain that cannot be followed.
const NOT_FOLLOWED: &str = "inbound messages are not brought";

/// Why nothing is brought now.
#[derive(Debug, thiserror::Error)]
enum NotBrought {
    /// The nodes do not tell.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// The log does not take it.
    #[error("an inbound message is not put into the log")]
    Order(#[from] NotOrdered),
    /// The ledger does not tell where the last one was.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There are no more nonces.
    #[error(transparent)]
    Exhausted(#[from] OutOfRange),
}

/// Where the log was when the chain was looked at from there.
struct Following {
    epoch: Epoch,
    follower: Follower,
}

/// Brings what comes, until the owner of the stream ends or is deposed. There must be a node.
pub(super) async fn bring(
    mailbox: Arc<Mailbox>,
    nodes: Nodes,
    endpoints: Vec<Endpoint>,
    orders: Orders,
    mut view: watch::Receiver<View>,
) {
    let mut ends = view.clone();
    let ended = ends.wait_for(|view| matches!(view.phase, Phase::Deposed | Phase::Ended));
    let block = Notify::new();
    let hearing = hear_blocks(&nodes, || block.notify_one());
    let bringing = async {
        let mut pause = tokio::time::interval(nodes.poll());
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut following, mut seen, mut trouble) = (None, None, Trouble::new());
        loop {
            let Some((epoch, delivered)) = led(&mut view).await else { return };
            let begun = match following.take().filter(|following: &Following| following.epoch == epoch) {
                Some(following) => Ok(following),
                None => begin(&mailbox, &nodes, &endpoints, epoch, delivered, seen).await,
            };
            let brought = match begun {
                Ok(mut begun) => {
                    let (cursor, looked) =
                        (begun.follower.cursor(), look(&mut begun, &mailbox, &orders).await);
                    seen = Some(cursor);
                    // Where the log did not take all of it, it says where to go on.
                    following = (!matches!(looked, Err(NotBrought::Order(_)))).then_some(begun);
                    looked
                }
                Err(error) => Err(error),
            };
            mailbox.metrics.follows(brought.is_ok());
            match brought {
                Ok(is_more) => {
                    if let Some(lasting) = trouble.over(Instant::now()) {
                        let attempts = lasting.times;
                        tracing::info!(stream = %mailbox.stream, attempts, "inbound messages are brought again");
                    }
                    if is_more {
                        continue;
                    }
                }
                Err(error) => {
                    if let Some(lasting) = trouble.met(Instant::now(), NOT_FOLLOWED) {
                        tracing::warn!(stream = %mailbox.stream, error = chain(&error), attempts = lasting.times,
                            "{NOT_FOLLOWED}; trying again");
                    }
                }
            }
            tokio::select! {
                _ = pause.tick() => {}
                () = block.notified() => {}
            }
        }
    };
    tokio::select! {
        biased;
        _ = ended => {}
        () = bringing => {}
        () = hearing => {}
    }
}

/// Waits until the stream is led. Gives the epoch, and how many inbound messages its log has; `None` when the owner is gone.
async fn led(view: &mut watch::Receiver<View>) -> Option<(Epoch, u64)> {
    let led = view.wait_for(|view| view.phase == Phase::Leading && view.status.is_some()).await.ok()?;
    led.status.as_ref().map(|status| (status.epoch, led.delivered))
}

/// Goes on behind the log's last message. Where that is on the chain is known by the ledger, as far as it has read, and by what was `seen` before.
async fn begin(
    mailbox: &Arc<Mailbox>,
    nodes: &Nodes,
    endpoints: &[Endpoint],
    epoch: Epoch,
    delivered: u64,
    seen: Option<Cursor>,
) -> Result<Following, NotBrought> {
    let next = InboundNonce::new(delivered + 1)?;
    let ledger = Arc::clone(mailbox);
    let known = aside(move || ledger.block_before(next.get())).await?;
    let seen = seen.filter(|seen| seen.next <= next).map(|seen| seen.block);
    let block = [known, seen].into_iter().flatten().fold(nodes.from_block, u64::max);
    let follower =
        Follower::new(endpoints.to_vec(), mailbox.bridge(), nodes.finality, Cursor { next, block });
    Ok(Following { epoch, follower })
}

/// Looks once, and has what came put into the log. Says whether there may be more at once.
async fn look(following: &mut Following, mailbox: &Mailbox, orders: &Orders) -> Result<bool, NotBrought> {
    let found = following.follower.look().await?;
    let entries: Vec<Entry> = found.into_iter().map(Entry::Inbound).collect();
    let consumed = mailbox.known.borrow().consumed;
    if orders.order(&entries, consumed).await?.is_some() {
        tracing::info!(stream = %mailbox.stream, messages = entries.len(), "the bridge told the application something");
    }
    Ok(!entries.is_empty() || following.follower.is_behind())
}
