// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBridge} from "../../src/interfaces/IBridge.sol";
import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {PriceOracle} from "../../src/examples/PriceOracle.sol";
import {Role} from "../../src/types/Key.sol";
import {Message} from "../../src/types/Message.sol";
import {State} from "../../src/types/State.sol";
import {Fixture} from "../support/Fixture.sol";
import {Reentrant} from "../support/Targets.sol";
import {vm} from "../support/Vm.sol";

/// @notice The life of a message, deposits, and what is privileged. What must not happen is under attacks.
contract BridgeTest is Fixture {
    function test_handleMessage_quorum_completes() public {
        initialize(call(1));
        assertState(bridge.messageState(1), State.PreExecution);
        assertState(handle(call(1), countPayload()), State.Completed);
        assertState(bridge.messageState(1), State.Completed);
        vm.assertEq(counter.calls(), 1);
        vm.assertEq(counter.lastCaller(), bridge.executor());
    }

    function test_handleMessage_quorumNotMet_reverts() public {
        initialize(call(1));
        bytes memory two = quorum(bridge.messageDigest(call(1)), 2);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.QuorumNotMet.selector, 2, THRESHOLD));
        bridge.handleMessage(call(1), countPayload(), two);
    }

    function test_handleMessage_moreThanQuorum_completes() public {
        initialize(call(1));
        assertState(bridge.handleMessage(call(1), countPayload(), quorum(bridge.messageDigest(call(1)), 4)), State.Completed);
    }

    function test_handleMessage_notBrought_reverts() public {
        bytes memory all = quorum(bridge.messageDigest(call(1)));
        vm.expectRevert(abi.encodeWithSelector(IBridge.StateUnfit.selector, 1, State.NotStarted));
        bridge.handleMessage(call(1), countPayload(), all);
    }

    function test_handleMessage_otherPayload_reverts() public {
        initialize(call(1));
        bytes memory all = quorum(bridge.messageDigest(call(1)));
        vm.expectRevert(abi.encodeWithSelector(IBridge.PayloadMismatch.selector, keccak256("x"), keccak256(countPayload())));
        bridge.handleMessage(call(1), "x", all);
    }

    function test_handleMessage_otherThanBrought_reverts() public {
        initialize(call(1));
        Message memory other = call(1);
        other.value = 1;
        bytes32 digest = bridge.messageDigest(other);
        bytes memory all = quorum(digest);
        vm.expectRevert(abi.encodeWithSelector(IBridge.DigestMismatch.selector, digest, bridge.messageDigest(call(1))));
        bridge.handleMessage(other, countPayload(), all);
    }

    /// A sequencer that brings something else under a nonce does not keep what the quorum signed from being executed.
    function test_initializeAndHandleMessage_otherWasBrought_completes() public {
        Message memory other = call(1);
        other.value = 1;
        initialize(other);
        assertState(perform(call(1), countPayload()), State.Completed);
    }

    function test_initializeAndHandleMessage_sameWasBrought_completes() public {
        initialize(call(1));
        assertState(perform(call(1), countPayload()), State.Completed);
    }

    function test_initializeMessage_noSequencer_reverts() public {
        bytes memory validator = sign(validators[0], bridge.messageDigest(call(1)));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyNotLive.selector, vm.addr(validators[0]), Role.Sequencer));
        bridge.initializeMessage(call(1), validator);
    }

    function test_initializeMessage_twice_reverts() public {
        initialize(call(1));
        bytes memory signature = sign(SEQUENCER, bridge.messageDigest(call(1)));
        vm.expectRevert(abi.encodeWithSelector(IBridge.StateUnfit.selector, 1, State.PreExecution));
        bridge.initializeMessage(call(1), signature);
    }

    function test_handleMessage_sequencerEndedSince_reverts() public {
        initialize(call(1));
        vm.prank(OWNER);
        keys.revokeKey(vm.addr(SEQUENCER));
        bytes memory all = quorum(bridge.messageDigest(call(1)));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.KeyNotLive.selector, vm.addr(SEQUENCER), Role.Sequencer));
        bridge.handleMessage(call(1), countPayload(), all);
    }

    function test_handleMessage_afterDeadline_expires() public {
        Message memory message = call(1);
        initialize(message);
        vm.warp(message.deadline + 1);
        assertState(handle(message, countPayload()), State.Expired);
        vm.assertEq(counter.calls(), 0);
        vm.expectRevert(abi.encodeWithSelector(IBridge.StateUnfit.selector, 1, State.Expired));
        bridge.retryMessage(message, countPayload());
    }

    function test_handleMessage_atDeadline_completes() public {
        Message memory message = call(1);
        vm.warp(message.deadline);
        assertState(perform(message, countPayload()), State.Completed);
    }

    function test_retryMessage_afterDeadline_expires() public {
        counter.setFailing(true);
        Message memory message = call(1);
        assertState(perform(message, countPayload()), State.Failed);
        vm.warp(message.deadline + 1);
        assertState(bridge.retryMessage(message, countPayload()), State.Expired);
    }

    function test_handleMessage_stateDuringCall_isExecuting() public {
        Reentrant target = new Reentrant(address(bridge));
        target.setCall(abi.encodeCall(bridge.messageState, (1)));
        perform(callTo(1, address(target), "x"), "x");
        vm.assertTrue(target.isDone());
        vm.assertEq(abi.decode(target.returned(), (uint256)), uint256(State.Executing));
    }

    function test_handleMessage_valueAndTokens_moveBoth() public {
        Message memory message = call(1);
        message.value = 2 ether;
        message.token = address(token);
        message.amount = 300;
        assertState(perform(message, countPayload()), State.Completed);
        vm.assertEq(address(counter).balance, 2 ether);
        vm.assertEq(token.balanceOf(address(counter)), 300);
        vm.assertEq(bridge.custodyOf(address(weth)), 98 ether);
        vm.assertEq(bridge.custodyOf(address(token)), 999_700);
    }

    function test_handleMessage_moreThanCustody_fails() public {
        Message memory message = call(1);
        message.value = 100 ether + 1;
        assertState(perform(message, countPayload()), State.Failed);
        message = call(2);
        message.token = address(token);
        message.amount = 1_000_001;
        assertState(perform(message, countPayload()), State.Failed);
    }

    function testFuzz_handleMessage_amounts_balance(uint256 value, uint256 amount) public {
        value = value % 101 ether;
        amount = amount % 1_000_100;
        Message memory message = call(1);
        message.value = value;
        message.token = address(token);
        message.amount = amount;
        bool isCovered = value <= 100 ether && amount <= 1_000_000;
        assertState(perform(message, countPayload()), isCovered ? State.Completed : State.Failed);
        vm.assertEq(bridge.custodyOf(address(weth)), isCovered ? 100 ether - value : 100 ether);
        vm.assertEq(bridge.custodyOf(address(token)), isCovered ? 1_000_000 - amount : 1_000_000);
        vm.assertEq(address(bridge).balance, bridge.custodyOf(address(weth)));
        vm.assertEq(token.balanceOf(address(bridge)), bridge.custodyOf(address(token)));
    }

    function test_messageDigest_isEip712() public view {
        Message memory m = call(7);
        m.value = 1;
        m.token = address(token);
        m.amount = 2;
        m.inboxConsumed = 3;
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("SyndDB"),
                keccak256("1"),
                block.chainid,
                address(bridge)
            )
        );
        bytes32 content = keccak256(
            bytes.concat(
                abi.encode(
                    keccak256(
                        "Message(bytes32 stream,uint64 nonce,address target,uint256 value,address token,uint256 amount,bytes32 payloadHash,uint64 gasLimit,uint64 deadline,uint64 inboxConsumed)"
                    ),
                    m.stream,
                    m.nonce,
                    m.target,
                    m.value
                ),
                abi.encode(m.token, m.amount, m.payloadHash, m.gasLimit, m.deadline, m.inboxConsumed)
            )
        );
        vm.assertEq(bridge.messageDigest(m), keccak256(abi.encodePacked(hex"1901", domain, content)));
    }

    // --- batches

    function test_initializeAndHandleMessages_oneFails_othersComplete() public {
        (Message[] memory messages, bytes[] memory payloads, bytes[] memory sequencer, bytes[] memory all) = _batch(3);
        messages[1].value = 1000 ether;
        sequencer[1] = sign(SEQUENCER, bridge.messageDigest(messages[1]));
        all[1] = quorum(bridge.messageDigest(messages[1]));
        State[] memory states = bridge.initializeAndHandleMessages(messages, payloads, sequencer, all);
        assertState(states[0], State.Completed);
        assertState(states[1], State.Failed);
        assertState(states[2], State.Completed);
        vm.assertEq(counter.calls(), 2);
    }

    function test_handleMessages_inTwoSteps_complete() public {
        (Message[] memory messages, bytes[] memory payloads, bytes[] memory sequencer, bytes[] memory all) = _batch(3);
        bridge.initializeMessages(messages, sequencer);
        bridge.handleMessages(messages, payloads, all);
        vm.assertEq(counter.calls(), 3);
    }

    function test_batches_malformed_revert() public {
        (Message[] memory messages, bytes[] memory payloads, bytes[] memory sequencer, bytes[] memory all) = _batch(2);
        vm.expectRevert(abi.encodeWithSelector(IBridge.BatchMalformed.selector, 2));
        bridge.initializeMessages(messages, new bytes[](1));
        vm.expectRevert(abi.encodeWithSelector(IBridge.BatchMalformed.selector, 2));
        bridge.handleMessages(messages, new bytes[](3), all);
        vm.expectRevert(abi.encodeWithSelector(IBridge.BatchMalformed.selector, 2));
        bridge.handleMessages(messages, payloads, new bytes[](0));
        vm.expectRevert(abi.encodeWithSelector(IBridge.BatchMalformed.selector, 2));
        bridge.initializeAndHandleMessages(messages, payloads, sequencer, new bytes[](1));
        vm.expectRevert(abi.encodeWithSelector(IBridge.BatchMalformed.selector, 0));
        bridge.initializeMessages(new Message[](0), new bytes[](0));
        vm.expectRevert(abi.encodeWithSelector(IBridge.BatchMalformed.selector, 33));
        bridge.initializeMessages(new Message[](33), new bytes[](33));
    }

    function _batch(uint64 count)
        private
        view
        returns (Message[] memory messages, bytes[] memory payloads, bytes[] memory sequencer, bytes[] memory all)
    {
        messages = new Message[](count);
        payloads = new bytes[](count);
        sequencer = new bytes[](count);
        all = new bytes[](count);
        for (uint64 i = 0; i < count; i++) {
            messages[i] = call(i + 1);
            payloads[i] = countPayload();
            sequencer[i] = sign(SEQUENCER, bridge.messageDigest(messages[i]));
            all[i] = quorum(bridge.messageDigest(messages[i]));
        }
    }

    // --- pauses

    function test_pauseOutbound_guardian_stopsAndEndsByItself() public {
        vm.prank(GUARDIAN);
        bridge.pauseOutbound(1 days);
        uint64 until = uint64(block.timestamp + 1 days);
        bytes memory signature = sign(SEQUENCER, bridge.messageDigest(call(1)));
        vm.expectRevert(abi.encodeWithSelector(IBridge.OutboundIsPaused.selector, until));
        bridge.initializeMessage(call(1), signature);
        // Deposits go on.
        bridge.sendMessage("");
        vm.warp(until);
        assertState(perform(call(1), countPayload()), State.Completed);
    }

    function test_pauseOutbound_retry_reverts() public {
        counter.setFailing(true);
        perform(call(1), countPayload());
        vm.prank(GUARDIAN);
        bridge.pauseOutbound(1 days);
        vm.expectPartialRevert(IBridge.OutboundIsPaused.selector);
        bridge.retryMessage(call(1), countPayload());
    }

    function test_pauseOutbound_tooLongOrTooSoon_reverts() public {
        vm.startPrank(GUARDIAN);
        vm.expectRevert(abi.encodeWithSelector(IBridge.PauseNotAllowed.selector, 7 days + 1, 0));
        bridge.pauseOutbound(7 days + 1);
        vm.expectRevert(abi.encodeWithSelector(IBridge.PauseNotAllowed.selector, 0, 0));
        bridge.pauseOutbound(0);
        bridge.pauseOutbound(1 days);
        uint64 notBefore = uint64(block.timestamp + 2 days);
        vm.warp(notBefore - 1);
        vm.expectRevert(abi.encodeWithSelector(IBridge.PauseNotAllowed.selector, 1 days, notBefore));
        bridge.pauseOutbound(1 days);
        vm.warp(notBefore);
        bridge.pauseOutbound(1);
        // However short: otherwise each block could be paused.
        notBefore = uint64(block.timestamp + 1 + 1 days);
        vm.warp(notBefore - 1);
        vm.expectRevert(abi.encodeWithSelector(IBridge.PauseNotAllowed.selector, 1, notBefore));
        bridge.pauseOutbound(1);
        vm.warp(notBefore);
        bridge.pauseOutbound(3 days);
        notBefore = uint64(block.timestamp + 6 days);
        vm.warp(notBefore - 1);
        vm.expectRevert(abi.encodeWithSelector(IBridge.PauseNotAllowed.selector, 1, notBefore));
        bridge.pauseOutbound(1);
        vm.stopPrank();
    }

    function test_pauseOutbound_others_revert() public {
        vm.expectRevert(abi.encodeWithSelector(IBridge.NotGuardian.selector, address(this)));
        bridge.pauseOutbound(1);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IBridge.NotGuardian.selector, OWNER));
        bridge.pauseOutbound(1);
    }

    function test_unpauseOutbound_owner_ends() public {
        vm.prank(GUARDIAN);
        bridge.pauseOutbound(7 days);
        vm.warp(block.timestamp + 1 days);
        vm.prank(OWNER);
        bridge.unpauseOutbound();
        assertState(perform(call(1), countPayload()), State.Completed);
        vm.prank(GUARDIAN);
        vm.expectPartialRevert(IBridge.PauseNotAllowed.selector);
        bridge.pauseOutbound(1);
    }

    function test_setDepositsPaused_stopsInboundAlone() public {
        vm.prank(OWNER);
        bridge.setDepositsPaused(true);
        vm.expectRevert(IBridge.DepositsArePaused.selector);
        bridge.sendMessage("");
        vm.expectRevert(IBridge.DepositsArePaused.selector);
        bridge.deposit(address(token), 1, "");
        vm.expectRevert(IBridge.DepositsArePaused.selector);
        bridge.depositNative("");
        assertState(perform(call(1), countPayload()), State.Completed);
    }

    function test_setExitsPaused_stopsValueAlone() public {
        vm.prank(OWNER);
        bridge.setExitsPaused(true);
        assertState(perform(call(1), countPayload()), State.Completed);
        Message memory message = call(2);
        message.value = 1;
        bytes memory signature = sign(SEQUENCER, bridge.messageDigest(message));
        vm.expectRevert(IBridge.ExitsArePaused.selector);
        bridge.initializeMessage(message, signature);
        message.value = 0;
        message.amount = 1;
        vm.expectRevert(IBridge.ExitsArePaused.selector);
        bridge.retryMessage(message, countPayload());
    }

    function test_privileged_others_revert() public {
        bytes[6] memory calls = [
            abi.encodeCall(bridge.unpauseOutbound, ()),
            abi.encodeCall(bridge.setDepositsPaused, (true)),
            abi.encodeCall(bridge.setExitsPaused, (true)),
            abi.encodeCall(bridge.setGuardian, (USER)),
            abi.encodeCall(bridge.setTargetDenied, (USER, true)),
            abi.encodeCall(bridge.setTokenAdmitted, (address(token), true))
        ];
        for (uint256 i = 0; i < calls.length; i++) {
            vm.prank(GUARDIAN);
            (bool isDone, bytes memory why) = address(bridge).call(calls[i]);
            vm.assertTrue(!isDone);
            vm.assertEq(keccak256(why), keccak256(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", GUARDIAN)));
        }
    }

    function test_setTokenAdmitted_taken_isDeniedForEver() public {
        vm.assertTrue(bridge.isTargetDenied(address(token)));
        vm.prank(OWNER);
        bridge.setTokenAdmitted(address(token), false);
        vm.expectRevert(abi.encodeWithSelector(IBridge.TokenNotAdmitted.selector, token));
        bridge.deposit(address(token), 1, "");
        // What is in custody can leave still, and calls to it stay denied.
        Message memory message = callTo(1, USER, "");
        (message.token, message.amount) = (address(token), 5);
        assertState(perform(message, ""), State.Completed);
        vm.assertTrue(bridge.isTargetDenied(address(token)));
    }

    function test_setTokenAdmitted_wrappedNativeNoMore_takesNoNative() public {
        vm.prank(OWNER);
        bridge.setTokenAdmitted(address(weth), false);
        vm.expectRevert(abi.encodeWithSelector(IBridge.TokenNotAdmitted.selector, weth));
        bridge.depositNative{value: 1}("");
    }

    function test_handleMessage_inboxNotReached_expiresAfterDeadline() public {
        Message memory message = call(1);
        message.inboxConsumed = 1000;
        vm.warp(message.deadline + 1);
        assertState(perform(message, countPayload()), State.Expired);
    }

    function test_setTargetDenied_denies_andAllows() public {
        vm.prank(OWNER);
        bridge.setTargetDenied(address(counter), true);
        assertState(perform(call(1), countPayload()), State.Rejected);
        vm.prank(OWNER);
        bridge.setTargetDenied(address(counter), false);
        assertState(perform(call(2), countPayload()), State.Completed);
    }

    // --- inbound

    function test_deposits_tooMuchData_reverts() public {
        bytes memory long = new bytes(bridge.DATA_MAX() + 1);
        vm.expectRevert(abi.encodeWithSelector(IBridge.DataTooLong.selector, long.length, long.length - 1));
        bridge.sendMessage(long);
    }

    function test_depositNative_nothing_reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IBridge.NothingReceived.selector, address(weth)));
        bridge.depositNative("");
    }

    function test_deposit_wrapped_isOneCustody() public {
        _depositWrapped(1 ether);
        vm.assertEq(bridge.custodyOf(address(weth)), 101 ether);
        _assertRests(100 ether, 1 ether);
    }

    function test_handleMessage_moreNativeThanRests_unwrapsTheRest() public {
        _depositWrapped(50 ether);
        Message memory message = call(1);
        message.value = 120 ether;
        assertState(perform(message, countPayload()), State.Completed);
        vm.assertEq(address(counter).balance, 120 ether);
        _assertRests(0, 30 ether);
    }

    function test_handleMessage_moreWrappedThanRests_wrapsTheRest() public {
        _depositWrapped(50 ether);
        Message memory message = call(1);
        message.token = address(weth);
        message.amount = 120 ether;
        assertState(perform(message, countPayload()), State.Completed);
        vm.assertEq(weth.balanceOf(address(counter)), 120 ether);
        _assertRests(30 ether, 0);
    }

    function test_handleMessage_bothForms_takesAll() public {
        _depositWrapped(50 ether);
        Message memory message = call(1);
        message.token = address(weth);
        (message.amount, message.value) = (120 ether, 30 ether);
        assertState(perform(message, countPayload()), State.Completed);
        vm.assertEq(weth.balanceOf(address(counter)), 120 ether);
        vm.assertEq(address(counter).balance, 30 ether);
        _assertRests(0, 0);
    }

    function test_handleMessage_bothFormsBeyondCustody_fails() public {
        Message memory message = call(1);
        message.token = address(weth);
        (message.amount, message.value) = (60 ether, 40 ether + 1);
        assertState(perform(message, countPayload()), State.Failed);
        message = call(2);
        message.token = address(weth);
        message.amount = 100 ether + 1;
        assertState(perform(message, countPayload()), State.Failed);
        _assertRests(100 ether, 0);
    }

    function _depositWrapped(uint256 amount) private {
        vm.deal(USER, amount);
        vm.prank(USER);
        weth.deposit{value: amount}();
        deposit(address(weth), amount);
    }

    /// Custody is the sum of both forms.
    function _assertRests(uint256 native, uint256 wrapped) private view {
        vm.assertEq(address(bridge).balance, native);
        vm.assertEq(weth.balanceOf(address(bridge)), wrapped);
        vm.assertEq(bridge.custodyOf(address(weth)), native + wrapped);
    }

    // --- the example

    function test_priceOracle_bridge_setsPrices() public {
        PriceOracle oracle = new PriceOracle(bridge.executor());
        bytes memory payload = abi.encodeCall(PriceOracle.setPrice, ("ETH-USD", 4000, uint64(block.timestamp * 1000)));
        assertState(perform(callTo(1, address(oracle), payload), payload), State.Completed);
        vm.assertEq(oracle.priceOf("ETH-USD", 1000).value, 4000);
        // As new is not newer.
        assertState(perform(callTo(2, address(oracle), payload), payload), State.Failed);
        vm.warp(block.timestamp + 2);
        vm.expectPartialRevert(PriceOracle.TooOld.selector);
        oracle.priceOf("ETH-USD", 1000);
        vm.expectRevert(abi.encodeWithSelector(PriceOracle.NotExecutor.selector, address(this)));
        oracle.setPrice("ETH-USD", 1, 1);
    }
}
