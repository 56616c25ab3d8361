// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {TeeKeyManager} from "../../src/attestation/TeeKeyManager.sol";
import {AdmittedImage, AdmittedVerifier} from "../../src/types/Key.sol";
import {Message} from "../../src/types/Message.sol";
import {Fixture} from "../support/Fixture.sol";
import {vm} from "../support/Vm.sol";

/// @notice The threshold is left at zero (Ronin 2024), or is more than the validators that remain.
contract ThresholdZeroAttack is Fixture {
    function test_attack_deployedWithZero_reverts() public {
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ThresholdInvalid.selector, 0, 0));
        new TeeKeyManager(OWNER, STREAM, KEY_LIFE, 0, new AdmittedVerifier[](0), new AdmittedImage[](0));
    }

    function test_attack_noValidatorsYet_reverts() public {
        TeeKeyManager fresh = newKeys(OWNER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ThresholdInvalid.selector, THRESHOLD, 0));
        fresh.validatorThreshold();
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ThresholdInvalid.selector, 0, 0));
        fresh.setThreshold(0);
    }

    function test_attack_ownerSetsZeroOrTooMany_reverts() public {
        vm.startPrank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ThresholdInvalid.selector, 0, VALIDATORS));
        keys.setThreshold(0);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ThresholdInvalid.selector, VALIDATORS + 1, VALIDATORS));
        keys.setThreshold(uint32(VALIDATORS + 1));
        vm.stopPrank();
    }

    /// The slot is zeroed as an upgrade or a fault would.
    function test_attack_storageZeroed_reverts() public {
        Message memory message = call(1);
        bytes32 digest = bridge.messageDigest(message);
        bytes memory all = quorum(digest);
        bytes memory sequencer = sign(SEQUENCER, digest);
        // Ownable2Step has slots 0 and 1; threshold and counts follow the pending owner.
        bytes32 slot1 = vm.load(address(keys), bytes32(uint256(1)));
        vm.store(address(keys), bytes32(uint256(1)), bytes32(uint256(slot1) & type(uint160).max));
        vm.expectPartialRevert(ITeeKeyManager.ThresholdInvalid.selector);
        bridge.initializeAndHandleMessage(message, countPayload(), sequencer, all);
        vm.expectPartialRevert(ITeeKeyManager.ThresholdInvalid.selector);
        bridge.initializeAndHandleMessage(message, countPayload(), sequencer, "");
    }

    /// Removing validators below the threshold stops everything; it does not lower the threshold.
    function test_attack_validatorsRemoved_reverts() public {
        vm.startPrank(OWNER);
        keys.revokeKey(vm.addr(validators[3]));
        keys.revokeKey(vm.addr(validators[2]));
        vm.stopPrank();
        Message memory message = call(1);
        bytes32 digest = bridge.messageDigest(message);
        bytes memory two = quorum(digest, 2);
        bytes memory sequencer = sign(SEQUENCER, digest);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ThresholdInvalid.selector, THRESHOLD, 2));
        bridge.initializeAndHandleMessage(message, countPayload(), sequencer, two);
    }
}
