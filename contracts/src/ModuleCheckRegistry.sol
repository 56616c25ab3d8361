// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IModuleCheckRegistry} from "./interfaces/IModuleCheckRegistry.sol";
import {IValidationModule} from "./interfaces/IValidationModule.sol";
import {Message} from "./types/Message.sol";
import {Phase, Verdict} from "./types/State.sol";

/// @title The modules of a bridge, in order
/// @dev Documentation is in the interface.
contract ModuleCheckRegistry is IModuleCheckRegistry, Ownable2Step {
    /// How many modules a phase has, at most.
    uint256 public constant MODULES_MAX = 8;
    /// @inheritdoc IModuleCheckRegistry
    address public immutable bridge;

    mapping(Phase phase => address[]) private _modules;

    /// @param bridge_ Who asks.
    /// @param owner_ Meant to be a timelock.
    constructor(address bridge_, address owner_) Ownable(owner_) {
        bridge = bridge_;
    }

    /// @inheritdoc IModuleCheckRegistry
    function setModules(Phase phase, address[] calldata modules) external onlyOwner {
        // checks
        if (modules.length > MODULES_MAX) revert TooManyModules(modules.length, MODULES_MAX);
        for (uint256 i = 0; i < modules.length; i++) {
            if (modules[i].code.length == 0) revert NoCode(modules[i]);
            for (uint256 j = 0; j < i; j++) {
                if (modules[i] == modules[j]) revert ModuleTwice(modules[i]);
            }
        }

        // effects
        _modules[phase] = modules;
        emit ModulesSet(phase, modules);
    }

    /// @inheritdoc IModuleCheckRegistry
    function checkMessage(Message calldata message, Phase phase) external returns (Verdict verdict, address module) {
        if (msg.sender != bridge) revert NotBridge(msg.sender);
        address[] storage modules = _modules[phase];
        uint256 count = modules.length;
        for (uint256 i = 0; i < count; i++) {
            module = modules[i];
            verdict = IValidationModule(module).checkMessage(message, phase);
            if (verdict != Verdict.Pass) return (verdict, module);
        }
        return (Verdict.Pass, address(0));
    }

    /// @inheritdoc IModuleCheckRegistry
    function modulesOf(Phase phase) external view returns (address[] memory) {
        return _modules[phase];
    }
}
