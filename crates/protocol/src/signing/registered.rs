//! A key together with what registers it: nothing else can endorse or refuse (I12).

use crate::id::KeyId;
use crate::log::KeyProof;
use crate::signing::{SigningKey, VerifyingKey};

/// A key that signs for settlement, with the proof by which it is registered: the key that signs is the key that was registered, because there is no other
/// way to sign.
#[derive(Debug)]
pub struct RegisteredSigner {
    key: SigningKey,
    proof: KeyProof,
    predecessor: Option<KeyId>,
}

impl RegisteredSigner {
    /// A development signer: no contract has registered it, and everything that it signs says so.
    pub const fn unattested(key: SigningKey) -> Self {
        Self { key, proof: KeyProof::Unattested, predecessor: None }
    }

    /// The same, and it follows another key: what that one endorsed is never endorsed below.
    #[must_use]
    pub fn following(self, predecessor: Option<KeyId>) -> Self {
        Self { predecessor, ..self }
    }

    /// What names the key.
    pub const fn id(&self) -> KeyId {
        self.key.id()
    }

    /// The public key.
    pub const fn verifying_key(&self) -> &VerifyingKey {
        self.key.verifying_key()
    }

    /// What registers the key.
    pub const fn proof(&self) -> &KeyProof {
        &self.proof
    }

    /// Whether anything does.
    pub const fn is_attested(&self) -> bool {
        !matches!(self.proof, KeyProof::Unattested)
    }

    /// The key that this one follows.
    pub const fn predecessor(&self) -> Option<KeyId> {
        self.predecessor
    }

    /// The key, for what this crate signs.
    pub(crate) const fn key(&self) -> &SigningKey {
        &self.key
    }
}
