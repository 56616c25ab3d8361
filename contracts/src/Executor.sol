// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {LibCall} from "solady/utils/LibCall.sol";
import {IExecutor} from "./interfaces/IExecutor.sol";

/// @title Makes the outward call
/// @dev Documentation is in the interface. No storage, so nothing to enter again for; the bridge's lock holds while it runs.
contract Executor is IExecutor {
    /// How much of what a target returns is copied, in bytes.
    uint16 public constant RETURN_DATA_MAX = 256;
    /// @inheritdoc IExecutor
    address public immutable bridge;

    /// What the call itself costs before the target runs: a cold account that does not exist yet, with value.
    uint256 private constant CALL_GAS = 40_000;

    /// @param bridge_ The only caller.
    constructor(address bridge_) {
        bridge = bridge_;
    }

    /// Targets may send native currency back within the call. What anyone else sends goes to custody with the next message.
    receive() external payable {}

    /// @inheritdoc IExecutor
    function execute(address target, bytes calldata payload, uint64 gasLimit) external payable returns (bytes memory returned) {
        // checks
        if (msg.sender != bridge) revert NotBridge(msg.sender);
        // A call gets at most 63/64 of what is left, silently.
        uint256 needed = uint256(gasLimit) + uint256(gasLimit) / 63 + CALL_GAS;
        if (gasleft() < needed) revert GasTooLow(gasleft(), needed);

        // interactions
        bool isDone;
        (isDone,, returned) = LibCall.tryCall(target, msg.value, gasLimit, RETURN_DATA_MAX, payload);
        if (!isDone) revert CallFailed(target, returned);
        if (address(this).balance != 0) Address.sendValue(payable(bridge), address(this).balance);
    }
}
