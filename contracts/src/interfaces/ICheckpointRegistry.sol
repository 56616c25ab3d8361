// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Checkpoint} from "../types/Checkpoint.sol";

/// @title Endorsed checkpoints on chain
/// @notice Records checkpoints that a quorum endorsed, so that contracts can know the state of a stream. Anyone may bring one. It is the
/// contract of the domain of endorsements (name "SyndDB", version "1").
interface ICheckpointRegistry {
    /// A checkpoint was recorded. Where it is stored is the word of whoever brought it.
    event CheckpointRecorded(
        uint64 indexed sequence, bytes32 root, bytes32 stateHash, uint64 epoch, uint64 timestamp, uint64 inboxConsumed, string store
    );

    /// It is of another stream.
    error StreamUnknown(bytes32 stream);
    /// It is not newer than the newest one.
    error NotNewer(uint64 sequence, uint64 newest);
    /// It has an earlier epoch, log time or count of inbound messages than the newest one, which no honest log has.
    error GoesBack(Checkpoint newest, Checkpoint given);
    /// Its log time is further ahead of the chain's than `AHEAD_MS_MAX`: it would be fresh for ever, and no honest one could follow.
    error TimestampAhead(uint64 timestamp, uint256 latest);
    /// The reference is longer than `STORE_REFERENCE_MAX`.
    error StoreReferenceTooLong(uint256 given, uint256 max);
    /// Nothing is recorded for the sequence.
    error NotRecorded(uint64 sequence);

    /// @notice Records a checkpoint that is newer than all before.
    /// @param checkpoint What was endorsed.
    /// @param signatures As `ITeeKeyManager.requireQuorum` takes them.
    /// @param store Where the batch is stored: for readers, not signed.
    function recordCheckpoint(Checkpoint calldata checkpoint, bytes calldata signatures, string calldata store) external;

    /// @notice The newest one. Reverts when there is none.
    function newestCheckpoint() external view returns (Checkpoint memory);

    /// @notice The one of a sequence. Reverts when there is none.
    function checkpointAt(uint64 sequence) external view returns (Checkpoint memory);

    /// @notice The newest sequence, or zero when nothing is recorded.
    function newestSequence() external view returns (uint64);

    /// @notice What a validator signs.
    function checkpointDigest(Checkpoint calldata checkpoint) external view returns (bytes32);
}
