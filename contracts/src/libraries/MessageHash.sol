// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Message} from "../types/Message.sol";

/// @title The struct hash of a message (EIP-712)
/// @notice Twin of the digest in Rust. Knows no domain.
library MessageHash {
    bytes32 internal constant TYPE_HASH = keccak256(
        "Message(bytes32 stream,uint64 nonce,address target,uint256 value,address token,uint256 amount,bytes32 payloadHash,uint64 gasLimit,uint64 deadline,uint64 inboxConsumed)"
    );

    /// @notice Binds every field.
    function structHash(Message calldata message) internal pure returns (bytes32) {
        // All fields are static, so the encoding of the struct is that of its fields, each in one word.
        return keccak256(abi.encode(TYPE_HASH, message));
    }
}
