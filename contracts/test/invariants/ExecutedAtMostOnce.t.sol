// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bridge} from "../../src/Bridge.sol";
import {State} from "../../src/types/State.sol";
import {BridgeHandler, Invariant} from "./Handlers.sol";
import {vm} from "../support/Vm.sol";

/// @notice A message is executed at most once, and then it is Completed.
contract ExecutedAtMostOnceInvariant is Invariant {
    BridgeHandler private _on;

    function setUp() public {
        _on = _useBridge();
    }

    function invariant_executedAtMostOnce() public view {
        (Bridge bridge,,) = _on.bridgeOf();
        for (uint64 nonce = 0; nonce < _on.NONCES(); nonce++) {
            uint256 executions = _on.recorder().executions(nonce);
            vm.assertLe(executions, 1);
            if (executions == 1) vm.assertTrue(bridge.messageState(nonce) == State.Completed);
        }
    }
}
