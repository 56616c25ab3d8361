// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Image, Key, Role} from "../types/Key.sol";

/// @title Which keys count
/// @notice Registers keys that were made inside a TEE, and answers whether a digest was signed by a live sequencer, or by a quorum of live
/// validators. There is no way to add a key without evidence, for nobody: the owner admits images and verifiers, and takes keys away.
/// @dev The owner is meant to be a timelock. What it may do: admit and remove images and verifiers, set the threshold, revoke keys.
interface ITeeKeyManager {
    /// A key became live.
    event KeyRegistered(address indexed key, Role indexed role, uint16 indexed image, address verifier, uint64 validUntil);
    /// The owner took a key away.
    event KeyRevoked(address indexed key);
    /// A key was shown to have signed two contents for one place.
    event KeyFrozen(address indexed key, bytes32 indexed stream, uint64 epoch, uint64 sequence);
    /// Somebody noted that a key counts no more.
    event KeyRetired(address indexed key);
    /// Keys of an image may register.
    event ImageAdmitted(uint16 indexed image, bytes32 indexed digest, Role indexed role);
    /// The keys of an image count no more.
    event ImageRemoved(uint16 indexed image, bytes32 indexed digest);
    /// A verifier may admit keys.
    event VerifierAdmitted(address indexed verifier);
    /// A verifier admits no more keys. Those that it admitted stay.
    event VerifierStopped(address indexed verifier);
    /// A quorum is now this many validators.
    event ThresholdSet(uint32 threshold);

    /// The threshold is zero, or more than there are validators: nothing has a quorum.
    error ThresholdInvalid(uint32 threshold, uint32 validators);
    /// Fewer signatures than the threshold.
    error QuorumNotMet(uint256 signatures, uint32 threshold);
    /// The signatures are not a whole number of 65 bytes.
    error SignaturesMalformed(uint256 bytesGiven);
    /// The bytes are no signature: a high s, another v than 27 or 28, or of no key.
    error SignatureInvalid();
    /// The signers are not in strictly ascending order, so one may stand twice.
    error SignersNotAscending(address previous, address next);
    /// The key counts not, or not for this.
    error KeyNotLive(address key, Role role);
    /// The key counts still.
    error KeyLive(address key);
    /// The key was registered before.
    error KeyKnown(address key);
    /// A public key has 64 bytes.
    error PublicKeyMalformed(uint256 bytesGiven);
    /// The verifier is not one of ours.
    error VerifierUnknown(address verifier);
    /// The image is not admitted for the role.
    error ImageUnknown(bytes32 digest, Role role);
    /// The image was admitted, or removed, before.
    error ImageKnown(bytes32 digest, Role role);
    /// No block of this number is recent enough for its hash to be known.
    error BlockNotRecent(uint256 number);
    /// A key may have the role sequencer or validator.
    error RoleInvalid(Role role);
    /// There is no contract at the address.
    error NoCode(address account);
    /// The contract has another code than it was admitted for.
    error CodeDiffers(address account, bytes32 found, bytes32 wanted);
    /// The two objects do not prove that a key equivocated; the values are those of the two that differ, or are equal and must not be.
    error NoEquivocation(bytes32 first, bytes32 second);

    /// @notice Registers a key. Anyone may submit: the evidence binds the key.
    /// @param role What the key is to sign.
    /// @param publicKey The uncompressed point, 64 bytes.
    /// @param blockNumber The block whose hash the evidence binds: one of the last 256.
    /// @param verifier One that is admitted.
    /// @param evidence In the verifier's form.
    /// @return key The key's address.
    function registerKey(Role role, bytes calldata publicKey, uint256 blockNumber, address verifier, bytes calldata evidence)
        external
        returns (address key);

    /// @notice Freezes a key that signed two contents for one place, for ever. Anyone may report.
    /// @param first A receipt or a checkpoint: the COSE_Sign1 as the log has it.
    /// @param second Another one of the same kind, key, stream, epoch and sequence.
    function reportEquivocation(bytes calldata first, bytes calldata second) external;

    /// @notice Notes that a key counts no more, because it expired or its image is removed. Anyone may.
    /// @dev Until then an expired validator is counted in `validatorCount`, though its signature is worth nothing.
    function retireKey(address key) external;

    /// @notice Takes a key away, for ever. The owner's. Also one that is retired; nothing happens to one that was revoked or frozen before.
    function revokeKey(address key) external;

    /// @notice Lets keys of an image register. The owner's. An image is admitted once for a role, and never again after it was removed.
    /// @return image Its number.
    function admitImage(bytes32 digest, Role role) external returns (uint16 image);

    /// @notice Ends all keys of an image at once. The owner's.
    function removeImage(uint16 image) external;

    /// @notice Lets a verifier admit keys. The owner's.
    /// @param codeHash The hash of the code that it must have. Code without `selfdestruct` that is there is there for good.
    function admitVerifier(address verifier, bytes32 codeHash) external;

    /// @notice Lets a verifier admit no more keys. The owner's.
    function stopVerifier(address verifier) external;

    /// @notice Says how many validators are a quorum. The owner's. Must not be zero, nor more than there are.
    function setThreshold(uint32 threshold) external;

    /// @notice Reverts unless the signature is that of a live sequencer.
    /// @param digest An EIP-712 digest.
    /// @param signature r, s, v: 65 bytes, s low, v 27 or 28.
    /// @return sequencer Who signed.
    function requireSequencer(bytes32 digest, bytes calldata signature) external view returns (address sequencer);

    /// @notice Both at once: `requireSequencer` and `requireQuorum`.
    function requireAuthorized(bytes32 digest, bytes calldata sequencerSignature, bytes calldata validatorSignatures)
        external
        view
        returns (address sequencer);

    /// @notice Reverts unless at least as many live validators as the threshold signed.
    /// @param digest An EIP-712 digest.
    /// @param signatures Of 65 bytes each, one after the other, in strictly ascending order of their signers. All must be valid.
    function requireQuorum(bytes32 digest, bytes calldata signatures) external view;

    /// @notice Reverts unless the key is live and has the role.
    function requireLive(address key, Role role) external view;

    /// @notice Whether the key is live and has the role.
    function isLive(address key, Role role) external view returns (bool);

    /// @notice How many validators are a quorum. Reverts unless it is from 1 to `validatorCount`.
    function validatorThreshold() external view returns (uint32);

    /// @notice The threshold as it was set, whether or not there are as many validators.
    function configuredThreshold() external view returns (uint32);

    /// @notice How many validators' keys were revoked or frozen, images removed, and thresholds raised, so far: who kept this number knows whether what a quorum
    /// signed then is still signed by one. Of a sequencer's key its state tells.
    function endings() external view returns (uint32);

    /// @notice How many validators are live, those counted that expired and are not yet retired.
    function validatorCount() external view returns (uint32);

    /// @notice The stream that the keys sign for.
    function stream() external view returns (bytes32);

    /// @notice A key as it was registered.
    function keyOf(address key) external view returns (Key memory);

    /// @notice An image by its number; the first has 1.
    function imageOf(uint16 image) external view returns (Image memory);

    /// @notice Whether the keys of an image count no more.
    function isImageRemoved(uint16 image) external view returns (bool);

    /// @notice Whether a verifier may admit keys, or ever could.
    function verifierOf(address verifier) external view returns (bool isAdmitted, bool wasAdmitted);

    /// @notice What the evidence for a key must contain: SHA-256 of fields of fixed width.
    function keyBinding(Role role, bytes calldata publicKey, bytes32 blockHash) external view returns (bytes32);
}
