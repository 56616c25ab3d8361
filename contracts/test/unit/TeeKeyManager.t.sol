// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {KeyState, Role} from "../../src/types/Key.sol";
import {Fixture} from "../support/Fixture.sol";
import {vm} from "../support/Vm.sol";

/// @notice Which keys count, from registration to their end.
contract TeeKeyManagerTest is Fixture {
    function test_registerKey_evidence_isLive() public {
        address key = registerKey(STRANGER, Role.Validator);
        vm.assertEq(key, vm.addr(STRANGER));
        vm.assertTrue(keys.isLive(key, Role.Validator));
        vm.assertTrue(!keys.isLive(key, Role.Sequencer));
        vm.assertEq(keys.validatorCount(), VALIDATORS + 1);
        vm.assertEq(keys.keyOf(key).verifier, address(verifier));
        vm.assertEq(keys.keyOf(key).image, 2);
    }

    function test_registerKey_malformed_reverts() public {
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.PublicKeyMalformed.selector, 63));
        keys.registerKey(Role.Validator, new bytes(63), block.number - 1, address(verifier), abi.encode(VALIDATOR_IMAGE));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.RoleInvalid.selector, Role.None));
        keys.registerKey(Role.None, new bytes(64), block.number - 1, address(verifier), abi.encode(VALIDATOR_IMAGE));
    }

    function test_registerKey_imageOfOtherRole_reverts() public {
        bytes memory key = publicKey(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ImageUnknown.selector, SEQUENCER_IMAGE, Role.Validator));
        keys.registerKey(Role.Validator, key, block.number - 1, address(verifier), abi.encode(SEQUENCER_IMAGE));
    }

    /// Each field of the binding is in it.
    function test_keyBinding_everyField_counts() public {
        bytes memory key = publicKey(STRANGER);
        bytes32 known = keys.keyBinding(Role.Validator, key, bytes32(uint256(1)));
        vm.assertEq(
            known, sha256(abi.encodePacked("synddb/tee-key/v1", uint8(2), block.chainid, address(keys), STREAM, key, bytes32(uint256(1))))
        );
        vm.assertTrue(known != keys.keyBinding(Role.Sequencer, key, bytes32(uint256(1))));
        vm.assertTrue(known != keys.keyBinding(Role.Validator, publicKey(0xa0), bytes32(uint256(1))));
        vm.assertTrue(known != keys.keyBinding(Role.Validator, key, bytes32(uint256(2))));
        vm.chainId(7);
        vm.assertTrue(known != keys.keyBinding(Role.Validator, key, bytes32(uint256(1))));
    }

    function test_isLive_afterLife_isFalse() public {
        address key = vm.addr(validators[0]);
        vm.warp(block.timestamp + KEY_LIFE);
        vm.assertTrue(keys.isLive(key, Role.Validator));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyLive.selector, key));
        keys.retireKey(key);
        vm.warp(block.timestamp + 1);
        vm.assertTrue(!keys.isLive(key, Role.Validator));
        vm.assertEq(keys.validatorCount(), VALIDATORS);
        keys.retireKey(key);
        vm.assertEq(keys.validatorCount(), VALIDATORS - 1);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyNotLive.selector, key, Role.Validator));
        keys.retireKey(key);
    }

    function test_retireKey_unknown_reverts() public {
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyNotLive.selector, address(7), Role.None));
        keys.retireKey(address(7));
    }

    function test_removeImage_endsItsKeys_once() public {
        vm.prank(OWNER);
        keys.removeImage(2);
        vm.assertTrue(keys.isImageRemoved(2) && !keys.isImageRemoved(1));
        vm.assertEq(keys.validatorCount(), 0);
        for (uint256 i = 0; i < VALIDATORS; i++) {
            vm.assertTrue(!keys.isLive(vm.addr(validators[i]), Role.Validator));
        }
        vm.assertTrue(keys.isLive(vm.addr(SEQUENCER), Role.Sequencer));
        // Those that are ended again leave no count twice.
        keys.retireKey(vm.addr(validators[0]));
        vm.prank(OWNER);
        keys.revokeKey(vm.addr(validators[1]));
        vm.assertEq(keys.validatorCount(), 0);
        vm.assertEq(keys.imageOf(2).validators, VALIDATORS - 2);
        bytes memory key = publicKey(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ImageUnknown.selector, VALIDATOR_IMAGE, Role.Validator));
        keys.registerKey(Role.Validator, key, block.number - 1, address(verifier), abi.encode(VALIDATOR_IMAGE));
    }

    function test_images_knownOrUnknown_revert() public {
        vm.startPrank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ImageKnown.selector, VALIDATOR_IMAGE, Role.Validator));
        keys.admitImage(VALIDATOR_IMAGE, Role.Validator);
        keys.removeImage(2);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ImageKnown.selector, VALIDATOR_IMAGE, Role.Validator));
        keys.removeImage(2);
        // What was removed does not come back.
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ImageKnown.selector, VALIDATOR_IMAGE, Role.Validator));
        keys.admitImage(VALIDATOR_IMAGE, Role.Validator);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ImageUnknown.selector, bytes32(uint256(9)), Role.None));
        keys.removeImage(9);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.RoleInvalid.selector, Role.None));
        keys.admitImage(VALIDATOR_IMAGE, Role.None);
        vm.stopPrank();
    }

    function test_verifiers_unknown_revert() public {
        vm.startPrank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.NoCode.selector, address(7)));
        keys.admitVerifier(address(7), 0);
        vm.expectRevert(
            abi.encodeWithSelector(ITeeKeyManager.CodeDiffers.selector, address(this), address(this).codehash, bytes32(uint256(1)))
        );
        keys.admitVerifier(address(this), bytes32(uint256(1)));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.VerifierUnknown.selector, address(7)));
        keys.stopVerifier(address(7));
        vm.stopPrank();
    }

    function test_revokeKey_revoked_staysSo() public {
        address key = vm.addr(validators[0]);
        vm.startPrank(OWNER);
        keys.revokeKey(key);
        uint32 endings = keys.endings();
        keys.revokeKey(key);
        vm.assertEq(keys.endings(), endings);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyNotLive.selector, address(0xbad), Role.None));
        keys.revokeKey(address(0xbad));
        vm.stopPrank();
        vm.assertTrue(keys.keyOf(key).state == KeyState.Revoked);
        bytes memory again = publicKey(validators[0]);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyKnown.selector, key));
        keys.registerKey(Role.Validator, again, block.number - 1, address(verifier), abi.encode(VALIDATOR_IMAGE));
    }

    function test_privileged_others_revert() public {
        bytes[6] memory calls = [
            abi.encodeCall(keys.revokeKey, (vm.addr(SEQUENCER))),
            abi.encodeCall(keys.admitImage, (keccak256("mine"), Role.Validator)),
            abi.encodeCall(keys.removeImage, (1)),
            abi.encodeCall(keys.admitVerifier, (address(this), 0)),
            abi.encodeCall(keys.stopVerifier, (address(verifier))),
            abi.encodeCall(keys.setThreshold, (1))
        ];
        for (uint256 i = 0; i < calls.length; i++) {
            vm.prank(USER);
            (bool isDone, bytes memory why) = address(keys).call(calls[i]);
            vm.assertTrue(!isDone);
            vm.assertEq(keccak256(why), keccak256(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", USER)));
        }
    }
}
