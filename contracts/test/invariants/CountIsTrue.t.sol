// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {KeyHandler, Invariant} from "./Handlers.sol";
import {vm} from "../support/Vm.sol";

/// @notice The count of validators is that of the live keys, of images that are not removed; none counts that is not in it.
contract CountIsTrueInvariant is Invariant {
    KeyHandler private _on;

    function setUp() public {
        _on = _useKeys();
    }

    function invariant_countIsTrue() public view {
        (uint256 known, uint256 live) = _on.count();
        vm.assertEq(_on.keysOf().validatorCount(), known);
        vm.assertLe(live, known);
    }
}
