// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Message} from "../types/Message.sol";
import {Phase, Verdict} from "../types/State.sol";

/// @title One more condition that a message must meet
/// @notice A module can only stop or delay what a quorum signed; it can let nothing through that the bridge would refuse.
interface IValidationModule {
    /// Only the registry asks.
    error NotRegistry(address caller);

    /// @notice Judges a message. Called by the registry alone, for a message that is authorised.
    /// @dev In phase Pre it may be asked again for one message: after it said Wait, and at each retry. So it must charge nothing there;
    /// what is charged in phase Post is undone with a call that fails. A module that reverts in phase Pre makes the whole transaction
    /// revert; in phase Post, the message fails.
    function checkMessage(Message calldata message, Phase phase) external returns (Verdict verdict);
}
