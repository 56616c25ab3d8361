//! The epoch record: the claim of a leadership, stored create-only before the claimant does anything.

use crate::encoding::cbor::{MapKey, Reader, Writer, check_limit};
use crate::encoding::{Canonical, DecodeError};
use crate::hash::EpochRecordHash;
use crate::id::{Address, Epoch, KeyId, StreamId};
use crate::limits::{EPOCH_RECORD_BYTES_MAX, EVIDENCE_BYTES_MAX};
use crate::signing::{Envelope, Header, Kind, SignatureError, SigningKey, TrustedKeys, VerifyingKey};

/// Who leads an epoch: one key for one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// The epoch.
    pub epoch: Epoch,
    /// The name of its key.
    pub key: KeyId,
}

/// What proves that the key of an epoch deserves trust. A reader judges it by its own policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyProof {
    /// Nothing: development, or readers that pin the key.
    Unattested,
    /// The key stands in a registry contract.
    Registration {
        /// The chain, by its EIP-155 id.
        chain_id: u64,
        /// The registry contract.
        registry: Address,
        /// A block in which the key is registered.
        block_number: u64,
    },
    /// TEE evidence that binds the key.
    Evidence(Vec<u8>),
}

/// The claim of an epoch. It names no first sequence: the claimant learns that by storing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochRecord {
    /// The stream.
    pub stream: StreamId,
    /// The epoch claimed.
    pub epoch: Epoch,
    /// What proves the key.
    pub proof: KeyProof,
}

impl EpochRecord {
    /// Signs the claim with the epoch's own key.
    pub fn sign(self, key: &SigningKey) -> SignedEpochRecord {
        let header = Header { stream: self.stream, epoch: self.epoch, sequence: None, message: None };
        let mut payload = Writer::default();
        self.proof.write(&mut payload);
        let envelope = Envelope::sign(Kind::Epoch, header, payload.into_bytes(), key);
        SignedEpochRecord { record: self, envelope }
    }
}

impl Canonical for KeyProof {
    const WHAT: &'static str = "key proof";
    const BYTES_MAX: usize = EPOCH_RECORD_BYTES_MAX;

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Unattested => writer.map(0),
            Self::Registration { chain_id, registry, block_number } => {
                writer.map(1);
                writer.key(MapKey::Int(1));
                writer.array(3);
                writer.uint(*chain_id);
                writer.bytes(registry.as_bytes());
                writer.uint(*block_number);
            }
            Self::Evidence(evidence) => {
                writer.map(1);
                writer.key(MapKey::Int(2));
                writer.bytes(evidence);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields(Self::WHAT, 1)?;
        let registration = fields.optional(reader, MapKey::Int(1), |reader| {
            reader.array_exact("registration", 3)?;
            let chain_id = reader.uint("chain id")?;
            let registry = Address::from_bytes(reader.array_of("registry")?);
            Ok(Self::Registration { chain_id, registry, block_number: reader.uint("block number")? })
        })?;
        let evidence = fields.optional(reader, MapKey::Int(2), |reader| {
            Ok(Self::Evidence(reader.bytes("evidence", EVIDENCE_BYTES_MAX)?.to_vec()))
        })?;
        fields.end(reader)?;
        Ok(registration.or(evidence).unwrap_or(Self::Unattested))
    }
}

/// A signed epoch record, as it stands in the store. Unchecked until [`Self::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEpochRecord {
    record: EpochRecord,
    envelope: Envelope,
}

impl SignedEpochRecord {
    /// Reads a record. Its signature is not checked by that.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not a canonical COSE_Sign1 of an epoch record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        check_limit("epoch record", bytes.len(), EPOCH_RECORD_BYTES_MAX)?;
        let mut reader = Reader::new(bytes);
        let envelope = Envelope::read(Kind::Epoch, &mut reader, EPOCH_RECORD_BYTES_MAX)?;
        reader.end("epoch record")?;
        let proof = KeyProof::from_bytes(envelope.payload())?;
        let header = envelope.header();
        let record = EpochRecord { stream: header.stream, epoch: header.epoch, proof };
        Ok(Self { record, envelope })
    }

    /// The bytes to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.envelope.encode()
    }

    /// The hash that the epoch's first message names.
    pub fn hash(&self) -> EpochRecordHash {
        EpochRecordHash::of(&self.to_bytes())
    }

    /// The epoch claimed. Worth nothing before the record is verified.
    pub const fn epoch(&self) -> Epoch {
        self.record.epoch
    }

    /// The name of the epoch's key.
    pub fn key(&self) -> KeyId {
        self.envelope.key()
    }

    /// What it claims. Worth nothing before [`Self::verify`].
    pub const fn claim(&self) -> &EpochRecord {
        &self.record
    }

    /// The claim, if a trusted key signed it.
    ///
    /// # Errors
    /// [`SignatureError`] when the key is not trusted for this epoch, or the signature is not its.
    pub fn verify(&self, keys: &TrustedKeys) -> Result<&EpochRecord, SignatureError> {
        self.envelope.verify(keys)?;
        keys.revoked().check_claim(self.key(), self.record.epoch)?;
        Ok(&self.record)
    }

    /// The claim and the public key that signed it, for a reader that judges the key by the claim's
    /// [`KeyProof`], or knows it by its address alone.
    ///
    /// # Errors
    /// [`SignatureError::BadSignature`] when no key with the named address made the signature.
    pub fn recover(&self) -> Result<(&EpochRecord, VerifyingKey), SignatureError> {
        Ok((&self.record, self.envelope.recover()?))
    }
}
