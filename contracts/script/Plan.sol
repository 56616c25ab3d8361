// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Bridge} from "../src/Bridge.sol";
import {CheckpointRegistry} from "../src/CheckpointRegistry.sol";
import {TeeKeyManager} from "../src/attestation/TeeKeyManager.sol";
import {IModuleCheckRegistry} from "../src/interfaces/IModuleCheckRegistry.sol";
import {ITeeKeyManager} from "../src/interfaces/ITeeKeyManager.sol";
import {CheckpointFreshness} from "../src/modules/CheckpointFreshness.sol";
import {MessageOrdering} from "../src/modules/MessageOrdering.sol";
import {RateLimit} from "../src/modules/RateLimit.sol";
import {BridgeSettings} from "../src/types/BridgeSettings.sol";
import {vm} from "../test/support/Vm.sol";
import {Configuration} from "./Configuration.sol";

/// @notice A contract that is deployed.
struct Part {
    /// Its name in the source.
    string name;
    /// Where it is, which follows from what it is made by.
    address where;
    /// What makes it: the code of its constructor and the arguments. Empty for what the bridge makes.
    bytes initCode;
}

/// @notice All parts, and what must be set after them.
struct Parts {
    Part[] all;
    address timelock;
    address keyManager;
    address checkpointRegistry;
    address bridge;
    address executor;
    address moduleCheckRegistry;
    address messageOrdering;
    address checkpointFreshness;
    address rateLimit;
    /// What the installer sets.
    IModuleCheckRegistry.Entry[] modules;
}

/// @title What is deployed where, before anything is
/// @notice Every contract, but the two that the bridge makes, is made by CREATE2 through the factory that most chains have, so its address is a hash of its constructor and all
/// arguments: whoever finds code at that address knows what state it began with. Everything is owned by the timelock from its first
/// block on; nothing is handed over.
library Plan {
    /// The factory that `new` with a salt uses in scripts.
    address internal constant FACTORY = 0x4e59b44847b379578588920cA78FbF26c0B4956C;
    /// How many parts there are at most.
    uint256 private constant PARTS_MAX = 9;

    /// @notice The plan of a configuration.
    function partsOf(Configuration memory c) internal pure returns (Parts memory p) {
        p.all = new Part[](PARTS_MAX);
        uint256 count;
        bytes32 salt = saltOf(c);
        address[] memory anyone = new address[](1);
        p.timelock = _add(
            p,
            count++,
            salt,
            "TimelockController",
            type(TimelockController).creationCode,
            abi.encode(c.delay, c.proposers, anyone, address(0))
        );
        p.keyManager = _add(
            p,
            count++,
            salt,
            "TeeKeyManager",
            type(TeeKeyManager).creationCode,
            abi.encode(p.timelock, c.stream, c.keyLife, c.threshold, c.verifiers, c.images)
        );
        p.checkpointRegistry = _add(p, count++, salt, "CheckpointRegistry", type(CheckpointRegistry).creationCode, abi.encode(p.keyManager));
        p.bridge = _add(p, count++, salt, "Bridge", type(Bridge).creationCode, abi.encode(settingsOf(c, p)));
        // The bridge makes these two, in this order.
        p.executor = vm.computeCreateAddress(p.bridge, 1);
        p.moduleCheckRegistry = vm.computeCreateAddress(p.bridge, 2);
        p.all[count++] = Part("Executor", p.executor, "");
        p.all[count++] = Part("ModuleCheckRegistry", p.moduleCheckRegistry, "");
        count = _modules(c, p, count, salt);
        p.all = _first(p.all, count);
    }

    /// @notice One configuration is deployed once on a chain; another salt deploys it again.
    function saltOf(Configuration memory c) internal pure returns (bytes32) {
        return keccak256(abi.encode(c.stream, c.salt));
    }

    /// @notice What the bridge is made with.
    function settingsOf(Configuration memory c, Parts memory p) internal pure returns (BridgeSettings memory) {
        address[] memory denied = new address[](2);
        (denied[0], denied[1]) = (p.checkpointRegistry, p.timelock);
        return BridgeSettings(p.timelock, c.guardian, ITeeKeyManager(p.keyManager), c.wrappedNative, c.installer, c.tokens, denied);
    }

    /// What is asked first is what costs least; the limit is last, so nothing is queued that another module refuses.
    function _modules(Configuration memory c, Parts memory p, uint256 count, bytes32 salt) private pure returns (uint256) {
        IModuleCheckRegistry.Entry[] memory entries = new IModuleCheckRegistry.Entry[](3);
        uint256 used;
        if (c.orderedFrom != 0) {
            bytes memory arguments = abi.encode(p.moduleCheckRegistry, p.bridge, c.orderedFrom);
            p.messageOrdering = _add(p, count++, salt, "MessageOrdering", type(MessageOrdering).creationCode, arguments);
            entries[used++] = IModuleCheckRegistry.Entry(p.messageOrdering, true, false);
        }
        if (c.checkpointAgeMsMax != 0) {
            bytes memory arguments = abi.encode(p.moduleCheckRegistry, p.checkpointRegistry, c.checkpointAgeMsMax);
            p.checkpointFreshness = _add(p, count++, salt, "CheckpointFreshness", type(CheckpointFreshness).creationCode, arguments);
            entries[used++] = IModuleCheckRegistry.Entry(p.checkpointFreshness, true, false);
        }
        if (c.limitPeriod != 0) {
            bytes memory arguments = abi.encode(p.moduleCheckRegistry, p.timelock, c.wrappedNative, c.limitPeriod, c.limitDelay, c.limits);
            p.rateLimit = _add(p, count++, salt, "RateLimit", type(RateLimit).creationCode, arguments);
            entries[used++] = IModuleCheckRegistry.Entry(p.rateLimit, true, true);
        }
        p.modules = new IModuleCheckRegistry.Entry[](used);
        for (uint256 i = 0; i < used; i++) {
            p.modules[i] = entries[i];
        }
        return count;
    }

    function _add(Parts memory p, uint256 index, bytes32 salt, string memory name, bytes memory creationCode, bytes memory arguments)
        private
        pure
        returns (address where)
    {
        bytes memory initCode = bytes.concat(creationCode, arguments);
        where = vm.computeCreate2Address(salt, keccak256(initCode), FACTORY);
        p.all[index] = Part(name, where, initCode);
    }

    function _first(Part[] memory all, uint256 count) private pure returns (Part[] memory some) {
        some = new Part[](count);
        for (uint256 i = 0; i < count; i++) {
            some[i] = all[i];
        }
    }
}
