// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBridge} from "../interfaces/IBridge.sol";
import {Message} from "../types/Message.sol";
import {Phase, State, Verdict} from "../types/State.sol";
import {IValidationModule} from "../interfaces/IValidationModule.sol";
import {Module} from "./Module.sol";

/// @title Messages in the order of their nonces
/// @notice A message waits until the one before was tried: it is Completed, Failed, Rejected or Expired. A Failed one holds nobody up, or
/// everybody could stop the bridge with one target that reverts. For streams whose nonces are dense. Belongs into phase Pre.
/// @dev No storage: the bridge knows.
contract MessageOrdering is Module {
    /// Whose messages.
    IBridge public immutable BRIDGE;
    /// The nonce that waits for nobody.
    uint64 public immutable FIRST;

    constructor(address registry, IBridge bridge, uint64 first) Module(registry) {
        BRIDGE = bridge;
        FIRST = first;
    }

    /// @inheritdoc IValidationModule
    function checkMessage(Message calldata message, Phase) external view override onlyRegistry returns (Verdict) {
        if (message.nonce <= FIRST) return message.nonce == FIRST ? Verdict.Pass : Verdict.Reject;
        State before = BRIDGE.messageState(message.nonce - 1);
        return before == State.NotStarted || before == State.PreExecution ? Verdict.Wait : Verdict.Pass;
    }
}
