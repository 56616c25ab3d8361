// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Checkpoint} from "../types/Checkpoint.sol";

/// @title The struct hash of an endorsement (EIP-712)
/// @notice As section 8 of the signing specification has it. Knows no domain.
library CheckpointHash {
    bytes32 internal constant TYPE_HASH = keccak256(
        "Checkpoint(bytes32 stream,uint64 epoch,uint64 sequence,uint64 timestamp,bytes32 root,bytes32 stateHash,uint64 inboxConsumed)"
    );

    /// @notice Binds every field.
    function structHash(Checkpoint calldata checkpoint) internal pure returns (bytes32) {
        // All fields are static, so the encoding of the struct is that of its fields, each in one word.
        return keccak256(abi.encode(TYPE_HASH, checkpoint));
    }
}
