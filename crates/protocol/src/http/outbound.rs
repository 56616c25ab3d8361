//! What is answered of outbound messages: what became of a row, and the signatures over it.

use serde::{Deserialize, Serialize};

use crate::Uint256;
use crate::encoding::ParseError;
use crate::hash::PayloadHash;
use crate::id::{Address, KeyId, Sequence, StreamId};
use crate::log::OutboundMessage;
use crate::signing::{Domain, RecoverableSignature};

/// Outbound messages in one answer, at most.
pub const OUTBOUND_LISTED_MAX: usize = 100;

/// The fields of an outbound message, as they are signed. Numbers that may be wider than 53 bits are text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OutboundFields {
    /// Who is called.
    pub target: Address,
    /// Native currency, in wei: a decimal number.
    pub value: String,
    /// The token; zero for none.
    pub token: Address,
    /// Units of the token: a decimal number.
    pub amount: String,
    /// Keccak-256 of the call data.
    pub payload_hash: PayloadHash,
    /// Gas that the target gets, at least.
    pub gas_limit: u64,
    /// The last second, since 1970, in which it may be executed: a decimal number. 18446744073709551615 for never.
    pub deadline: String,
    /// Inbound messages that the application had acknowledged when it wrote the row.
    pub inbox_consumed: u64,
}

impl OutboundFields {
    /// Those of a message.
    pub fn of(message: &OutboundMessage) -> Self {
        Self {
            target: message.target,
            value: message.value.to_string(),
            token: message.token,
            amount: message.amount.to_string(),
            payload_hash: message.payload_hash,
            gas_limit: message.gas_limit,
            deadline: message.deadline.to_string(),
            inbox_consumed: message.inbox_consumed,
        }
    }

    /// The message that they are of.
    ///
    /// # Errors
    /// [`ParseError`] where one of the numbers is none.
    pub fn message(&self, stream: StreamId, nonce: u64) -> Result<OutboundMessage, ParseError> {
        let number = |text: &str| text.parse::<Uint256>();
        let deadline = self.deadline.parse().map_err(|_| {
            ParseError::new("deadline", "a decimal number of seconds below 2^64", &self.deadline)
        })?;
        Ok(OutboundMessage {
            stream,
            nonce,
            target: self.target,
            value: number(&self.value)?,
            token: self.token,
            amount: number(&self.amount)?,
            payload_hash: self.payload_hash,
            gas_limit: self.gas_limit,
            deadline,
            inbox_consumed: self.inbox_consumed,
        })
    }
}

/// A signature over an outbound message, as sequencer and validators serve it. Whoever reads it recovers the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutboundSignature {
    /// The stream.
    pub stream: StreamId,
    /// The row's id.
    pub nonce: u64,
    /// The log's message that brought the row.
    pub sequence: Sequence,
    /// What is signed.
    pub fields: OutboundFields,
    /// The chain, by its EIP-155 id.
    pub chain_id: u64,
    /// The bridge there.
    pub bridge: Address,
    /// The EIP-712 digest, in hex.
    pub digest: String,
    /// The key id of who signed.
    pub signer: KeyId,
    /// `r || s || v` in hex, as a contract takes it.
    pub signature: String,
}

impl OutboundSignature {
    /// As it is served.
    pub fn of(
        message: &OutboundMessage,
        sequence: Sequence,
        domain: &Domain,
        signer: KeyId,
        signature: &RecoverableSignature,
    ) -> Self {
        Self {
            stream: message.stream,
            nonce: message.nonce,
            sequence,
            fields: OutboundFields::of(message),
            chain_id: domain.chain_id,
            bridge: domain.contract,
            digest: message.digest(domain).to_string(),
            signer,
            signature: signature.to_string(),
        }
    }
}

/// What a message says that is signed by its hash alone, so that somebody can bring it: the call data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OutboundContent {
    /// The sequencer's signature, and what it is over.
    pub signed: OutboundSignature,
    /// The call data, in hex.
    pub payload: String,
}

/// Why a row is never signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutboundRefused {
    /// The row's id.
    pub nonce: u64,
    /// The log's message that brought what is refused.
    pub sequence: Sequence,
    /// Why, for people.
    pub detail: String,
}

/// What became of an outbound row at whoever is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every one is signed, and no more than a hundred are in memory"
)]
pub enum OutboundStatus {
    /// It is signed.
    Signed(OutboundSignature),
    /// It is never signed.
    Refused(OutboundRefused),
    /// It is known, and not signed: what it waits for.
    Waiting {
        /// The row's id.
        nonce: u64,
        /// The log's message that brought the row.
        sequence: Sequence,
        /// What it waits for, for people.
        detail: String,
    },
}

impl OutboundStatus {
    /// The row's id.
    pub const fn nonce(&self) -> u64 {
        match self {
            Self::Signed(signed) => signed.nonce,
            Self::Refused(refused) => refused.nonce,
            Self::Waiting { nonce, .. } => *nonce,
        }
    }
}

/// Outbound messages, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OutboundList {
    /// From the id that was asked for: [`OUTBOUND_LISTED_MAX`] at most.
    pub messages: Vec<OutboundStatus>,
    /// The highest id that is known; 0 for none.
    pub last: u64,
}
