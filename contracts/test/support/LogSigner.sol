// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {vm} from "./Vm.sol";

/// @notice Makes receipts and checkpoints as a leader does, of any place. The vectors hold it to what the log really has.
library LogSigner {
    function receipt(uint256 secret, bytes32 stream, uint64 epoch, uint64 sequence, bytes32 body) internal pure returns (bytes memory) {
        bytes memory header = bytes.concat(
            hex"a701382e1901022f3a00010000",
            number(sequence),
            hex"3a00010001",
            number(1000),
            hex"3a00010002",
            // A status: the type of the vectors.
            number(4),
            hex"3a000100035820",
            stream,
            hex"3a00010004",
            number(epoch)
        );
        return signed(secret, header, "synddb/message/v1", bytes.concat(body));
    }

    function checkpoint(uint256 secret, bytes32 stream, uint64 epoch, uint64 sequence, bytes memory claim)
        internal
        pure
        returns (bytes memory)
    {
        bytes memory header =
            bytes.concat(hex"a401382e3a00010000", number(sequence), hex"3a000100035820", stream, hex"3a00010004", number(epoch));
        return signed(secret, header, "synddb/checkpoint/v1", claim);
    }

    function signed(uint256 secret, bytes memory header, bytes memory aad, bytes memory payload) internal pure returns (bytes memory) {
        bytes memory body = byteString(payload);
        bytes memory protected = byteString(header);
        bytes32 digest = sha256(bytes.concat(hex"846a5369676e617475726531", protected, byteString(aad), body));
        (, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return bytes.concat(hex"d284", protected, hex"a10454", bytes20(vm.addr(secret)), body, hex"5840", r, s);
    }

    function byteString(bytes memory content) internal pure returns (bytes memory) {
        uint256 length = content.length;
        if (length < 24) return bytes.concat(bytes1(uint8(0x40 + length)), content);
        if (length < 256) return bytes.concat(hex"58", bytes1(uint8(length)), content);
        return bytes.concat(hex"59", bytes2(uint16(length)), content);
    }

    function number(uint64 value) internal pure returns (bytes memory) {
        if (value < 24) return abi.encodePacked(uint8(value));
        if (value <= type(uint8).max) return abi.encodePacked(uint8(24), uint8(value));
        if (value <= type(uint16).max) return abi.encodePacked(uint8(25), uint16(value));
        if (value <= type(uint32).max) return abi.encodePacked(uint8(26), uint32(value));
        return abi.encodePacked(uint8(27), value);
    }
}
