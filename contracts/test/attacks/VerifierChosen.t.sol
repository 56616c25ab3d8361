// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {Role} from "../../src/types/Key.sol";
import {AlwaysYesVerifier} from "../support/AlwaysYesVerifier.sol";
import {Fixture} from "../support/Fixture.sol";
import {vm} from "../support/Vm.sol";

/// @notice The verifier is chosen by the attacker (Wormhole): a contract that says yes to everything.
contract VerifierChosenAttack is Fixture {
    function test_attack_ownVerifier_reverts() public {
        AlwaysYesVerifier own = new AlwaysYesVerifier();
        bytes memory key = publicKey(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.VerifierUnknown.selector, address(own)));
        keys.registerKey(Role.Validator, key, block.number - 1, address(own), abi.encode(VALIDATOR_IMAGE));
        vm.prank(USER);
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", USER));
        keys.admitVerifier(address(own), address(own).codehash);
    }

    function test_attack_stoppedVerifier_reverts() public {
        vm.prank(OWNER);
        keys.stopVerifier(address(verifier));
        bytes memory key = publicKey(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.VerifierUnknown.selector, address(verifier)));
        keys.registerKey(Role.Validator, key, block.number - 1, address(verifier), abi.encode(VALIDATOR_IMAGE));
        // Those that it admitted stay: stopping it must not stop the bridge.
        vm.assertTrue(keys.isLive(vm.addr(SEQUENCER), Role.Sequencer));
    }

    /// The evidence of one day is worth nothing when its block is forgotten.
    function test_attack_oldBlock_reverts() public {
        bytes memory key = publicKey(STRANGER);
        uint256 old = block.number - 1;
        vm.roll(block.number + 300);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.BlockNotRecent.selector, old));
        keys.registerKey(Role.Validator, key, old, address(verifier), abi.encode(VALIDATOR_IMAGE));
    }
}
