// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {SignedPlace} from "../../src/libraries/SignedPlace.sol";
import {LogSigner} from "../support/LogSigner.sol";

/// @notice Makes calldata of what the library reads.
contract HeadsHarness {
    function number(bytes calldata header) external pure returns (uint64 value, uint256 next) {
        return SignedPlace._number(header, 0);
    }

    function byteString(bytes calldata rest) external pure returns (uint256) {
        return SignedPlace._byteString(rest, 0);
    }
}

/// @notice Numbers and heads of byte strings are read in their shortest form and in no other.
contract HeadsProof {
    HeadsHarness private _heads;

    function setUp() public {
        _heads = new HeadsHarness();
    }

    /// @custom:halmos --array-lengths header={0,1,2,3,4,5,6,7,8,9,10}
    function check_number_readsTheShortestFormOnly(bytes calldata header) public view {
        (uint64 value, uint256 next) = _heads.number(header);
        assert(next != 0 && next <= header.length);
        bytes memory form = LogSigner.number(value);
        assert(form.length == next);
        assert(keccak256(form) == keccak256(header[:next]));
    }

    function check_number_readsEveryNumber(uint64 value) public view {
        bytes memory form = LogSigner.number(value);
        (uint64 found, uint256 next) = _heads.number(bytes.concat(form, hex"ff"));
        assert(found == value && next == form.length);
    }

    /// @custom:halmos --array-lengths rest={0,1,2,3,4}
    function check_byteString_readsTheShortestFormOnly(bytes calldata rest) public view {
        uint256 whole = _heads.byteString(rest);
        assert(rest.length >= 3);
        uint8 first = uint8(rest[0]);
        if (whole <= 24) {
            assert(first == 0x40 + whole - 1);
        } else if (whole <= 2 + 255) {
            assert(first == 0x58 && uint8(rest[1]) == whole - 2 && whole - 2 >= 24);
        } else {
            assert(first == 0x59 && uint16(bytes2(rest[1:3])) == whole - 3 && whole - 3 >= 256);
        }
    }

    function check_byteString_readsEveryLength(uint16 length) public view {
        bytes memory head = length < 24
            ? bytes.concat(bytes1(uint8(0x40 + length)), hex"ffff")
            : length < 256 ? bytes.concat(hex"58", bytes1(uint8(length)), hex"ff") : bytes.concat(hex"59", bytes2(length));
        uint256 size = length < 24 ? 1 : length < 256 ? 2 : 3;
        assert(_heads.byteString(head) == size + length);
    }
}
