// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Message} from "../../src/types/Message.sol";
import {Twins} from "../support/Twins.sol";
import {Vectors} from "../support/Vectors.sol";
import {vm} from "../support/Vm.sol";

/// @notice The vectors of outbound messages.
contract DigestsTest is Twins {
    function test_messageDigest_vectors_areTheSignedOnes() public {
        string memory json = Vectors.file("outbound");
        address signer = vm.parseJsonAddress(json, ".signer.address");
        uint256 count;
        for (; vm.keyExistsJson(json, _vector(count)); count++) {
            string memory path = _vector(count);
            Message memory message = messageAt(json, string.concat(path, ".message"));
            assertMessage(json, path, domainAt(json, path), message, signer);
        }
        vm.assertEq(count, 15);
    }

    function _vector(uint256 index) private pure returns (string memory) {
        return string.concat(".vectors[", vm.toString(index), "]");
    }
}
