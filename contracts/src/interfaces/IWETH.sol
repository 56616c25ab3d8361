// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Wrapped native currency
interface IWETH {
    /// @notice Wraps what is sent.
    function deposit() external payable;
    /// @notice Unwraps.
    function withdraw(uint256 amount) external;
}
