// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Bridge} from "../src/Bridge.sol";
import {CheckpointRegistry} from "../src/CheckpointRegistry.sol";
import {Executor} from "../src/Executor.sol";
import {ModuleCheckRegistry} from "../src/ModuleCheckRegistry.sol";
import {TeeKeyManager} from "../src/attestation/TeeKeyManager.sol";
import {IModuleCheckRegistry} from "../src/interfaces/IModuleCheckRegistry.sol";
import {CheckpointFreshness} from "../src/modules/CheckpointFreshness.sol";
import {MessageOrdering} from "../src/modules/MessageOrdering.sol";
import {RateLimit} from "../src/modules/RateLimit.sol";
import {Image, Role} from "../src/types/Key.sol";
import {vm} from "../test/support/Vm.sol";
import {Configuration} from "./Configuration.sol";
import {Part, Record} from "./Record.sol";

/// @title Whether what a record names is what this source deploys, and is set as its configuration says
/// @notice Reads the chain and sends nothing. Every contract is constructed once more, at its own address, by the code that was compiled here
/// and with the arguments of the record: its code on the chain must be what comes out, immutables included. Then who owns what, what is
/// wired to what, who may propose, and what is admitted are compared with the configuration. Reverts at the first that differs.
///
///     SYNDDB_STREAM=0x.. forge script script/Check.s.sol --rpc-url URL
contract Check {
    /// Tells forge that this is a script.
    bool public constant IS_SCRIPT = true;

    /// The record lacks a contract.
    error NotRecorded(string name);
    /// The code at the address is not what this source deploys.
    error CodeDiffers(string name, address where, bytes32 found, bytes32 wanted);
    /// Something is not as the configuration says.
    error SettingDiffers(string what);

    bytes32 private _stream;
    string private _json;

    function run() external {
        _stream = vm.envBytes32("SYNDDB_STREAM");
        Configuration memory c;
        (_json, c) = Record.read(_stream);
        // Before the code: constructing once more writes to storage, in this process.
        _checkKeys(c);
        _checkBridge(c);
        _checkModules(c);
        _checkTimelock(c);
        _checkCode(c);
    }

    function _checkKeys(Configuration memory c) private view {
        TeeKeyManager keys = TeeKeyManager(_at("TeeKeyManager"));
        _require(keys.stream() == c.stream, "stream of the keys");
        _require(keys.KEY_LIFE() == c.keyLife, "life of keys");
        _requireOwned(Ownable2Step(keys), "owner of the keys");
        for (uint256 i = 0; i < c.verifiers.length; i++) {
            (bool isAdmitted,) = keys.verifierOf(c.verifiers[i]);
            _require(isAdmitted, "verifiers");
        }
        // What was admitted at deployment has the first numbers.
        for (uint16 i = 0; i < c.images.length; i++) {
            Image memory image = keys.imageOf(i + 1);
            _require(image.digest == c.images[i].digest && image.role == c.images[i].role, "images");
            _require(!keys.isImageRemoved(i + 1), "removed images");
        }
        _require(keys.imageOf(uint16(c.images.length + 1)).role == Role.None, "images beyond the configuration");
        CheckpointRegistry checkpoints = CheckpointRegistry(_at("CheckpointRegistry"));
        _require(address(checkpoints.KEY_MANAGER()) == address(keys), "keys of the checkpoints");
    }

    function _checkBridge(Configuration memory c) private view {
        Bridge bridge = Bridge(payable(_at("Bridge")));
        _require(bridge.stream() == c.stream, "stream of the bridge");
        _require(address(bridge.KEY_MANAGER()) == _at("TeeKeyManager"), "keys of the bridge");
        _require(bridge.executor() == _at("Executor"), "executor");
        _require(address(bridge.MODULES()) == _at("ModuleCheckRegistry"), "module registry");
        _require(bridge.wrappedNative() == c.wrappedNative, "wrapped native currency");
        _require(bridge.guardian() == c.guardian, "guardian");
        _requireOwned(bridge, "owner of the bridge");
        address[8] memory denied = [
            address(bridge),
            bridge.executor(),
            address(bridge.MODULES()),
            address(bridge.KEY_MANAGER()),
            _at("CheckpointRegistry"),
            _at("TimelockController"),
            c.wrappedNative,
            c.verifiers[0]
        ];
        for (uint256 i = 0; i < denied.length; i++) {
            _require(bridge.isTargetDenied(denied[i]), "denied targets");
        }
    }

    function _checkModules(Configuration memory c) private view {
        ModuleCheckRegistry registry = ModuleCheckRegistry(_at("ModuleCheckRegistry"));
        _requireOwned(registry, "owner of the module registry");
        string[3] memory names = ["MessageOrdering", "CheckpointFreshness", "RateLimit"];
        bool[3] memory isUsed = [c.orderedFrom != 0, c.checkpointAgeMsMax != 0, c.limitPeriod != 0];
        IModuleCheckRegistry.Entry[] memory entries = registry.modules();
        uint256 count;
        for (uint256 i = 0; i < names.length; i++) {
            if (!isUsed[i]) continue;
            _require(count < entries.length && entries[count].module == _at(names[i]), "modules");
            _require(entries[count].inPre && entries[count].inPost == (i == 2), "phases of modules");
            count++;
        }
        _require(count == entries.length, "modules beyond the configuration");
        if (isUsed[0]) _require(MessageOrdering(_at(names[0])).FIRST() == c.orderedFrom, "first message in order");
        if (isUsed[1]) _require(CheckpointFreshness(_at(names[1])).AGE_MS_MAX() == c.checkpointAgeMsMax, "age of checkpoints");
        if (!isUsed[2]) return;
        RateLimit limit = RateLimit(_at(names[2]));
        _requireOwned(limit, "owner of the limit");
        _require(limit.PERIOD() == c.limitPeriod && limit.DELAY() == c.limitDelay, "period and delay of the limit");
        _require(limit.WRAPPED_NATIVE() == c.wrappedNative, "wrapped native currency of the limit");
        for (uint256 i = 0; i < c.limits.length; i++) {
            _require(limit.flowOf(c.limits[i].token) == c.limits[i].perSecond, "limits");
        }
    }

    function _checkTimelock(Configuration memory c) private view {
        TimelockController timelock = TimelockController(payable(_at("TimelockController")));
        _require(timelock.getMinDelay() == c.delay, "delay of the timelock");
        _require(timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), address(timelock)), "timelock over itself");
        bool isProposer;
        (,, address deployer) = _proposersAtFirst();
        for (uint256 i = 0; i < c.proposers.length; i++) {
            _require(timelock.hasRole(timelock.PROPOSER_ROLE(), c.proposers[i]), "proposers");
            isProposer = isProposer || c.proposers[i] == deployer;
        }
        _require(!timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), deployer), "deployer still over the timelock");
        _require(isProposer || !timelock.hasRole(timelock.PROPOSER_ROLE(), deployer), "deployer still a proposer");
        _require(isProposer || !timelock.hasRole(timelock.CANCELLER_ROLE(), deployer), "deployer still a canceller");
    }

    /// Last: it changes, in this process, what is asked above.
    function _checkCode(Configuration memory c) private {
        _construct("TimelockController", type(TimelockController).creationCode);
        _construct("TeeKeyManager", type(TeeKeyManager).creationCode);
        _construct("CheckpointRegistry", type(CheckpointRegistry).creationCode);
        _construct("Executor", type(Executor).creationCode);
        _construct("ModuleCheckRegistry", type(ModuleCheckRegistry).creationCode);
        if (c.orderedFrom != 0) _construct("MessageOrdering", type(MessageOrdering).creationCode);
        if (c.checkpointAgeMsMax != 0) _construct("CheckpointFreshness", type(CheckpointFreshness).creationCode);
        if (c.limitPeriod != 0) _construct("RateLimit", type(RateLimit).creationCode);
        // It makes two of the others, so their places must be free again, and its own count of what it made.
        vm.etch(_at("Executor"), "");
        vm.etch(_at("ModuleCheckRegistry"), "");
        vm.resetNonce(_at("Executor"));
        vm.resetNonce(_at("ModuleCheckRegistry"));
        vm.setNonceUnsafe(_at("Bridge"), 1);
        _construct("Bridge", type(Bridge).creationCode);
    }

    /// Runs the constructor at the address of the contract, where it returns the code.
    function _construct(string memory name, bytes memory creationCode) private {
        (Part memory part, bytes32 recorded) = Record.part(_json, _stream, name);
        if (part.where == address(0)) revert NotRecorded(name);
        bytes32 found = part.where.codehash;
        if (found != recorded) revert CodeDiffers(name, part.where, found, recorded);
        vm.etch(part.where, bytes.concat(creationCode, part.arguments));
        (bool isDone, bytes memory code) = part.where.call("");
        bytes32 wanted = isDone ? keccak256(code) : bytes32(0);
        if (found != wanted) revert CodeDiffers(name, part.where, found, wanted);
        vm.etch(part.where, code);
    }

    function _proposersAtFirst() private view returns (address[] memory proposers, address[] memory executors, address deployer) {
        (Part memory part,) = Record.part(_json, _stream, "TimelockController");
        (, proposers, executors, deployer) = abi.decode(part.arguments, (uint256, address[], address[], address));
    }

    function _requireOwned(Ownable2Step owned, string memory what) private view {
        _require(owned.owner() == _at("TimelockController") && owned.pendingOwner() == address(0), what);
    }

    function _at(string memory name) private view returns (address) {
        (Part memory part,) = Record.part(_json, _stream, name);
        if (part.where == address(0)) revert NotRecorded(name);
        return part.where;
    }

    function _require(bool isSo, string memory what) private pure {
        if (!isSo) revert SettingDiffers(what);
    }
}
