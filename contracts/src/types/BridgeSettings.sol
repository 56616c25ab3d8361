// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ITeeKeyManager} from "../interfaces/ITeeKeyManager.sol";

/// @notice What a bridge is made with.
struct BridgeSettings {
    /// Meant to be a timelock.
    address owner;
    /// Who may pause outbound messages.
    address guardian;
    /// Whose keys count; it names the stream.
    ITeeKeyManager keyManager;
    /// The wrapped native currency, which is always taken.
    address wrappedNative;
    /// Who sets the modules the first time. They name the bridge and its registry, so they come after it.
    address installer;
    /// Tokens that are taken from the start.
    address[] tokens;
    /// Targets to deny from the start, as the checkpoint registry.
    address[] denied;
}
