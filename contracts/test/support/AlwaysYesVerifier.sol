// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAttestationVerifier} from "../../src/interfaces/IAttestationVerifier.sol";
import {Role} from "../../src/types/Key.sol";

/// @notice Believes all evidence: that it is the digest of the image. For tests alone.
contract AlwaysYesVerifier is IAttestationVerifier {
    /// @inheritdoc IAttestationVerifier
    function verifyEvidence(bytes calldata evidence, bytes32, Role) external pure returns (bytes32) {
        return abi.decode(evidence, (bytes32));
    }
}

/// @notice Believes evidence that holds the binding, as a real one does.
contract BindingVerifier is IAttestationVerifier {
    error NotBound(bytes32 wanted, bytes32 given);

    /// @inheritdoc IAttestationVerifier
    function verifyEvidence(bytes calldata evidence, bytes32 binding, Role) external pure returns (bytes32) {
        (bytes32 image, bytes32 given) = abi.decode(evidence, (bytes32, bytes32));
        if (given != binding) revert NotBound(binding, given);
        return image;
    }
}
