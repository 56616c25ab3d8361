// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IAttestationVerifier} from "../interfaces/IAttestationVerifier.sol";
import {ITeeKeyManager} from "../interfaces/ITeeKeyManager.sol";
import {SignedPlace} from "../libraries/SignedPlace.sol";
import {Signatures} from "../libraries/Signatures.sol";
import {AdmittedImage, AdmittedVerifier, Image, Key, KeyState, Role} from "../types/Key.sol";

/// @title Which keys count
/// @dev Documentation is in the interface. No list is walked but the signatures that a caller pays for, so nobody can make a quorum
/// unaffordable by registering keys.
contract TeeKeyManager is ITeeKeyManager, Ownable2Step {
    /// How long a key counts, in seconds, from its registration.
    uint64 public immutable KEY_LIFE;
    /// @inheritdoc ITeeKeyManager
    bytes32 public immutable stream;

    // These share a slot.
    uint24 private _threshold;
    uint24 private _validators;
    uint16 private _lastImage;
    /// @inheritdoc ITeeKeyManager
    uint32 public endings;

    mapping(address key => Key) private _keys;
    mapping(uint16 image => Image) private _images;
    /// Each word says of 256 images which are removed: whoever checks a quorum reads one word, not each key's image.
    mapping(uint256 word => uint256) private _removed;
    mapping(Role role => mapping(bytes32 digest => uint16 image)) private _imageNumbers;
    mapping(address verifier => VerifierState) private _verifiers;

    enum VerifierState {
        Unknown,
        Admitted,
        Stopped
    }

    /// @param owner_ Meant to be a timelock.
    /// @param stream_ What the keys sign for.
    /// @param keyLife How long a key counts, in seconds.
    /// @param threshold How many validators are a quorum. There are none yet, so until that many are live nothing has one.
    /// @param verifiers Who may admit keys from the start.
    /// @param images What may hold keys from the start; their numbers are from 1 on.
    constructor(
        address owner_,
        bytes32 stream_,
        uint64 keyLife,
        uint32 threshold,
        AdmittedVerifier[] memory verifiers,
        AdmittedImage[] memory images
    ) Ownable(owner_) {
        if (threshold == 0 || threshold > type(uint24).max) revert ThresholdInvalid(threshold, 0);
        for (uint256 i = 0; i < verifiers.length; i++) {
            _admitVerifier(verifiers[i].verifier, verifiers[i].codeHash);
        }
        for (uint256 i = 0; i < images.length; i++) {
            _admitImage(images[i].digest, images[i].role);
        }
        stream = stream_;
        KEY_LIFE = keyLife;
        _threshold = uint24(threshold);
        emit ThresholdSet(threshold);
    }

    // --- anyone

    /// @inheritdoc ITeeKeyManager
    function registerKey(Role role, bytes calldata publicKey, uint256 blockNumber, address verifier, bytes calldata evidence)
        external
        returns (address key)
    {
        // checks
        if (role == Role.None) revert RoleInvalid(role);
        if (_verifiers[verifier] != VerifierState.Admitted) revert VerifierUnknown(verifier);
        bytes32 recent = blockhash(blockNumber);
        if (recent == 0) revert BlockNotRecent(blockNumber);
        bytes32 binding = keyBinding(role, publicKey, recent);
        key = address(uint160(uint256(keccak256(publicKey))));
        if (_keys[key].state != KeyState.Unknown) revert KeyKnown(key);
        bytes32 digest = IAttestationVerifier(verifier).verifyEvidence(evidence, binding, role);
        uint16 image = _imageNumbers[role][digest];
        if (image == 0 || isImageRemoved(image)) revert ImageUnknown(digest, role);

        // effects
        uint64 validUntil = uint64(block.timestamp) + KEY_LIFE;
        _keys[key] = Key(role, KeyState.Live, image, validUntil, verifier);
        if (role == Role.Validator) {
            _images[image].validators++;
            _validators++;
        }
        emit KeyRegistered(key, role, image, verifier, validUntil);
    }

    /// @inheritdoc ITeeKeyManager
    function reportEquivocation(bytes calldata first, bytes calldata second) external {
        // checks
        SignedPlace.Place memory a = SignedPlace.read(first);
        SignedPlace.Place memory b = SignedPlace.read(second);
        bytes32 hash = keccak256(first);
        if (hash == keccak256(second)) revert NoEquivocation(hash, hash);
        if (a.kind != b.kind) revert NoEquivocation(bytes32(uint256(a.kind)), bytes32(uint256(b.kind)));
        if (a.key != b.key) revert NoEquivocation(bytes32(bytes20(a.key)), bytes32(bytes20(b.key)));
        if (a.stream != b.stream) revert NoEquivocation(a.stream, b.stream);
        if (a.epoch != b.epoch) revert NoEquivocation(bytes32(uint256(a.epoch)), bytes32(uint256(b.epoch)));
        if (a.sequence != b.sequence) revert NoEquivocation(bytes32(uint256(a.sequence)), bytes32(uint256(b.sequence)));

        // effects
        _end(a.key, KeyState.Frozen);
        emit KeyFrozen(a.key, a.stream, a.epoch, a.sequence);
    }

    /// @inheritdoc ITeeKeyManager
    function retireKey(address key) external {
        // checks
        Key storage known = _keys[key];
        if (block.timestamp <= known.validUntil && !isImageRemoved(known.image)) revert KeyLive(key);

        // effects
        _end(key, KeyState.Retired);
        emit KeyRetired(key);
    }

    // --- the owner

    /// @inheritdoc ITeeKeyManager
    function revokeKey(address key) external onlyOwner {
        // checks: whoever ends their own key first must not undo a batch of the owner's
        KeyState state = _keys[key].state;
        if (state == KeyState.Revoked || state == KeyState.Frozen) return;

        // effects
        _end(key, KeyState.Revoked);
        emit KeyRevoked(key);
    }

    /// @inheritdoc ITeeKeyManager
    function admitImage(bytes32 digest, Role role) external onlyOwner returns (uint16 image) {
        return _admitImage(digest, role);
    }

    /// @inheritdoc ITeeKeyManager
    function removeImage(uint16 image) external onlyOwner {
        // checks
        Image storage known = _images[image];
        if (known.role == Role.None) revert ImageUnknown(bytes32(uint256(image)), Role.None);
        if (isImageRemoved(image)) revert ImageKnown(known.digest, known.role);

        // effects
        _removed[image / 256] |= 1 << (image % 256);
        _validators -= uint24(known.validators);
        endings++;
        emit ImageRemoved(image, known.digest);
    }

    /// @inheritdoc ITeeKeyManager
    function admitVerifier(address verifier, bytes32 codeHash) external onlyOwner {
        _admitVerifier(verifier, codeHash);
    }

    /// @inheritdoc ITeeKeyManager
    function stopVerifier(address verifier) external onlyOwner {
        if (_verifiers[verifier] != VerifierState.Admitted) revert VerifierUnknown(verifier);
        _verifiers[verifier] = VerifierState.Stopped;
        emit VerifierStopped(verifier);
    }

    /// @inheritdoc ITeeKeyManager
    function setThreshold(uint32 threshold) external onlyOwner {
        _requireThreshold(threshold);
        // What fewer signed is signed by too few.
        if (threshold > _threshold) endings++;
        // No more than the validators, so it fits.
        _threshold = uint24(threshold);
        emit ThresholdSet(threshold);
    }

    // --- views

    /// @inheritdoc ITeeKeyManager
    function requireSequencer(bytes32 digest, bytes calldata signature) public view returns (address sequencer) {
        sequencer = Signatures.signer(digest, signature);
        requireLive(sequencer, Role.Sequencer);
    }

    /// @inheritdoc ITeeKeyManager
    function requireAuthorized(bytes32 digest, bytes calldata sequencerSignature, bytes calldata validatorSignatures)
        external
        view
        returns (address sequencer)
    {
        sequencer = requireSequencer(digest, sequencerSignature);
        requireQuorum(digest, validatorSignatures);
    }

    /// @inheritdoc ITeeKeyManager
    function requireQuorum(bytes32 digest, bytes calldata signatures) public view {
        uint32 threshold = validatorThreshold();
        uint256 count = signatures.length / Signatures.LENGTH;
        if (signatures.length % Signatures.LENGTH != 0) revert SignaturesMalformed(signatures.length);
        if (count < threshold) revert QuorumNotMet(count, threshold);
        address previous = address(0);
        for (uint256 i = 0; i < count; i++) {
            address signer = Signatures.signer(digest, signatures[i * Signatures.LENGTH:(i + 1) * Signatures.LENGTH]);
            if (signer <= previous) revert SignersNotAscending(previous, signer);
            requireLive(signer, Role.Validator);
            previous = signer;
        }
    }

    /// @inheritdoc ITeeKeyManager
    function requireLive(address key, Role role) public view {
        if (!isLive(key, role)) revert KeyNotLive(key, role);
    }

    /// @inheritdoc ITeeKeyManager
    function isLive(address key, Role role) public view returns (bool) {
        Key storage known = _keys[key];
        return role != Role.None && known.role == role && known.state == KeyState.Live && block.timestamp <= known.validUntil
            && !isImageRemoved(known.image);
    }

    /// @inheritdoc ITeeKeyManager
    function validatorThreshold() public view returns (uint32 threshold) {
        threshold = _threshold;
        _requireThreshold(threshold);
    }

    /// @inheritdoc ITeeKeyManager
    function configuredThreshold() external view returns (uint32) {
        return _threshold;
    }

    /// @inheritdoc ITeeKeyManager
    function validatorCount() external view returns (uint32) {
        return _validators;
    }

    /// @inheritdoc ITeeKeyManager
    function keyOf(address key) external view returns (Key memory) {
        return _keys[key];
    }

    /// @inheritdoc ITeeKeyManager
    function imageOf(uint16 image) external view returns (Image memory) {
        return _images[image];
    }

    /// @inheritdoc ITeeKeyManager
    function isImageRemoved(uint16 image) public view returns (bool) {
        return (_removed[image / 256] >> (image % 256)) & 1 == 1;
    }

    /// @inheritdoc ITeeKeyManager
    function verifierOf(address verifier) external view returns (bool isAdmitted, bool wasAdmitted) {
        VerifierState state = _verifiers[verifier];
        return (state == VerifierState.Admitted, state != VerifierState.Unknown);
    }

    /// @inheritdoc ITeeKeyManager
    function keyBinding(Role role, bytes calldata publicKey, bytes32 blockHash) public view returns (bytes32) {
        if (publicKey.length != 64) revert PublicKeyMalformed(publicKey.length);
        return sha256(abi.encodePacked("synddb/tee-key/v1", uint8(role), block.chainid, address(this), stream, publicKey, blockHash));
    }

    // --- private

    function _admitImage(bytes32 digest, Role role) private returns (uint16 image) {
        // checks
        if (role == Role.None) revert RoleInvalid(role);
        if (_imageNumbers[role][digest] != 0) revert ImageKnown(digest, role);

        // effects
        image = ++_lastImage;
        _imageNumbers[role][digest] = image;
        _images[image] = Image(digest, role, 0);
        emit ImageAdmitted(image, digest, role);
    }

    function _admitVerifier(address verifier, bytes32 codeHash) private {
        if (verifier.code.length == 0) revert NoCode(verifier);
        if (verifier.codehash != codeHash) revert CodeDiffers(verifier, verifier.codehash, codeHash);
        _verifiers[verifier] = VerifierState.Admitted;
        emit VerifierAdmitted(verifier);
    }

    /// Ends a live key, or takes away one that is retired. The count has only validators in state Live, of images that are not removed, so
    /// each leaves it once.
    function _end(address key, KeyState state) private {
        Key storage known = _keys[key];
        Role role = known.role;
        bool wasRetired = known.state == KeyState.Retired && state != KeyState.Retired;
        if (known.state != KeyState.Live && !wasRetired) revert KeyNotLive(key, role);
        known.state = state;
        if (role != Role.Validator) return;
        // A key whose time is over signed while it counted.
        if (state != KeyState.Retired) endings++;
        if (wasRetired) return;
        _images[known.image].validators--;
        if (!isImageRemoved(known.image)) _validators--;
    }

    function _requireThreshold(uint32 threshold) private view {
        if (threshold == 0 || threshold > _validators) revert ThresholdInvalid(threshold, _validators);
    }
}
