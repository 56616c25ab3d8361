// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bridge} from "../../src/Bridge.sol";
import {CheckpointRegistry} from "../../src/CheckpointRegistry.sol";
import {IBridge} from "../../src/interfaces/IBridge.sol";
import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {Message} from "../../src/types/Message.sol";
import {State} from "../../src/types/State.sol";
import {Fixture} from "../support/Fixture.sol";
import {vm} from "../support/Vm.sol";

/// @notice What was signed for one chain, deployment or contract is brought to another, or twice to one.
contract ReplayElsewhereAttack is Fixture {
    function test_attack_otherChain_reverts() public {
        Message memory message = call(1);
        (bytes memory sequencer, bytes memory all) = signed(message);
        // A fork: the same contracts, keys and storage under another id.
        vm.chainId(999);
        vm.expectPartialRevert(ITeeKeyManager.KeyNotLive.selector);
        bridge.initializeAndHandleMessage(message, countPayload(), sequencer, all);
    }

    function test_attack_otherDeployment_reverts() public {
        Message memory message = call(1);
        bytes32 digest = bridge.messageDigest(message);
        Bridge second = newBridge(keys, new address[](0));
        bytes memory sequencer = sign(SEQUENCER, digest);
        bytes memory all = quorum(digest);
        vm.expectPartialRevert(ITeeKeyManager.KeyNotLive.selector);
        second.initializeAndHandleMessage(message, countPayload(), sequencer, all);
    }

    function test_attack_otherStream_reverts() public {
        Message memory message = call(1);
        message.stream = keccak256("other");
        (bytes memory sequencer, bytes memory all) = signed(message);
        vm.expectRevert(abi.encodeWithSelector(IBridge.StreamUnknown.selector, message.stream));
        bridge.initializeAndHandleMessage(message, countPayload(), sequencer, all);
    }

    function test_attack_endorsementOfOtherRegistry_reverts() public {
        bytes memory all = quorum(checkpoints.checkpointDigest(checkpoint(1)));
        CheckpointRegistry second = CheckpointRegistry(deploy("CheckpointRegistry", abi.encode(keys)));
        vm.expectPartialRevert(ITeeKeyManager.KeyNotLive.selector);
        second.recordCheckpoint(checkpoint(1), all, "");
    }

    function test_attack_twice_reverts() public {
        Message memory message = call(1);
        perform(message, countPayload());
        (bytes memory sequencer, bytes memory all) = signed(message);
        vm.expectRevert(abi.encodeWithSelector(IBridge.StateUnfit.selector, 1, State.Completed));
        bridge.initializeAndHandleMessage(message, countPayload(), sequencer, all);
        vm.expectRevert(abi.encodeWithSelector(IBridge.StateUnfit.selector, 1, State.Completed));
        bridge.handleMessage(message, countPayload(), all);
        vm.expectRevert(abi.encodeWithSelector(IBridge.StateUnfit.selector, 1, State.Completed));
        bridge.initializeMessage(message, sequencer);
        vm.expectRevert(abi.encodeWithSelector(IBridge.StateUnfit.selector, 1, State.Completed));
        bridge.retryMessage(message, countPayload());
        vm.assertEq(counter.calls(), 1);
    }

    /// The replay key is the nonce: other content under a used one is a replay too, whatever field differs.
    function testFuzz_attack_otherContentSameNonce_reverts(uint64 gasLimit, uint64 deadline, uint256 amount) public {
        perform(call(1), countPayload());
        Message memory message = call(1);
        message.gasLimit = gasLimit % 10_000_000;
        message.deadline = deadline;
        message.amount = amount;
        (bytes memory sequencer, bytes memory all) = signed(message);
        vm.expectRevert(abi.encodeWithSelector(IBridge.StateUnfit.selector, 1, State.Completed));
        bridge.initializeAndHandleMessage(message, countPayload(), sequencer, all);
    }

    /// Each nonce has its own state, also those that share a word with it.
    function testFuzz_attack_neighbour_isUntouched(uint64 nonce, uint64 other) public {
        vm.assume(nonce != other);
        perform(call(nonce), countPayload());
        assertState(bridge.messageState(nonce), State.Completed);
        assertState(bridge.messageState(other), State.NotStarted);
        perform(callTo(other, address(keys), ""), "");
        assertState(bridge.messageState(nonce), State.Completed);
        assertState(bridge.messageState(other), State.Rejected);
    }
}
