// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {CheckpointFreshness} from "../../src/modules/CheckpointFreshness.sol";
import {ERC20MaxSupplyIncrease} from "../../src/modules/ERC20MaxSupplyIncrease.sol";
import {ERC20TotalSupplyCheck} from "../../src/modules/ERC20TotalSupplyCheck.sol";
import {MessageOrdering} from "../../src/modules/MessageOrdering.sol";
import {RateLimit} from "../../src/modules/RateLimit.sol";
import {IModuleCheckRegistry} from "../../src/interfaces/IModuleCheckRegistry.sol";
import {IValidationModule} from "../../src/interfaces/IValidationModule.sol";
import {Checkpoint} from "../../src/types/Checkpoint.sol";
import {Message} from "../../src/types/Message.sol";
import {Phase, State} from "../../src/types/State.sol";
import {Fixture} from "../support/Fixture.sol";
import {PlainToken} from "../support/Tokens.sol";
import {vm} from "../support/Vm.sol";

/// @notice The modules, each behind the whole bridge.
contract ModulesTest is Fixture {
    /// Modules name the registry, so they come after it.
    function test_setModules_installer_once() public {
        IModuleCheckRegistry.Entry[] memory none = new IModuleCheckRegistry.Entry[](0);
        vm.assertEq(modules.installer(), INSTALLER);
        vm.prank(INSTALLER);
        modules.setModules(none);
        vm.assertEq(modules.installer(), address(0));
        vm.prank(INSTALLER);
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", INSTALLER));
        modules.setModules(none);
    }

    function test_setModules_ownerFirst_installerNoMore() public {
        IModuleCheckRegistry.Entry[] memory none = new IModuleCheckRegistry.Entry[](0);
        vm.prank(OWNER);
        modules.setModules(none);
        vm.prank(INSTALLER);
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", INSTALLER));
        modules.setModules(none);
    }

    uint64 private constant DELAY = 2 days;
    uint64 private constant PERIOD = 1000;

    // --- registry

    function test_setModules_wrong_reverts() public {
        IModuleCheckRegistry.Entry[] memory list = new IModuleCheckRegistry.Entry[](2);
        list[0] = IModuleCheckRegistry.Entry(address(counter), true, false);
        list[1] = list[0];
        vm.startPrank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IModuleCheckRegistry.ModuleTwice.selector, address(counter)));
        modules.setModules(list);
        list[1] = IModuleCheckRegistry.Entry(address(7), true, false);
        vm.expectRevert(abi.encodeWithSelector(IModuleCheckRegistry.NoCode.selector, address(7)));
        modules.setModules(list);
        list[1] = IModuleCheckRegistry.Entry(address(token), false, false);
        vm.expectRevert(abi.encodeWithSelector(IModuleCheckRegistry.ModuleInNoPhase.selector, address(token)));
        modules.setModules(list);
        vm.expectRevert(abi.encodeWithSelector(IModuleCheckRegistry.TooManyModules.selector, 9, 8));
        modules.setModules(new IModuleCheckRegistry.Entry[](9));
        vm.stopPrank();
        vm.prank(USER);
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", USER));
        modules.setModules(list);
        vm.expectRevert(abi.encodeWithSelector(IModuleCheckRegistry.NotBridge.selector, address(this)));
        modules.checkMessage(call(1), Phase.Pre);
    }

    function test_setModules_replaces_all() public {
        setModule(address(counter), true, false);
        vm.assertEq(modules.modules().length, 1);
        vm.prank(OWNER);
        modules.setModules(new IModuleCheckRegistry.Entry[](0));
        vm.assertEq(modules.modules().length, 0);
        assertState(perform(call(1), countPayload()), State.Completed);
    }

    /// A contract that is no module stops messages: it answers nothing.
    function test_setModules_noModule_reverts() public {
        setModule(address(counter), true, false);
        bytes32 digest = bridge.messageDigest(call(1));
        bytes memory sequencer = sign(SEQUENCER, digest);
        bytes memory all = quorum(digest);
        vm.expectRevert();
        bridge.initializeAndHandleMessage(call(1), countPayload(), sequencer, all);
    }

    // --- ordering

    function test_messageOrdering_gap_waits() public {
        setModule(deploy("MessageOrdering", abi.encode(modules, bridge, 1)), true, false);
        assertState(perform(call(2), countPayload()), State.PreExecution);
        vm.assertEq(counter.calls(), 0);
        assertState(perform(call(1), countPayload()), State.Completed);
        assertState(handle(call(2), countPayload()), State.Completed);
        assertState(perform(call(0), countPayload()), State.Rejected);
    }

    function test_messageOrdering_failedBefore_holdsNobodyUp() public {
        setModule(deploy("MessageOrdering", abi.encode(modules, bridge, 1)), true, false);
        counter.setFailing(true);
        assertState(perform(call(1), countPayload()), State.Failed);
        counter.setFailing(false);
        assertState(perform(call(2), countPayload()), State.Completed);
        assertState(bridge.retryMessage(call(1), countPayload()), State.Completed);
    }

    // --- rate limit

    function test_rateLimit_overTheBucket_waitsThenGoes() public {
        RateLimit limit = _limit();
        assertState(_withdraw(1, 600), State.Completed);
        vm.assertEq(limit.levelOf(address(token)), 400);
        Message memory message = _message(2, 500);
        assertState(perform(message, ""), State.PreExecution);
        vm.assertEq(limit.availableAt(message), block.timestamp + DELAY);
        // It fits once the bucket has filled.
        vm.warp(block.timestamp + 100);
        assertState(handle(message, ""), State.Completed);
        vm.assertEq(limit.levelOf(address(token)), 0);
    }

    function test_rateLimit_moreThanEverFits_goesAfterDelay() public {
        RateLimit limit = _limit();
        Message memory message = _message(1, 100_000);
        message.deadline = type(uint64).max;
        assertState(perform(message, ""), State.PreExecution);
        vm.warp(block.timestamp + DELAY - 1);
        assertState(handle(message, ""), State.PreExecution);
        vm.warp(block.timestamp + 1);
        assertState(handle(message, ""), State.Completed);
        // It went beside the bucket.
        vm.assertEq(limit.levelOf(address(token)), 1000);
        vm.assertEq(bridge.custodyOf(address(token)), 900_000);
    }

    /// Another message under the nonce of one that waited has not waited.
    function test_rateLimit_otherContent_waitsAnew() public {
        _limit();
        Message memory message = _message(1, 5000);
        perform(message, "");
        vm.warp(block.timestamp + DELAY);
        message = _message(1, 500_000);
        assertState(perform(message, ""), State.PreExecution);
    }

    /// Whoever retries a message that fails must not use the bucket up.
    function test_rateLimit_failing_isNotCharged() public {
        RateLimit limit = _limit();
        counter.setFailing(true);
        Message memory message = call(1);
        message.token = address(token);
        message.amount = 900;
        assertState(perform(message, countPayload()), State.Failed);
        for (uint256 i = 0; i < 3; i++) {
            assertState(bridge.retryMessage(message, countPayload()), State.Failed);
        }
        vm.assertEq(limit.levelOf(address(token)), 1000);
        counter.setFailing(false);
        assertState(bridge.retryMessage(message, countPayload()), State.Completed);
        vm.assertEq(limit.levelOf(address(token)), 100);
    }

    function test_rateLimit_noLimitSet_waits() public {
        RateLimit limit = newLimit(PERIOD, DELAY);
        setModule(address(limit), true, true);
        assertState(_withdraw(1, 1), State.PreExecution);
        assertState(perform(call(2), countPayload()), State.Completed);
    }

    function test_rateLimit_nativeAndWrapped_shareABucket() public {
        RateLimit limit = _limit();
        vm.prank(OWNER);
        limit.setLimit(address(weth), 1);
        Message memory message = callTo(1, address(0xe0a), "");
        message.value = 600;
        message.token = address(weth);
        message.amount = 600;
        assertState(perform(message, ""), State.PreExecution);
        message = callTo(2, address(0xe0a), "");
        message.value = 600;
        message.token = address(weth);
        message.amount = 400;
        assertState(perform(message, ""), State.Completed);
        vm.assertEq(limit.levelOf(address(weth)), 0);
        message = callTo(3, address(0xe0a), "");
        message.value = type(uint256).max;
        message.token = address(weth);
        message.amount = 1;
        assertState(perform(message, ""), State.PreExecution);
    }

    function testFuzz_rateLimit_level_neverAboveCapacity(uint104 perSecond, uint32 elapsed) public {
        RateLimit limit = _limit();
        vm.prank(OWNER);
        limit.setLimit(address(token), perSecond);
        vm.warp(block.timestamp + elapsed);
        vm.assertLe(limit.levelOf(address(token)), uint256(perSecond) * PERIOD);
        vm.assertLe(limit.levelOf(address(token)), type(uint112).max);
    }

    function test_modules_others_revert() public {
        RateLimit limit = _limit();
        vm.expectRevert(abi.encodeWithSelector(IValidationModule.NotRegistry.selector, address(this)));
        limit.checkMessage(call(1), Phase.Post);
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", address(this)));
        limit.setLimit(address(token), 1);
    }

    // --- supply

    function test_totalSupplyCheck_overCeiling_isUndone() public {
        PlainToken minted = new PlainToken();
        setModule(deploy("ERC20TotalSupplyCheck", abi.encode(modules, minted, 1000)), false, true);
        assertState(_mint(1, minted, 1000), State.Completed);
        assertState(_mint(2, minted, 1), State.Failed);
        vm.assertEq(minted.totalSupply(), 1000);
    }

    function test_maxSupplyIncrease_overMax_isUndone() public {
        PlainToken minted = new PlainToken();
        setModule(deploy("ERC20MaxSupplyIncrease", abi.encode(modules, minted, 100)), true, true);
        assertState(_mint(1, minted, 100), State.Completed);
        assertState(_mint(2, minted, 101), State.Failed);
        assertState(_mint(3, minted, 100), State.Completed);
        vm.assertEq(minted.totalSupply(), 200);
    }

    function test_maxSupplyIncrease_postAlone_stops() public {
        PlainToken minted = new PlainToken();
        setModule(deploy("ERC20MaxSupplyIncrease", abi.encode(modules, minted, 100)), false, true);
        assertState(_mint(1, minted, 1), State.Failed);
    }

    // --- freshness

    function test_checkpointFreshness_old_waits() public {
        setModule(deploy("CheckpointFreshness", abi.encode(modules, checkpoints, 60_000)), true, false);
        checkpoints.recordCheckpoint(checkpoint(1), quorum(checkpoints.checkpointDigest(checkpoint(1))), "");
        assertState(perform(call(1), countPayload()), State.Completed);
        vm.warp(block.timestamp + 61);
        assertState(perform(call(2), countPayload()), State.PreExecution);
        // A state from before what the message consumed is as good as none.
        Checkpoint memory newer = checkpoint(2);
        checkpoints.recordCheckpoint(newer, quorum(checkpoints.checkpointDigest(newer)), "");
        Message memory message = call(3);
        message.inboxConsumed = 1;
        assertState(perform(message, countPayload()), State.PreExecution);
        assertState(handle(call(2), countPayload()), State.Completed);
    }

    function _limit() private returns (RateLimit limit) {
        limit = newLimit(PERIOD, DELAY);
        vm.prank(OWNER);
        limit.setLimit(address(token), 1);
        setModule(address(limit), true, true);
    }

    function _message(uint64 nonce, uint256 amount) private view returns (Message memory message) {
        message = callTo(nonce, address(0xe0a), "");
        message.token = address(token);
        message.amount = amount;
    }

    function _withdraw(uint64 nonce, uint256 amount) private returns (State) {
        return perform(_message(nonce, amount), "");
    }

    function _mint(uint64 nonce, PlainToken minted, uint256 amount) private returns (State) {
        bytes memory payload = abi.encodeCall(PlainToken.mint, (USER, amount));
        return perform(callTo(nonce, address(minted), payload), payload);
    }
}
