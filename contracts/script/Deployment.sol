// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Bridge} from "../src/Bridge.sol";
import {CheckpointRegistry} from "../src/CheckpointRegistry.sol";
import {ModuleCheckRegistry} from "../src/ModuleCheckRegistry.sol";
import {TeeKeyManager} from "../src/attestation/TeeKeyManager.sol";
import {IModuleCheckRegistry} from "../src/interfaces/IModuleCheckRegistry.sol";
import {CheckpointFreshness} from "../src/modules/CheckpointFreshness.sol";
import {MessageOrdering} from "../src/modules/MessageOrdering.sol";
import {RateLimit} from "../src/modules/RateLimit.sol";
import {Role} from "../src/types/Key.sol";
import {vm} from "../test/support/Vm.sol";
import {Configuration, Configurations} from "./Configuration.sol";
import {Part, Record} from "./Record.sol";

/// @title Deploys a bridge with all that belongs to it
/// @notice When it ends a timelock owns everything, its delay is in force, and who deployed has no privilege left. Nothing has to be accepted
/// or set later; messages are executed as soon as enough validators have registered.
abstract contract Deployment {
    /// Tells forge that this is a script.
    bool public constant IS_SCRIPT = true;

    /// A field of the configuration has a value that nothing can be deployed with.
    error ConfigurationUnfit(string field);

    Part[] private _parts;

    /// @notice Deploys, and records where what is. Every transaction is the sender's.
    /// @param json The configuration.
    function _deploy(string memory json) internal {
        Configuration memory c = Configurations.parse(json, "");
        _check(c);
        vm.startBroadcast();
        TimelockController timelock = _timelock(c.proposers);
        TeeKeyManager keys = _keys(c);
        CheckpointRegistry checkpoints = new CheckpointRegistry(keys);
        _parts.push(Part("CheckpointRegistry", address(checkpoints), abi.encode(keys)));
        Bridge bridge = _bridge(c, keys, checkpoints, timelock);
        Ownable2Step limit = _modules(c, bridge, checkpoints);
        _handOver(c, timelock, keys, bridge, limit);
        vm.stopBroadcast();
        Record.write(c.stream, json, _parts);
    }

    /// The deployer may propose until all is handed over. Anyone may execute what is due.
    function _timelock(address[] memory proposers) private returns (TimelockController timelock) {
        address[] memory all = new address[](proposers.length + 1);
        for (uint256 i = 0; i < proposers.length; i++) {
            all[i] = proposers[i];
        }
        all[proposers.length] = msg.sender;
        address[] memory anyone = new address[](1);
        timelock = new TimelockController(0, all, anyone, msg.sender);
        _parts.push(Part("TimelockController", address(timelock), abi.encode(0, all, anyone, msg.sender)));
    }

    function _keys(Configuration memory c) private returns (TeeKeyManager keys) {
        keys = new TeeKeyManager(msg.sender, c.stream, c.keyLife, c.threshold);
        _parts.push(Part("TeeKeyManager", address(keys), abi.encode(msg.sender, c.stream, c.keyLife, c.threshold)));
        for (uint256 i = 0; i < c.verifiers.length; i++) {
            keys.admitVerifier(c.verifiers[i]);
        }
        for (uint256 i = 0; i < c.images.length; i++) {
            keys.admitImage(c.images[i].digest, c.images[i].role);
        }
    }

    function _bridge(Configuration memory c, TeeKeyManager keys, CheckpointRegistry checkpoints, TimelockController timelock)
        private
        returns (Bridge bridge)
    {
        address[] memory denied = new address[](2);
        (denied[0], denied[1]) = (address(checkpoints), address(timelock));
        bridge = new Bridge(msg.sender, c.guardian, keys, c.wrappedNative, denied);
        _parts.push(Part("Bridge", address(bridge), abi.encode(msg.sender, c.guardian, keys, c.wrappedNative, denied)));
        _parts.push(Part("Executor", bridge.executor(), abi.encode(bridge)));
        _parts.push(Part("ModuleCheckRegistry", address(bridge.MODULES()), abi.encode(bridge, msg.sender)));
    }

    /// What is asked first is what costs least; the limit is last, so nothing is queued that another module refuses.
    function _modules(Configuration memory c, Bridge bridge, CheckpointRegistry checkpoints) private returns (Ownable2Step) {
        ModuleCheckRegistry registry = ModuleCheckRegistry(address(bridge.MODULES()));
        IModuleCheckRegistry.Entry[] memory entries = new IModuleCheckRegistry.Entry[](3);
        uint256 count;
        if (c.orderedFrom != 0) {
            MessageOrdering ordering = new MessageOrdering(address(registry), bridge, c.orderedFrom);
            _parts.push(Part("MessageOrdering", address(ordering), abi.encode(registry, bridge, c.orderedFrom)));
            entries[count++] = IModuleCheckRegistry.Entry(address(ordering), true, false);
        }
        if (c.checkpointAgeMsMax != 0) {
            CheckpointFreshness fresh = new CheckpointFreshness(address(registry), checkpoints, c.checkpointAgeMsMax);
            _parts.push(Part("CheckpointFreshness", address(fresh), abi.encode(registry, checkpoints, c.checkpointAgeMsMax)));
            entries[count++] = IModuleCheckRegistry.Entry(address(fresh), true, false);
        }
        RateLimit limit;
        if (c.limitPeriod != 0) {
            limit = new RateLimit(address(registry), msg.sender, c.wrappedNative, c.limitPeriod, c.limitDelay);
            _parts.push(Part("RateLimit", address(limit), abi.encode(registry, msg.sender, c.wrappedNative, c.limitPeriod, c.limitDelay)));
            for (uint256 i = 0; i < c.limits.length; i++) {
                limit.setLimit(c.limits[i].token, c.limits[i].perSecond);
            }
            entries[count++] = IModuleCheckRegistry.Entry(address(limit), true, true);
        }
        IModuleCheckRegistry.Entry[] memory used = new IModuleCheckRegistry.Entry[](count);
        for (uint256 i = 0; i < count; i++) {
            used[i] = entries[i];
        }
        registry.setModules(used);
        return limit;
    }

    /// The timelock accepts what it is given and takes its delay, in one batch while it has none; then the deployer leaves it.
    function _handOver(Configuration memory c, TimelockController timelock, TeeKeyManager keys, Bridge bridge, Ownable2Step limit) private {
        Ownable2Step[4] memory owned = [Ownable2Step(keys), bridge, Ownable2Step(address(bridge.MODULES())), limit];
        uint256 count = address(limit) == address(0) ? 3 : 4;
        address[] memory targets = new address[](count + 1);
        bytes[] memory payloads = new bytes[](count + 1);
        for (uint256 i = 0; i < count; i++) {
            owned[i].transferOwnership(address(timelock));
            (targets[i], payloads[i]) = (address(owned[i]), abi.encodeCall(Ownable2Step.acceptOwnership, ()));
        }
        (targets[count], payloads[count]) = (address(timelock), abi.encodeCall(TimelockController.updateDelay, (c.delay)));
        uint256[] memory values = new uint256[](count + 1);
        timelock.scheduleBatch(targets, values, payloads, 0, 0, 0);
        timelock.executeBatch(targets, values, payloads, 0, 0);

        bool isProposer;
        for (uint256 i = 0; i < c.proposers.length; i++) {
            isProposer = isProposer || c.proposers[i] == msg.sender;
        }
        if (!isProposer) {
            timelock.renounceRole(timelock.PROPOSER_ROLE(), msg.sender);
            timelock.renounceRole(timelock.CANCELLER_ROLE(), msg.sender);
        }
        timelock.renounceRole(timelock.DEFAULT_ADMIN_ROLE(), msg.sender);
    }

    /// What the contracts themselves do not refuse, because there it may make sense.
    function _check(Configuration memory c) private view {
        if (c.stream == 0) revert ConfigurationUnfit("stream");
        if (c.keyLife == 0) revert ConfigurationUnfit("keyLife");
        if (c.guardian == address(0)) revert ConfigurationUnfit("guardian");
        if (c.wrappedNative.code.length == 0) revert ConfigurationUnfit("wrappedNative");
        if (c.proposers.length == 0) revert ConfigurationUnfit("proposers");
        if (c.verifiers.length == 0) revert ConfigurationUnfit("verifiers");
        if (c.limitPeriod == 0 && c.limits.length != 0) revert ConfigurationUnfit("limitPeriod");
        bool hasSequencer;
        bool hasValidator;
        for (uint256 i = 0; i < c.images.length; i++) {
            if (c.images[i].role == Role.Sequencer) hasSequencer = true;
            if (c.images[i].role == Role.Validator) hasValidator = true;
        }
        if (!hasSequencer || !hasValidator) revert ConfigurationUnfit("images");
    }
}
