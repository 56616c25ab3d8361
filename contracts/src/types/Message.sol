// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice An outbound message: a row of the application's database that asks the bridge to act. What it says is signed in full (EIP-712).
struct Message {
    /// The stream whose log holds the row. A bridge serves one stream.
    bytes32 stream;
    /// The row's id. With the stream it is the replay key, alone.
    uint64 nonce;
    /// Who is called, and who receives value and tokens.
    address target;
    /// Native currency that travels with the call, in wei.
    uint256 value;
    /// The ERC-20 token that is transferred to the target before the call. Not read when the amount is zero.
    address token;
    /// Units of the token.
    uint256 amount;
    /// Keccak-256 of the call data.
    bytes32 payloadHash;
    /// Gas that the target gets, at least.
    uint64 gasLimit;
    /// The last second, since 1970, in which the message may be executed.
    uint64 deadline;
    /// How many inbound messages the application had consumed when it wrote the row.
    uint64 inboxConsumed;
}
