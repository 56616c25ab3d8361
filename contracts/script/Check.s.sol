// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Bridge} from "../src/Bridge.sol";
import {ModuleCheckRegistry} from "../src/ModuleCheckRegistry.sol";
import {TeeKeyManager} from "../src/attestation/TeeKeyManager.sol";
import {IModuleCheckRegistry} from "../src/interfaces/IModuleCheckRegistry.sol";
import {RateLimit} from "../src/modules/RateLimit.sol";
import {Image} from "../src/types/Key.sol";
import {Vm, vm} from "../test/support/Vm.sol";
import {Configuration, Configurations} from "./Configuration.sol";
import {Part, Parts, Plan} from "./Plan.sol";
import {Record} from "./Record.sol";

/// @title Whether what is deployed is what this source makes of a configuration, and nobody has changed it since
/// @notice Reads the chain and sends nothing. Reverts at the first that differs.
///
/// 1. Every contract is at the address that follows from its constructor and arguments as this source and the configuration have them, so it
///    began in the state that they say; and its code is the one that was recorded.
/// 2. The timelock, which alone could have changed that state, was never asked for anything since: it has scheduled no operation.
/// 3. The modules, which the installer sets, are those of the configuration.
/// 4. What can be asked is asked all the same: owners, guardian, threshold, verifiers, images, tokens, limits, switches.
///
/// The configuration is what `SYNDDB_DEPLOY` names, for whoever has an opinion of their own; otherwise that of the record.
///
///     SYNDDB_STREAM=0x.. SYNDDB_DEPLOY=deploy.json forge script script/Check.s.sol --rpc-url URL
contract Check {
    /// Tells forge that this is a script.
    bool public constant IS_SCRIPT = true;

    /// There is no code at the address that follows from the configuration.
    error NotDeployed(string name, address where);
    /// The record says another address than follows from the configuration.
    error RecordDiffers(string name, address recorded, address planned);
    /// The code at the address is not the one that was recorded.
    error CodeDiffers(string name, address where, bytes32 found, bytes32 recorded);
    /// Something is not as the configuration says.
    error SettingDiffers(string what);
    /// The record's block is later than the timelock, or the chain counts blocks otherwise: what happened before it would not be seen.
    error BirthNotSeen(address timelock, uint256 since);
    /// The timelock was asked for something: what holds now is what was deployed and these operations.
    error OperationsScheduled(uint256 count);

    function run() external view {
        bytes32 stream = vm.envBytes32("SYNDDB_STREAM");
        (string memory json, Configuration memory c) = Record.read(stream);
        string memory own = vm.envOr("SYNDDB_DEPLOY", string(""));
        if (bytes(own).length != 0) c = Configurations.parse(vm.readFile(own), "");
        _require(c.stream == stream, "stream of the configuration");
        Configurations.requireFit(c);
        Parts memory p = Plan.partsOf(c);
        for (uint256 i = 0; i < p.all.length; i++) {
            _checkPart(p.all[i], json, stream);
        }
        _checkTimelock(c, p, Record.blockOf(json, stream));
        _checkKeys(c, p);
        _checkBridge(c, p);
        _checkModules(c, p);
    }

    function _checkPart(Part memory part, string memory json, bytes32 stream) private view {
        (address recorded, bytes32 codeHash) = Record.part(json, stream, part.name);
        if (recorded != part.where) revert RecordDiffers(part.name, recorded, part.where);
        if (part.where.code.length == 0) revert NotDeployed(part.name, part.where);
        bytes32 found = part.where.codehash;
        if (found != codeHash) revert CodeDiffers(part.name, part.where, found, codeHash);
    }

    function _checkTimelock(Configuration memory c, Parts memory p, uint256 since) private view {
        TimelockController timelock = TimelockController(payable(p.timelock));
        // Only its constructor was called by the factory, so the range that is looked at begins before the timelock did.
        Vm.EthGetLogs[] memory granted = _logs(IAccessControl.RoleGranted.selector, p.timelock, since);
        bool isWhole;
        for (uint256 i = 0; i < granted.length; i++) {
            isWhole = isWhole || address(uint160(uint256(granted[i].topics[3]))) == Plan.FACTORY;
        }
        if (!isWhole) revert BirthNotSeen(p.timelock, since);
        uint256 count = _logs(TimelockController.CallScheduled.selector, p.timelock, since).length;
        if (count != 0) revert OperationsScheduled(count);
        _require(timelock.getMinDelay() == c.delay, "delay of the timelock");
        for (uint256 i = 0; i < c.proposers.length; i++) {
            _require(timelock.hasRole(timelock.PROPOSER_ROLE(), c.proposers[i]), "proposers");
            _require(timelock.hasRole(timelock.CANCELLER_ROLE(), c.proposers[i]), "cancellers");
        }
        _require(timelock.hasRole(timelock.EXECUTOR_ROLE(), address(0)), "that anyone may execute");
        _require(!timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), c.installer), "installer over the timelock");
    }

    function _checkKeys(Configuration memory c, Parts memory p) private view {
        TeeKeyManager keys = TeeKeyManager(p.keyManager);
        _requireOwned(keys, p, "owner of the keys");
        _require(keys.configuredThreshold() == c.threshold, "threshold");
        for (uint256 i = 0; i < c.verifiers.length; i++) {
            (bool isAdmitted,) = keys.verifierOf(c.verifiers[i].verifier);
            _require(isAdmitted, "verifiers");
            _require(c.verifiers[i].verifier.codehash == c.verifiers[i].codeHash, "code of verifiers");
        }
        for (uint16 i = 0; i < c.images.length; i++) {
            Image memory image = keys.imageOf(i + 1);
            _require(image.digest == c.images[i].digest && image.role == c.images[i].role, "images");
            _require(!keys.isImageRemoved(i + 1), "removed images");
        }
        _require(keys.imageOf(uint16(c.images.length + 1)).digest == 0, "images beyond the configuration");
    }

    function _checkBridge(Configuration memory c, Parts memory p) private view {
        Bridge bridge = Bridge(payable(p.bridge));
        _requireOwned(bridge, p, "owner of the bridge");
        _require(bridge.executor() == p.executor && address(bridge.MODULES()) == p.moduleCheckRegistry, "parts of the bridge");
        _require(bridge.guardian() == c.guardian, "guardian");
        Bridge.Switches memory switches = bridge.switches();
        _require(!switches.depositsPaused && !switches.exitsPaused, "deposits or exits are paused");
        _require(switches.outboundPausedUntil <= block.timestamp, "outbound messages are paused");
        for (uint256 i = 0; i < c.tokens.length; i++) {
            _require(bridge.isTokenAdmitted(c.tokens[i]), "tokens");
        }
        for (uint256 i = 0; i < c.verifiers.length; i++) {
            _require(bridge.isTargetDenied(c.verifiers[i].verifier), "denied verifiers");
        }
        address[5] memory denied = [p.bridge, p.moduleCheckRegistry, p.keyManager, p.checkpointRegistry, p.timelock];
        for (uint256 i = 0; i < denied.length; i++) {
            _require(bridge.isTargetDenied(denied[i]), "denied targets");
        }
    }

    function _checkModules(Configuration memory c, Parts memory p) private view {
        ModuleCheckRegistry registry = ModuleCheckRegistry(p.moduleCheckRegistry);
        _requireOwned(registry, p, "owner of the module registry");
        _require(registry.installer() == address(0), "modules are not set yet");
        IModuleCheckRegistry.Entry[] memory entries = registry.modules();
        _require(keccak256(abi.encode(entries)) == keccak256(abi.encode(p.modules)), "modules");
        if (p.rateLimit == address(0)) return;
        RateLimit limit = RateLimit(p.rateLimit);
        _requireOwned(limit, p, "owner of the limit");
        for (uint256 i = 0; i < c.limits.length; i++) {
            _require(limit.flowOf(c.limits[i].token) == c.limits[i].perSecond, "limits");
        }
    }

    function _logs(bytes32 topic, address emitter, uint256 since) private view returns (Vm.EthGetLogs[] memory) {
        bytes32[] memory topics = new bytes32[](1);
        topics[0] = topic;
        return vm.eth_getLogs(since, block.number, emitter, topics);
    }

    function _requireOwned(Ownable2Step owned, Parts memory p, string memory what) private view {
        _require(owned.owner() == p.timelock && owned.pendingOwner() == address(0), what);
    }

    function _require(bool isSo, string memory what) private pure {
        if (!isSo) revert SettingDiffers(what);
    }
}
