// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "../support/Fixture.sol";
import {vm} from "../support/Vm.sol";

/// @notice The application's table admits what the bridge takes, and no more: a row never changes, so one that the bridge can only reject is lost.
contract TableTest is Fixture {
    string private constant TABLE = "../crates/sqlite/src/messages.sql";

    function test_gasLimit_ofTheTable_isTheBridges() public view {
        _assertSays(string.concat("gas_limit BETWEEN 0 AND ", vm.toString(uint256(bridge.GAS_LIMIT_MAX())), ")"));
    }

    function test_payload_ofTheTable_isTheBridges() public view {
        _assertSays(string.concat("length(payload) <= ", vm.toString(bridge.PAYLOAD_MAX()), ")"));
    }

    function _assertSays(string memory wanted) private view {
        vm.assertTrue(vm.contains(vm.readFile(TABLE), wanted), wanted);
    }
}
