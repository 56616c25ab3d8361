//! Between the words of the protocol and those of the bindings.

use alloy_primitives::{B256, U256};
use synddb_protocol::Uint256;
use synddb_protocol::id::Address;

pub(crate) fn address(address: Address) -> alloy_primitives::Address {
    alloy_primitives::Address::new(*address.as_bytes())
}

pub(crate) fn ours(address: alloy_primitives::Address) -> Address {
    Address::from_bytes(address.into_array())
}

pub(crate) fn uint(number: Uint256) -> U256 {
    U256::from_be_bytes(*number.as_be_bytes())
}

pub(crate) fn our_uint(number: U256) -> Uint256 {
    Uint256::from_be_bytes(number.to_be_bytes())
}

pub(crate) fn word(bytes: &[u8; 32]) -> B256 {
    B256::new(*bytes)
}
