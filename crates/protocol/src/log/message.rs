//! A message: an entry with its place in the log, signed; and the receipt, which is the signed part alone.

use crate::encoding::DecodeError;
use crate::encoding::cbor::{Reader, Writer, check_limit};
use crate::hash::{BodyHash, EpochRecordHash, TreeHash};
use crate::id::{Epoch, KeyId, Sequence, StreamId, Timestamp};
use crate::limits::{BODY_COMPRESSED_MAX, RECEIPT_BYTES_MAX};
use crate::log::{Body, Entry, Leaders, MessageType, tree};
use crate::signing::{Envelope, Header, Kind, SignatureError, SigningKey, VerifyingKey};

/// Where a message stands, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageHeader {
    /// The stream.
    pub stream: StreamId,
    /// The epoch of the leader that signed it.
    pub epoch: Epoch,
    /// Its place in the log.
    pub sequence: Sequence,
    /// When it got that place: log time.
    pub timestamp: Timestamp,
    /// How its body reads.
    pub message_type: MessageType,
}

/// The sequencer's signed promise that a body has this place in the log; under 300 bytes.
///
/// It is **provisional until its sequence is stored**: a leader that is deposed before may never store
/// it, and the commits then come again from the client's outbox under another sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    header: MessageHeader,
    body_hash: BodyHash,
    envelope: Envelope,
}

impl Receipt {
    /// Signs the place of `body`, as stored.
    pub fn sign(header: MessageHeader, body: &[u8], key: &SigningKey) -> Self {
        let body_hash = BodyHash::of(body);
        let envelope = Envelope::sign(
            Kind::Message,
            Header {
                stream: header.stream,
                epoch: header.epoch,
                sequence: Some(header.sequence),
                message: Some((header.timestamp, header.message_type.code())),
            },
            body_hash.as_bytes().to_vec(),
            key,
        );
        Self { header, body_hash, envelope }
    }

    /// Reads a receipt. Its signature is not checked by that.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not a canonical COSE_Sign1 of a message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        check_limit("receipt", bytes.len(), RECEIPT_BYTES_MAX)?;
        let mut reader = Reader::new(bytes);
        let receipt = Self::read(&mut reader)?;
        reader.end("receipt")?;
        Ok(receipt)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let envelope = Envelope::read(Kind::Message, reader, 32)?;
        let hash = envelope.payload().try_into().map_err(|_| DecodeError::Invalid {
            what: "payload of a message",
            why: "it is the 32-byte hash of the body",
        })?;
        let signed = envelope.header();
        let missing = DecodeError::Invalid { what: "header of a message", why: "it has a place and a type" };
        let (Some(sequence), Some((timestamp, code))) = (signed.sequence, signed.message) else {
            return Err(missing);
        };
        let message_type = MessageType::from_code(code)?;
        let header =
            MessageHeader { stream: signed.stream, epoch: signed.epoch, sequence, timestamp, message_type };
        Ok(Self { header, body_hash: BodyHash::from_bytes(hash), envelope })
    }

    /// The COSE_Sign1 bytes: a leaf of the log tree.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.envelope.encode()
    }

    /// What it promises. Worth nothing before [`Self::verify`].
    pub const fn header(&self) -> &MessageHeader {
        &self.header
    }

    /// The hash of the body it is for.
    pub const fn body_hash(&self) -> BodyHash {
        self.body_hash
    }

    /// The name of the key that signed it.
    pub fn key(&self) -> KeyId {
        self.envelope.key()
    }

    /// The leaf hash of this message in the log tree.
    pub fn leaf(&self) -> TreeHash {
        tree::leaf_hash(&self.to_bytes())
    }

    /// Checks that the admitted leader of its epoch signed it.
    ///
    /// # Errors
    /// [`SignatureError`] when the epoch is not admitted, or the signature is not its leader's.
    pub fn verify(&self, leaders: &Leaders) -> Result<(), SignatureError> {
        let MessageHeader { stream, epoch, sequence, .. } = self.header;
        self.envelope.verify_with(leaders.key(stream, epoch, self.key(), sequence)?)
    }

    /// The public key behind the address that the receipt names.
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

/// Why one message is refused.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The body cannot be opened.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The signature is not accepted.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The message, or the entry in it, belongs to another stream.
    #[error("the message belongs to another stream. expected=`{expected}` found=`{found}`")]
    ForeignStream {
        /// The stream being read.
        expected: StreamId,
        /// The stream named.
        found: StreamId,
    },
    /// The epoch message names another record than the one by which its key was admitted.
    #[error("the epoch message names another record. admitted=`{admitted}` found=`{found}`")]
    EpochRecord {
        /// The record by which the reader admitted the epoch's key.
        admitted: EpochRecordHash,
        /// The record named.
        found: EpochRecordHash,
    },
    /// The body is not the one that was signed.
    #[error("the body is not the one that was signed. signed=`{signed}` found=`{found}`")]
    BodyMismatch {
        /// The hash that the signature covers.
        signed: BodyHash,
        /// The hash of the body found.
        found: BodyHash,
    },
}

/// An entry with its place in the log, signed. Nothing of it is checked before [`Self::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The signed part.
    pub receipt: Receipt,
    /// The body, as stored.
    pub body: Vec<u8>,
}

impl Message {
    /// Signs `body` into a place without asking the log. A leader signs with [`super::Tip::sign`].
    ///
    /// # Panics
    /// When the header names another type than the body has.
    pub fn sign(header: MessageHeader, body: Body, key: &SigningKey) -> Self {
        assert_eq!(header.message_type, body.entry().message_type(), "a header names the type of its body");
        Self { receipt: Receipt::sign(header, body.as_stored(), key), body: body.into_stored() }
    }

    /// Reads one message as a batch holds it. Nothing of it is checked by that.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not exactly a receipt and a body, or the body is over its limit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = Self::read(&mut reader)?;
        reader.end("message")?;
        Ok(message)
    }

    /// The message as a batch holds it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.into_bytes()
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.array(2);
        self.receipt.envelope.write(writer);
        writer.bytes(&self.body);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_exact("message", 2)?;
        let receipt = Receipt::read(reader)?;
        let body = reader.bytes("message body", BODY_COMPRESSED_MAX)?.to_vec();
        Ok(Self { receipt, body })
    }

    /// Checks everything that one message shows by itself: key, signature, stream, body hash, and a
    /// canonical body of at most `limit` bytes after decompression. The body hash is compared before
    /// anything is decompressed.
    ///
    /// Messages can be checked in any order and in parallel; their order is for [`super::Tip`] to check.
    ///
    /// # Errors
    /// [`MessageError`] for the first check that fails.
    pub fn verify(self, leaders: &Leaders, limit: usize) -> Result<VerifiedMessage, MessageError> {
        let stream = leaders.stream();
        let foreign = |found| MessageError::ForeignStream { expected: stream, found };
        let header = self.receipt.header;
        if header.stream != stream {
            return Err(foreign(header.stream));
        }
        self.receipt.verify(leaders)?;
        let epoch_record = leaders.record(header.epoch);
        let found = BodyHash::of(&self.body);
        if found != self.receipt.body_hash {
            return Err(MessageError::BodyMismatch { signed: self.receipt.body_hash, found });
        }
        let body = Body::read(header.message_type, self.body, limit)?;
        let named = body.entry().stream().unwrap_or(stream);
        if named != stream {
            return Err(foreign(named));
        }
        if let (Entry::Epoch(start), Some(admitted)) = (body.entry(), epoch_record)
            && start.record != admitted
        {
            return Err(MessageError::EpochRecord { admitted, found: start.record });
        }
        let body_bytes = body.content_bytes();
        Ok(VerifiedMessage { receipt: self.receipt, entry: body.into_entry(), body_bytes })
    }
}

/// A message whose signature and body were checked. Its place in the log is checked by [`super::Tip`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedMessage {
    receipt: Receipt,
    entry: Entry,
    body_bytes: usize,
}

impl VerifiedMessage {
    /// Where it stands.
    pub const fn header(&self) -> &MessageHeader {
        self.receipt.header()
    }

    /// The signed part.
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// What it carries.
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The size of its body after decompression, in bytes.
    pub const fn body_bytes(&self) -> usize {
        self.body_bytes
    }
}
