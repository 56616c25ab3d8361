// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title Receipts and checkpoints as the log has them
/// @notice Reads a COSE_Sign1 (RFC 9052) of the exact form of section 2 of the signing specification, and verifies its signature: ECDSA over
/// secp256k1 with SHA-256, which ecrecover checks as well as Keccak.
///
/// Strict on purpose. What is not signed (tag, heads, key id, signature) must have its one form: otherwise one honest signature could be
/// written in two ways, and would look like two. Of what is signed, only the labels that make a place are read; the header is
/// otherwise its signer's word.
///
/// Arithmetic is unchecked: every offset is below `LENGTH_MAX` and a few heads, and each slice is compared with what is there before.
library SignedPlace {
    /// What was signed.
    enum Kind {
        /// A message: its COSE_Sign1 is a receipt.
        Message,
        /// A checkpoint.
        Checkpoint
    }

    /// Who signed what for which place.
    struct Place {
        Kind kind;
        address key;
        bytes32 stream;
        uint64 epoch;
        uint64 sequence;
    }

    /// The longest receipt or checkpoint, in bytes.
    uint256 internal constant LENGTH_MAX = 4096;

    /// The bytes are not of the form; `offset` is where.
    error Malformed(uint256 offset);
    /// The signature is not that of the key it names.
    error NotSigned(address key);

    /// Tag 18, array of 4, byte string with one byte of length.
    bytes3 private constant HEAD = 0xd28458;
    /// The map with the key id.
    bytes3 private constant KEY_ID = 0xa10454;
    /// Byte string of 64 bytes.
    bytes2 private constant SIGNATURE = 0x5840;
    /// Map of 7; alg: ES256K; payload hash: SHA-256; label of the sequence.
    bytes13 private constant MESSAGE_HEADER = 0xa701382e1901022f3a00010000;
    /// Map of 4; alg: ES256K; label of the sequence.
    bytes9 private constant CHECKPOINT_HEADER = 0xa401382e3a00010000;
    bytes5 private constant TIMESTAMP = 0x3a00010001;
    bytes5 private constant TYPE = 0x3a00010002;
    /// The label of the stream, and the head of 32 bytes.
    bytes7 private constant STREAM = 0x3a000100035820;
    bytes5 private constant EPOCH = 0x3a00010004;
    /// Array of 4, and the text "Signature1".
    bytes12 private constant TO_BE_SIGNED = 0x846a5369676e617475726531;

    /// @notice Reads and verifies. Reverts with `Malformed` or `NotSigned`.
    function read(bytes calldata signed) internal pure returns (Place memory place) {
        unchecked {
            if (signed.length < 4 || signed.length > LENGTH_MAX || bytes3(signed[0:3]) != HEAD) revert Malformed(0);
            uint256 end = 4 + uint256(uint8(signed[3]));
            // A length that fits its head has no byte of its own.
            if (uint8(signed[3]) < 24 || signed.length < end + 23) revert Malformed(3);
            _readHeader(place, signed[4:end]);
            if (bytes3(signed[end:end + 3]) != KEY_ID) revert Malformed(end);
            place.key = address(bytes20(signed[end + 3:end + 23]));

            uint256 payload = end + 23;
            uint256 tail = payload + _byteString(signed[payload:], payload);
            if (signed.length != tail + 66 || bytes2(signed[tail:tail + 2]) != SIGNATURE) revert Malformed(tail);
            bytes32 digest = sha256(
                bytes.concat(
                    TO_BE_SIGNED,
                    signed[2:end],
                    place.kind == Kind.Message ? bytes("\x51synddb/message/v1") : bytes("\x54synddb/checkpoint/v1"),
                    signed[payload:tail]
                )
            );
            _verify(place.key, digest, bytes32(signed[tail + 2:tail + 34]), bytes32(signed[tail + 34:]));
        }
    }

    /// The signature names no parity, so both are tried. A high s is refused: it would be a second form of one signature.
    function _verify(address key, bytes32 digest, bytes32 r, bytes32 s) private pure {
        for (uint8 v = 27; v <= 28; v++) {
            (address recovered, ECDSA.RecoverError fault,) = ECDSA.tryRecover(digest, v, r, s);
            if (fault == ECDSA.RecoverError.NoError && recovered == key) return;
        }
        revert NotSigned(key);
    }

    function _readHeader(Place memory place, bytes calldata header) private pure {
        unchecked {
            uint256 offset;
            if (header.length >= 13 && bytes13(header[0:13]) == MESSAGE_HEADER) {
                place.kind = Kind.Message;
                (place.sequence, offset) = _number(header, 13);
                offset = _label(header, offset, TIMESTAMP);
                (, offset) = _number(header, offset);
                offset = _label(header, offset, TYPE);
                (, offset) = _number(header, offset);
            } else if (header.length >= 9 && bytes9(header[0:9]) == CHECKPOINT_HEADER) {
                place.kind = Kind.Checkpoint;
                (place.sequence, offset) = _number(header, 9);
            } else {
                revert Malformed(4);
            }
            if (header.length < offset + 39 || bytes7(header[offset:offset + 7]) != STREAM) revert Malformed(4 + offset);
            place.stream = bytes32(header[offset + 7:offset + 39]);
            offset = _label(header, offset + 39, EPOCH);
            (place.epoch, offset) = _number(header, offset);
            if (offset != header.length) revert Malformed(4 + offset);
        }
    }

    function _label(bytes calldata header, uint256 offset, bytes5 label) private pure returns (uint256) {
        unchecked {
            if (header.length < offset + 5 || bytes5(header[offset:offset + 5]) != label) revert Malformed(4 + offset);
            return offset + 5;
        }
    }

    /// An unsigned integer whose head is as short as it can be. Internal, as the next: proofs call both.
    function _number(bytes calldata header, uint256 offset) internal pure returns (uint64 value, uint256 next) {
        unchecked {
            if (header.length < offset + 1) revert Malformed(4 + offset);
            uint8 first = uint8(header[offset]);
            if (first < 24) return (first, offset + 1);
            if (first > 27) revert Malformed(4 + offset);
            uint256 width = 1 << (first - 24);
            next = offset + 1 + width;
            if (header.length < next) revert Malformed(4 + offset);
            // The bytes beyond the slice are zero, so they are shifted away.
            value = uint64(uint256(bytes32(header[offset + 1:next])) >> (256 - 8 * width));
            uint64 shortest = first == 24 ? 24 : uint64(1) << uint64(4 * width);
            if (value < shortest) revert Malformed(4 + offset);
        }
    }

    /// The length of a byte string with its head, which is as short as it can be.
    function _byteString(bytes calldata rest, uint256 offset) internal pure returns (uint256) {
        unchecked {
            if (rest.length < 3) revert Malformed(offset);
            uint8 first = uint8(rest[0]);
            if (first >= 0x40 && first < 0x58) return 1 + uint256(first - 0x40);
            if (first == 0x58 && uint8(rest[1]) >= 24) return 2 + uint256(uint8(rest[1]));
            uint256 long = uint256(uint16(bytes2(rest[1:3])));
            if (first == 0x59 && long > 255) return 3 + long;
            revert Malformed(offset);
        }
    }
}
