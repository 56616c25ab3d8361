// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {CheckpointHash} from "../../src/libraries/CheckpointHash.sol";
import {MessageHash} from "../../src/libraries/MessageHash.sol";
import {Checkpoint} from "../../src/types/Checkpoint.sol";
import {Message} from "../../src/types/Message.sol";

/// @notice A hash binds every field: equal hashes mean equal fields. Keccak-256 is taken to be injective.
contract DigestsProof {
    function hashOf(Message calldata message) external pure returns (bytes32) {
        return MessageHash.structHash(message);
    }

    function hashOf(Checkpoint calldata checkpoint) external pure returns (bytes32) {
        return CheckpointHash.structHash(checkpoint);
    }

    function check_messageHash_bindsEveryField(Message calldata a, Message calldata b) public view {
        bool isSame = this.hashOf(a) == this.hashOf(b);
        bool isEqual = a.stream == b.stream && a.nonce == b.nonce && a.target == b.target && a.value == b.value && a.token == b.token
            && a.amount == b.amount && a.payloadHash == b.payloadHash && a.gasLimit == b.gasLimit && a.deadline == b.deadline
            && a.inboxConsumed == b.inboxConsumed;
        assert(isSame == isEqual);
    }

    function check_checkpointHash_bindsEveryField(Checkpoint calldata a, Checkpoint calldata b) public view {
        bool isSame = this.hashOf(a) == this.hashOf(b);
        bool isEqual = a.stream == b.stream && a.epoch == b.epoch && a.sequence == b.sequence && a.timestamp == b.timestamp
            && a.root == b.root && a.stateHash == b.stateHash && a.inboxConsumed == b.inboxConsumed;
        assert(isSame == isEqual);
    }

    function check_messageAndCheckpoint_neverShareAHash(Message calldata message, Checkpoint calldata checkpoint) public view {
        assert(this.hashOf(message) != this.hashOf(checkpoint));
    }
}
