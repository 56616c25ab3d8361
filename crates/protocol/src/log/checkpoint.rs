//! The checkpoint: a signed claim that the log has this size and this root.
//!
//! It also carries everything the next leader needs and every reader can recompute, so a leader or a
//! replica can start from one without the messages before it.

use crate::encoding::DecodeError;
use crate::encoding::cbor::{Key, Reader, Writer, check_limit};
use crate::hash::TreeHash;
use crate::id::{Address, Epoch, InboundNonce, KeyId, Sequence, StreamId, Timestamp};
use crate::limits::CHECKPOINT_BYTES_MAX;
use crate::log::{ClientState, Frontier, Leader, StatusLevel};
use crate::signing::{Envelope, Header, Kind, SignatureError, SigningKey, TrustedKeys, VerifyingKey};

/// What a checkpoint claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The stream.
    pub stream: StreamId,
    /// The epoch of the leader that signs it: at least that of the last message.
    pub epoch: Epoch,
    /// Messages in the log: the sequence of the last one.
    pub size: Sequence,
    /// The timestamp of the last message: log time.
    pub timestamp: Timestamp,
    /// Who signed the last message.
    pub last_leader: Leader,
    /// What the log has of its client; `None` before the first snapshot.
    pub client: Option<ClientState>,
    /// The inbound message that must come next.
    pub next_inbound: InboundNonce,
    /// Inbound messages that the application has acknowledged.
    pub inbox_consumed: u64,
    /// The system's status.
    pub status: StatusLevel,
    /// The right edge of the log tree; its size is the checkpoint's.
    pub frontier: Frontier,
}

impl Checkpoint {
    /// The root of the log tree.
    pub fn root(&self) -> TreeHash {
        self.frontier.root()
    }

    /// Signs the claim.
    pub fn sign(self, key: &SigningKey) -> SignedCheckpoint {
        let header =
            Header { stream: self.stream, epoch: self.epoch, sequence: Some(self.size), message: None };
        let envelope = Envelope::sign(Kind::Checkpoint, header, self.payload(), key);
        SignedCheckpoint { checkpoint: self, envelope }
    }

    fn payload(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(7 + usize::from(self.client.is_some()));
        writer.key(Key::Int(1));
        writer.bytes(self.root().as_bytes());
        writer.key(Key::Int(2));
        writer.uint(self.timestamp);
        writer.key(Key::Int(3));
        writer.array(2);
        writer.uint(self.last_leader.epoch);
        writer.bytes(self.last_leader.key.as_bytes());
        if let Some(client) = &self.client {
            writer.key(Key::Int(4));
            client.write(&mut writer);
        }
        writer.key(Key::Int(5));
        writer.uint(self.next_inbound);
        writer.key(Key::Int(6));
        writer.uint(self.inbox_consumed);
        writer.key(Key::Int(7));
        self.status.write(&mut writer);
        writer.key(Key::Int(8));
        self.frontier.write(&mut writer);
        writer.into_bytes()
    }

    fn from_payload(header: &Header, payload: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "checkpoint";
        let missing = DecodeError::Invalid { what: WHAT, why: "its header has a size" };
        let size = header.sequence.ok_or(missing)?;
        let reader = &mut Reader::new(payload);
        let mut fields = reader.fields(WHAT, 8)?;
        let root = fields.required(reader, Key::Int(1), |reader| reader.array_of("root"))?;
        let timestamp = fields.required(reader, Key::Int(2), |reader| reader.number("timestamp"))?;
        let last_leader = fields.required(reader, Key::Int(3), |reader| {
            reader.array_exact("last leader", 2)?;
            let epoch = reader.number("epoch")?;
            Ok(Leader { epoch, key: Address::from_bytes(reader.array_of("key id")?) })
        })?;
        let client = fields.optional(reader, Key::Int(4), ClientState::read)?;
        let next_inbound = fields.required(reader, Key::Int(5), |reader| reader.number("inbound nonce"))?;
        let inbox_consumed = fields.required(reader, Key::Int(6), |reader| reader.uint("inbox consumed"))?;
        let status = fields.required(reader, Key::Int(7), StatusLevel::read)?;
        let frontier = fields.required(reader, Key::Int(8), |reader| Frontier::read(reader, size.get()))?;
        fields.end(reader)?;
        reader.end(WHAT)?;
        if frontier.root() != TreeHash::from_bytes(root) {
            return Err(DecodeError::Invalid { what: WHAT, why: "its frontier has another root" });
        }
        Ok(Self {
            stream: header.stream,
            epoch: header.epoch,
            size,
            timestamp,
            last_leader,
            client,
            next_inbound,
            inbox_consumed,
            status,
            frontier,
        })
    }
}

/// A signed checkpoint. Unchecked until [`Self::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    envelope: Envelope,
}

impl SignedCheckpoint {
    /// Reads a checkpoint. Its signature is not checked by that.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not a canonical COSE_Sign1 of a checkpoint.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let checkpoint = Self::read(&mut reader)?;
        reader.end("checkpoint")?;
        Ok(checkpoint)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let from = reader.position();
        let envelope = Envelope::read(Kind::Checkpoint, reader, CHECKPOINT_BYTES_MAX)?;
        check_limit("checkpoint", reader.position() - from, CHECKPOINT_BYTES_MAX)?;
        let checkpoint = Checkpoint::from_payload(envelope.header(), envelope.payload())?;
        Ok(Self { checkpoint, envelope })
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        self.envelope.write(writer);
    }

    /// The COSE_Sign1 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.envelope.encode()
    }

    /// The name of the key that signed it.
    pub fn key(&self) -> KeyId {
        self.envelope.key()
    }

    /// What it claims. Worth nothing before [`Self::verify`].
    pub const fn claim(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`SignatureError`] when the key is not trusted or the signature is not its.
    pub fn verify(self, keys: &TrustedKeys) -> Result<VerifiedCheckpoint, SignatureError> {
        self.envelope.verify(keys)?;
        Ok(VerifiedCheckpoint(self))
    }

    /// The public key behind the address that the checkpoint names.
    ///
    /// # Errors
    /// [`SignatureError::BadSignature`] when no key with that address made the signature.
    pub fn recover(&self) -> Result<VerifyingKey, SignatureError> {
        self.envelope.recover()
    }

    pub(super) const fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// A checkpoint that a trusted key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCheckpoint(SignedCheckpoint);

impl VerifiedCheckpoint {
    /// What it claims.
    pub const fn claim(&self) -> &Checkpoint {
        &self.0.checkpoint
    }

    /// The name of the key that signed it.
    pub fn key(&self) -> KeyId {
        self.0.key()
    }

    /// The COSE_Sign1 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }
}
