//! Asks the nodes what the bridge sent, and has it compared.

use std::path::PathBuf;
use std::time::Instant;

use synddb_chain::follow::{Cursor, Fault, FollowError, Follower, Nodes, hear_blocks};
use synddb_chain::{BlockTag, Endpoint, EndpointError};
use synddb_protocol::chain;
use synddb_protocol::id::Timestamp;
use synddb_protocol::log::Inbound;
use synddb_service::trouble::Trouble;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::core::Next;
use super::notes::{Notes, file_beside};
use super::{Inbox, NotCompared, NotNotable};
use crate::metrics;

/// Where to go on is noted when so many blocks were looked at in which nothing was.
const BLOCKS_NOTED: u64 = 1_000;

/// Why a look has told nothing. The next one goes on where it was.
#[derive(Debug, thiserror::Error)]
enum NotSeen {
    #[error(transparent)]
    Follow(FollowError),
    #[error(
        "the bridge has sent fewer messages than are noted beside the replica; if the nodes are right, remove the file: the chain is looked at again. file=`{}`",
        file.display()
    )]
    TakenBack { file: PathBuf },
    #[error(transparent)]
    Block(#[from] EndpointError),
    #[error("the nodes do not agree on the time of a block; see which of them is right. block=`{block}`")]
    Times { block: u64 },
    #[error(transparent)]
    Notes(#[from] NotNotable),
    #[error(transparent)]
    Compared(#[from] NotCompared),
    #[error("the part that compares inbound messages has ended; the log says why, start the process again")]
    Fault,
}

impl NotSeen {
    /// Tells one trouble from another.
    const fn kind(&self) -> &'static str {
        match self {
            Self::Follow(_) | Self::TakenBack { .. } | Self::Block(_) | Self::Times { .. } => "nodes",
            Self::Notes(_) | Self::Compared(_) | Self::Fault => "disk",
        }
    }
}

/// Who asks the nodes, for an inbox.
pub(in crate::endorse) struct Following {
    inbox: Inbox,
    nodes: Vec<Endpoint>,
    config: Nodes,
    /// The one that goes on from what is noted; `None` where that was not read.
    follower: Option<Follower>,
    /// What is noted.
    noted: Option<Cursor>,
}

impl Following {
    pub(in crate::endorse) const fn new(inbox: Inbox, nodes: Vec<Endpoint>, config: Nodes) -> Self {
        Self { inbox, nodes, config, follower: None, noted: None }
    }

    /// Looks again and again.
    pub(in crate::endorse) async fn run(self) {
        let (nodes, inbox) = (self.config.clone(), self.inbox.clone());
        tokio::join!(self.look_on(), hear_blocks(&nodes, || inbox.wanted.notify_one()));
    }

    async fn look_on(mut self) {
        let mut trouble = Trouble::new();
        loop {
            match self.look().await {
                Ok(is_more) => {
                    self.inbox.lock().is_silent(None);
                    if trouble.over(Instant::now()).is_some() {
                        info!("what the bridge sent is told again");
                    }
                    if is_more {
                        continue;
                    }
                }
                Err(error) => {
                    metrics::inbound_look_failed(self.inbox.at.stream);
                    if let Some(lasting) = trouble.met(Instant::now(), error.kind()) {
                        let (attempts, lasts_s) = (lasting.times, lasting.lasts.as_secs());
                        warn!(error = %chain(&error), attempts, lasts_s, "what the bridge sent is not told; looking again");
                    }
                    self.inbox.lock().is_silent(Some(chain(&error)));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(self.config.poll()) => {}
                () = self.inbox.wanted.notified() => {}
            }
        }
    }

    /// One look. Says whether there may be more at once.
    async fn look(&mut self) -> Result<bool, NotSeen> {
        let (replica, bridge) = (self.inbox.at.replica.clone(), self.inbox.at.bridge);
        let follower = match &mut self.follower {
            Some(follower) => follower,
            follower @ None => {
                let from_block = self.config.from_block;
                let cursor = blocking(move || Ok(Notes::open(&replica)?.cursor(bridge, from_block)?)).await?;
                self.noted = Some(cursor);
                let (nodes, finality) = (self.nodes.clone(), self.config.finality);
                follower.insert(Follower::new(nodes, bridge, finality, cursor))
            }
        };
        let sent = follower.look().await.map_err(|error| {
            if matches!(error, FollowError::Fault(Fault::TakenBack { .. })) {
                return NotSeen::TakenBack { file: file_beside(&self.inbox.at.replica) };
            }
            NotSeen::Follow(error)
        })?;
        let cursor = follower.cursor();
        let (has_come, is_more) = (!sent.is_empty(), !sent.is_empty() || follower.is_behind());
        if has_come || self.noted.is_none_or(|noted| noted.block.saturating_add(BLOCKS_NOTED) <= cursor.block)
        {
            self.note(sent, cursor).await?;
        }
        let inbox = self.inbox.clone();
        let delivered = blocking(move || Ok(inbox.compare()?)).await?;
        if let (Some(delivered), false) = (delivered, is_more) {
            let next = self.next(delivered + 1).await?;
            self.inbox.saw(cursor.next.get() - 1, next);
        }
        Ok(is_more)
    }

    /// Notes what was sent. What cannot be noted is asked for again.
    async fn note(&mut self, sent: Vec<Inbound>, cursor: Cursor) -> Result<(), NotSeen> {
        let (replica, bridge): (PathBuf, _) = (self.inbox.at.replica.clone(), self.inbox.at.bridge);
        let noted = blocking(move || Ok(Notes::open(&replica)?.note(bridge, &sent, cursor)?)).await;
        if noted.is_err() {
            self.follower = None;
        }
        self.noted = Some(cursor);
        noted
    }

    /// A message that comes next in the log, if the chain has it, and when it was sent.
    async fn next(&self, nonce: u64) -> Result<Option<Next>, NotSeen> {
        let known = self.inbox.lock().next().filter(|next| next.nonce == nonce);
        if known.is_some() {
            return Ok(known);
        }
        let replica = self.inbox.at.replica.clone();
        let block = blocking(move || Ok(Notes::open(&replica)?.block_of(nonce)?)).await?;
        let Some(block) = block else { return Ok(None) };
        let mut at = None;
        for node in &self.nodes {
            let found = node.block(BlockTag::Number(block)).await?.map(|block| block.timestamp);
            if found.is_none() || at.is_some_and(|at| Some(at) != found) {
                return Err(NotSeen::Times { block });
            }
            at = found;
        }
        let at = at.and_then(|seconds| Timestamp::from_ms(seconds.saturating_mul(1_000)).ok());
        at.map(|at| Some(Next { nonce, at })).ok_or(NotSeen::Times { block })
    }
}

async fn blocking<T: Send + 'static>(
    what: impl FnOnce() -> Result<T, NotSeen> + Send + 'static,
) -> Result<T, NotSeen> {
    spawn_blocking(what).await.map_err(|_| NotSeen::Fault)?
}
