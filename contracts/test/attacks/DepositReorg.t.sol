// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBridge} from "../../src/interfaces/IBridge.sol";
import {Message} from "../../src/types/Message.sol";
import {State} from "../../src/types/State.sol";
import {Fixture} from "../support/Fixture.sol";
import {Vm, vm} from "../support/Vm.sol";

/// @notice A deposit is taken back by a reorganisation. Delivering at finality is the follower's; the contract gives it dense nonces in one
/// event, and executes nothing that says it consumed what was not sent here.
contract DepositReorgAttack is Fixture {
    function test_attack_consumedMoreThanSent_reverts() public {
        Message memory message = call(1);
        message.inboxConsumed = bridge.inboundCount() + 1;
        (bytes memory sequencer, bytes memory all) = signed(message);
        vm.expectRevert(abi.encodeWithSelector(IBridge.InboxNotReached.selector, 3, 2));
        bridge.initializeAndHandleMessage(message, countPayload(), sequencer, all);
        // The same message goes through when the deposit is back.
        bridge.sendMessage("again");
        assertState(bridge.initializeAndHandleMessage(message, countPayload(), sequencer, all), State.Completed);
    }

    function test_attack_noncesAreDense() public {
        vm.recordLogs();
        vm.deal(USER, 3 ether);
        token.mint(USER, 10);
        vm.startPrank(USER);
        bridge.sendMessage("a");
        bridge.depositNative{value: 3 ether}("b");
        token.approve(address(bridge), 10);
        bridge.deposit(address(token), 10, "c");
        vm.stopPrank();
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 seen = 2;
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].topics[0] != IBridge.InboundMessageSent.selector) continue;
            seen++;
            vm.assertEq(uint256(logs[i].topics[1]), seen);
            vm.assertEq(address(uint160(uint256(logs[i].topics[2]))), USER);
        }
        vm.assertEq(seen, 5);
        vm.assertEq(bridge.inboundCount(), 5);
    }
}
