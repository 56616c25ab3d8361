// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBridge} from "../../src/interfaces/IBridge.sol";
import {IExecutor} from "../../src/interfaces/IExecutor.sol";
import {Message} from "../../src/types/Message.sol";
import {State} from "../../src/types/State.sol";
import {Fixture} from "../support/Fixture.sol";
import {vm} from "../support/Vm.sol";

/// @notice The bridge calls its own key registry (Poly): a message whose target is a part of the bridge.
contract BridgeCallsItsOwnAttack is Fixture {
    function test_attack_targetIsPartOfBridge_rejected() public {
        address[8] memory targets = [
            address(bridge),
            bridge.executor(),
            address(modules),
            address(keys),
            address(checkpoints),
            address(verifier),
            address(token),
            address(weth)
        ];
        for (uint64 i = 0; i < targets.length; i++) {
            bytes memory payload = abi.encodeWithSignature("setThreshold(uint32)", 1);
            assertState(perform(callTo(i + 1, targets[i], payload), payload), State.Rejected);
        }
        vm.assertEq(keys.validatorThreshold(), THRESHOLD);
    }

    /// A stopped verifier stays denied: keys that it admitted still count.
    function test_attack_targetIsStoppedVerifier_rejected() public {
        vm.prank(OWNER);
        keys.stopVerifier(address(verifier));
        assertState(perform(callTo(1, address(verifier), ""), ""), State.Rejected);
    }

    /// A rejected message stays so, for the same or another content.
    function test_attack_rejectedAgain_reverts() public {
        Message memory message = callTo(1, address(keys), "");
        perform(message, "");
        (bytes memory sequencer, bytes memory all) = signed(message);
        vm.expectRevert(abi.encodeWithSelector(IBridge.StateUnfit.selector, 1, State.Rejected));
        bridge.initializeAndHandleMessage(message, "", sequencer, all);
        vm.expectRevert(abi.encodeWithSelector(IBridge.StateUnfit.selector, 1, State.Rejected));
        bridge.retryMessage(message, "");
    }

    /// Nobody lets always-denied targets through, and the owner cannot allow them.
    function test_attack_ownerAllowsPart_stillDenied() public {
        vm.startPrank(OWNER);
        bridge.setTargetDenied(address(keys), false);
        bridge.setTargetDenied(address(token), false);
        vm.stopPrank();
        vm.assertTrue(bridge.isTargetDenied(address(keys)));
        vm.assertTrue(bridge.isTargetDenied(address(token)));
    }

    /// Even if a part were called, the executor could do nothing there: it is no owner of anything.
    function test_attack_executorHasNoPrivilege_reverts() public {
        address executor = bridge.executor();
        vm.startPrank(executor);
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", executor));
        keys.setThreshold(1);
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", executor));
        bridge.setTargetDenied(address(1), false);
        vm.expectRevert(abi.encodeWithSelector(IBridge.NotSelf.selector, executor));
        bridge.performMessage(call(1), countPayload());
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IExecutor.NotBridge.selector, address(this)));
        IExecutor(executor).execute(address(counter), countPayload(), 1000);
    }
}
