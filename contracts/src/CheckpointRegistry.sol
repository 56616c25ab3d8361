// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ICheckpointRegistry} from "./interfaces/ICheckpointRegistry.sol";
import {ITeeKeyManager} from "./interfaces/ITeeKeyManager.sol";
import {CheckpointHash} from "./libraries/CheckpointHash.sol";
import {Checkpoint} from "./types/Checkpoint.sol";

/// @title Endorsed checkpoints on chain
/// @dev Documentation is in the interface. Nobody has a privilege here.
contract CheckpointRegistry is ICheckpointRegistry, EIP712 {
    /// The longest store reference, in bytes.
    uint256 public constant STORE_REFERENCE_MAX = 512;
    /// How far the log's time may be ahead of the chain's, in ms.
    uint256 public constant AHEAD_MS_MAX = 3_600_000;
    /// Whose quorum counts.
    ITeeKeyManager public immutable KEY_MANAGER;

    bytes32 private immutable _STREAM;

    /// @inheritdoc ICheckpointRegistry
    uint64 public newestSequence;
    mapping(uint64 sequence => Recorded) private _recorded;

    /// A checkpoint without its stream and its sequence.
    struct Recorded {
        bytes32 root;
        bytes32 stateHash;
        uint64 epoch;
        uint64 timestamp;
        uint64 inboxConsumed;
    }

    constructor(ITeeKeyManager keyManager) EIP712("SyndDB", "1") {
        KEY_MANAGER = keyManager;
        _STREAM = keyManager.stream();
    }

    /// @inheritdoc ICheckpointRegistry
    function recordCheckpoint(Checkpoint calldata checkpoint, bytes calldata signatures, string calldata store) external {
        // checks
        if (checkpoint.stream != _STREAM) revert StreamUnknown(checkpoint.stream);
        if (bytes(store).length > STORE_REFERENCE_MAX) revert StoreReferenceTooLong(bytes(store).length, STORE_REFERENCE_MAX);
        uint256 latest = block.timestamp * 1000 + AHEAD_MS_MAX;
        if (checkpoint.timestamp > latest) revert TimestampAhead(checkpoint.timestamp, latest);
        uint64 newest = newestSequence;
        if (checkpoint.sequence <= newest) revert NotNewer(checkpoint.sequence, newest);
        Recorded storage before = _recorded[newest];
        if (checkpoint.epoch < before.epoch || checkpoint.timestamp < before.timestamp || checkpoint.inboxConsumed < before.inboxConsumed) {
            revert GoesBack(_checkpoint(newest), checkpoint);
        }
        KEY_MANAGER.requireQuorum(checkpointDigest(checkpoint), signatures);

        // effects
        newestSequence = checkpoint.sequence;
        _recorded[checkpoint.sequence] =
            Recorded(checkpoint.root, checkpoint.stateHash, checkpoint.epoch, checkpoint.timestamp, checkpoint.inboxConsumed);
        emit CheckpointRecorded(
            checkpoint.sequence,
            checkpoint.root,
            checkpoint.stateHash,
            checkpoint.epoch,
            checkpoint.timestamp,
            checkpoint.inboxConsumed,
            store
        );
    }

    /// @inheritdoc ICheckpointRegistry
    function newestCheckpoint() external view returns (Checkpoint memory) {
        return checkpointAt(newestSequence);
    }

    /// @inheritdoc ICheckpointRegistry
    function checkpointAt(uint64 sequence) public view returns (Checkpoint memory) {
        // An epoch is 1 or more, and a quorum signed it.
        if (_recorded[sequence].epoch == 0) revert NotRecorded(sequence);
        return _checkpoint(sequence);
    }

    /// @inheritdoc ICheckpointRegistry
    function checkpointDigest(Checkpoint calldata checkpoint) public view returns (bytes32) {
        return _hashTypedDataV4(CheckpointHash.structHash(checkpoint));
    }

    function _checkpoint(uint64 sequence) private view returns (Checkpoint memory) {
        Recorded storage known = _recorded[sequence];
        return Checkpoint(_STREAM, known.epoch, sequence, known.timestamp, known.root, known.stateHash, known.inboxConsumed);
    }
}
