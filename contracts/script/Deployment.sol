// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ModuleCheckRegistry} from "../src/ModuleCheckRegistry.sol";
import {vm} from "../test/support/Vm.sol";
import {Configuration, Configurations} from "./Configuration.sol";
import {Part, Parts, Plan} from "./Plan.sol";
import {Record} from "./Record.sol";

/// @title Deploys a bridge with all that belongs to it
/// @notice A timelock with its delay in force owns everything from the start. Who deploys has one privilege, to set the modules the first time,
/// and uses it up here. Messages are executed as soon as enough validators have registered.
abstract contract Deployment {
    /// Tells forge that this is a script.
    bool public constant IS_SCRIPT = true;

    /// The chain has no factory at the address that is the same on most chains.
    error FactoryMissing(address where);
    /// The factory made nothing: the constructor reverted. `cast run` of the transaction says why.
    error NotDeployed(string name);

    /// @notice Deploys, and records where what is. Every transaction is the sender's. What is there already, from a run that was cut off, is
    /// left as it is.
    /// @param json The configuration.
    function _deploy(string memory json) internal {
        Configuration memory c = Configurations.parse(json, "");
        Configurations.requireFit(c);
        if (c.installer != msg.sender) revert Configurations.ConfigurationUnfit("installer", "be who sends the transactions");
        if (Plan.FACTORY.code.length == 0) revert FactoryMissing(Plan.FACTORY);
        Parts memory p = Plan.partsOf(c);
        bytes32 salt = Plan.saltOf(c);
        vm.startBroadcast();
        for (uint256 i = 0; i < p.all.length; i++) {
            Part memory part = p.all[i];
            if (part.initCode.length == 0 || part.where.code.length != 0) continue;
            (bool isDone,) = Plan.FACTORY.call(bytes.concat(salt, part.initCode));
            if (!isDone || part.where.code.length == 0) revert NotDeployed(part.name);
        }
        ModuleCheckRegistry registry = ModuleCheckRegistry(p.moduleCheckRegistry);
        if (registry.installer() == msg.sender) registry.setModules(p.modules);
        vm.stopBroadcast();
        Record.write(c.stream, json, p.all);
    }
}
