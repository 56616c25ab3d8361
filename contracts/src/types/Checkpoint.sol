// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice What a validator endorses: the fields of a checkpoint that section 8 of the signing specification names.
struct Checkpoint {
    /// The stream.
    bytes32 stream;
    /// The epoch whose leader signed the checkpoint.
    uint64 epoch;
    /// The size of the log.
    uint64 sequence;
    /// Log time, in ms since 1970.
    uint64 timestamp;
    /// The root of the log tree.
    bytes32 root;
    /// The state hash after the last message.
    bytes32 stateHash;
    /// Inbound messages that the application acknowledged.
    uint64 inboxConsumed;
}
