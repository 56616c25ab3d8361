// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Message} from "../types/Message.sol";
import {Phase, Verdict} from "../types/State.sol";

/// @title The modules of a bridge, in order
/// @notice Asks the modules of a phase one after the other and stops at the first that does not pass.
interface IModuleCheckRegistry {
    /// A module and the phases in which it is asked.
    struct Entry {
        address module;
        bool inPre;
        bool inPost;
    }

    /// The modules, in their order, are now these.
    event ModulesSet(Entry[] modules);

    /// Only the bridge asks.
    error NotBridge(address caller);
    /// More modules than a message can pay for.
    error TooManyModules(uint256 given, uint256 max);
    /// There is no contract at the address.
    error NoCode(address account);
    /// The module stands twice.
    error ModuleTwice(address module);
    /// The module would never be asked.
    error ModuleInNoPhase(address module);

    /// @notice Replaces the modules. The owner's; and the installer's, as long as nobody has set any. At most `MODULES_MAX`, none twice; an empty list is allowed: the quorum is no module.
    function setModules(Entry[] calldata entries) external;

    /// @notice Asks all modules of a phase. The bridge's.
    /// @return verdict Pass, or what the first module said that did not pass.
    /// @return module That module, or zero.
    function checkMessage(Message calldata message, Phase phase) external returns (Verdict verdict, address module);

    /// @notice The modules, in order.
    function modules() external view returns (Entry[] memory);

    /// @notice Who may set the modules the first time, or zero once somebody has.
    function installer() external view returns (address);

    /// @notice The bridge that asks.
    function bridge() external view returns (address);
}
