// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {RateLimit} from "../src/modules/RateLimit.sol";
import {AdmittedImage, AdmittedVerifier, Role} from "../src/types/Key.sol";
import {vm} from "../test/support/Vm.sol";

/// @notice What is deployed: all that differs from one deployment to another.
struct Configuration {
    /// The stream that the bridge serves.
    bytes32 stream;
    /// Another number deploys the same once more.
    uint64 salt;
    /// How long a key counts, in seconds.
    uint64 keyLife;
    /// How many validators are a quorum.
    uint32 threshold;
    /// Who may pause outbound messages.
    address guardian;
    /// Who sends the transactions that deploy, and sets the modules the first time.
    address installer;
    /// The wrapped native currency of the chain.
    address wrappedNative;
    /// Tokens that are taken beside it.
    address[] tokens;
    /// Who may propose to the timelock that owns everything, and cancel there.
    address[] proposers;
    /// How long the timelock waits, in seconds.
    uint256 delay;
    /// Who judges evidence, each with the code that it must have.
    AdmittedVerifier[] verifiers;
    /// What may hold keys.
    AdmittedImage[] images;
    /// What may flow out: what a bucket holds, in seconds of its flow, and how long waits what does not fit. No limit where the first is zero.
    uint64 limitPeriod;
    uint64 limitDelay;
    RateLimit.Limit[] limits;
    /// How old the newest checkpoint on chain may be, in ms. Nothing is asked where it is zero.
    uint256 checkpointAgeMsMax;
    /// The nonce from which messages are executed in order. In any order where it is zero.
    uint64 orderedFrom;
}

/// @title Reads a configuration from JSON
/// @notice Its keys are the fields' names; see `deploy.example.json`. A key that is missing makes the run fail and name it.
library Configurations {
    /// The chain of anvil, where delays may be zero.
    uint256 internal constant LOCAL_CHAIN_ID = 31_337;

    /// A role is `sequencer` or `validator`.
    error RoleUnknown(string role);
    /// A list is missing; it may be empty.
    error ListMissing(string key);
    /// A field has a value that nothing can be deployed with; the text says what it must be.
    error ConfigurationUnfit(string field, string must);
    /// A number is larger than its field holds.
    error NumberTooLarge(string key, uint256 number);

    /// @notice Reads what stands at a path of a JSON text; the empty path is all of it.
    function parse(string memory json, string memory path) internal view returns (Configuration memory c) {
        c.stream = vm.parseJsonBytes32(json, string.concat(path, ".stream"));
        c.salt = uint64(_number(json, path, ".salt", type(uint64).max));
        c.keyLife = uint64(_number(json, path, ".keyLife", type(uint64).max));
        c.threshold = uint32(_number(json, path, ".threshold", type(uint32).max));
        c.guardian = vm.parseJsonAddress(json, string.concat(path, ".guardian"));
        c.installer = vm.parseJsonAddress(json, string.concat(path, ".installer"));
        c.wrappedNative = vm.parseJsonAddress(json, string.concat(path, ".wrappedNative"));
        c.tokens = vm.parseJsonAddressArray(json, string.concat(path, ".tokens"));
        c.proposers = vm.parseJsonAddressArray(json, string.concat(path, ".proposers"));
        c.delay = _number(json, path, ".delay", type(uint64).max);
        c.verifiers = _verifiers(json, string.concat(path, ".verifiers"));
        c.images = _images(json, string.concat(path, ".images"));
        c.limitPeriod = uint64(_number(json, path, ".limitPeriod", type(uint64).max));
        c.limitDelay = uint64(_number(json, path, ".limitDelay", type(uint64).max));
        c.limits = _limits(json, string.concat(path, ".limits"));
        c.checkpointAgeMsMax = _number(json, path, ".checkpointAgeMsMax", type(uint64).max);
        c.orderedFrom = uint64(_number(json, path, ".orderedFrom", type(uint64).max));
    }

    function _verifiers(string memory json, string memory list) private view returns (AdmittedVerifier[] memory verifiers) {
        uint256 count = _count(json, list);
        verifiers = new AdmittedVerifier[](count);
        for (uint256 i = 0; i < count; i++) {
            string memory path = _element(list, i);
            address verifier = vm.parseJsonAddress(json, string.concat(path, ".verifier"));
            verifiers[i] = AdmittedVerifier(verifier, vm.parseJsonBytes32(json, string.concat(path, ".codeHash")));
        }
    }

    function _images(string memory json, string memory list) private view returns (AdmittedImage[] memory images) {
        uint256 count = _count(json, list);
        images = new AdmittedImage[](count);
        for (uint256 i = 0; i < count; i++) {
            string memory path = _element(list, i);
            bytes32 digest = vm.parseJsonBytes32(json, string.concat(path, ".digest"));
            images[i] = AdmittedImage(digest, roleOf(vm.parseJsonString(json, string.concat(path, ".role"))));
        }
    }

    function _limits(string memory json, string memory list) private view returns (RateLimit.Limit[] memory limits) {
        uint256 count = _count(json, list);
        limits = new RateLimit.Limit[](count);
        for (uint256 i = 0; i < count; i++) {
            string memory path = _element(list, i);
            address token = vm.parseJsonAddress(json, string.concat(path, ".token"));
            limits[i] = RateLimit.Limit(token, uint104(_number(json, path, ".perSecond", type(uint104).max)));
        }
    }

    function _count(string memory json, string memory list) private view returns (uint256 count) {
        if (!vm.keyExistsJson(json, list)) revert ListMissing(list);
        while (vm.keyExistsJson(json, _element(list, count))) count++;
    }

    function _element(string memory list, uint256 i) private pure returns (string memory) {
        return string.concat(list, "[", vm.toString(i), "]");
    }

    /// @notice What the contracts themselves do not refuse, because elsewhere it may make sense. Also a check of what is deployed asks this.
    function requireFit(Configuration memory c) internal view {
        _require(c.stream != 0, "stream", "not be zero");
        _require(c.keyLife != 0, "keyLife", "not be zero");
        _require(c.threshold != 0, "threshold", "not be zero");
        _require(c.guardian != address(0), "guardian", "not be zero");
        _require(c.wrappedNative.code.length != 0, "wrappedNative", "be a contract");
        for (uint256 i = 0; i < c.tokens.length; i++) {
            _require(c.tokens[i].code.length != 0, "tokens", "be contracts");
        }
        for (uint256 i = 0; i < c.verifiers.length; i++) {
            _require(c.verifiers[i].verifier.code.length != 0, "verifiers", "be contracts");
            _require(c.verifiers[i].verifier.codehash == c.verifiers[i].codeHash, "verifiers", "have the code of their codeHash");
        }
        _require(c.proposers.length != 0, "proposers", "not be empty");
        _require(c.delay != 0 || block.chainid == LOCAL_CHAIN_ID, "delay", "not be zero");
        _require(c.verifiers.length != 0, "verifiers", "not be empty");
        _require(c.limitPeriod != 0 || c.limits.length == 0, "limitPeriod", "not be zero where there are limits");
        // Whoever sees a message that waits must have the time to stop it through the timelock.
        _require(c.limitPeriod == 0 || c.limitDelay > c.delay, "limitDelay", "be longer than the timelock's delay");
        // One message that waits for the limit would hold up all behind it, one delay after the other.
        _require(c.limitPeriod == 0 || c.orderedFrom == 0, "orderedFrom", "be zero where there is a limit");
        bool hasSequencer;
        bool hasValidator;
        for (uint256 i = 0; i < c.images.length; i++) {
            if (c.images[i].role == Role.Sequencer) hasSequencer = true;
            if (c.images[i].role == Role.Validator) hasValidator = true;
            for (uint256 j = 0; j < i; j++) {
                bool isSame = c.images[i].digest == c.images[j].digest && c.images[i].role == c.images[j].role;
                _require(!isSame, "images", "name none twice");
            }
        }
        _require(hasSequencer && hasValidator, "images", "have one for each role");
    }

    function _require(bool isSo, string memory field, string memory must) private pure {
        if (!isSo) revert ConfigurationUnfit(field, must);
    }

    /// @notice A role by its name.
    function roleOf(string memory name) internal pure returns (Role) {
        bytes32 hash = keccak256(bytes(name));
        if (hash == keccak256("sequencer")) return Role.Sequencer;
        if (hash == keccak256("validator")) return Role.Validator;
        revert RoleUnknown(name);
    }

    function _number(string memory json, string memory path, string memory key, uint256 max) private pure returns (uint256 number) {
        number = vm.parseJsonUint(json, string.concat(path, key));
        if (number > max) revert NumberTooLarge(key, number);
    }
}
