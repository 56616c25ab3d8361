// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBridge} from "../../src/interfaces/IBridge.sol";
import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {TeeKeyManager} from "../../src/attestation/TeeKeyManager.sol";
import {Role} from "../../src/types/Key.sol";
import {Message} from "../../src/types/Message.sol";
import {State} from "../../src/types/State.sol";
import {BindingVerifier} from "../support/AlwaysYesVerifier.sol";
import {Fixture} from "../support/Fixture.sol";
import {vm} from "../support/Vm.sol";

/// @notice Keys of one party (Ronin, Harmony, Orbit): whoever holds some keys, or the owner's, makes himself the quorum.
contract OnePartyAttack is Fixture {
    function test_attack_keysWithoutEvidence_revert() public {
        BindingVerifier strict = new BindingVerifier();
        vm.prank(OWNER);
        keys.admitVerifier(address(strict), address(strict).codehash);
        bytes memory key = publicKey(STRANGER);
        bytes32 recent = blockhash(block.number - 1);
        bytes32 binding = keys.keyBinding(Role.Validator, key, recent);
        // Evidence of another key, of the right image.
        bytes memory stolen = abi.encode(VALIDATOR_IMAGE, keys.keyBinding(Role.Validator, publicKey(0xa0), recent));
        vm.expectRevert(abi.encodeWithSelector(BindingVerifier.NotBound.selector, binding, abi.decode(_tail(stolen), (bytes32))));
        keys.registerKey(Role.Validator, key, block.number - 1, address(strict), stolen);
        // Evidence of the right key, for another role.
        bytes memory role = abi.encode(SEQUENCER_IMAGE, binding);
        vm.expectPartialRevert(BindingVerifier.NotBound.selector);
        keys.registerKey(Role.Sequencer, key, block.number - 1, address(strict), role);
        // The right key in an image that nobody admitted.
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.ImageUnknown.selector, keccak256("mine"), Role.Validator));
        keys.registerKey(Role.Validator, key, block.number - 1, address(strict), abi.encode(keccak256("mine"), binding));
        // And what is right is right, so the attacks failed for their reasons.
        keys.registerKey(Role.Validator, key, block.number - 1, address(strict), abi.encode(VALIDATOR_IMAGE, binding));
        vm.assertTrue(keys.isLive(vm.addr(STRANGER), Role.Validator));
    }

    function test_attack_oneKeyTwice_reverts() public {
        bytes memory key = publicKey(validators[0]);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyKnown.selector, vm.addr(validators[0])));
        keys.registerKey(Role.Validator, key, block.number - 1, address(verifier), abi.encode(VALIDATOR_IMAGE));
        // Nor does a sequencer's key become a validator's.
        bytes memory sequencer = publicKey(SEQUENCER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyKnown.selector, vm.addr(SEQUENCER)));
        keys.registerKey(Role.Validator, sequencer, block.number - 1, address(verifier), abi.encode(VALIDATOR_IMAGE));
    }

    function test_attack_sequencerAlone_reverts() public {
        Message memory message = call(1);
        initialize(message);
        bytes memory own = sign(SEQUENCER, bridge.messageDigest(message));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.QuorumNotMet.selector, 1, THRESHOLD));
        bridge.handleMessage(message, countPayload(), own);
    }

    function test_attack_validatorsAlone_revert() public {
        Message memory message = call(1);
        bytes32 digest = bridge.messageDigest(message);
        bytes memory one = sign(validators[0], digest);
        bytes memory all = quorum(digest);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyNotLive.selector, vm.addr(validators[0]), Role.Sequencer));
        bridge.initializeAndHandleMessage(message, countPayload(), one, all);
    }

    /// The owner signs nothing: even as owner of everything he executes no message.
    function test_attack_ownerSigns_reverts() public {
        uint256 secret = 0x0123;
        TeeKeyManager own = newKeys(vm.addr(secret));
        vm.assertEq(own.owner(), vm.addr(secret));
        Message memory message = call(1);
        bytes32 digest = bridge.messageDigest(message);
        bytes memory signature = sign(secret, digest);
        bytes memory all = quorum(digest);
        vm.startPrank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyNotLive.selector, vm.addr(secret), Role.Sequencer));
        bridge.initializeAndHandleMessage(message, countPayload(), signature, all);
        vm.expectRevert(abi.encodeWithSelector(IBridge.NotSelf.selector, OWNER));
        bridge.performMessage(message, countPayload());
        vm.stopPrank();
        assertState(bridge.messageState(1), State.NotStarted);
    }

    function _tail(bytes memory pair) private pure returns (bytes memory) {
        (, bytes32 second) = abi.decode(pair, (bytes32, bytes32));
        return abi.encode(second);
    }
}
