// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bridge} from "../../src/Bridge.sol";
import {BridgeHandler, Invariant} from "./Handlers.sol";
import {vm} from "../support/Vm.sol";

/// @notice The nonces of inbound messages are dense.
contract InboundNoncesAreDenseInvariant is Invariant {
    BridgeHandler private _on;

    function setUp() public {
        _on = _useBridge();
    }

    function invariant_inboundNoncesAreDense() public view {
        (Bridge bridge,,) = _on.bridgeOf();
        vm.assertEq(bridge.inboundCount(), _on.inboundSeen());
    }
}
