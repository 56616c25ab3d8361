// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice What a key may sign. The zero value may sign nothing.
enum Role {
    /// None.
    None,
    /// Signs the log, and brings messages.
    Sequencer,
    /// Endorses.
    Validator
}

/// @notice Where a key is in its life. Only a live key counts, and no key becomes live twice.
enum KeyState {
    /// Never registered.
    Unknown,
    /// Attested; counts until it expires or its image is removed.
    Live,
    /// Final: the owner took it away.
    Revoked,
    /// Final: it signed two contents for one place.
    Frozen,
    /// Somebody noted that its time was over, or its image removed. It may still be revoked or frozen, for what it signed while it counted.
    Retired
}

/// @notice A registered key. One storage slot.
struct Key {
    /// What it may sign.
    Role role;
    /// Where it is in its life.
    KeyState state;
    /// The number of the image that holds it.
    uint16 image;
    /// The last second, since 1970, in which it counts.
    uint64 validUntil;
    /// The verifier that admitted it.
    address verifier;
}

/// @notice A verifier that is admitted, with the code that it must have: an address alone says nothing of it.
struct AdmittedVerifier {
    /// Where it is.
    address verifier;
    /// The hash of its code.
    bytes32 codeHash;
}

/// @notice An image that is admitted for one role.
struct AdmittedImage {
    /// The digest of the container image.
    bytes32 digest;
    /// What its keys may sign.
    Role role;
}

/// @notice An image that may hold keys of one role. One storage slot beside its digest.
struct Image {
    /// The digest of the container image.
    bytes32 digest;
    /// What its keys may sign.
    Role role;
    /// How many validators hold a key of it that is in state Live. Sequencers are not counted.
    uint32 validators;
}
