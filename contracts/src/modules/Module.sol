// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IValidationModule} from "../interfaces/IValidationModule.sol";

/// @title What all modules share: that only the registry asks
abstract contract Module is IValidationModule {
    /// Who asks.
    address public immutable REGISTRY;

    constructor(address registry) {
        REGISTRY = registry;
    }

    modifier onlyRegistry() {
        if (msg.sender != REGISTRY) revert NotRegistry(msg.sender);
        _;
    }
}
