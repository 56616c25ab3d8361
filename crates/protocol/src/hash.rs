//! The 32-byte hashes of the protocol, one type per meaning.
//!
//! A hash of one kind cannot stand where another is wanted. Bytes inside, `0x` hex at the edge.

use sha2::{Digest as _, Sha256};
use sha3::Keccak256;

use crate::encoding::text::{ParseError, impl_hex_text};

/// Declares a 32-byte hash type.
macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The hash that was read from a message, a store or a peer.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl_hex_text!($name, 32, $what);
    };
}

hash_type! {
    /// SHA-256 of a commit's canonical CBOR: the link that the next commit names as `prev`.
    ///
    /// The first commit of an incarnation names the digest of the snapshot that begins it; a part of
    /// a huge commit names the part before it. So one chain holds everything a client ever sends.
    CommitDigest, "commit digest"
}
hash_type! {
    /// SHA-256 of a message body as stored, which is what a message's signature covers.
    BodyHash, "body hash"
}
hash_type! {
    /// A leaf or an inner node of the log tree (RFC 9162, section 2.1).
    TreeHash, "tree hash"
}
hash_type! {
    /// SHA-256 of a chunk as stored, and its name in the store.
    ChunkHash, "chunk hash"
}
hash_type! {
    /// SHA-256 of a signed epoch record as stored.
    EpochRecordHash, "epoch record hash"
}
hash_type! {
    /// BLAKE3 of a table's accumulated rows ([`crate::state::TableHash`]).
    TableDigest, "table digest"
}
hash_type! {
    /// What a whole database hashes to ([`crate::state`]): two replicas at one sequence have one.
    StateHash, "state hash"
}
hash_type! {
    /// A block or transaction hash of an EVM chain.
    ChainHash, "chain hash"
}
hash_type! {
    /// Keccak-256 of the call data of an outbound message ([`crate::log::OutboundMessage`]).
    PayloadHash, "payload hash"
}

/// SHA-256 over the concatenation of `parts`.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

impl BodyHash {
    /// The hash of a body as stored.
    pub fn of(body: &[u8]) -> Self {
        Self(sha256(&[body]))
    }
}

impl PayloadHash {
    /// The hash of this call data.
    pub fn of(payload: &[u8]) -> Self {
        Self(Keccak256::digest(payload).into())
    }
}

impl ChunkHash {
    /// The hash of a chunk as stored.
    pub fn of(chunk: &[u8]) -> Self {
        Self(sha256(&[chunk]))
    }
}

impl EpochRecordHash {
    /// The hash of a signed epoch record as stored.
    pub fn of(record: &[u8]) -> Self {
        Self(sha256(&[record]))
    }
}
