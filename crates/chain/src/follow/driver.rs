//! Asks the nodes what the core wants to know.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use synddb_protocol::hash::ChainHash;
use synddb_protocol::log::Inbound;
use synddb_protocol::signing::Domain;

use crate::contracts::inbound_count;
use crate::endpoint::{BlockTag, Endpoint, EndpointError};
use crate::finality::Finality;
use crate::follow::event::{TOPIC, inbound, nonce_topic};
use crate::follow::{Ask, Core, Cursor, EventError, Fault, Head};

/// How many questions about events one look has, however small a node wants them.
const ASKS_MAX: usize = 64;

/// Blocks that are asked about at once.
const BLOCKS_AT_ONCE: usize = 8;

/// Why nothing is given now. The next look asks again.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// A node does not tell.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// What the nodes say does not fit together.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A node gives something else.
    #[error("the node gives something else than messages of the bridge: {source}. node=`{node}`")]
    Event {
        /// The node.
        node: String,
        /// What is wrong with it.
        source: EventError,
    },
    /// A message is of a block that the chain does not have.
    #[error("the node gives a message of a block that it does not have. node=`{node}` block=`{block}`")]
    NoSuchBlock {
        /// The node.
        node: String,
        /// The block's number.
        block: u64,
    },
    /// Two nodes say different things.
    #[error("the nodes do not agree on {what}; see which of them is right. one=`{one}` other=`{other}`")]
    Disagree {
        /// On what.
        what: &'static str,
        /// One of them.
        one: String,
        /// One that says something else.
        other: String,
    },
}

/// Gives the messages that a bridge has sent, each once and in order.
#[derive(Debug)]
pub struct Follower {
    nodes: Vec<Endpoint>,
    bridge: Domain,
    finality: Finality,
    core: Core,
}

impl Follower {
    /// Goes on from a cursor, over nodes of the bridge's chain that must all say the same. There must be one at least.
    pub const fn new(nodes: Vec<Endpoint>, bridge: Domain, finality: Finality, cursor: Cursor) -> Self {
        Self { nodes, bridge, finality, core: Core::new(cursor) }
    }

    /// Where to go on: whatever was given before is not given again.
    pub const fn cursor(&self) -> Cursor {
        self.core.cursor()
    }

    /// Whether a look ended before it had asked about every block, because a node wants small questions or there are many blocks. The next one goes on.
    pub const fn is_behind(&self) -> bool {
        self.core.is_behind()
    }

    /// What comes next, as far as it is final: nothing where nothing is new.
    ///
    /// # Errors
    /// [`FollowError`].
    pub async fn look(&mut self) -> Result<Vec<Inbound>, FollowError> {
        let Some(head) = self.head().await? else { return Ok(Vec::new()) };
        let mut ask = self.core.at(head)?;
        for _ in 0..ASKS_MAX {
            let Some(asked) = ask else { break };
            match self.messages(asked).await {
                Ok(found) => {
                    let next = self.core.answered(asked, found)?;
                    ask = self.core.ask();
                    if !next.is_empty() {
                        return Ok(next);
                    }
                }
                Err(FollowError::Endpoint(error)) => {
                    let may_be_smaller = self.core.refused();
                    // Who does not answer at all is not asked again at once.
                    if !may_be_smaller || matches!(error, EndpointError::Unreachable { .. }) {
                        return Err(error.into());
                    }
                    ask = self.core.ask();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }

    /// The newest block that is final for all, and what the bridge had sent by then.
    async fn head(&self) -> Result<Option<Head>, FollowError> {
        let finality = self.finality;
        let finals = try_join_all(self.nodes.iter().map(async |node| {
            node.check_chain().await?;
            finality.newest(node).await
        }))
        .await?;
        // Nothing before where it goes on has what comes next, and there may be no bridge yet.
        let newest = finals.into_iter().min().flatten().filter(|block| *block >= self.cursor().block);
        let Some(block) = newest else { return Ok(None) };
        let at = BlockTag::Number(block);
        let bridge = self.bridge.contract;
        let sent = self.nodes.iter().map(async |node| inbound_count(node, bridge, at).await);
        let sent = try_join_all(sent).await?;
        let sent = self.agreed("how many messages were sent", sent)?;
        Ok(sent.map(|sent| Head { block, sent }))
    }

    async fn messages(&self, asked: Ask) -> Result<Vec<Inbound>, FollowError> {
        let told =
            try_join_all(self.nodes.iter().map(async |node| told(node, self.bridge, asked).await)).await?;
        Ok(self.agreed("the messages that were sent", told)?.unwrap_or_default())
    }

    fn agreed<T: PartialEq>(&self, what: &'static str, said: Vec<T>) -> Result<Option<T>, FollowError> {
        let mut said = said.into_iter();
        let first = said.next();
        match said.position(|other| Some(&other) != first.as_ref()) {
            None => Ok(first),
            Some(place) => {
                let name = |place: usize| self.nodes.get(place).map(Endpoint::node);
                let (one, other) = (name(0).unwrap_or_default(), name(place + 1).unwrap_or_default());
                Err(FollowError::Disagree { what, one, other })
            }
        }
    }
}

/// What one node gives, in one order, of blocks that it has.
async fn told(endpoint: &Endpoint, bridge: Domain, asked: Ask) -> Result<Vec<Inbound>, FollowError> {
    // The nonce is the first of what the event has indexed.
    let topics: Vec<_> = std::iter::once(TOPIC).chain(asked.only.map(nonce_topic)).collect();
    let logged = endpoint.events(bridge.contract, &topics, asked.from, asked.to).await?;
    let mut found = Vec::with_capacity(logged.len());
    let mut blocks = BTreeSet::new();
    for logged in &logged {
        let event = inbound(bridge, logged);
        let event = event.map_err(|source| FollowError::Event { node: endpoint.node(), source })?;
        blocks.insert((event.block_number, event.block_hash));
        found.push(event);
    }
    let check = async |(number, hash): (u64, ChainHash)| {
        let block = endpoint.block(BlockTag::Number(number)).await?;
        if block.is_none_or(|block| block.hash != *hash.as_bytes()) {
            return Err(FollowError::NoSuchBlock { node: endpoint.node(), block: number });
        }
        Ok(())
    };
    stream::iter(blocks).map(check).buffer_unordered(BLOCKS_AT_ONCE).try_collect::<()>().await?;
    found.sort_by_key(|event| (event.block_number, event.log_index));
    found.dedup();
    Ok(found)
}
