// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bridge} from "../../src/Bridge.sol";
import {State} from "../../src/types/State.sol";
import {BridgeHandler, Invariant} from "./Handlers.sol";
import {vm} from "../support/Vm.sol";

/// @notice A final state never changes, and no message rests in the middle.
contract FinalStatesStayInvariant is Invariant {
    BridgeHandler private _on;

    function setUp() public {
        _on = _useBridge();
    }

    function invariant_finalStatesStay() public view {
        (Bridge bridge,,) = _on.bridgeOf();
        vm.assertTrue(!_on.hasFinalChanged());
        for (uint64 nonce = 0; nonce < _on.NONCES(); nonce++) {
            State state = bridge.messageState(nonce);
            vm.assertTrue(state != State.Executing && state != State.PostExecution);
        }
    }
}
