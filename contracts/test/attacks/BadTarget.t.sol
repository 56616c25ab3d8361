// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBridge} from "../../src/interfaces/IBridge.sol";
import {IExecutor} from "../../src/interfaces/IExecutor.sol";
import {Message} from "../../src/types/Message.sol";
import {State} from "../../src/types/State.sol";
import {Fixture} from "../support/Fixture.sol";
import {GasBurner, HugeReturn, Reentrant, Returner} from "../support/Targets.sol";
import {Vm, vm} from "../support/Vm.sol";

/// @notice A target that fails, burns gas, returns much, or enters again.
contract BadTargetAttack is Fixture {
    function test_attack_failing_staysInCustody_andRetries() public {
        counter.setFailing(true);
        Message memory message = call(1);
        message.value = 1 ether;
        message.token = address(token);
        message.amount = 500;
        assertState(perform(message, countPayload()), State.Failed);
        // All is undone, the transfer of tokens too.
        vm.assertEq(bridge.custodyOf(address(weth)), 100 ether);
        vm.assertEq(bridge.custodyOf(address(token)), 1_000_000);
        vm.assertEq(token.balanceOf(address(counter)), 0);
        assertState(bridge.retryMessage(message, countPayload()), State.Failed);

        counter.setFailing(false);
        vm.prank(USER);
        assertState(bridge.retryMessage(message, countPayload()), State.Completed);
        vm.assertEq(address(counter).balance, 1 ether);
        vm.assertEq(token.balanceOf(address(counter)), 500);
        vm.assertEq(bridge.custodyOf(address(weth)), 99 ether);
        vm.expectRevert(abi.encodeWithSelector(IBridge.StateUnfit.selector, 1, State.Completed));
        bridge.retryMessage(message, countPayload());
    }

    function test_attack_retryOfOtherContent_reverts() public {
        counter.setFailing(true);
        Message memory message = call(1);
        perform(message, countPayload());
        bytes32 known = bridge.messageDigest(message);
        message.value = 100 ether;
        vm.expectRevert(abi.encodeWithSelector(IBridge.DigestMismatch.selector, bridge.messageDigest(message), known));
        bridge.retryMessage(message, countPayload());
    }

    function test_attack_burnsGas_isMarkedFailed() public {
        Message memory message = callTo(1, address(new GasBurner()), "");
        uint256 before = gasleft();
        assertState(perform(message, ""), State.Failed);
        // It burned what it was given and no more.
        vm.assertLe(before - gasleft(), uint256(message.gasLimit) + 300_000);
    }

    /// Who brings a message cannot make it fail by bringing little gas.
    function testFuzz_attack_littleGas_neverFails(uint256 gas) public {
        Message memory message = callTo(1, address(counter), countPayload());
        message.gasLimit = 500_000;
        bytes32 digest = bridge.messageDigest(message);
        bytes memory data =
            abi.encodeCall(bridge.initializeAndHandleMessage, (message, countPayload(), sign(SEQUENCER, digest), quorum(digest)));
        gas = gas % 3_000_000;
        (bool isDone,) = address(bridge).call{gas: gas}(data);
        assertState(bridge.messageState(1), isDone ? State.Completed : State.NotStarted);
        vm.assertEq(counter.calls(), isDone ? 1 : 0);
    }

    function test_attack_hugeReturn_isCutOff() public {
        HugeReturn huge = new HugeReturn();
        Message memory message = callTo(1, address(huge), "x");
        message.gasLimit = 1_000_000;
        assertState(perform(message, "x"), State.Completed);

        huge.setReverting(true);
        message = callTo(2, address(huge), "x");
        message.gasLimit = 1_000_000;
        vm.recordLogs();
        assertState(perform(message, "x"), State.Failed);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        bytes memory reason = abi.decode(logs[logs.length - 1].data, (bytes));
        vm.assertLe(reason.length, bridge.REASON_MAX());
        vm.assertEq(bytes32(bytes4(reason)), bytes32(IExecutor.CallFailed.selector));
    }

    function test_attack_hugeReturn_executorCopiesLittle() public {
        HugeReturn huge = new HugeReturn();
        IExecutor executor = IExecutor(bridge.executor());
        vm.prank(address(bridge));
        vm.assertEq(executor.execute(address(huge), "x", 1_000_000).length, 256);
    }

    function test_attack_entersAgain_reverts() public {
        Reentrant target = new Reentrant(address(bridge));
        Message memory inner = call(2);
        bytes32 digest = bridge.messageDigest(inner);
        bytes[6] memory calls = [
            abi.encodeCall(bridge.initializeAndHandleMessage, (inner, countPayload(), sign(SEQUENCER, digest), quorum(digest))),
            abi.encodeCall(bridge.initializeMessage, (inner, sign(SEQUENCER, digest))),
            abi.encodeCall(bridge.retryMessage, (inner, countPayload())),
            abi.encodeCall(bridge.sendMessage, ("")),
            abi.encodeCall(bridge.deposit, (address(token), 1, "")),
            abi.encodeCall(bridge.performMessage, (inner, countPayload()))
        ];
        for (uint64 i = 0; i < calls.length; i++) {
            target.setCall(calls[i]);
            Message memory message = callTo(10 + i, address(target), "x");
            message.gasLimit = 1_000_000;
            assertState(perform(message, "x"), State.Completed);
            vm.assertTrue(target.isTried() && !target.isDone(), "entered");
        }
        assertState(bridge.messageState(2), State.NotStarted);
        vm.assertEq(counter.calls(), 0);
    }

    function test_attack_sendsBack_isInCustodyAgain() public {
        Message memory message = callTo(1, address(new Returner()), abi.encodeCall(Returner.half, ()));
        message.value = 10 ether;
        assertState(perform(message, abi.encodeCall(Returner.half, ())), State.Completed);
        vm.assertEq(bridge.custodyOf(address(weth)), 95 ether);
        vm.assertEq(address(bridge).balance, 95 ether);
        vm.assertEq(bridge.executor().balance, 0);
    }

    function test_attack_otherSenderOfNative_reverts() public {
        vm.deal(USER, 1 ether);
        vm.prank(USER);
        (bool isSent, bytes memory why) = address(bridge).call{value: 1 ether}("");
        vm.assertTrue(!isSent);
        vm.assertEq(keccak256(why), keccak256(abi.encodeWithSelector(IBridge.NativeNotAccepted.selector, USER)));
    }

    /// It could never run: it ends, so that its value is not nobody's, and what waits for it goes on.
    function test_attack_moreGasThanATransactionHas_isRejected() public {
        Message memory message = call(1);
        message.gasLimit = bridge.GAS_LIMIT_MAX() + 1;
        assertState(perform(message, countPayload()), State.Rejected);
        vm.assertEq(counter.calls(), 0);
    }

    function test_attack_moreCallDataThanATransactionHas_isRejected() public {
        bytes memory payload = new bytes(bridge.PAYLOAD_MAX() + 1);
        assertState(perform(callTo(1, address(counter), payload), payload), State.Rejected);
    }
}
