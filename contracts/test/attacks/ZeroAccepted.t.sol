// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bridge} from "../../src/Bridge.sol";
import {ICheckpointRegistry} from "../../src/interfaces/ICheckpointRegistry.sol";
import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {TeeKeyManager} from "../../src/attestation/TeeKeyManager.sol";
import {CheckpointFreshness} from "../../src/modules/CheckpointFreshness.sol";
import {Checkpoint} from "../../src/types/Checkpoint.sol";
import {Role} from "../../src/types/Key.sol";
import {Message} from "../../src/types/Message.sol";
import {Phase, State, Verdict} from "../../src/types/State.sol";
import {IValidationModule} from "../../src/interfaces/IValidationModule.sol";
import {Fixture} from "../support/Fixture.sol";
import {vm} from "../support/Vm.sol";

/// @notice Answers nothing.
contract SilentModule is IValidationModule {
    function checkMessage(Message calldata, Phase) external pure returns (Verdict verdict) {}
}

/// @notice A zero root accepted by default (Nomad): storage that nobody wrote, and values of zero.
contract ZeroAcceptedAttack is Fixture {
    function test_attack_freshDeployment_acceptsNothing() public {
        TeeKeyManager fresh = newKeys(OWNER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ThresholdInvalid.selector, THRESHOLD, 0));
        fresh.requireQuorum(bytes32(0), "");
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.VerifierUnknown.selector, address(0)));
        fresh.registerKey(Role.Validator, new bytes(64), block.number - 1, address(0), "");
        Bridge empty = newBridge(fresh, new address[](0));
        Message memory message = call(1);
        bytes memory signature = sign(SEQUENCER, empty.messageDigest(message));
        vm.expectPartialRevert(ITeeKeyManager.KeyNotLive.selector);
        empty.initializeAndHandleMessage(message, countPayload(), signature, "");
    }

    function test_attack_zeroCheckpoint_reverts() public {
        Checkpoint memory zero;
        vm.expectRevert(abi.encodeWithSelector(ICheckpointRegistry.StreamUnknown.selector, bytes32(0)));
        checkpoints.recordCheckpoint(zero, "", "");
        zero.stream = STREAM;
        vm.expectRevert(abi.encodeWithSelector(ICheckpointRegistry.NotNewer.selector, 0, 0));
        checkpoints.recordCheckpoint(zero, "", "");
        vm.expectRevert(abi.encodeWithSelector(ICheckpointRegistry.NotRecorded.selector, 0));
        checkpoints.newestCheckpoint();
        vm.expectRevert(abi.encodeWithSelector(ICheckpointRegistry.NotRecorded.selector, 7));
        checkpoints.checkpointAt(7);
    }

    function test_attack_zeroKey_isNotLive() public view {
        vm.assertTrue(!keys.isLive(address(0), Role.None));
        vm.assertTrue(!keys.isLive(address(0), Role.Validator));
        vm.assertTrue(!keys.isLive(vm.addr(SEQUENCER), Role.None));
    }

    /// Bytes that recover to nobody must not be the signature of key zero.
    function test_attack_zeroSignature_reverts() public {
        vm.expectRevert(ITeeKeyManager.SignatureInvalid.selector);
        keys.requireSequencer(bytes32(uint256(1)), new bytes(65));
        vm.expectRevert(ITeeKeyManager.SignatureInvalid.selector);
        keys.requireQuorum(bytes32(uint256(1)), new bytes(195));
    }

    function test_attack_retryOfNothing_reverts() public {
        Message memory message = call(1);
        vm.expectRevert(abi.encodeWithSignature("StateUnfit(uint64,uint8)", 1, State.NotStarted));
        bridge.retryMessage(message, countPayload());
    }

    function test_attack_silentModule_stops() public {
        setModule(address(new SilentModule()), true, false);
        assertState(perform(call(1), countPayload()), State.PreExecution);
        setModule(address(new SilentModule()), false, true);
        assertState(perform(call(1), countPayload()), State.Failed);
        vm.assertEq(counter.calls(), 0);
    }

    function test_attack_noCheckpoint_isNotFresh() public {
        setModule(deploy("CheckpointFreshness", abi.encode(modules, checkpoints, type(uint64).max)), true, false);
        assertState(perform(call(1), countPayload()), State.PreExecution);
    }
}
