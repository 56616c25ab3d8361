// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {KeyHandler, Invariant} from "./Handlers.sol";
import {vm} from "../support/Vm.sol";

/// @notice Nothing has a quorum with fewer live validators than the threshold, nor without a threshold from 1 to their number.
contract NoQuorumBelowThresholdInvariant is Invariant {
    KeyHandler private _on;

    function setUp() public {
        _on = _useKeys();
    }

    function invariant_noQuorumBelowThreshold() public view {
        (uint256 known, uint256 live) = _on.count();
        try _on.keysOf().validatorThreshold() returns (uint32 threshold) {
            vm.assertTrue(threshold > 0 && threshold <= known);
            vm.assertTrue(!_on.hasQuorum(threshold - 1));
            vm.assertTrue(_on.hasQuorum(threshold) == (live >= threshold));
        } catch {
            vm.assertTrue(!_on.hasQuorum(known));
        }
    }
}
