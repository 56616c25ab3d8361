// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bridge} from "../../src/Bridge.sol";
import {PlainToken, TestWETH} from "../support/Tokens.sol";
import {BridgeHandler, Invariant} from "./Handlers.sol";
import {vm} from "../support/Vm.sol";

/// @notice The bridge holds at least what custody says, of every token; of native currency and its wrapped form together, all of it.
contract CustodyIsCoveredInvariant is Invariant {
    BridgeHandler private _on;

    function setUp() public {
        _on = _useBridge();
    }

    function invariant_custodyIsCovered() public view {
        (Bridge bridge, PlainToken token, TestWETH weth) = _on.bridgeOf();
        vm.assertGe(token.balanceOf(address(bridge)), bridge.custodyOf(address(token)));
        // Both forms of the native currency together, to the last unit: the handler forces none in.
        vm.assertEq(address(bridge).balance + weth.balanceOf(address(bridge)), bridge.custodyOf(address(weth)));
    }
}
