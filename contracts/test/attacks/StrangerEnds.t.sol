// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBridge} from "../../src/interfaces/IBridge.sol";
import {RateLimit} from "../../src/modules/RateLimit.sol";
import {Message} from "../../src/types/Message.sol";
import {KeyState} from "../../src/types/Key.sol";
import {State} from "../../src/types/State.sol";
import {Fixture} from "../support/Fixture.sol";
import {LogSigner} from "../support/LogSigner.sol";
import {PlainToken} from "../support/Tokens.sol";
import {vm} from "../support/Vm.sol";

/// @notice Says that it transferred, and did not, as tokens do that block without reverting.
contract SilentToken is PlainToken {
    bool public isSilent;

    function setSilent(bool isSilent_) external {
        isSilent = isSilent_;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        return isSilent || super.transfer(to, amount);
    }
}

/// @notice Takes native currency only once it is open.
contract Gate {
    bool public isOpen;

    function open() external {
        isOpen = true;
    }

    receive() external payable {
        require(isOpen);
    }
}

/// @notice Somebody without keys makes what was signed end in another way, or has what was signed by keys that are gone.
contract StrangerEndsAttack is Fixture {
    address private constant ATTACKER = address(0xbadbad);

    /// One unit in custody would deny the token as a target for ever.
    function test_attack_oneUnitOfATarget_isNotTaken() public {
        PlainToken minted = new PlainToken();
        minted.mint(ATTACKER, 1);
        vm.startPrank(ATTACKER);
        minted.approve(address(bridge), 1);
        vm.expectRevert(abi.encodeWithSelector(IBridge.TokenNotAdmitted.selector, minted));
        bridge.deposit(address(minted), 1, "");
        vm.stopPrank();
        bytes memory payload = abi.encodeCall(PlainToken.mint, (USER, 1_000_000));
        assertState(perform(callTo(1, address(minted), payload), payload), State.Completed);
        vm.assertEq(minted.balanceOf(USER), 1_000_000);
    }

    /// Whoever brings one message of a batch first does not undo the batch.
    function test_attack_oneOfABatchFirst_restIsExecuted() public {
        Message[] memory messages = new Message[](4);
        bytes[] memory payloads = new bytes[](4);
        bytes[] memory sequencers = new bytes[](4);
        bytes[] memory all = new bytes[](4);
        for (uint64 i = 0; i < 4; i++) {
            messages[i] = call(1 + i);
            bytes32 digest = bridge.messageDigest(messages[i]);
            (payloads[i], sequencers[i], all[i]) = (countPayload(), sign(SEQUENCER, digest), quorum(digest));
        }
        vm.prank(ATTACKER);
        bridge.initializeAndHandleMessage(messages[3], payloads[3], sequencers[3], all[3]);
        State[] memory states = bridge.initializeAndHandleMessages(messages, payloads, sequencers, all);
        for (uint256 i = 0; i < 4; i++) {
            // Of the last this call says nothing: somebody else ended it, with whatever content.
            assertState(states[i], i == 3 ? State.NotStarted : State.Completed);
            assertState(bridge.messageState(messages[i].nonce), State.Completed);
        }
        vm.assertEq(counter.calls(), 4);
        states = bridge.handleMessages(messages, payloads, all);
        assertState(states[0], State.NotStarted);
        bridge.initializeMessages(messages, sequencers);
        vm.assertEq(counter.calls(), 4);
    }

    /// A transfer that moves nothing leaves the message to be retried.
    function test_attack_tokenMovesNothing_fails() public {
        SilentToken silent = new SilentToken();
        bring(address(silent), 1000);
        silent.setSilent(true);
        Message memory message = callTo(1, USER, "");
        (message.token, message.amount) = (address(silent), 1000);
        assertState(perform(message, ""), State.Failed);
        silent.setSilent(false);
        assertState(bridge.retryMessage(message, ""), State.Completed);
        vm.assertEq(silent.balanceOf(USER), 1000);
    }

    /// Whoever has keys for a minute makes messages that fail, and retries them when the keys are gone.
    function test_attack_failedOutlivesKeys_reverts() public {
        RateLimit limit = newLimit(1 days, 1 days);
        vm.prank(OWNER);
        limit.setLimit(address(weth), uint104(uint256(10 ether) / 1 days));
        setModule(address(limit), true, true);
        Gate thief = new Gate();
        Message memory stolen = callTo(1, address(thief), "");
        (stolen.value, stolen.deadline) = (limit.levelOf(address(weth)), type(uint64).max);
        assertState(perform(stolen, ""), State.Failed);
        (bytes memory sequencer, bytes memory all) = signed(stolen);
        vm.startPrank(OWNER);
        keys.removeImage(1);
        keys.removeImage(2);
        vm.stopPrank();
        vm.warp(block.timestamp + 365 days);
        thief.open();
        vm.expectRevert(abi.encodeWithSelector(IBridge.AuthorizationStale.selector, 1));
        bridge.retryMessage(stolen, "");
        vm.expectRevert();
        bridge.initializeAndHandleMessage(stolen, "", sequencer, all);
        vm.assertEq(address(thief).balance, 0);
    }

    function test_attack_failedOutlivesSequencer_reverts() public {
        counter.setFailing(true);
        Message memory message = call(1);
        assertState(perform(message, countPayload()), State.Failed);
        vm.prank(OWNER);
        keys.revokeKey(vm.addr(SEQUENCER));
        counter.setFailing(false);
        vm.expectRevert(abi.encodeWithSelector(IBridge.AuthorizationStale.selector, 1));
        bridge.retryMessage(message, countPayload());
    }

    /// A key whose time is over signed while it counted.
    function test_retryMessage_afterKeysExpired_isExecuted() public {
        counter.setFailing(true);
        Message memory message = call(1);
        message.deadline = type(uint64).max;
        assertState(perform(message, countPayload()), State.Failed);
        vm.warp(block.timestamp + KEY_LIFE + 1);
        keys.retireKey(vm.addr(SEQUENCER));
        keys.retireKey(vm.addr(validators[0]));
        counter.setFailing(false);
        assertState(bridge.retryMessage(message, countPayload()), State.Completed);
    }

    /// Who stole a key lets it be noted that its time is over, before anybody revokes it: it can be revoked and reported still.
    function test_attack_retiredBeforeRevoked_isRevokedStill() public {
        counter.setFailing(true);
        Message memory message = call(1);
        message.deadline = type(uint64).max;
        assertState(perform(message, countPayload()), State.Failed);
        vm.warp(block.timestamp + KEY_LIFE + 1);
        for (uint256 i = 0; i < VALIDATORS; i++) {
            keys.retireKey(vm.addr(validators[i]));
        }
        vm.assertEq(keys.validatorCount(), 0);
        uint32 before = keys.endings();
        vm.prank(OWNER);
        keys.revokeKey(vm.addr(validators[0]));
        keys.reportEquivocation(
            LogSigner.receipt(validators[1], STREAM, 1, 5, keccak256("a")), LogSigner.receipt(validators[1], STREAM, 1, 5, keccak256("b"))
        );
        vm.assertEq(keys.validatorCount(), 0);
        vm.assertEq(keys.endings(), before + 2);
        vm.expectRevert(abi.encodeWithSelector(IBridge.AuthorizationStale.selector, 1));
        bridge.retryMessage(message, countPayload());
    }

    /// Who ends their own key first does not undo the owner's batch.
    function test_attack_ownKeyFrozenFirst_revocationIsNoRevert() public {
        address key = vm.addr(validators[0]);
        keys.reportEquivocation(
            LogSigner.receipt(validators[0], STREAM, 1, 5, keccak256("a")), LogSigner.receipt(validators[0], STREAM, 1, 5, keccak256("b"))
        );
        uint32 before = keys.endings();
        vm.startPrank(OWNER);
        keys.revokeKey(key);
        keys.revokeKey(vm.addr(validators[1]));
        vm.stopPrank();
        vm.assertEq(uint256(keys.keyOf(key).state), uint256(KeyState.Frozen));
        vm.assertEq(keys.endings(), before + 1);
        vm.assertEq(keys.validatorCount(), VALIDATORS - 2);
    }

    /// To note that its time is over needs nobody, so who waits for that is told.
    function test_retryMessage_staleAfterDeadline_expires() public {
        counter.setFailing(true);
        Message memory message = call(1);
        assertState(perform(message, countPayload()), State.Failed);
        vm.prank(OWNER);
        keys.revokeKey(vm.addr(validators[0]));
        vm.warp(message.deadline + 1);
        assertState(bridge.retryMessage(message, countPayload()), State.Expired);
    }

    /// What fewer signed is signed by too few.
    function test_retryMessage_afterThresholdRose_needsSignatures() public {
        counter.setFailing(true);
        Message memory message = call(1);
        assertState(perform(message, countPayload()), State.Failed);
        vm.prank(OWNER);
        keys.setThreshold(uint32(VALIDATORS));
        vm.expectRevert(abi.encodeWithSelector(IBridge.AuthorizationStale.selector, 1));
        bridge.retryMessage(message, countPayload());
    }

    /// The honest way: who is left authorises the message anew, and then anyone retries it again.
    function test_retryMessage_afterAKeyWasTaken_needsSignatures() public {
        Gate gate = new Gate();
        Message memory message = callTo(1, address(gate), "");
        message.value = 1 ether;
        assertState(perform(message, ""), State.Failed);
        assertState(bridge.retryMessage(message, ""), State.Failed);
        vm.prank(OWNER);
        keys.revokeKey(vm.addr(validators[3]));
        vm.expectRevert(abi.encodeWithSelector(IBridge.AuthorizationStale.selector, 1));
        bridge.retryMessage(message, "");
        // Another message under its nonce is none, however many sign it.
        Message memory other = callTo(1, USER, "");
        (bytes memory sequencer, bytes memory all) = signed(other);
        vm.expectPartialRevert(IBridge.DigestMismatch.selector);
        bridge.initializeAndHandleMessage(other, "", sequencer, all);
        assertState(perform(message, ""), State.Failed);
        assertState(bridge.retryMessage(message, ""), State.Failed);
        gate.open();
        assertState(bridge.retryMessage(message, ""), State.Completed);
        vm.assertEq(address(gate).balance, 1 ether);
    }
}
