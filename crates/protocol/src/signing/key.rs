//! secp256k1 keys, named by their Ethereum address.

use std::collections::BTreeMap;

use secp256k1::{PublicKey, SecretKey};
use sha3::{Digest as _, Keccak256};

use crate::encoding::ParseError;
use crate::encoding::text::bytes_from_hex;
use crate::id::{Address, KeyId};
use crate::signing::{LastValid, Revocations};

/// A key that signs for the log.
///
/// It draws no randomness: whoever makes one brings 32 secret bytes from the operating system or the
/// TEE. Signatures are deterministic (RFC 6979). Its memory is overwritten when it goes.
pub struct SigningKey {
    secret: SecretKey,
    public: VerifyingKey,
    /// That of the public half, which every signature names and which takes a hash to find.
    id: KeyId,
}

/// Bytes that are not a key of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not a secp256k1 {0} key")]
pub struct InvalidKey(&'static str);

impl SigningKey {
    /// The key with these secret bytes.
    ///
    /// # Errors
    /// [`InvalidKey`] for zero and for a number at or above the order of the curve.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, InvalidKey> {
        let secret = SecretKey::from_secret_bytes(bytes).map_err(|_| InvalidKey("secret"))?;
        let public = VerifyingKey(PublicKey::from_secret_key(&secret));
        Ok(Self { secret, public, id: public.id() })
    }

    /// The public half.
    pub const fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// What names this key in a signature.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Signs a hash: r and s, 32 bytes each, s in the lower half of the order.
    pub(super) fn sign(&self, hash: [u8; 32]) -> [u8; 64] {
        secp256k1::ecdsa::sign(secp256k1::Message::from_digest(hash), &self.secret).serialize_compact()
    }

    /// The same with v, which says which of the two keys that fit it is: 27 or 28.
    pub(super) fn sign_recoverable(&self, hash: [u8; 32]) -> [u8; 65] {
        use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
        let message = secp256k1::Message::from_digest(hash);
        let signed = RecoverableSignature::sign_ecdsa_recoverable(message, &self.secret);
        let (parity, rs) = signed.serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&rs);
        // An r above the order has never been seen; a signature with one would recover to nobody.
        bytes[64] = if parity == RecoveryId::One { 28 } else { 27 };
        bytes
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}

/// The public half of a [`SigningKey`].
///
/// As text it is the 33-byte compressed point in hex with `0x`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(PublicKey);

impl VerifyingKey {
    /// Reads a compressed point (SEC 1, section 2.3.3).
    ///
    /// # Errors
    /// [`InvalidKey`] when the bytes are not a point of the curve.
    pub fn from_bytes(bytes: [u8; 33]) -> Result<Self, InvalidKey> {
        PublicKey::from_slice(&bytes).map(Self).map_err(|_| InvalidKey("public"))
    }

    /// The compressed point.
    pub fn to_bytes(self) -> [u8; 33] {
        self.0.serialize()
    }

    /// The point as contracts take it: both coordinates, without the byte before them.
    pub fn to_point(self) -> [u8; 64] {
        let mut point = [0; 64];
        point.copy_from_slice(&self.0.serialize_uncompressed()[1..]);
        point
    }

    /// The Ethereum address of this key.
    pub fn id(&self) -> KeyId {
        let hash = Keccak256::digest(self.to_point());
        let mut address = [0; 20];
        address.copy_from_slice(&hash[12..]);
        Address::from_bytes(address)
    }

    /// Whether `signature` is this key's over `hash`. A high s is refused.
    pub(super) fn verify(&self, hash: [u8; 32], signature: &[u8; 64]) -> bool {
        secp256k1::ecdsa::Signature::from_compact(signature)
            .and_then(|signature| signature.verify(secp256k1::Message::from_digest(hash), &self.0))
            .is_ok()
    }

    /// The key named `id` that made `signature` over `hash`, if there is one.
    ///
    /// A signature without its recovery bit fits two keys; the address says which. The two further
    /// candidates, for an r above the order, are left out, since the EVM's `ecrecover` has them not.
    pub(super) fn recover(hash: [u8; 32], signature: &[u8; 64], id: KeyId) -> Option<Self> {
        use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
        let message = secp256k1::Message::from_digest(hash);
        [RecoveryId::Zero, RecoveryId::One].into_iter().find_map(|parity| {
            let signature_with_parity = RecoverableSignature::from_compact(signature, parity).ok()?;
            let key = Self(signature_with_parity.recover(message).ok()?);
            (key.id() == id && key.verify(hash, signature)).then_some(key)
        })
    }

    /// The key that made a signature `r || s || v`. A high s and any other v than 27 and 28 are refused.
    pub(super) fn recover_by_v(hash: [u8; 32], signature: &[u8; 65]) -> Option<Self> {
        use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
        let message = secp256k1::Message::from_digest(hash);
        let (rs, v) = signature.split_first_chunk::<64>()?;
        let parity = match v {
            [27] => RecoveryId::Zero,
            [28] => RecoveryId::One,
            _ => return None,
        };
        let recoverable = RecoverableSignature::from_compact(rs, parity).ok()?;
        let key = Self(recoverable.recover(message).ok()?);
        key.verify(hash, rs).then_some(key)
    }
}

impl std::fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{}", hex::encode(self.to_bytes()))
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

impl std::str::FromStr for VerifyingKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bytes = bytes_from_hex("public key", "0x", text)?;
        Self::from_bytes(bytes).map_err(|_| ParseError::new("public key", "a point of secp256k1", text))
    }
}

impl serde::Serialize for VerifyingKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for VerifyingKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The keys a reader trusts to sign a log: chosen by whoever runs the reader, never by the log.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    keys: BTreeMap<KeyId, VerifyingKey>,
    revoked: Revocations,
}

impl TrustedKeys {
    /// Trusts exactly these keys.
    pub fn pinned(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.id(), key)).collect(), revoked: Revocations::default() }
    }

    /// Trusts one more key.
    pub fn add(&mut self, key: VerifyingKey) {
        self.keys.insert(key.id(), key);
    }

    /// Trusts a key only up to a place, whether or not it is among these.
    pub fn revoke(&mut self, key: KeyId, last_valid: LastValid) {
        self.revoked.revoke(key, last_valid);
    }

    /// What is revoked.
    pub const fn revoked(&self) -> &Revocations {
        &self.revoked
    }

    /// Replaces what is revoked.
    pub fn set_revoked(&mut self, revoked: Revocations) {
        self.revoked = revoked;
    }

    /// The key with this name, if it is trusted. One that is revoked is, up to its last valid place.
    pub fn get(&self, id: KeyId) -> Option<&VerifyingKey> {
        self.keys.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_one_ethereum_gives() {
        // Test account 0 of the mnemonic "test test ... junk", known to every Ethereum developer.
        let secret =
            bytes_from_hex("key", "0x", "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
        let key = SigningKey::from_bytes(secret.unwrap()).unwrap();
        assert_eq!(key.id().to_string(), "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");
        let text = key.verifying_key().to_string();
        assert_eq!(text.parse::<VerifyingKey>().unwrap(), *key.verifying_key());
        assert!(!format!("{key:?}").contains("ac0974"));
    }

    #[test]
    fn recovery_finds_the_named_key_only() {
        let key = SigningKey::from_bytes([7; 32]).unwrap();
        for seed in 0..8 {
            let hash = [seed; 32];
            let signature = key.sign(hash);
            assert_eq!(VerifyingKey::recover(hash, &signature, key.id()), Some(*key.verifying_key()));
            assert_eq!(VerifyingKey::recover(hash, &signature, Address::from_bytes([1; 20])), None);
        }
    }

    #[test]
    fn a_high_s_is_refused() {
        let key = SigningKey::from_bytes([7; 32]).unwrap();
        let mut signature = key.sign([1; 32]);
        let order = bytes_from_hex::<32>(
            "order",
            "0x",
            "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        )
        .unwrap();
        let mut borrow = 0i16;
        for index in (0..32).rev() {
            let digit = i16::from(order[index]) - i16::from(signature[32 + index]) - borrow;
            borrow = i16::from(digit < 0);
            signature[32 + index] = u8::try_from(digit.rem_euclid(256)).unwrap();
        }
        assert!(!key.verifying_key().verify([1; 32], &signature));
        assert_eq!(VerifyingKey::recover([1; 32], &signature, key.id()), None);
    }
}
