//! One inbound message, as the bridge told it.

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::{SolEvent as _, SolValue as _};
use synddb_protocol::Uint256;
use synddb_protocol::hash::ChainHash;
use synddb_protocol::id::{Address, InboundNonce};
use synddb_protocol::log::Inbound;
use synddb_protocol::signing::Domain;

use crate::bindings::bridge::Bridge::InboundMessageSent;
use crate::endpoint::LoggedEvent;
use crate::words::{address, our_uint, ours, uint, word};

/// Why what a node gives is no event of the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// It is another event, or another contract's.
    #[error("it is another event than was asked for")]
    Other,
    /// Its number is none that a message has.
    #[error("its nonce is out of range. nonce=`{0}`")]
    Nonce(u64),
}

/// What was sent to the application of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeEvent {
    /// Who sent it.
    pub sender: Address,
    /// What came with it; the zero address where nothing did.
    pub token: Address,
    /// How much of it came into custody.
    pub amount: Uint256,
    /// What the sender says.
    pub data: Vec<u8>,
}

impl BridgeEvent {
    /// The event as the log holds it: `abi.encode(sender, token, amount, data)`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let data = Bytes::copy_from_slice(&self.data);
        (address(self.sender), address(self.token), uint(self.amount), data).abi_encode_params()
    }

    /// Reads what [`Self::to_bytes`] has written; `None` for anything else, also for another encoding of the same.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        type Fields = (alloy_primitives::Address, alloy_primitives::Address, U256, Bytes);
        let (sender, token, amount, data) = Fields::abi_decode_params(bytes).ok()?;
        let (sender, token, amount) = (ours(sender), ours(token), our_uint(amount));
        let read = Self { sender, token, amount, data: data.to_vec() };
        (read.to_bytes() == bytes).then_some(read)
    }
}

/// What a node gives, as a message of the log.
pub(super) fn inbound(bridge: Domain, logged: &LoggedEvent) -> Result<Inbound, EventError> {
    let Domain { chain_id, contract: bridge } = bridge;
    if logged.log.address != bridge {
        return Err(EventError::Other);
    }
    let topics = logged.log.topics.iter().map(word);
    let sent = InboundMessageSent::decode_raw_log(topics, &logged.log.data).map_err(|_| EventError::Other)?;
    let nonce = InboundNonce::new(sent.nonce).map_err(|_| EventError::Nonce(sent.nonce))?;
    let event = BridgeEvent {
        sender: ours(sent.sender),
        token: ours(sent.token),
        amount: our_uint(sent.amount),
        data: sent.data.to_vec(),
    };
    Ok(Inbound {
        chain_id,
        bridge,
        nonce,
        block_number: logged.block,
        block_hash: ChainHash::from_bytes(logged.block_hash),
        transaction_hash: ChainHash::from_bytes(logged.transaction),
        log_index: logged.index,
        event: event.to_bytes(),
    })
}

/// What names one of them by its nonce.
pub(super) fn nonce_topic(nonce: InboundNonce) -> [u8; 32] {
    U256::from(nonce.get()).to_be_bytes()
}

/// What names the event among those of the bridge.
pub(super) const TOPIC: [u8; 32] = InboundMessageSent::SIGNATURE_HASH.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_one_form() {
        let event = BridgeEvent {
            sender: Address::from_bytes([1; 20]),
            token: Address::from_bytes([2; 20]),
            amount: 3.into(),
            data: b"for whom".to_vec(),
        };
        let bytes = event.to_bytes();
        assert_eq!(bytes.len(), 6 * 32, "four words, the length of the data, and the data");
        assert_eq!(BridgeEvent::from_bytes(&bytes), Some(event));
        let mut longer = bytes.clone();
        longer.extend([0; 32]);
        assert_eq!(BridgeEvent::from_bytes(&longer), None);
        assert_eq!(BridgeEvent::from_bytes(&bytes[..bytes.len() - 1]), None);
        let mut padded = bytes;
        *padded.last_mut().unwrap() = 1;
        assert_eq!(BridgeEvent::from_bytes(&padded), None, "what pads is zero");
    }
}
