//! What a log has of its bridge: one bridge of one chain, and how far its events have come.

use crate::encoding::DecodeError;
use crate::encoding::cbor::{Reader, Writer};
use crate::id::{Address, InboundNonce, OutOfRange};
use crate::log::Inbound;

/// The bridge of the first inbound message, and the event that must come next from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundState {
    /// The chain, by its EIP-155 id.
    pub chain_id: u64,
    /// The bridge contract.
    pub bridge: Address,
    /// The event that must come next.
    pub next: InboundNonce,
}

/// Why an inbound message does not follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// The event is not the next one.
    #[error("this is not the next inbound message. expected=`{expected}` found=`{found}`")]
    Gap {
        /// The nonce that must come next.
        expected: InboundNonce,
        /// The nonce found.
        found: InboundNonce,
    },
    /// The event is of another bridge than the log's first one.
    #[error("a log has one bridge. expected=`{expected}` found=`{found}` chain=`{chain_id}`")]
    Foreign {
        /// The log's bridge.
        expected: Address,
        /// The bridge found.
        found: Address,
        /// The chain found.
        chain_id: u64,
    },
    /// The counter is used up.
    #[error(transparent)]
    Exhausted(#[from] OutOfRange),
}

impl InboundState {
    /// The state after `inbound`. The first event names the bridge and has nonce 1.
    pub(super) fn after(before: Option<&Self>, inbound: &Inbound) -> Result<Self, InboundError> {
        let (chain_id, bridge, found) = (inbound.chain_id, inbound.bridge, inbound.nonce);
        if let Some(before) = before
            && (before.chain_id, before.bridge) != (chain_id, bridge)
        {
            return Err(InboundError::Foreign { expected: before.bridge, found: bridge, chain_id });
        }
        let expected = before.map_or(InboundNonce::FIRST, |before| before.next);
        if found != expected {
            return Err(InboundError::Gap { expected, found });
        }
        Ok(Self { chain_id, bridge, next: InboundNonce::new(found.get() + 1)? })
    }

    /// How many events the log holds.
    pub const fn delivered(&self) -> u64 {
        self.next.get() - 1
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.array(3);
        writer.uint(self.chain_id);
        writer.bytes(self.bridge.as_bytes());
        writer.uint(self.next);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "inbound state";
        reader.array_exact(WHAT, 3)?;
        let chain_id = reader.uint("chain id")?;
        let bridge = Address::from_bytes(reader.array_of("bridge")?);
        let next: InboundNonce = reader.number("inbound nonce")?;
        if next == InboundNonce::FIRST {
            return Err(DecodeError::Invalid { what: WHAT, why: "it is absent before the first event" });
        }
        Ok(Self { chain_id, bridge, next })
    }
}
