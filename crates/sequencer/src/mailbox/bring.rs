//! Brings what the bridge tells the application into the log, once the chain calls it final.
//!
//! The log is the only memory: the next message is the one behind its last. So nothing is brought twice or left out, whoever led before, and however often this
//! begins anew.

use std::sync::Arc;
use std::time::Instant;

use synddb_chain::Endpoint;
use synddb_chain::follow::{Cursor, FollowError, Follower, Nodes};
use synddb_protocol::chain;
use synddb_protocol::id::{Epoch, InboundNonce, OutOfRange};
use synddb_protocol::log::Entry;
use synddb_service::trouble::Trouble;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::Mailbox;
use super::orders::{NotOrdered, Orders};
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
pub(crate) async fn bring(
    mailbox: Arc<Mailbox>,
    nodes: Nodes,
    endpoints: Vec<Endpoint>,
    orders: Orders,
    mut view: watch::Receiver<View>,
) {
    let mut ends = view.clone();
    let ended = ends.wait_for(|view| matches!(view.phase, Phase::Deposed | Phase::Ended));
    let bringing = async {
        let mut pause = tokio::time::interval(nodes.poll());
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut following, mut trouble) = (None, Trouble::new());
        loop {
            let Some((epoch, delivered)) = led(&mut view).await else { return };
            let begun = match following.take().filter(|following: &Following| following.epoch == epoch) {
                Some(following) => Ok(following),
                None => begin(&mailbox, &nodes, &endpoints, epoch, delivered),
            };
            let brought = match begun {
                Ok(mut begun) => {
                    let looked = look(&mut begun, &mailbox, &orders).await;
                    // Where the log did not take all of it, it says where to go on.
                    following = (!matches!(looked, Err(NotBrought::Order(_)))).then_some(begun);
                    looked
                }
                Err(error) => Err(error),
            };
            mailbox.metrics.follows(brought.is_ok());
            match brought {
                Ok(count) => {
                    if let Some(lasting) = trouble.over(Instant::now()) {
                        let attempts = lasting.times;
                        tracing::info!(stream = %mailbox.stream, attempts, "inbound messages are brought again");
                    }
                    if count > 0 {
                        // There may be more of them.
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
            pause.tick().await;
        }
    };
    tokio::select! {
        biased;
        _ = ended => {}
        () = bringing => {}
    }
}

/// Waits until the stream is led. Gives the epoch, and how many inbound messages its log has; `None` when the owner is gone.
async fn led(view: &mut watch::Receiver<View>) -> Option<(Epoch, u64)> {
    let led = view.wait_for(|view| view.phase == Phase::Leading && view.status.is_some()).await.ok()?;
    led.status.as_ref().map(|status| (status.epoch, led.delivered))
}

fn begin(
    mailbox: &Mailbox,
    nodes: &Nodes,
    endpoints: &[Endpoint],
    epoch: Epoch,
    delivered: u64,
) -> Result<Following, NotBrought> {
    let cursor = Cursor { next: InboundNonce::new(delivered + 1)?, block: nodes.from_block };
    let follower = Follower::new(endpoints.to_vec(), mailbox.bridge(), nodes.finality, cursor);
    Ok(Following { epoch, follower })
}

/// Looks once, and has what came put into the log. Gives how many that were.
async fn look(following: &mut Following, mailbox: &Mailbox, orders: &Orders) -> Result<usize, NotBrought> {
    let found = following.follower.look().await?;
    let entries: Vec<Entry> = found.into_iter().map(Entry::Inbound).collect();
    let consumed = mailbox.known.borrow().consumed;
    if orders.order(&entries, consumed).await?.is_some() {
        tracing::info!(stream = %mailbox.stream, messages = entries.len(), "the bridge told the application something");
    }
    Ok(entries.len())
}
