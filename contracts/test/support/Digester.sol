// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {CheckpointHash} from "../../src/libraries/CheckpointHash.sol";
import {MessageHash} from "../../src/libraries/MessageHash.sol";
import {Signatures} from "../../src/libraries/Signatures.sol";
import {Checkpoint} from "../../src/types/Checkpoint.sol";
import {Message} from "../../src/types/Message.sol";

/// @notice For which contract of which chain something is signed.
struct Domain {
    uint256 chainId;
    address verifyingContract;
}

/// @notice Digests for any contract of any chain: struct hashes of ours, domains of OpenZeppelin.
contract Digester {
    /// Name, version, chain and contract; no salt.
    bytes1 private constant FIELDS = 0x0f;

    function ofMessage(Domain calldata domain, Message calldata message) external pure returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(_separator(domain), MessageHash.structHash(message));
    }

    function ofCheckpoint(Domain calldata domain, Checkpoint calldata checkpoint) external pure returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(_separator(domain), CheckpointHash.structHash(checkpoint));
    }

    /// Signatures are read from call data.
    function signer(bytes32 digest, bytes calldata signature) external pure returns (address) {
        return Signatures.signer(digest, signature);
    }

    function _separator(Domain calldata domain) private pure returns (bytes32) {
        return MessageHashUtils.toDomainSeparator(FIELDS, keccak256("SyndDB"), keccak256("1"), domain.chainId, domain.verifyingContract, 0);
    }
}
