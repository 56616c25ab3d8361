// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {SignedPlace} from "../../src/libraries/SignedPlace.sol";
import {Message} from "../../src/types/Message.sol";
import {Fixture} from "../support/Fixture.sol";
import {LogSigner} from "../support/LogSigner.sol";
import {vm} from "../support/Vm.sol";

/// @notice A signature in its second form: n - s and the other v.
contract MalleabilityAttack is Fixture {
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function test_attack_highS_reverts() public {
        Message memory message = call(1);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(SEQUENCER, bridge.messageDigest(message));
        bytes memory high = abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        vm.expectRevert(ITeeKeyManager.SignatureInvalid.selector);
        bridge.initializeMessage(message, high);
    }

    function testFuzz_attack_otherV_reverts(uint8 v) public {
        vm.assume(v != 27 && v != 28);
        Message memory message = call(1);
        (, bytes32 r, bytes32 s) = vm.sign(SEQUENCER, bridge.messageDigest(message));
        vm.expectRevert(ITeeKeyManager.SignatureInvalid.selector);
        bridge.initializeMessage(message, abi.encodePacked(r, s, v));
    }

    function testFuzz_attack_otherLength_reverts(uint8 length) public {
        vm.assume(length % 65 != 0);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.SignaturesMalformed.selector, length));
        keys.requireQuorum(bytes32(0), new bytes(length));
    }

    /// One honest receipt in two forms would look like an equivocation.
    function test_attack_receiptWithHighS_reverts() public {
        bytes memory first = LogSigner.receipt(SEQUENCER, STREAM, 1, 5, keccak256("a"));
        bytes memory second = bytes.concat(first);
        uint256 s;
        for (uint256 i = 0; i < 32; i++) {
            s = (s << 8) | uint8(second[second.length - 32 + i]);
        }
        bytes32 high = bytes32(ORDER - s);
        for (uint256 i = 0; i < 32; i++) {
            second[second.length - 32 + i] = high[i];
        }
        vm.expectRevert(abi.encodeWithSelector(SignedPlace.NotSigned.selector, vm.addr(SEQUENCER)));
        keys.reportEquivocation(first, second);
    }
}
