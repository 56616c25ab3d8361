//! What a validator answers of what it endorses.

use serde::{Deserialize, Serialize};

use crate::hash::{StateHash, TreeHash};
use crate::id::{Address, Epoch, KeyId, Sequence, Timestamp};

/// How far a validator endorses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Endorsing {
    /// The key id that it endorses with.
    pub validator: KeyId,
    /// Whether anything registers that key. A development signer is registered nowhere.
    pub attested: bool,
    /// The chain, by its EIP-155 id, for which the endorsements are good; 0 for none.
    pub chain_id: u64,
    /// The checkpoint registry there.
    pub registry: Address,
    /// The last message whose checkpoint it has endorsed, as far as this process knows.
    pub sequence: Option<Sequence>,
    /// Why the next one is not endorsed, or outbound messages that an endorsed one covers are not signed, where something is in the way.
    pub failing: Option<String>,
}

/// An endorsement as a validator serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ServedEndorsement {
    /// Who signed it.
    pub validator: KeyId,
    /// The last message.
    pub sequence: Sequence,
    /// The epoch whose leader signed the checkpoint.
    pub epoch: Epoch,
    /// Log time of the last message, in milliseconds since 1970.
    pub timestamp: Timestamp,
    /// The root of the log tree.
    pub root: TreeHash,
    /// The state hash.
    pub state: StateHash,
    /// Inbound messages that the application has acknowledged.
    pub inbox_consumed: u64,
    /// The chain for which it is good; 0 for none.
    pub chain_id: u64,
    /// The contract there.
    pub registry: Address,
    /// The EIP-712 digest that is signed, in hex.
    pub digest: String,
    /// `r || s || v` in hex, as a contract takes it.
    pub signature: String,
    /// The object as it lies in the store, in hex.
    pub endorsement: String,
}
