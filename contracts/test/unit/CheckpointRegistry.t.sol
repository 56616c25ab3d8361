// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICheckpointRegistry} from "../../src/interfaces/ICheckpointRegistry.sol";
import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {Checkpoint} from "../../src/types/Checkpoint.sol";
import {CheckpointHash} from "../../src/libraries/CheckpointHash.sol";
import {Fixture} from "../support/Fixture.sol";
import {Vectors} from "../support/Vectors.sol";
import {vm} from "../support/Vm.sol";

/// @notice Hashes what is in call data.
contract Hasher {
    function structHash(Checkpoint calldata checkpoint) external pure returns (bytes32) {
        return CheckpointHash.structHash(checkpoint);
    }
}

/// @notice Checkpoints on chain.
contract CheckpointRegistryTest is Fixture {
    /// It would be fresh for ever, and no honest one could follow.
    function test_recordCheckpoint_ofTheFuture_reverts() public {
        Checkpoint memory future = checkpoint(1);
        uint256 latest = block.timestamp * 1000 + checkpoints.AHEAD_MS_MAX();
        future.timestamp = uint64(latest + 1);
        bytes memory all = quorum(checkpoints.checkpointDigest(future));
        vm.expectRevert(abi.encodeWithSelector(ICheckpointRegistry.TimestampAhead.selector, latest + 1, latest));
        checkpoints.recordCheckpoint(future, all, "");
        future.timestamp = uint64(latest);
        checkpoints.recordCheckpoint(future, quorum(checkpoints.checkpointDigest(future)), "");
    }

    function test_recordCheckpoint_quorum_isKept() public {
        _record(checkpoint(5));
        _record(checkpoint(9));
        vm.assertEq(checkpoints.newestSequence(), 9);
        vm.assertEq(keccak256(abi.encode(checkpoints.newestCheckpoint())), keccak256(abi.encode(checkpoint(9))));
        vm.assertEq(keccak256(abi.encode(checkpoints.checkpointAt(5))), keccak256(abi.encode(checkpoint(5))));
    }

    function test_recordCheckpoint_quorumNotMet_reverts() public {
        bytes memory two = quorum(checkpoints.checkpointDigest(checkpoint(5)), 2);
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.QuorumNotMet.selector, 2, THRESHOLD));
        checkpoints.recordCheckpoint(checkpoint(5), two, "");
    }

    function test_recordCheckpoint_notNewer_reverts() public {
        _record(checkpoint(5));
        bytes memory all = quorum(checkpoints.checkpointDigest(checkpoint(5)));
        vm.expectRevert(abi.encodeWithSelector(ICheckpointRegistry.NotNewer.selector, 5, 5));
        checkpoints.recordCheckpoint(checkpoint(5), all, "");
    }

    function test_recordCheckpoint_goesBack_reverts() public {
        Checkpoint memory first = checkpoint(5);
        first.epoch = 3;
        first.inboxConsumed = 2;
        _record(first);
        for (uint256 i = 0; i < 3; i++) {
            Checkpoint memory back = checkpoint(6);
            back.epoch = i == 0 ? 2 : 3;
            back.inboxConsumed = i == 1 ? 1 : 2;
            if (i == 2) back.timestamp -= 1;
            bytes memory all = quorum(checkpoints.checkpointDigest(back));
            vm.expectRevert(abi.encodeWithSelector(ICheckpointRegistry.GoesBack.selector, first, back));
            checkpoints.recordCheckpoint(back, all, "");
        }
    }

    function test_recordCheckpoint_longReference_reverts() public {
        string memory long = string(new bytes(513));
        vm.expectRevert(abi.encodeWithSelector(ICheckpointRegistry.StoreReferenceTooLong.selector, 513, 512));
        checkpoints.recordCheckpoint(checkpoint(5), "", long);
    }

    /// Every field is signed.
    function testFuzz_recordCheckpoint_otherContent_reverts(uint8 field) public {
        Checkpoint memory given = checkpoint(5);
        bytes memory all = quorum(checkpoints.checkpointDigest(given));
        field = field % 6;
        if (field == 0) given.epoch++;
        if (field == 1) given.sequence++;
        if (field == 2) given.timestamp++;
        if (field == 3) given.root = keccak256("other");
        if (field == 4) given.stateHash = keccak256("other");
        if (field == 5) given.inboxConsumed++;
        vm.expectRevert();
        checkpoints.recordCheckpoint(given, all, "");
    }

    /// The digests and signatures of the specification's vectors, which Rust wrote.
    function test_checkpointDigest_vectors_areEqual() public {
        Hasher hasher = new Hasher();
        string memory json = Vectors.file("endorsements");
        address signer = vm.parseJsonAddress(json, ".signer.address");
        uint256 count;
        while (vm.keyExistsJson(json, string.concat(".vectors[", vm.toString(count), "]"))) {
            string memory place = string.concat(".vectors[", vm.toString(count), "]");
            bytes32 domain = keccak256(
                abi.encode(
                    keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                    keccak256("SyndDB"),
                    keccak256("1"),
                    vm.parseJsonUint(json, string.concat(place, ".chain_id")),
                    vm.parseJsonAddress(json, string.concat(place, ".contract"))
                )
            );
            bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, hasher.structHash(_claim(json, place))));
            vm.assertEq(digest, vm.parseJsonBytes32(json, string.concat(place, ".digest")));
            bytes memory signature = vm.parseJsonBytes(json, string.concat(place, ".signature"));
            registerVectorSigner(signer);
            keys.requireQuorum(digest, signature);
            count++;
        }
        vm.assertGt(count, 1);
    }

    /// And the contract's own digest is of that domain.
    function test_checkpointDigest_domain_isOwn() public {
        Hasher hasher = new Hasher();
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("SyndDB"),
                keccak256("1"),
                block.chainid,
                address(checkpoints)
            )
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, hasher.structHash(checkpoint(5))));
        vm.assertEq(checkpoints.checkpointDigest(checkpoint(5)), digest);
    }

    function registerVectorSigner(address signer) private {
        uint256 secret = uint256(0x0909090909090909090909090909090909090909090909090909090909090909);
        vm.assertEq(vm.addr(secret), signer);
        if (keys.keyOf(signer).validUntil != 0) return;
        addValidator(secret);
        vm.prank(OWNER);
        keys.setThreshold(1);
    }

    function _claim(string memory json, string memory place) private pure returns (Checkpoint memory) {
        return Checkpoint({
            stream: vm.parseJsonBytes32(json, string.concat(place, ".message.stream")),
            epoch: uint64(vm.parseJsonUint(json, string.concat(place, ".message.epoch"))),
            sequence: uint64(vm.parseJsonUint(json, string.concat(place, ".message.sequence"))),
            timestamp: uint64(vm.parseJsonUint(json, string.concat(place, ".message.timestamp"))),
            root: vm.parseJsonBytes32(json, string.concat(place, ".message.root")),
            stateHash: vm.parseJsonBytes32(json, string.concat(place, ".message.stateHash")),
            inboxConsumed: uint64(vm.parseJsonUint(json, string.concat(place, ".message.inboxConsumed")))
        });
    }

    function _record(Checkpoint memory given) private {
        checkpoints.recordCheckpoint(given, quorum(checkpoints.checkpointDigest(given)), "file:///log/5");
    }
}
