// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {Role} from "../../src/types/Key.sol";
import {Message} from "../../src/types/Message.sol";
import {Fixture} from "../support/Fixture.sol";
import {vm} from "../support/Vm.sol";

/// @notice One validator's signature stands more than once.
contract DuplicateSignerAttack is Fixture {
    function test_attack_oneSignatureThrice_reverts() public {
        Message memory message = call(1);
        initialize(message);
        bytes memory one = sign(validators[0], bridge.messageDigest(message));
        address signer = vm.addr(validators[0]);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.SignersNotAscending.selector, signer, signer));
        bridge.handleMessage(message, countPayload(), bytes.concat(one, one, one));
    }

    function test_attack_descending_reverts() public {
        Message memory message = call(1);
        initialize(message);
        bytes32 digest = bridge.messageDigest(message);
        bytes memory mixed = bytes.concat(sign(validators[0], digest), sign(validators[2], digest), sign(validators[1], digest));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.SignersNotAscending.selector, vm.addr(validators[2]), vm.addr(validators[1])));
        bridge.handleMessage(message, countPayload(), mixed);
    }

    /// One that does not count makes the others worth nothing: a relayer sends what counts.
    function test_attack_strangerAmongThem_reverts() public {
        Message memory message = call(1);
        initialize(message);
        bytes32 digest = bridge.messageDigest(message);
        address stranger = vm.addr(STRANGER);
        bytes memory mixed;
        bool isIn;
        for (uint256 i = 0; i < THRESHOLD; i++) {
            if (!isIn && stranger < vm.addr(validators[i])) {
                mixed = bytes.concat(mixed, sign(STRANGER, digest));
                isIn = true;
            }
            mixed = bytes.concat(mixed, sign(validators[i], digest));
        }
        if (!isIn) mixed = bytes.concat(mixed, sign(STRANGER, digest));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyNotLive.selector, stranger, Role.Validator));
        bridge.handleMessage(message, countPayload(), mixed);
    }
}
