// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {SignedPlace} from "../../src/libraries/SignedPlace.sol";
import {KeyState, Role} from "../../src/types/Key.sol";
import {Domain} from "../support/Digester.sol";
import {Twins} from "../support/Twins.sol";
import {vm} from "../support/Vm.sol";

/// @notice Random digests, signatures and pairs of signed objects, as the protocol in Rust makes them. `cargo xtask contracts` writes them anew each
/// time; without them these tests fail.
contract RandomDigestsTest is Twins {
    string private constant FOLDER = "out/digests/";
    uint256 private constant DIGESTS_MIN = 1000;
    /// Of receipts and of checkpoints, 50 places and 11 pairs for each.
    uint256 private constant PAIRS_MIN = 1100;
    /// How many of the pairs prove equivocation: one of 11.
    uint256 private constant PROOFS_MIN = 100;

    function test_messageDigest_random_isTheSignedOne() public {
        (Domain memory deployed, uint256 lines) = _open("messages", DIGESTS_MIN);
        _deployTo(deployed, "Bridge", abi.encode(bridgeSettings(keys, new address[](0))));
        for (uint256 i = 0; i < lines; i++) {
            this.checkMessage();
        }
        _assertEnd("messages");
    }

    function test_checkpointDigest_random_isTheSignedOne() public {
        (Domain memory deployed, uint256 lines) = _open("checkpoints", DIGESTS_MIN);
        _deployTo(deployed, "CheckpointRegistry", abi.encode(keys));
        for (uint256 i = 0; i < lines; i++) {
            this.checkCheckpoint();
        }
        _assertEnd("checkpoints");
    }

    function test_reportEquivocation_random_freezesWhereTheProtocolSeesIt() public {
        (, uint256 lines) = _open("pairs", PAIRS_MIN);
        uint256 frozen;
        for (uint256 i = 0; i < lines; i++) {
            Role role = i % 2 == 0 ? Role.Sequencer : Role.Validator;
            if (this.checkPair(role)) frozen++;
        }
        _assertEnd("pairs");
        vm.assertGe(frozen, PROOFS_MIN, "pairs that prove equivocation");
    }

    // Each line in a call of its own, whose memory is freed.

    function checkMessage() external {
        string memory line = _line("messages");
        assertMessage(line, "", domainAt(line, ""), messageAt(line, ".message"), account(line, "", "signer"));
    }

    function checkCheckpoint() external {
        string memory line = _line("checkpoints");
        assertCheckpoint(line, "", domainAt(line, ""), checkpointAt(line, ".message"), account(line, "", "signer"));
    }

    /// Whether the key was frozen, which is the case exactly when the line says that the two prove equivocation.
    function checkPair(Role role) external returns (bool isFrozen) {
        string memory line = _line("pairs");
        string memory what = vm.parseJsonString(line, ".what");
        address first = _register(uint256(word(line, "", "first_secret")), role);
        address second = _register(uint256(word(line, "", "second_secret")), role);
        try keys.reportEquivocation(vm.parseJsonBytes(line, ".first"), vm.parseJsonBytes(line, ".second")) {
            isFrozen = true;
        } catch (bytes memory reason) {
            bytes4 fault = bytes4(reason);
            bool isTold = fault == ITeeKeyManager.NoEquivocation.selector || fault == SignedPlace.NotSigned.selector
                || fault == SignedPlace.Malformed.selector;
            vm.assertTrue(isTold, what);
        }
        bool equivocates = keccak256(bytes(vm.parseJsonString(line, ".equivocates"))) == keccak256("yes");
        vm.assertTrue(isFrozen == equivocates, what);
        KeyState wanted = equivocates ? KeyState.Frozen : KeyState.Live;
        vm.assertTrue(keys.keyOf(first).state == wanted, what);
        vm.assertTrue(keys.keyOf(second).state == wanted, what);
    }

    /// Registers a key unless it is, and sees that it counts.
    function _register(uint256 secret, Role role) private returns (address key) {
        key = vm.addr(secret);
        if (keys.keyOf(key).state == KeyState.Unknown) registerKey(secret, role);
        vm.assertTrue(keys.keyOf(key).state == KeyState.Live, "a key that is frozen already shows nothing");
    }

    /// The first line of a file: what is deployed where, and how many lines follow.
    function _open(string memory name, uint256 min) private view returns (Domain memory deployed, uint256 lines) {
        string memory head = _line(name);
        lines = number(head, "", "lines");
        vm.assertGe(lines, min, name);
        deployed = domainAt(head, "");
    }

    function _line(string memory name) private view returns (string memory) {
        return vm.readLine(string.concat(FOLDER, name, ".jsonl"));
    }

    function _assertEnd(string memory name) private view {
        vm.assertEq(bytes(_line(name)).length, 0, name);
    }

    /// Runs the constructor where the contract shall be, so that it knows its place and its chain from the start.
    function _deployTo(Domain memory domain, string memory name, bytes memory arguments) private {
        vm.chainId(domain.chainId);
        vm.etch(domain.verifyingContract, bytes.concat(vm.getCode(artifact(name)), arguments));
        (bool isMade, bytes memory code) = domain.verifyingContract.call("");
        vm.assertTrue(isMade, name);
        vm.etch(domain.verifyingContract, code);
    }
}
