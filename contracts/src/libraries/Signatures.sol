// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {ITeeKeyManager} from "../interfaces/ITeeKeyManager.sol";

/// @title Signatures of 65 bytes
/// @notice r, s, v; s in the lower half of the order, v 27 or 28. Every other form is refused, so one key has one signature form for one content.
/// Nothing here is an id: two signatures over one digest are possible, and mean nothing.
library Signatures {
    uint256 internal constant LENGTH = 65;

    /// @notice Who signed. Reverts unless the bytes are a signature of that form. Any such bytes are some key's signature.
    function signer(bytes32 digest, bytes calldata signature) internal pure returns (address) {
        if (signature.length != LENGTH) revert ITeeKeyManager.SignaturesMalformed(signature.length);
        // OpenZeppelin refuses a high s; ecrecover refuses every v but 27 and 28.
        (address recovered, ECDSA.RecoverError fault,) =
            ECDSA.tryRecover(digest, uint8(signature[64]), bytes32(signature[0:32]), bytes32(signature[32:64]));
        if (fault != ECDSA.RecoverError.NoError) revert ITeeKeyManager.SignatureInvalid();
        return recovered;
    }
}
