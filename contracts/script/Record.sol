// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {vm} from "../test/support/Vm.sol";
import {Configuration, Configurations} from "./Configuration.sol";
import {Part} from "./Plan.sol";

/// @title What is deployed where
/// @notice `deployments/<chainid>.json` has, for each stream, the configuration, and of each contract its address and the hash of its
/// code. Programs read from it where the bridge is.
library Record {
    /// There is no record of the stream.
    error NotRecorded(string file, bytes32 stream);

    /// @notice Where the record of this chain is. `SYNDDB_DEPLOYMENTS` names another folder than `deployments`.
    function file() internal view returns (string memory) {
        return string.concat(_folder(), "/", vm.toString(block.chainid), ".json");
    }

    function _folder() private view returns (string memory) {
        return vm.envOr("SYNDDB_DEPLOYMENTS", string("deployments"));
    }

    /// @notice Writes the record of a stream, beside those of others.
    function write(bytes32 stream, string memory configuration, Part[] memory parts) internal {
        string memory contracts;
        for (uint256 i = 0; i < parts.length; i++) {
            string memory key = string.concat("part ", parts[i].name);
            vm.serializeAddress(key, "address", parts[i].where);
            string memory one = vm.serializeBytes32(key, "codeHash", parts[i].where.codehash);
            contracts = vm.serializeString("contracts", parts[i].name, one);
        }
        vm.serializeString("stream", "contracts", contracts);
        string memory to = file();
        vm.serializeUint("stream", "block", _since(to, stream, parts));
        string memory json = vm.serializeString("stream", "configuration", configuration);
        if (!vm.exists(to)) {
            vm.createDir(_folder(), true);
            vm.serializeUint("file", "chainId", block.chainid);
            vm.writeJson(vm.serializeString("file", "streams", "{}"), to);
        }
        vm.writeJson(json, to, _path(stream, ""));
    }

    /// A block before which nothing was there: of what was recorded before at the same addresses, the older one.
    function _since(string memory to, bytes32 stream, Part[] memory parts) private view returns (uint256) {
        if (!vm.exists(to)) return block.number;
        string memory json = vm.readFile(to);
        (address before,) = part(json, stream, parts[0].name);
        return before == parts[0].where ? blockOf(json, stream) : block.number;
    }

    /// @notice The record of a stream, as text, and its configuration.
    function read(bytes32 stream) internal view returns (string memory json, Configuration memory c) {
        json = vm.readFile(file());
        if (!vm.keyExistsJson(json, _path(stream, ""))) revert NotRecorded(file(), stream);
        c = Configurations.parse(json, _path(stream, ".configuration"));
    }

    /// @notice What was recorded of one contract. Of one that was not deployed both are zero.
    function part(string memory json, bytes32 stream, string memory name) internal view returns (address where, bytes32 codeHash) {
        string memory path = _path(stream, string.concat(".contracts.", name));
        if (!vm.keyExistsJson(json, path)) return (where, codeHash);
        where = vm.parseJsonAddress(json, string.concat(path, ".address"));
        codeHash = vm.parseJsonBytes32(json, string.concat(path, ".codeHash"));
    }

    /// @notice A block before which nothing of it was there.
    function blockOf(string memory json, bytes32 stream) internal pure returns (uint256) {
        return vm.parseJsonUint(json, _path(stream, ".block"));
    }

    function _path(bytes32 stream, string memory rest) private pure returns (string memory) {
        return string.concat(".streams.", vm.toString(stream), rest);
    }
}
