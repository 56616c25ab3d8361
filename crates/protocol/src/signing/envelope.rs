//! One COSE_Sign1 form for every signed kind (RFC 9052, ES256K of RFC 8812, low s).
//!
//! ```text
//! 18([ protected, {4: key id}, payload, signature ])
//! signed: SHA-256 of ["Signature1", protected, external_aad, payload]
//! ```
//!
//! `external_aad` names the kind, the protected header names stream and epoch, so a signature for one
//! kind, stream or epoch is worth nothing for another (I10). A message is a hash envelope (RFC 9995):
//! its payload is the SHA-256 of its body. The form is fixed to the byte, so an EVM contract can check
//! it without a CBOR library.

use crate::encoding::DecodeError;
use crate::encoding::cbor::{MapKey, Reader, Writer};
use crate::hash::sha256;
use crate::id::{Address, Epoch, KeyId, Sequence, StreamId, Timestamp};
use crate::signing::{LastValid, SigningKey, TrustedKeys, VerifyingKey};

/// The kinds that are signed. Each has an `external_aad` of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message of the log, and its receipt.
    Message,
    /// The size and root of the log.
    Checkpoint,
    /// The claim of an epoch.
    Epoch,
    /// The list of what a snapshot of a replica is made of.
    Manifest,
    /// A validator's word that a message violates a rule.
    Refusal,
}

impl Kind {
    /// The `external_aad` that binds a signature to this kind.
    pub const fn external_aad(self) -> &'static str {
        match self {
            Self::Message => "synddb/message/v1",
            Self::Checkpoint => "synddb/checkpoint/v1",
            Self::Epoch => "synddb/epoch/v1",
            Self::Manifest => "synddb/manifest/v1",
            Self::Refusal => "synddb/refusal/v1",
        }
    }

    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Checkpoint => "checkpoint",
            Self::Epoch => "epoch record",
            Self::Manifest => "snapshot manifest",
            Self::Refusal => "refusal",
        }
    }
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key that the envelope names is not one the reader trusts.
    #[error("this key is not trusted to sign this. key_id=`{key}`")]
    UntrustedKey {
        /// The key named.
        key: KeyId,
    },
    /// The object belongs to another stream than the one being read.
    #[error("this belongs to another stream. found=`{stream}`")]
    ForeignStream {
        /// The stream named.
        stream: StreamId,
    },
    /// The reader has admitted no leader of this epoch.
    #[error("no leader of this epoch is admitted: read its epoch record first. epoch=`{epoch}`")]
    UnknownEpoch {
        /// The epoch.
        epoch: Epoch,
    },
    /// The key is revoked, and this lies beyond the last place up to which it is believed.
    #[error(
        "the key is revoked, and this lies beyond what it is believed for. key_id=`{key}` last_valid=`{last_valid}` epoch=`{epoch}`{}",
        at(*sequence)
    )]
    Revoked {
        /// The key named.
        key: KeyId,
        /// Up to where it is believed.
        last_valid: LastValid,
        /// The epoch named.
        epoch: Epoch,
        /// The sequence of the message, or the size of the checkpoint; a record has neither.
        sequence: Option<Sequence>,
    },
    /// The signature is not the named key's over these bytes.
    #[error("the signature does not fit its content and key. key_id=`{key}`")]
    BadSignature {
        /// The key named.
        key: KeyId,
    },
}

fn at(sequence: Option<Sequence>) -> String {
    sequence.map_or_else(String::new, |sequence| format!(" sequence=`{sequence}`"))
}

/// The protected header: what a signature says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) stream: StreamId,
    pub(crate) epoch: Epoch,
    /// The message's place, or the checkpoint's size; of a manifest, that of its checkpoint; of a refusal, that of the message that it refuses.
    pub(crate) sequence: Option<Sequence>,
    /// Of a message: when it got its place, and its type.
    pub(crate) message: Option<(Timestamp, u64)>,
}

/// Labels of the protected header in canonical order, and the one of the unprotected header.
mod label {
    use super::MapKey;

    pub(super) const ALGORITHM: MapKey = MapKey::Int(1);
    pub(super) const PAYLOAD_HASH: MapKey = MapKey::Int(258);
    pub(super) const SEQUENCE: MapKey = MapKey::Int(-65537);
    pub(super) const TIMESTAMP: MapKey = MapKey::Int(-65538);
    pub(super) const TYPE: MapKey = MapKey::Int(-65539);
    pub(super) const STREAM: MapKey = MapKey::Int(-65540);
    pub(super) const EPOCH: MapKey = MapKey::Int(-65541);
    pub(super) const KEY_ID: MapKey = MapKey::Int(4);
}

/// ES256K in the COSE algorithms registry.
const ES256K: i64 = -47;
/// SHA-256 in the COSE algorithms registry.
const SHA_256: i64 = -16;
/// The tag of a COSE_Sign1.
const COSE_SIGN1: u64 = 18;

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let count = 3 + usize::from(self.sequence.is_some()) + if self.message.is_some() { 3 } else { 0 };
        writer.map(count);
        writer.key(label::ALGORITHM);
        writer.int(ES256K);
        if self.message.is_some() {
            writer.key(label::PAYLOAD_HASH);
            writer.int(SHA_256);
        }
        if let Some(sequence) = self.sequence {
            writer.key(label::SEQUENCE);
            writer.uint(sequence);
        }
        if let Some((timestamp, kind)) = self.message {
            writer.key(label::TIMESTAMP);
            writer.uint(timestamp);
            writer.key(label::TYPE);
            writer.uint(kind);
        }
        writer.key(label::STREAM);
        writer.bytes(self.stream.as_bytes());
        writer.key(label::EPOCH);
        writer.uint(self.epoch);
        writer.into_bytes()
    }

    fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "protected header";
        let reader = &mut Reader::new(bytes);
        let mut fields = reader.fields(WHAT, 7)?;
        fields.required(reader, label::ALGORITHM, |reader| {
            expect(reader, "algorithm", ES256K, "only ES256K is")
        })?;
        if kind == Kind::Message {
            fields.required(reader, label::PAYLOAD_HASH, |reader| {
                expect(reader, "payload hash algorithm", SHA_256, "only SHA-256 is")
            })?;
        }
        let sequence = match kind {
            Kind::Message | Kind::Checkpoint | Kind::Manifest | Kind::Refusal => {
                Some(fields.required(reader, label::SEQUENCE, |reader| reader.number("sequence"))?)
            }
            Kind::Epoch => None,
        };
        let message = match kind {
            Kind::Message => Some((
                fields.required(reader, label::TIMESTAMP, |reader| reader.number("timestamp"))?,
                fields.required(reader, label::TYPE, |reader| reader.uint("message type"))?,
            )),
            Kind::Checkpoint | Kind::Epoch | Kind::Manifest | Kind::Refusal => None,
        };
        let stream = fields.required(reader, label::STREAM, |reader| reader.array_of("stream"))?;
        let epoch = fields.required(reader, label::EPOCH, |reader| reader.number("epoch"))?;
        fields.end(reader)?;
        reader.end(WHAT)?;
        Ok(Self { stream: StreamId::from_bytes(stream), epoch, sequence, message })
    }
}

fn expect(
    reader: &mut Reader<'_>,
    what: &'static str,
    value: i64,
    why: &'static str,
) -> Result<(), DecodeError> {
    if reader.int(what)? != value {
        return Err(DecodeError::Invalid { what, why });
    }
    Ok(())
}

/// A signed object that was made or read. Reading checks its form; only `verify` checks its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    kind: Kind,
    header: Header,
    key: KeyId,
    payload: Vec<u8>,
    signature: [u8; 64],
}

impl Envelope {
    /// Signs `payload` under `header`.
    pub(crate) fn sign(kind: Kind, header: Header, payload: Vec<u8>, key: &SigningKey) -> Self {
        let hash = signed_hash(kind, &header, &payload);
        let signature = key.sign(hash);
        Self { kind, header, key: key.id(), payload, signature }
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) const fn key(&self) -> KeyId {
        self.key
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// SHA-256 of the Sig_structure: what the signature is over.
    pub(crate) fn signed_hash(&self) -> [u8; 32] {
        signed_hash(self.kind, &self.header, &self.payload)
    }

    /// Checks the signature with the trusted key that the envelope names.
    pub(crate) fn verify(&self, keys: &TrustedKeys) -> Result<(), SignatureError> {
        self.verify_with(keys.get(self.key).ok_or(SignatureError::UntrustedKey { key: self.key })?)
    }

    /// Checks the signature with `key`, which the caller found to be the one named.
    pub(crate) fn verify_with(&self, key: &VerifyingKey) -> Result<(), SignatureError> {
        if key.verify(self.signed_hash(), &self.signature) {
            Ok(())
        } else {
            Err(SignatureError::BadSignature { key: self.key })
        }
    }

    /// The public key behind the address that the envelope names, if the signature fits it.
    pub(crate) fn recover(&self) -> Result<VerifyingKey, SignatureError> {
        VerifyingKey::recover(self.signed_hash(), &self.signature, self.key)
            .ok_or(SignatureError::BadSignature { key: self.key })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.into_bytes()
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.tag(COSE_SIGN1);
        writer.array(4);
        writer.bytes(&self.header.encode());
        writer.map(1);
        writer.key(label::KEY_ID);
        writer.bytes(self.key.as_bytes());
        writer.bytes(&self.payload);
        writer.bytes(&self.signature);
    }

    /// Reads one envelope of this kind and leaves the reader behind it.
    pub(crate) fn read(kind: Kind, reader: &mut Reader<'_>, payload_max: usize) -> Result<Self, DecodeError> {
        let what = kind.what();
        reader.tag(what, COSE_SIGN1)?;
        reader.array_exact(what, 4)?;
        let header = Header::decode(kind, reader.bytes("protected header", 128)?)?;
        let mut unprotected = reader.fields("unprotected header", 1)?;
        let key = unprotected.required(reader, label::KEY_ID, |reader| reader.array_of("key id"))?;
        unprotected.end(reader)?;
        let payload = reader.bytes("payload", payload_max)?.to_vec();
        let signature = reader.array_of("signature")?;
        Ok(Self { kind, header, key: Address::from_bytes(key), payload, signature })
    }
}

fn signed_hash(kind: Kind, header: &Header, payload: &[u8]) -> [u8; 32] {
    let mut writer = Writer::default();
    writer.array(4);
    writer.text("Signature1");
    writer.bytes(&header.encode());
    writer.bytes(kind.external_aad().as_bytes());
    writer.bytes(payload);
    sha256(&[&writer.into_bytes()])
}
