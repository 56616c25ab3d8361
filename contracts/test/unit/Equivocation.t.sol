// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {SignedPlace} from "../../src/libraries/SignedPlace.sol";
import {KeyState, Role} from "../../src/types/Key.sol";
import {Fixture} from "../support/Fixture.sol";
import {LogSigner} from "../support/LogSigner.sol";
import {Vectors} from "../support/Vectors.sol";
import {vm} from "../support/Vm.sol";

/// @notice Reports of equivocation: the log's own vectors, and every way in which two receipts prove nothing.
contract EquivocationTest is Fixture {
    // Made before: hashing calls a precompile, which would be the call that is expected to revert.
    bytes private _first;
    bytes private _second;

    function setUp() public override {
        super.setUp();
        _first = _receipt("a");
        _second = _receipt("b");
    }

    function test_reportEquivocation_vector_freezes() public {
        (bytes memory first, bytes memory second, address key) = Vectors.equivocation();
        // The vectors' secret is not in this file: the key is looked for.
        uint256 secret = _secretOf(key);
        registerKey(secret, Role.Sequencer);
        keys.reportEquivocation(first, second);
        vm.assertTrue(keys.keyOf(key).state == KeyState.Frozen);
        vm.assertTrue(!keys.isLive(key, Role.Sequencer));
        // What it said is read as it is: our own signer makes the same bytes.
        bytes32 stream = 0x5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d;
        bytes32 body = 0x7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed;
        vm.assertEq(keccak256(LogSigner.receipt(secret, stream, 1, 1, body)), keccak256(first));
    }

    function test_reportEquivocation_sequencer_stopsItsMessages() public {
        initialize(call(1));
        keys.reportEquivocation(_first, _second);
        bytes memory all = quorum(bridge.messageDigest(call(1)));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyNotLive.selector, vm.addr(SEQUENCER), Role.Sequencer));
        bridge.handleMessage(call(1), countPayload(), all);
    }

    function test_reportEquivocation_validator_leavesTheCount() public {
        uint256 secret = validators[0];
        keys.reportEquivocation(
            LogSigner.checkpoint(secret, STREAM, 1, 9, "a claim of more than 23 bytes, one"),
            LogSigner.checkpoint(secret, STREAM, 1, 9, "short")
        );
        vm.assertEq(keys.validatorCount(), VALIDATORS - 1);
        vm.assertTrue(!keys.isLive(vm.addr(secret), Role.Validator));
    }

    /// A claim has up to 4 KiB, so its head may have three bytes.
    function test_reportEquivocation_longClaims_freeze() public {
        keys.reportEquivocation(
            LogSigner.checkpoint(SEQUENCER, STREAM, 1, 9, new bytes(300)), LogSigner.checkpoint(SEQUENCER, STREAM, 1, 9, new bytes(301))
        );
        vm.assertTrue(!keys.isLive(vm.addr(SEQUENCER), Role.Sequencer));
    }

    function test_reportEquivocation_sameBytes_reverts() public {
        bytes memory one = _first;
        vm.expectPartialRevert(ITeeKeyManager.NoEquivocation.selector);
        keys.reportEquivocation(one, one);
    }

    function testFuzz_reportEquivocation_otherPlace_reverts(uint64 epoch, uint64 sequence, bytes32 stream) public {
        vm.assume(epoch != 1 || sequence != 5 || stream != STREAM);
        bytes memory second = LogSigner.receipt(SEQUENCER, stream, epoch, sequence, keccak256("b"));
        vm.expectPartialRevert(ITeeKeyManager.NoEquivocation.selector);
        keys.reportEquivocation(_first, second);
    }

    /// Each field of the place alone.
    function test_reportEquivocation_oneFieldDiffers_reverts() public {
        bytes[3] memory others = [
            LogSigner.receipt(SEQUENCER, STREAM, 1, 6, keccak256("b")),
            LogSigner.receipt(SEQUENCER, STREAM, 2, 5, keccak256("b")),
            LogSigner.receipt(SEQUENCER, keccak256("other"), 1, 5, keccak256("b"))
        ];
        for (uint256 i = 0; i < others.length; i++) {
            vm.expectPartialRevert(ITeeKeyManager.NoEquivocation.selector);
            keys.reportEquivocation(_first, others[i]);
        }
    }

    /// Bytes after the signature would make a second form of one receipt.
    function test_reportEquivocation_bytesAfter_reverts() public {
        bytes memory longer = bytes.concat(_first, hex"00");
        vm.expectPartialRevert(SignedPlace.Malformed.selector);
        keys.reportEquivocation(_first, longer);
    }

    function testFuzz_reportEquivocation_anyPlace_freezes(uint64 epoch, uint64 sequence, bytes32 stream) public {
        keys.reportEquivocation(
            LogSigner.receipt(SEQUENCER, stream, epoch, sequence, keccak256("a")),
            LogSigner.receipt(SEQUENCER, stream, epoch, sequence, keccak256("b"))
        );
        vm.assertTrue(!keys.isLive(vm.addr(SEQUENCER), Role.Sequencer));
    }

    function test_reportEquivocation_otherKey_reverts() public {
        bytes memory second = LogSigner.receipt(STRANGER, STREAM, 1, 5, keccak256("b"));
        vm.expectPartialRevert(ITeeKeyManager.NoEquivocation.selector);
        keys.reportEquivocation(_first, second);
    }

    function test_reportEquivocation_otherKind_reverts() public {
        bytes memory second = LogSigner.checkpoint(SEQUENCER, STREAM, 1, 5, "claim");
        vm.expectPartialRevert(ITeeKeyManager.NoEquivocation.selector);
        keys.reportEquivocation(_first, second);
    }

    function test_reportEquivocation_unregistered_reverts() public {
        bytes memory first = LogSigner.receipt(STRANGER, STREAM, 1, 5, keccak256("a"));
        bytes memory second = LogSigner.receipt(STRANGER, STREAM, 1, 5, keccak256("b"));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyNotLive.selector, vm.addr(STRANGER), Role.None));
        keys.reportEquivocation(first, second);
    }

    function test_reportEquivocation_twice_reverts() public {
        keys.reportEquivocation(_first, _second);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyNotLive.selector, vm.addr(SEQUENCER), Role.Sequencer));
        keys.reportEquivocation(_first, _second);
    }

    /// A signature for one kind is worth nothing for another: an endorsement is no receipt, a receipt no checkpoint.
    function test_reportEquivocation_otherContext_reverts() public {
        bytes memory header = bytes.concat(
            hex"a701382e1901022f3a0001000005", hex"3a0001000101", hex"3a0001000200", hex"3a000100035820", STREAM, hex"3a0001000401"
        );
        bytes memory wrong = LogSigner.signed(SEQUENCER, header, "synddb/checkpoint/v1", bytes.concat(keccak256("b")));
        vm.expectRevert(abi.encodeWithSelector(SignedPlace.NotSigned.selector, vm.addr(SEQUENCER)));
        keys.reportEquivocation(_first, wrong);
    }

    /// One bit anywhere makes a receipt another one, or none: never a second of the same key for the same place.
    function testFuzz_reportEquivocation_flippedBit_reverts(uint256 bit) public {
        bytes memory second = _first;
        bit = bit % (second.length * 8);
        second[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        vm.expectRevert();
        keys.reportEquivocation(_first, second);
    }

    function testFuzz_reportEquivocation_cutOff_reverts(uint256 length) public {
        bytes memory whole = _first;
        bytes memory cut = new bytes(length % whole.length);
        for (uint256 i = 0; i < cut.length; i++) {
            cut[i] = whole[i];
        }
        vm.expectPartialRevert(SignedPlace.Malformed.selector);
        keys.reportEquivocation(_second, cut);
    }

    function testFuzz_reportEquivocation_anyBytes_revert(bytes calldata second) public {
        vm.expectRevert();
        keys.reportEquivocation(_second, second);
    }

    /// Numbers whose head is not the shortest are signed by nobody honest, and refused.
    function test_reportEquivocation_longNumber_reverts() public {
        bytes[5] memory numbers = [bytes(hex"1805"), hex"190005", hex"1a00000005", hex"1b0000000000000005", hex"1c05"];
        for (uint256 i = 0; i < numbers.length; i++) {
            bytes memory header = bytes.concat(hex"a401382e3a00010000", numbers[i], hex"3a000100035820", STREAM, hex"3a0001000401");
            bytes memory second = LogSigner.signed(SEQUENCER, header, "synddb/checkpoint/v1", "claim");
            vm.expectPartialRevert(SignedPlace.Malformed.selector);
            keys.reportEquivocation(_first, second);
        }
    }

    /// The head of the payload is not signed: only its shortest form may stand, or one signature had two forms.
    function test_reportEquivocation_longHead_reverts() public {
        bytes memory short = LogSigner.checkpoint(SEQUENCER, STREAM, 1, 5, "claim");
        // Tag to key id: what stands before the head of the payload.
        uint256 head = short.length - 66 - 6;
        bytes memory before = new bytes(head);
        for (uint256 i = 0; i < head; i++) {
            before[i] = short[i];
        }
        bytes memory tail = new bytes(short.length - head - 1);
        for (uint256 i = 0; i < tail.length; i++) {
            tail[i] = short[head + 1 + i];
        }
        vm.expectRevert(abi.encodeWithSelector(SignedPlace.Malformed.selector, head));
        keys.reportEquivocation(short, bytes.concat(before, hex"5805", tail));
        vm.expectRevert(abi.encodeWithSelector(SignedPlace.Malformed.selector, head));
        keys.reportEquivocation(short, bytes.concat(before, hex"590005", tail));
    }

    function _receipt(bytes memory body) private pure returns (bytes memory) {
        return LogSigner.receipt(SEQUENCER, STREAM, 1, 5, keccak256(body));
    }

    /// The vectors' secrets are one byte 32 times.
    function _secretOf(address key) private pure returns (uint256) {
        for (uint256 i = 1; i < 256; i++) {
            uint256 secret = i * uint256(0x0101010101010101010101010101010101010101010101010101010101010101);
            if (vm.addr(secret) == key) return secret;
        }
        revert("no such secret");
    }
}
