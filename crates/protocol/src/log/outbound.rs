//! The outbound message as a bridge takes it: a row of the application's database that asks the bridge to act, under the signatures of the sequencer
//! and of a quorum of validators (EIP-712).
//!
//! ```text
//! Message(bytes32 stream,uint64 nonce,address target,uint256 value,address token,uint256 amount,bytes32 payloadHash,uint64 gasLimit,uint64 deadline,uint64 inboxConsumed)
//! ```
//!
//! Twin of `contracts/src/libraries/MessageHash.sol`. Knows nothing of the row, of who may sign, and of what the bridge does with it.

use crate::hash::PayloadHash;
use crate::id::{Address, StreamId};
use crate::signing::{Digest, Domain, RecoverableSignature, RegisteredSigner, SigningKey, Struct};
use crate::uint256::Uint256;

/// The name is the contract's: there the log's messages do not exist.
const TYPE: &str = "Message(bytes32 stream,uint64 nonce,address target,uint256 value,address token,uint256 amount,bytes32 payloadHash,uint64 gasLimit,uint64 deadline,uint64 inboxConsumed)";

/// What the bridge is asked to do.
///
/// Every value of every field is some message: whether the bridge takes it is the bridge's to say. Stream and nonce alone are the replay key, so of all
/// messages under one nonce at most one is ever executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboundMessage {
    /// The stream whose log holds the row.
    pub stream: StreamId,
    /// The row's id.
    pub nonce: u64,
    /// Who is called, and who receives value and tokens.
    pub target: Address,
    /// Native currency that travels with the call, in wei.
    pub value: Uint256,
    /// The ERC-20 token that is sent to the target before the call. Not read when the amount is zero.
    pub token: Address,
    /// Units of the token.
    pub amount: Uint256,
    /// Keccak-256 of the call data.
    pub payload_hash: PayloadHash,
    /// Gas that the target gets, at least.
    pub gas_limit: u64,
    /// The last second, since 1970, in which the message may be executed.
    pub deadline: u64,
    /// Inbound messages that the application had acknowledged when it wrote the row.
    pub inbox_consumed: u64,
}

impl OutboundMessage {
    /// What is signed, for the bridge of this domain: the EIP-712 digest.
    pub fn digest(&self, domain: &Domain) -> Digest {
        let mut hash = Struct::of(TYPE);
        hash.word(*self.stream.as_bytes());
        hash.uint(self.nonce);
        hash.address(self.target);
        hash.word(*self.value.as_be_bytes());
        hash.address(self.token);
        hash.word(*self.amount.as_be_bytes());
        hash.word(*self.payload_hash.as_bytes());
        hash.uint(self.gas_limit);
        hash.uint(self.deadline);
        hash.uint(self.inbox_consumed);
        hash.digest(domain)
    }

    /// Signs it as a validator, for the bridge of this domain: with the key that is registered, because there is no other way (I12).
    pub fn endorse(&self, signer: &RegisteredSigner, domain: &Domain) -> RecoverableSignature {
        self.sign(signer.key(), domain)
    }

    /// Signs it as a sequencer, for the bridge of this domain. One key makes one signature for one content (RFC 6979).
    pub fn sign(&self, key: &SigningKey, domain: &Domain) -> RecoverableSignature {
        RecoverableSignature::sign(&self.digest(domain), key)
    }
}
