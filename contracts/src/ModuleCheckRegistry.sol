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

    /// An entry, and whether it is the last one: who asks reads no length. One storage slot; where there is no module there is no entry.
    struct Slot {
        address module;
        bool inPre;
        bool inPost;
        bool isLast;
    }

    Slot[MODULES_MAX] private _slots;

    /// @inheritdoc IModuleCheckRegistry
    address public installer;

    /// @param bridge_ Who asks.
    /// @param owner_ Meant to be a timelock.
    /// @param installer_ Who sets the modules the first time.
    constructor(address bridge_, address owner_, address installer_) Ownable(owner_) {
        bridge = bridge_;
        installer = installer_;
    }

    /// @inheritdoc IModuleCheckRegistry
    function setModules(Entry[] calldata entries) external {
        // checks
        if (msg.sender != installer) _checkOwner();
        if (entries.length > MODULES_MAX) revert TooManyModules(entries.length, MODULES_MAX);
        for (uint256 i = 0; i < entries.length; i++) {
            address module = entries[i].module;
            if (module.code.length == 0) revert NoCode(module);
            if (!entries[i].inPre && !entries[i].inPost) revert ModuleInNoPhase(module);
            for (uint256 j = 0; j < i; j++) {
                if (module == entries[j].module) revert ModuleTwice(module);
            }
        }

        // effects
        delete installer;
        delete _slots;
        for (uint256 i = 0; i < entries.length; i++) {
            _slots[i] = Slot(entries[i].module, entries[i].inPre, entries[i].inPost, i + 1 == entries.length);
        }
        emit ModulesSet(entries);
    }

    /// @inheritdoc IModuleCheckRegistry
    function checkMessage(Message calldata message, Phase phase) external returns (Verdict, address) {
        if (msg.sender != bridge) revert NotBridge(msg.sender);
        for (uint256 i = 0; i < MODULES_MAX; i++) {
            Slot memory slot = _slots[i];
            if (slot.module == address(0)) break;
            if (phase == Phase.Pre ? slot.inPre : slot.inPost) {
                Verdict verdict = IValidationModule(slot.module).checkMessage(message, phase);
                if (verdict != Verdict.Pass) return (verdict, slot.module);
            }
            if (slot.isLast) break;
        }
        return (Verdict.Pass, address(0));
    }

    /// @inheritdoc IModuleCheckRegistry
    function modules() external view returns (Entry[] memory entries) {
        uint256 count;
        while (count < MODULES_MAX && _slots[count].module != address(0)) count++;
        entries = new Entry[](count);
        for (uint256 i = 0; i < count; i++) {
            entries[i] = Entry(_slots[i].module, _slots[i].inPre, _slots[i].inPost);
        }
    }
}
