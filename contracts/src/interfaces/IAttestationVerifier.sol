// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Role} from "../types/Key.sol";

/// @title Judges evidence of where code runs
/// @notice A verifier says which image holds a key. It holds the policy: issuer, audience, times, hardware, and that the workload is no debug one.
/// It does not know which images are allowed, nor who asks.
interface IAttestationVerifier {
    /// @notice Verifies evidence. Must revert unless the evidence is genuine, fresh, and contains the binding as its nonce.
    /// @param evidence A token or a proof, in the verifier's own form.
    /// @param binding What the evidence must have been made for; see `ITeeKeyManager.keyBinding`.
    /// @param role The role that the key is to have.
    /// @return imageDigest The digest of the image that runs.
    function verifyEvidence(bytes calldata evidence, bytes32 binding, Role role) external view returns (bytes32 imageDigest);
}
