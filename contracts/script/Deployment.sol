// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ModuleCheckRegistry} from "../src/ModuleCheckRegistry.sol";
import {Role} from "../src/types/Key.sol";
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

    /// The chain of anvil, where delays may be zero.
    uint256 public constant LOCAL_CHAIN_ID = 31_337;

    /// A field of the configuration has a value that nothing can be deployed with; the text says what it must be.
    error ConfigurationUnfit(string field, string must);
    /// The chain has no factory at the address that is the same on most chains.
    error FactoryMissing(address where);
    /// The factory made nothing.
    error NotDeployed(string name);

    /// @notice Deploys, and records where what is. Every transaction is the sender's. What is there already, from a run that was cut off, is
    /// left as it is.
    /// @param json The configuration.
    function _deploy(string memory json) internal {
        Configuration memory c = Configurations.parse(json, "");
        _check(c);
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

    /// What the contracts themselves do not refuse, because elsewhere it may make sense.
    function _check(Configuration memory c) private view {
        if (Plan.FACTORY.code.length == 0) revert FactoryMissing(Plan.FACTORY);
        if (c.stream == 0) revert ConfigurationUnfit("stream", "not be zero");
        if (c.keyLife == 0) revert ConfigurationUnfit("keyLife", "not be zero");
        if (c.guardian == address(0)) revert ConfigurationUnfit("guardian", "not be zero");
        if (c.installer != msg.sender) revert ConfigurationUnfit("installer", "be who sends the transactions");
        if (c.wrappedNative.code.length == 0) revert ConfigurationUnfit("wrappedNative", "be a contract");
        if (c.proposers.length == 0) revert ConfigurationUnfit("proposers", "not be empty");
        if (c.delay == 0 && block.chainid != LOCAL_CHAIN_ID) revert ConfigurationUnfit("delay", "not be zero");
        if (c.verifiers.length == 0) revert ConfigurationUnfit("verifiers", "not be empty");
        if (c.limitPeriod == 0 && c.limits.length != 0) revert ConfigurationUnfit("limitPeriod", "not be zero where there are limits");
        // Whoever sees a message that waits must have the time to stop it through the timelock.
        if (c.limitPeriod != 0 && c.limitDelay <= c.delay) revert ConfigurationUnfit("limitDelay", "be longer than the timelock's delay");
        // One message that waits for the limit would hold up all behind it, one delay after the other.
        if (c.limitPeriod != 0 && c.orderedFrom != 0) revert ConfigurationUnfit("orderedFrom", "be zero where there is a limit");
        bool hasSequencer;
        bool hasValidator;
        for (uint256 i = 0; i < c.images.length; i++) {
            if (c.images[i].role == Role.Sequencer) hasSequencer = true;
            if (c.images[i].role == Role.Validator) hasValidator = true;
        }
        if (!hasSequencer || !hasValidator) revert ConfigurationUnfit("images", "have one for each role");
    }
}
