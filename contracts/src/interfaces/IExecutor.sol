// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Makes the outward call
/// @notice The `msg.sender` that targets see. It has no privilege anywhere and holds no funds beyond a call, so a call that it is made to
/// do can take nothing. Who must tell bridge calls from others compares `msg.sender` with it.
interface IExecutor {
    /// Only the bridge calls.
    error NotBridge(address caller);
    /// Less gas is left than the target must get.
    error GasTooLow(uint256 left, uint256 needed);
    /// The target reverted; what it returned is cut off at `RETURN_DATA_MAX`.
    error CallFailed(address target, bytes returned);

    /// @notice Calls the target with all value that came along. The bridge's. Sends back whatever native currency is left or came back
    /// before it returns.
    /// @param target Who is called. An account without code accepts.
    /// @param payload The call data.
    /// @param gasLimit Gas that the target gets; with value the chain adds 2,300.
    /// @return returned What the target returned, at most `RETURN_DATA_MAX` bytes.
    function execute(address target, bytes calldata payload, uint64 gasLimit) external payable returns (bytes memory returned);

    /// @notice The bridge.
    function bridge() external view returns (address);
}
