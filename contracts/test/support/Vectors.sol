// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {vm} from "./Vm.sol";

/// @notice The vectors that all languages read.
library Vectors {
    function file(string memory name) internal view returns (string memory) {
        return vm.readFile(string.concat("../spec/vectors/", name, ".json"));
    }

    /// Two receipts of one key for one place.
    function equivocation() internal view returns (bytes memory first, bytes memory second, address key) {
        string memory json = file("equivocation");
        first = vm.parseJsonBytes(json, ".first");
        second = vm.parseJsonBytes(json, ".second");
        key = vm.parseJsonAddress(json, ".key");
    }
}
