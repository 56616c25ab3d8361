// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBridge} from "../../src/interfaces/IBridge.sol";
import {Message} from "../../src/types/Message.sol";
import {State} from "../../src/types/State.sol";
import {Fixture} from "../support/Fixture.sol";
import {FeeToken, GreedyToken, NoReturnToken, RebasingToken} from "../support/Tokens.sol";
import {vm} from "../support/Vm.sol";

/// @notice Tokens that take a fee, return nothing, take more than asked, or change balances by themselves.
contract OddTokensAttack is Fixture {
    function test_attack_fee_creditsWhatArrived() public {
        FeeToken fee = new FeeToken();
        bring(address(fee), 1000);
        vm.assertEq(bridge.custodyOf(address(fee)), 990);
        vm.assertEq(fee.balanceOf(address(bridge)), 990);
        // What was never credited cannot be taken.
        assertState(_withdraw(1, address(fee), 991), State.Failed);
        assertState(_withdraw(2, address(fee), 990), State.Completed);
        vm.assertEq(bridge.custodyOf(address(fee)), 0);
    }

    function test_attack_noReturn_works() public {
        NoReturnToken odd = new NoReturnToken();
        bring(address(odd), 1000);
        assertState(_withdraw(1, address(odd), 400), State.Completed);
        vm.assertEq(bridge.custodyOf(address(odd)), 600);
        vm.assertEq(odd.balanceOf(address(bridge)), 600);
    }

    function test_attack_takesMore_isUndone() public {
        GreedyToken greedy = new GreedyToken();
        bring(address(greedy), 1000);
        assertState(_withdraw(1, address(greedy), 400), State.Failed);
        vm.assertEq(greedy.balanceOf(address(bridge)), bridge.custodyOf(address(greedy)));
    }

    function test_attack_rebasing_neverTakesOthers() public {
        RebasingToken rebasing = new RebasingToken();
        bring(address(rebasing), 1000);
        // Growth is nobody's.
        rebasing.rebase(200);
        assertState(_withdraw(1, address(rebasing), 1002), State.Failed);
        // After shrinking, what is left may be taken, and no more.
        rebasing.rebase(50);
        assertState(_withdraw(2, address(rebasing), 501), State.Failed);
        assertState(_withdraw(3, address(rebasing), 500), State.Completed);
    }

    function test_attack_noToken_isUndone() public {
        assertState(_withdraw(1, address(0xdead), 1), State.Failed);
        vm.prank(USER);
        vm.expectRevert(abi.encodeWithSelector(IBridge.TokenNotAdmitted.selector, address(0xdead)));
        bridge.deposit(address(0xdead), 1, "");
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IBridge.NoCode.selector, address(0xdead)));
        bridge.setTokenAdmitted(address(0xdead), true);
    }

    /// Tokens that nobody deposited are no message's, though the bridge holds them.
    function test_attack_uncreditedTokens_stay() public {
        FeeToken stray = new FeeToken();
        stray.mint(address(bridge), 1000);
        assertState(_withdraw(1, address(stray), 1), State.Failed);
    }

    function test_attack_nothingArrives_reverts() public {
        FeeToken fee = new FeeToken();
        admit(address(fee));
        vm.prank(USER);
        vm.expectRevert(abi.encodeWithSelector(IBridge.NothingReceived.selector, address(fee)));
        bridge.deposit(address(fee), 0, "");
    }

    function _withdraw(uint64 nonce, address odd, uint256 amount) private returns (State) {
        Message memory message = callTo(nonce, address(0xe0a), "");
        message.token = odd;
        message.amount = amount;
        return perform(message, "");
    }
}
