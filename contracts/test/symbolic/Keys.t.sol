// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {TeeKeyManager} from "../../src/attestation/TeeKeyManager.sol";
import {IAttestationVerifier} from "../../src/interfaces/IAttestationVerifier.sol";
import {AdmittedImage, AdmittedVerifier, KeyState, Role} from "../../src/types/Key.sol";
import {vm} from "../support/Vm.sol";
import {anyStorage, svm} from "./Svm.sol";

/// @notice Says that any evidence is of any image.
contract AnyVerifier is IAttestationVerifier {
    function verifyEvidence(bytes calldata, bytes32, Role) external pure returns (bytes32) {
        return svm.createBytes32("image");
    }
}

/// @notice Whatever storage holds and whoever calls what: a key that ended stays ended, and none becomes live but by registration.
contract KeysProof {
    /// The owner; the next owner, the threshold and the counts.
    uint256 private constant SLOTS = 2;
    bytes32 private constant STREAM = bytes32(uint256(0x5d));

    TeeKeyManager private _keys;

    function setUp() public {
        _keys = new TeeKeyManager(address(0xa11ce), STREAM, 30 days, 1, new AdmittedVerifier[](0), new AdmittedImage[](0));
        new AnyVerifier();
    }

    /// @custom:halmos --array-lengths publicKey={0,64},evidence={0},first={0},second={0}
    function check_finalKeys_stayFinal(address caller, address key) public {
        anyStorage(address(_keys), SLOTS);
        KeyState before = _keys.keyOf(key).state;
        vm.assume(before == KeyState.Revoked || before == KeyState.Frozen || before == KeyState.Retired);
        _callAnything(caller);
        KeyState afterwards = _keys.keyOf(key).state;
        assert(afterwards == before || (before == KeyState.Retired && (afterwards == KeyState.Revoked || afterwards == KeyState.Frozen)));
    }

    /// @custom:halmos --array-lengths publicKey={0,64},evidence={0},first={0},second={0}
    function check_keys_becomeLiveByRegistrationOnly(address caller, address key) public {
        anyStorage(address(_keys), SLOTS);
        KeyState before = _keys.keyOf(key).state;
        vm.assume(before != KeyState.Live);
        bytes4 selector = _callAnything(caller);
        KeyState afterwards = _keys.keyOf(key).state;
        assert(afterwards != KeyState.Live || (selector == TeeKeyManager.registerKey.selector && before == KeyState.Unknown));
    }

    /// @custom:halmos --array-lengths publicKey={0,64},evidence={0},first={0},second={0}
    function check_removedImages_stayRemoved(address caller, uint16 image) public {
        anyStorage(address(_keys), SLOTS);
        vm.assume(_keys.isImageRemoved(image));
        _callAnything(caller);
        assert(_keys.isImageRemoved(image));
    }

    /// @custom:halmos --array-lengths publicKey={0,64},evidence={0},first={0},second={0}
    function check_ownersFunctions_areTheOwners(address caller, address key) public {
        anyStorage(address(_keys), SLOTS);
        vm.assume(caller != _keys.owner() && caller != _keys.pendingOwner());
        address owner = _keys.owner();
        (bool isAdmitted,) = _keys.verifierOf(key);
        (KeyState state, uint256 threshold) =
            (_keys.keyOf(key).state, uint256(vm.load(address(_keys), bytes32(uint256(1)))) >> 160 & type(uint24).max);
        _callAnything(caller);
        (bool isAdmittedThen,) = _keys.verifierOf(key);
        assert(_keys.owner() == owner && isAdmittedThen == isAdmitted);
        assert(state == KeyState.Revoked || _keys.keyOf(key).state != KeyState.Revoked);
        assert(uint256(vm.load(address(_keys), bytes32(uint256(1)))) >> 160 & type(uint24).max == threshold);
    }

    function check_reportEquivocation_freezesTheLiveKeyOfBoth(address key, address other, bytes32[8] calldata words) public {
        anyStorage(address(_keys), SLOTS);
        (KeyState before, KeyState otherBefore) = (_keys.keyOf(key).state, _keys.keyOf(other).state);
        vm.assume(key != other);
        bytes memory first = _checkpoint(key, uint64(uint256(words[0])), uint64(uint256(words[1])), words[2], words[3], bytes1(words[4]));
        bytes memory second =
            _checkpoint(key, uint64(uint256(words[0] >> 64)), uint64(uint256(words[1] >> 64)), words[5], words[6], bytes1(words[7]));
        _keys.reportEquivocation(first, second);
        assert((before == KeyState.Live || before == KeyState.Retired) && _keys.keyOf(key).state == KeyState.Frozen);
        assert(_keys.keyOf(other).state == otherBefore);
        assert(uint64(uint256(words[0])) == uint64(uint256(words[0] >> 64)) && uint64(uint256(words[1])) == uint64(uint256(words[1] >> 64)));
        assert(keccak256(first) != keccak256(second));
    }

    /// With numbers of eight bytes and a payload of one.
    function _checkpoint(address key, uint64 sequence, uint64 epoch, bytes32 r, bytes32 s, bytes1 payload)
        private
        pure
        returns (bytes memory)
    {
        bytes memory header =
            bytes.concat(hex"a401382e3a000100001b", bytes8(sequence), hex"3a000100035820", STREAM, hex"3a000100041b", bytes8(epoch));
        return bytes.concat(hex"d2845847", header, hex"a10454", bytes20(key), hex"41", payload, hex"5840", r, s);
    }

    function _callAnything(address caller) private returns (bytes4) {
        bytes memory data = svm.createCalldata("TeeKeyManager");
        vm.prank(caller);
        (bool isDone,) = address(_keys).call(data);
        vm.assume(isDone);
        return bytes4(data);
    }
}
