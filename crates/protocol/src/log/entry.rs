//! What a message carries: a submission, or one of the few other kinds of entry.

use crate::encoding::cbor::{MapKey, Reader, Writer, check_limit};
use crate::encoding::frame::{self, Level};
use crate::encoding::{Canonical, DecodeError};
use crate::hash::{ChainHash, EpochRecordHash};
use crate::id::{Address, InboundNonce, StreamId};
use crate::limits::{BODY_BYTES_MAX, BODY_COMPRESSED_MAX, INBOUND_EVENT_BYTES_MAX, REASON_BYTES_MAX};
use crate::log::Versions;
use crate::submission::{Snapshot, Submission};

/// The type of a message, which says how its body reads. Type 1 is reserved: outbound messages travel
/// as rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// 0: a submission.
    Submission,
    /// 2: a snapshot.
    Snapshot,
    /// 3: a bridge event for the application.
    Inbound,
    /// 4: the system's status changed.
    Status,
    /// 5: a new leader begins.
    Epoch,
}

impl MessageType {
    /// The number in the protected header.
    pub const fn code(self) -> u64 {
        match self {
            Self::Submission => 0,
            Self::Snapshot => 2,
            Self::Inbound => 3,
            Self::Status => 4,
            Self::Epoch => 5,
        }
    }

    pub(super) fn from_code(code: u64) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Submission),
            2 => Ok(Self::Snapshot),
            3 => Ok(Self::Inbound),
            4 => Ok(Self::Status),
            5 => Ok(Self::Epoch),
            _ => Err(DecodeError::Invalid { what: "message type", why: "it is 0, 2, 3, 4 or 5" }),
        }
    }
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Commits of the application.
    Submission(Submission),
    /// A whole database.
    Snapshot(Snapshot),
    /// A bridge event.
    Inbound(Inbound),
    /// A change of status.
    Status(Status),
    /// The beginning of an epoch.
    Epoch(EpochStart),
}

impl Entry {
    /// The type that a message with this entry has.
    pub const fn message_type(&self) -> MessageType {
        match self {
            Self::Submission(_) => MessageType::Submission,
            Self::Snapshot(_) => MessageType::Snapshot,
            Self::Inbound(_) => MessageType::Inbound,
            Self::Status(_) => MessageType::Status,
            Self::Epoch(_) => MessageType::Epoch,
        }
    }

    /// The stream that it names, if it names one.
    pub(super) const fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Submission(submission) => Some(submission.stream),
            Self::Snapshot(snapshot) => Some(snapshot.stream),
            Self::Inbound(_) | Self::Status(_) | Self::Epoch(_) => None,
        }
    }

    fn to_cbor(&self) -> Vec<u8> {
        match self {
            Self::Submission(submission) => submission.to_bytes(),
            Self::Snapshot(snapshot) => snapshot.to_bytes(),
            Self::Inbound(inbound) => inbound.to_bytes(),
            Self::Status(status) => status.to_bytes(),
            Self::Epoch(start) => start.to_bytes(),
        }
    }

    fn from_cbor(of: MessageType, bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match of {
            MessageType::Submission => Self::Submission(Submission::from_bytes(bytes)?),
            MessageType::Snapshot => Self::Snapshot(Snapshot::from_bytes(bytes)?),
            MessageType::Inbound => Self::Inbound(Inbound::from_bytes(bytes)?),
            MessageType::Status => Self::Status(Status::from_bytes(bytes)?),
            MessageType::Epoch => Self::Epoch(EpochStart::from_bytes(bytes)?),
        })
    }
}

/// The body of a message, as stored: canonical CBOR in one zstd frame, within every bound.
///
/// A leader signs nothing else, so what it signs can be read: what it did not make itself it has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    entry: Entry,
    stored: Vec<u8>,
    content_bytes: usize,
}

impl Body {
    /// The body that carries `entry`.
    ///
    /// # Errors
    /// [`DecodeError`] when a reader would refuse it: something in it is over its limit.
    pub fn of(entry: &Entry) -> Result<Self, DecodeError> {
        Self::read(entry.message_type(), frame::compress(&entry.to_cbor(), Level::Usual), BODY_BYTES_MAX)
    }

    /// The body that carries a submission, for whoever makes many. What [`Commits`](crate::submission::Commits) has checked is not checked
    /// again, and the frame is not opened; everything else is read as by a reader.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn carrying(submission: Submission) -> Result<Self, DecodeError> {
        let content = submission.to_bytes();
        Submission::check_bytes(&content)?;
        let stored = frame::compress(&content, Level::Fast);
        check_limit("message body", stored.len(), BODY_COMPRESSED_MAX)?;
        Ok(Self { entry: Entry::Submission(submission), stored, content_bytes: content.len() })
    }

    /// Opens what a client sent or a store holds, at most `limit` bytes after decompression, and keeps
    /// the very bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when the body is over its limits or not canonical.
    pub fn read(of: MessageType, stored: Vec<u8>, limit: usize) -> Result<Self, DecodeError> {
        check_limit("message body", stored.len(), BODY_COMPRESSED_MAX)?;
        let content = frame::decompress("message body", &stored, limit.min(BODY_BYTES_MAX))?;
        let entry = Entry::from_cbor(of, &content)?;
        Ok(Self { entry, stored, content_bytes: content.len() })
    }

    /// The size that a body states to have after decompression, in bytes. Nothing of it is opened, so whoever
    /// is to open it can first see to the memory.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not exactly one frame, or over the limits of a body.
    pub fn stated_bytes(stored: &[u8]) -> Result<usize, DecodeError> {
        check_limit("message body", stored.len(), BODY_COMPRESSED_MAX)?;
        let stated = frame::content_size("message body", stored)?;
        let stated = usize::try_from(stated).unwrap_or(usize::MAX);
        check_limit("message body", stated, BODY_BYTES_MAX)?;
        Ok(stated)
    }

    /// What it carries.
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Gives up the bytes for what they carry.
    pub fn into_entry(self) -> Entry {
        self.entry
    }

    /// The bytes to sign and to store.
    pub fn as_stored(&self) -> &[u8] {
        &self.stored
    }

    /// The bytes, to send.
    pub fn into_stored(self) -> Vec<u8> {
        self.stored
    }

    /// The size after decompression, in bytes.
    pub const fn content_bytes(&self) -> usize {
        self.content_bytes
    }
}

/// A finalised bridge event on its way to the application. Body of type 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// The chain, by its EIP-155 id.
    pub chain_id: u64,
    /// The bridge contract that emitted the event.
    pub bridge: Address,
    /// The event's number at that bridge: the next one is the last one of the log plus one.
    pub nonce: InboundNonce,
    /// The block that holds it.
    pub block_number: u64,
    /// That block's hash.
    pub block_hash: ChainHash,
    /// The transaction that emitted it.
    pub transaction_hash: ChainHash,
    /// Its index among the block's logs.
    pub log_index: u32,
    /// The event's data as the chain has it, ABI-encoded.
    pub event: Vec<u8>,
}

impl Canonical for Inbound {
    const WHAT: &'static str = "inbound message";
    const BYTES_MAX: usize = INBOUND_EVENT_BYTES_MAX + 256;

    fn write(&self, writer: &mut Writer) {
        writer.map(8);
        writer.key(MapKey::Int(1));
        writer.uint(self.chain_id);
        writer.key(MapKey::Int(2));
        writer.bytes(self.bridge.as_bytes());
        writer.key(MapKey::Int(3));
        writer.uint(self.nonce);
        writer.key(MapKey::Int(4));
        writer.uint(self.block_number);
        writer.key(MapKey::Int(5));
        writer.bytes(self.block_hash.as_bytes());
        writer.key(MapKey::Int(6));
        writer.bytes(self.transaction_hash.as_bytes());
        writer.key(MapKey::Int(7));
        writer.uint(self.log_index);
        writer.key(MapKey::Int(8));
        writer.bytes(&self.event);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields(Self::WHAT, 8)?;
        let chain_id = fields.required(reader, MapKey::Int(1), |reader| reader.uint("chain id"))?;
        let bridge = fields.required(reader, MapKey::Int(2), |reader| reader.array_of("bridge"))?;
        let nonce = fields.required(reader, MapKey::Int(3), |reader| reader.number("inbound nonce"))?;
        let block_number = fields.required(reader, MapKey::Int(4), |reader| reader.uint("block number"))?;
        let block_hash = fields.required(reader, MapKey::Int(5), |reader| reader.array_of("block hash"))?;
        let transaction =
            fields.required(reader, MapKey::Int(6), |reader| reader.array_of("transaction hash"))?;
        let log_index = fields.required(reader, MapKey::Int(7), |reader| reader.uint("log index"))?;
        let event = fields.required(reader, MapKey::Int(8), |reader| {
            Ok(reader.bytes("event", INBOUND_EVENT_BYTES_MAX)?.to_vec())
        })?;
        fields.end(reader)?;
        let log_index = u32::try_from(log_index)
            .map_err(|_| DecodeError::Invalid { what: "log index", why: "it needs more than 32 bits" })?;
        Ok(Self {
            chain_id,
            bridge: Address::from_bytes(bridge),
            nonce,
            block_number,
            block_hash: ChainHash::from_bytes(block_hash),
            transaction_hash: ChainHash::from_bytes(transaction),
            log_index,
            event,
        })
    }
}

/// How far the application is behind with its inbound messages, in log time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StatusLevel {
    /// Nothing is late.
    #[default]
    Healthy,
    /// The first deadline passed.
    Warned,
    /// Outbound messages are delayed.
    Degraded,
    /// Outbound messages are refused.
    Halted,
}

impl StatusLevel {
    pub(super) fn write(self, writer: &mut Writer) {
        writer.uint(match self {
            Self::Healthy => 0u8,
            Self::Warned => 1,
            Self::Degraded => 2,
            Self::Halted => 3,
        });
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.uint("status level")? {
            0 => Ok(Self::Healthy),
            1 => Ok(Self::Warned),
            2 => Ok(Self::Degraded),
            3 => Ok(Self::Halted),
            _ => Err(DecodeError::Invalid { what: "status level", why: "it is 0 to 3" }),
        }
    }
}

/// A change of the system's status. Body of type 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The level from here on.
    pub level: StatusLevel,
    /// Why, for people.
    pub reason: String,
}

impl Canonical for Status {
    const WHAT: &'static str = "status";
    const BYTES_MAX: usize = REASON_BYTES_MAX + 16;

    fn write(&self, writer: &mut Writer) {
        writer.map(2);
        writer.key(MapKey::Int(1));
        self.level.write(writer);
        writer.key(MapKey::Int(2));
        writer.text(&self.reason);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields(Self::WHAT, 2)?;
        let level = fields.required(reader, MapKey::Int(1), StatusLevel::read)?;
        let reason = fields.required(reader, MapKey::Int(2), |reader| {
            Ok(reader.text("reason", REASON_BYTES_MAX)?.to_owned())
        })?;
        fields.end(reader)?;
        Ok(Self { level, reason })
    }
}

/// The first message of an epoch: from here on another leader signs. Body of type 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochStart {
    /// Hash of the signed epoch record in the store, so that the log binds what proves the key.
    pub record: EpochRecordHash,
    /// The rules that the leader follows.
    pub versions: Versions,
}

impl Canonical for EpochStart {
    const WHAT: &'static str = "epoch message";
    const BYTES_MAX: usize = 64;

    fn write(&self, writer: &mut Writer) {
        writer.map(2);
        writer.key(MapKey::Int(1));
        writer.bytes(self.record.as_bytes());
        writer.key(MapKey::Int(2));
        self.versions.write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields(Self::WHAT, 2)?;
        let record =
            fields.required(reader, MapKey::Int(1), |reader| reader.array_of("epoch record hash"))?;
        let versions = fields.required(reader, MapKey::Int(2), Versions::read)?;
        fields.end(reader)?;
        Ok(Self { record: EpochRecordHash::from_bytes(record), versions })
    }
}
