// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {RateLimit} from "../../src/modules/RateLimit.sol";
import {Message} from "../../src/types/Message.sol";
import {State} from "../../src/types/State.sol";
import {Role} from "../../src/types/Key.sol";
import {Fixture} from "../support/Fixture.sol";
import {LogSigner} from "../support/LogSigner.sol";
import {vm} from "../support/Vm.sol";

/// @notice What transactions cost, as a whole: run with --isolate, so the intrinsic gas and call data count and every slot is cold.
/// The figures are kept in snapshots/gas and compared.
contract GasTest is Fixture {
    /// A withdrawal must not cost more.
    uint256 private constant WITHDRAWAL_GAS_MAX = 150_000;
    /// An equivocation report must not cost more.
    uint256 private constant EQUIVOCATION_GAS_MAX = 60_000;

    function setUp() public override {
        super.setUp();
        RateLimit limit = newLimit(1 days, 1 days);
        vm.startPrank(OWNER);
        limit.setLimit(address(weth), 1 ether);
        limit.setLimit(address(token), 500_000);
        vm.stopPrank();
        setModule(address(limit), true, true);
        // As in practice, the word of states is in use and the bucket is not full.
        perform(call(1), countPayload());
        vm.warp(block.timestamp + 10);
    }

    function test_gas_callWithoutValue() public {
        _measure(callTo(2, address(0xe0a), ""), "", "call without value");
    }

    function test_gas_withdrawalOfNative() public {
        Message memory message = callTo(2, address(0xe0a), "");
        message.value = 1 ether;
        vm.deal(message.target, 1);
        _measure(message, "", "withdrawal of native currency, limit, 3 validators");
    }

    function test_gas_withdrawalOfToken() public {
        Message memory message = callTo(2, address(0xe0a), "");
        message.token = address(token);
        message.amount = 1000;
        token.mint(message.target, 1);
        _measure(message, "", "withdrawal of a token, limit, 3 validators");
    }

    function test_gas_equivocation_sequencer() public {
        bytes memory first = LogSigner.receipt(SEQUENCER, STREAM, 1, 70_000, keccak256("a"));
        bytes memory second = LogSigner.receipt(SEQUENCER, STREAM, 1, 70_000, keccak256("b"));
        keys.reportEquivocation(first, second);
        uint256 used = vm.snapshotGasLastCall("contracts", "equivocation report");
        vm.assertLe(used, EQUIVOCATION_GAS_MAX, "equivocation");
    }

    function test_gas_recordCheckpoint() public {
        bytes memory signatures = quorum(checkpoints.checkpointDigest(checkpoint(5)));
        checkpoints.recordCheckpoint(checkpoint(5), signatures, "gs://bucket/stream/5");
        vm.snapshotGasLastCall("contracts", "checkpoint, 3 validators");
    }

    function test_gas_registerKey() public {
        bytes memory key = publicKey(0x77);
        keys.registerKey(Role.Validator, key, block.number - 1, address(verifier), abi.encode(VALIDATOR_IMAGE));
        vm.snapshotGasLastCall("contracts", "key registration without its verifier");
    }

    function test_gas_depositNative() public {
        vm.deal(USER, 1 ether);
        vm.prank(USER);
        bridge.depositNative{value: 1 ether}("");
        vm.snapshotGasLastCall("contracts", "deposit of native currency");
    }

    function _measure(Message memory message, bytes memory payload, string memory name) private {
        (bytes memory sequencer, bytes memory signatures) = signed(message);
        State state = bridge.initializeAndHandleMessage(message, payload, sequencer, signatures);
        uint256 used = vm.snapshotGasLastCall("contracts", name);
        assertState(state, State.Completed);
        vm.assertLe(used, WITHDRAWAL_GAS_MAX, name);
    }
}
