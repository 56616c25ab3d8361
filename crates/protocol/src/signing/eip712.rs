//! EIP-712: what a contract can check by Keccak-256 and `ecrecover` alone.
//!
//! ```text
//! digest = keccak256(0x19 0x01 || domainSeparator || keccak256(typeHash || fields))
//! ```
//!
//! The domain names chain and contract, so that a signature for one is worth nothing for another (I10).

use sha3::{Digest as _, Keccak256};

use crate::id::{Address, KeyId};
use crate::signing::{SigningKey, VerifyingKey};

const DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
/// The name in every domain.
const NAME: &str = "SyndDB";
/// The version in every domain.
const VERSION: &str = "1";

/// For which contract of which chain a signature is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain {
    /// The chain, by its EIP-155 id.
    pub chain_id: u64,
    /// The contract that checks the signature.
    pub contract: Address,
}

impl Domain {
    /// No chain: good for no contract, since none has the address zero on a chain zero.
    pub const NONE: Self = Self { chain_id: 0, contract: Address::ZERO };

    fn separator(&self) -> [u8; 32] {
        let mut hash = Struct::of(DOMAIN_TYPE);
        hash.word(keccak(NAME.as_bytes()));
        hash.word(keccak(VERSION.as_bytes()));
        hash.uint(self.chain_id);
        hash.address(self.contract);
        hash.finish()
    }
}

/// A struct as EIP-712 hashes it, field by field in the order of its type.
pub(crate) struct Struct(Keccak256);

impl Struct {
    pub(crate) fn of(type_text: &str) -> Self {
        let mut hash = Keccak256::new();
        hash.update(keccak(type_text.as_bytes()));
        Self(hash)
    }

    pub(crate) fn word(&mut self, word: [u8; 32]) {
        self.0.update(word);
    }

    pub(crate) fn uint(&mut self, number: u64) {
        let mut word = [0; 32];
        word[24..].copy_from_slice(&number.to_be_bytes());
        self.word(word);
    }

    pub(crate) fn address(&mut self, address: Address) {
        let mut word = [0; 32];
        word[12..].copy_from_slice(address.as_bytes());
        self.word(word);
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    /// What is signed of it, for a domain.
    pub(crate) fn digest(self, domain: &Domain) -> Digest {
        let mut hash = Keccak256::new();
        hash.update([0x19, 0x01]);
        hash.update(domain.separator());
        hash.update(self.finish());
        Digest(hash.finalize().into())
    }
}

fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

/// A signature as `ecrecover` takes it: r, s in the lower half of the order, and v, which is 27 or 28.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecoverableSignature([u8; 65]);

impl RecoverableSignature {
    /// Signs a digest (RFC 6979).
    pub(crate) fn sign(digest: &Digest, key: &SigningKey) -> Self {
        Self(key.sign_recoverable(digest.0))
    }

    /// Those 65 bytes. Whether anybody made them is seen by [`Self::recover`].
    pub const fn from_bytes(bytes: [u8; 65]) -> Self {
        Self(bytes)
    }

    /// Its bytes: `r || s || v`.
    pub const fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    /// The name of the key that signed `digest`; `None` where no key did, or in another form than a contract takes.
    pub fn recover(&self, digest: &Digest) -> Option<KeyId> {
        VerifyingKey::recover_by_v(digest.0, &self.0).map(|key| key.id())
    }
}

impl std::fmt::Debug for RecoverableSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecoverableSignature({self})")
    }
}

impl std::fmt::Display for RecoverableSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}
