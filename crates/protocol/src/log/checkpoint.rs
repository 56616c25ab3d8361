//! The checkpoint: a signed claim that the log has this size and this root.
//!
//! It also carries everything the next leader needs and every reader can recompute, so a leader or a
//! replica can start from one without the messages before it.

use crate::encoding::DecodeError;
use crate::encoding::cbor::{MapKey, Reader, Writer, check_limit};
use crate::hash::TreeHash;
use crate::id::{Address, Epoch, KeyId, Sequence, StreamId, Timestamp};
use crate::limits::CHECKPOINT_BYTES_MAX;
use crate::log::{ClientState, Frontier, InboundState, Leader, Leaders, StatusLevel, Versions};
use crate::signing::{Envelope, Header, Kind, SignatureError, SigningKey, VerifyingKey};

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
    /// What the log has of its bridge; `None` before the first inbound message.
    pub inbound: Option<InboundState>,
    /// Inbound messages that the application has acknowledged. It is counted from rows, so a reader
    /// that does not read rows can only check its bounds.
    pub inbox_consumed: u64,
    /// The system's status.
    pub status: StatusLevel,
    /// The right edge of the log tree; its size is the checkpoint's.
    pub frontier: Frontier,
    /// The versions that the last epoch message named.
    pub versions: Versions,
}

impl Checkpoint {
    /// The root of the log tree.
    pub fn root(&self) -> TreeHash {
        self.frontier.root()
    }

    /// Signs the claim.
    ///
    /// # Errors
    /// [`DecodeError`] for a claim that contradicts itself, which no reader would take.
    pub fn sign(self, key: &SigningKey) -> Result<SignedCheckpoint, DecodeError> {
        self.check(key.id())?;
        let header =
            Header { stream: self.stream, epoch: self.epoch, sequence: Some(self.size), message: None };
        let envelope = Envelope::sign(Kind::Checkpoint, header, self.payload(), key);
        Ok(SignedCheckpoint { checkpoint: self, envelope })
    }

    fn payload(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(7 + usize::from(self.client.is_some()) + usize::from(self.inbound.is_some()));
        writer.key(MapKey::Int(1));
        writer.bytes(self.root().as_bytes());
        writer.key(MapKey::Int(2));
        writer.uint(self.timestamp);
        writer.key(MapKey::Int(3));
        writer.array(2);
        writer.uint(self.last_leader.epoch);
        writer.bytes(self.last_leader.key.as_bytes());
        if let Some(client) = &self.client {
            writer.key(MapKey::Int(4));
            client.write(&mut writer);
        }
        if let Some(inbound) = &self.inbound {
            writer.key(MapKey::Int(5));
            inbound.write(&mut writer);
        }
        writer.key(MapKey::Int(6));
        writer.uint(self.inbox_consumed);
        writer.key(MapKey::Int(7));
        self.status.write(&mut writer);
        writer.key(MapKey::Int(8));
        self.frontier.write(&mut writer);
        writer.key(MapKey::Int(9));
        self.versions.write(&mut writer);
        writer.into_bytes()
    }

    /// Refuses a claim that contradicts itself; `key` signs it.
    fn check(&self, key: KeyId) -> Result<(), DecodeError> {
        let invalid = |why| Err(DecodeError::Invalid { what: "checkpoint", why });
        if self.frontier.size() != self.size.get() {
            return invalid("its frontier has another size");
        }
        if self.epoch < self.last_leader.epoch {
            return invalid("its epoch is below its last message's");
        }
        if self.epoch == self.last_leader.epoch && key != self.last_leader.key {
            return invalid("one key signs one epoch");
        }
        if self.inbox_consumed > self.inbound.map_or(0, |inbound| inbound.delivered()) {
            return invalid("more inbound messages are acknowledged than there are");
        }
        Ok(())
    }

    fn from_payload(header: &Header, key: KeyId, payload: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "checkpoint";
        let missing = DecodeError::Invalid { what: WHAT, why: "its header has a size" };
        let size = header.sequence.ok_or(missing)?;
        let reader = &mut Reader::new(payload);
        let mut fields = reader.fields(WHAT, 9)?;
        let root = fields.required(reader, MapKey::Int(1), |reader| reader.array_of("root"))?;
        let timestamp = fields.required(reader, MapKey::Int(2), |reader| reader.number("timestamp"))?;
        let last_leader = fields.required(reader, MapKey::Int(3), |reader| {
            reader.array_exact("last leader", 2)?;
            let epoch = reader.number("epoch")?;
            Ok(Leader { epoch, key: Address::from_bytes(reader.array_of("key id")?) })
        })?;
        let client = fields.optional(reader, MapKey::Int(4), ClientState::read)?;
        let inbound = fields.optional(reader, MapKey::Int(5), InboundState::read)?;
        let inbox_consumed =
            fields.required(reader, MapKey::Int(6), |reader| reader.uint("inbox consumed"))?;
        let status = fields.required(reader, MapKey::Int(7), StatusLevel::read)?;
        let frontier =
            fields.required(reader, MapKey::Int(8), |reader| Frontier::read(reader, size.get()))?;
        let versions = fields.required(reader, MapKey::Int(9), Versions::read)?;
        fields.end(reader)?;
        reader.end(WHAT)?;
        if frontier.root() != TreeHash::from_bytes(root) {
            return Err(DecodeError::Invalid { what: WHAT, why: "its frontier has another root" });
        }
        let claim = Self {
            stream: header.stream,
            epoch: header.epoch,
            size,
            timestamp,
            last_leader,
            client,
            inbound,
            inbox_consumed,
            status,
            frontier,
            versions,
        };
        claim.check(key)?;
        Ok(claim)
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
        let checkpoint = Checkpoint::from_payload(envelope.header(), envelope.key(), envelope.payload())?;
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

    /// Checks that the admitted leader of its stream and epoch signed it.
    ///
    /// # Errors
    /// [`SignatureError`] when the epoch is not admitted, or the signature is not its leader's.
    pub fn verify(self, leaders: &Leaders) -> Result<TrustedCheckpoint, SignatureError> {
        self.envelope.verify_with(leaders.key(
            self.checkpoint.stream,
            self.checkpoint.epoch,
            self.key(),
            self.checkpoint.size,
        )?)?;
        Ok(TrustedCheckpoint(self))
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
///
/// Whether the messages add up to it is another question, which only [`super::Batch::verify`] answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedCheckpoint(SignedCheckpoint);

impl TrustedCheckpoint {
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

    /// The same as it travels.
    pub const fn signed(&self) -> &SignedCheckpoint {
        &self.0
    }
}
