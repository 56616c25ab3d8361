// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bridge} from "../../src/Bridge.sol";
import {CheckpointRegistry} from "../../src/CheckpointRegistry.sol";
import {Checkpoint} from "../../src/types/Checkpoint.sol";
import {Message} from "../../src/types/Message.sol";
import {Digester, Domain} from "./Digester.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

/// @notice What was signed elsewhere, in JSON whose values are text, against what the contracts make of it.
///
/// Each digest is computed twice: by the libraries, and by the bridge or the registry itself, whose code is put where the case wants it, on the
/// chain that it wants.
abstract contract Twins is Fixture {
    Digester internal digester;

    function setUp() public virtual override {
        super.setUp();
        digester = new Digester();
    }

    /// The message under `path`.
    function messageAt(string memory json, string memory path) internal pure returns (Message memory) {
        return Message({
            stream: word(json, path, "stream"),
            nonce: number64(json, path, "nonce"),
            target: account(json, path, "target"),
            value: number(json, path, "value"),
            token: account(json, path, "token"),
            amount: number(json, path, "amount"),
            payloadHash: word(json, path, "payloadHash"),
            gasLimit: number64(json, path, "gasLimit"),
            deadline: number64(json, path, "deadline"),
            inboxConsumed: number64(json, path, "inboxConsumed")
        });
    }

    /// The checkpoint under `path`.
    function checkpointAt(string memory json, string memory path) internal pure returns (Checkpoint memory) {
        return Checkpoint({
            stream: word(json, path, "stream"),
            epoch: number64(json, path, "epoch"),
            sequence: number64(json, path, "sequence"),
            timestamp: number64(json, path, "timestamp"),
            root: word(json, path, "root"),
            stateHash: word(json, path, "stateHash"),
            inboxConsumed: number64(json, path, "inboxConsumed")
        });
    }

    /// The chain and the contract under `path`.
    function domainAt(string memory json, string memory path) internal pure returns (Domain memory) {
        return Domain(number(json, path, "chain_id"), account(json, path, "contract"));
    }

    /// Both ways to the digest of a message lead to the one under `path`, and so does its signature to `signer`.
    function assertMessage(string memory json, string memory path, Domain memory domain, Message memory message, address signer) internal {
        bytes32 digest = word(json, path, "digest");
        vm.assertEq(digester.ofMessage(domain, message), digest, "by the library");
        vm.assertEq(Bridge(payable(_at(domain, address(bridge)))).messageDigest(message), digest, "by the bridge");
        vm.assertEq(digester.signer(digest, vm.parseJsonBytes(json, string.concat(path, ".signature"))), signer, "signer");
    }

    /// The same of a checkpoint.
    function assertCheckpoint(string memory json, string memory path, Domain memory domain, Checkpoint memory checkpoint, address signer)
        internal
    {
        bytes32 digest = word(json, path, "digest");
        vm.assertEq(digester.ofCheckpoint(domain, checkpoint), digest, "by the library");
        vm.assertEq(CheckpointRegistry(_at(domain, address(checkpoints))).checkpointDigest(checkpoint), digest, "by the registry");
        vm.assertEq(digester.signer(digest, vm.parseJsonBytes(json, string.concat(path, ".signature"))), signer, "signer");
    }

    function word(string memory json, string memory path, string memory name) internal pure returns (bytes32) {
        return vm.parseJsonBytes32(json, _path(path, name));
    }

    function account(string memory json, string memory path, string memory name) internal pure returns (address) {
        return vm.parseJsonAddress(json, _path(path, name));
    }

    function number(string memory json, string memory path, string memory name) internal pure returns (uint256) {
        return vm.parseJsonUint(json, _path(path, name));
    }

    function number64(string memory json, string memory path, string memory name) internal pure returns (uint64) {
        uint256 value = number(json, path, name);
        vm.assertLe(value, type(uint64).max, name);
        return uint64(value);
    }

    /// The code of a contract at the place and on the chain of a domain. Where something was deployed, it stays.
    function _at(Domain memory domain, address like) private returns (address) {
        vm.chainId(domain.chainId);
        if (domain.verifyingContract.code.length == 0) vm.etch(domain.verifyingContract, like.code);
        return domain.verifyingContract;
    }

    function _path(string memory path, string memory name) private pure returns (string memory) {
        return string.concat(path, ".", name);
    }
}
