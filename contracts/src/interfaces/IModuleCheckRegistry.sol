// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Message} from "../types/Message.sol";
import {Phase, Verdict} from "../types/State.sol";

/// @title The modules of a bridge, in order
/// @notice Asks the modules of a phase one after the other and stops at the first that does not pass.
interface IModuleCheckRegistry {
    /// The modules of a phase, in their order, are now these.
    event ModulesSet(Phase indexed phase, address[] modules);

    /// Only the bridge asks.
    error NotBridge(address caller);
    /// More modules than a message can pay for.
    error TooManyModules(uint256 given, uint256 max);
    /// There is no contract at the address.
    error NoCode(address account);
    /// The module stands twice.
    error ModuleTwice(address module);

    /// @notice Replaces the modules of a phase. The owner's. At most `MODULES_MAX`, none twice; an empty list is allowed: the quorum is
    /// no module.
    function setModules(Phase phase, address[] calldata modules) external;

    /// @notice Asks all modules of a phase. The bridge's.
    /// @return verdict Pass, or what the first module said that did not pass.
    /// @return module That module, or zero.
    function checkMessage(Message calldata message, Phase phase) external returns (Verdict verdict, address module);

    /// @notice The modules of a phase, in order.
    function modulesOf(Phase phase) external view returns (address[] memory);

    /// @notice The bridge that asks.
    function bridge() external view returns (address);
}
