//! What is answered of inbound messages: what a bridge tells the application, and what the application has acknowledged.

use serde::{Deserialize, Serialize};

use crate::hash::ChainHash;
use crate::id::{Address, Sequence, Timestamp};
use crate::log::StatusLevel;

/// Inbound messages in one answer, at most.
pub const INBOUND_LISTED_MAX: usize = 32;

/// An inbound message, once it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct InboundMessage {
    /// Its nonce: what `message_id` is in the row that acknowledges it.
    pub nonce: u64,
    /// The log's message that brought it.
    pub sequence: Sequence,
    /// Log time when it came, in milliseconds since 1970: deadlines are counted from here.
    pub timestamp: Timestamp,
    /// The chain, by its EIP-155 id.
    pub chain_id: u64,
    /// The bridge.
    pub bridge: Address,
    /// The block.
    pub block_number: u64,
    /// The block's hash.
    pub block_hash: ChainHash,
    /// The transaction.
    pub transaction_hash: ChainHash,
    /// Its place among what contracts told in the block.
    pub log_index: u32,
    /// What was sent; missing where the log holds something else than bridges tell.
    pub sent: Option<Sent>,
    /// What the application said of it; missing while it has said nothing.
    pub acknowledged: Option<Acknowledged>,
}

/// What was sent to the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// Who sent it.
    pub sender: Address,
    /// The token that came into custody; zero where none did. Native currency is its wrapped token.
    pub token: Address,
    /// Units of the token: a decimal number.
    pub amount: String,
    /// What the sender says, as 0x and hex.
    pub data: String,
}

/// That the application is done with an inbound message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// The log's message that brought the row; missing where a snapshot did, or a row behind it says so.
    pub sequence: Option<Sequence>,
    /// `done` or `rejected`, as the row says; missing where it is not known.
    pub outcome: Option<String>,
}

/// Inbound messages, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct InboundList {
    /// From the nonce that was asked for: [`INBOUND_LISTED_MAX`] at most.
    pub messages: Vec<InboundMessage>,
    /// The highest nonce that is stored; 0 for none.
    pub last: u64,
    /// All messages up to this one are acknowledged.
    pub acknowledged: u64,
    /// How far the application is behind, as the stored log says.
    pub status: StatusLevel,
}
