// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICheckpointRegistry} from "../interfaces/ICheckpointRegistry.sol";
import {Checkpoint} from "../types/Checkpoint.sol";
import {Message} from "../types/Message.sol";
import {Phase, Verdict} from "../types/State.sol";
import {IValidationModule} from "../interfaces/IValidationModule.sol";
import {Module} from "./Module.sol";

/// @title Nothing without a recent endorsed state
/// @notice A message waits while the newest checkpoint on chain is older than a fixed age by log time, or was made before the application
/// consumed what the message says it consumed. Belongs into phase Pre.
contract CheckpointFreshness is Module {
    /// Where checkpoints are.
    ICheckpointRegistry public immutable CHECKPOINTS;
    /// How old the newest may be, in ms.
    uint256 public immutable AGE_MS_MAX;

    constructor(address registry, ICheckpointRegistry checkpoints, uint256 ageMsMax) Module(registry) {
        CHECKPOINTS = checkpoints;
        AGE_MS_MAX = ageMsMax;
    }

    /// @inheritdoc IValidationModule
    function checkMessage(Message calldata message, Phase) external view override onlyRegistry returns (Verdict) {
        if (CHECKPOINTS.newestSequence() == 0) return Verdict.Wait;
        Checkpoint memory newest = CHECKPOINTS.newestCheckpoint();
        bool isFresh = block.timestamp * 1000 <= uint256(newest.timestamp) + AGE_MS_MAX;
        return isFresh && message.inboxConsumed <= newest.inboxConsumed ? Verdict.Pass : Verdict.Wait;
    }
}
