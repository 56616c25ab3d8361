//! A batch: consecutive messages in one stored object, closed by a checkpoint.
//!
//! ```text
//! zstd( { "c": checkpoint, "e": last, "h": hash of m, "m": [[receipt, body], ...],
//!         "s": first, "t": timestamp, "v": 2 } )
//! ```
//!
//! `e`, `h`, `s` and `t` repeat what messages and checkpoint say, for readers that seek; each is compared.

use crate::encoding::DecodeError;
use crate::encoding::cbor::{MapKey, Reader, Writer, check_limit};
use crate::encoding::frame::{self, Level};
use crate::hash::sha256;
use crate::id::Sequence;
use crate::limits::{
    BATCH_BODIES_MAX, BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, BATCH_STORED_MAX, BODY_COMPRESSED_MAX,
};
use crate::log::{
    Leaders, LogError, Message, MessageError, MessageHeader, SignedCheckpoint, Tip, TrustedCheckpoint,
    VerifiedMessage,
};
use crate::signing::SignatureError;

/// The version of this form.
pub const BATCH_VERSION: u64 = 2;

/// Why a batch is refused.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The object is not a batch.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// One message is refused by itself.
    #[error("a message of the batch is refused. sequence=`{sequence}`")]
    Message {
        /// Its place.
        sequence: Sequence,
        /// Why.
        #[source]
        source: MessageError,
    },
    /// One message does not follow the log so far.
    #[error("a message of the batch does not follow. sequence=`{sequence}`")]
    Log {
        /// Its place.
        sequence: Sequence,
        /// Why.
        #[source]
        source: LogError,
    },
    /// The checkpoint's signature is not accepted.
    #[error("the checkpoint of the batch is refused")]
    CheckpointSignature(#[source] SignatureError),
    /// The checkpoint is not what the messages add up to.
    #[error("the checkpoint of the batch does not follow")]
    Checkpoint(#[source] LogError),
}

/// Consecutive messages with their checkpoint. Unchecked until [`Self::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    messages: Vec<Message>,
    checkpoint: SignedCheckpoint,
}

impl Batch {
    /// Puts messages and the checkpoint that closes them together.
    ///
    /// # Errors
    /// [`DecodeError`] for what a reader would refuse: no or too many messages, sequences that are not
    /// dense or do not end at the checkpoint, a timestamp that is not the last message's, or bodies that
    /// are together too large after decompression.
    pub fn new(messages: Vec<Message>, checkpoint: SignedCheckpoint) -> Result<Self, DecodeError> {
        const WHAT: &str = "batch";
        let invalid = |why| Err(DecodeError::Invalid { what: WHAT, why });
        check_limit("messages", messages.len(), BATCH_MESSAGES_MAX)?;
        for pair in messages.windows(2) {
            let [before, after] = [&pair[0], &pair[1]].map(|message| message.receipt.header().sequence);
            if before.next() != Some(after) {
                return invalid("its sequences must be dense");
            }
        }
        let mut content_bytes = 0u64;
        for message in &messages {
            check_limit("message body", message.body.len(), BODY_COMPRESSED_MAX)?;
            content_bytes = content_bytes.saturating_add(frame::content_size("message body", &message.body)?);
        }
        if content_bytes > BATCH_BODIES_MAX as u64 {
            let limit = BATCH_BODIES_MAX as u64;
            return Err(DecodeError::OverLimit { what: "bodies of a batch", limit, found: content_bytes });
        }
        let Some(last) = messages.last().map(|message| message.receipt.header()) else {
            return invalid("it has at least one message");
        };
        if last.sequence != checkpoint.claim().size {
            return invalid("its checkpoint stands at its last message");
        }
        if last.timestamp != checkpoint.claim().timestamp {
            return invalid("its timestamp is its last message's");
        }
        Ok(Self { messages, checkpoint })
    }

    /// The first sequence: what names the object.
    pub fn first(&self) -> Sequence {
        self.messages.first().expect("the constructor refuses an empty batch").receipt.header().sequence
    }

    /// The last sequence.
    pub const fn last(&self) -> Sequence {
        self.checkpoint.claim().size
    }

    /// The messages in order, unchecked.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The checkpoint, unchecked.
    pub const fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// The bytes to store.
    ///
    /// A writer keeps them before its first put and sends the same bytes at every retry: compressing
    /// again with another release of zstd may give others.
    ///
    /// # Errors
    /// [`DecodeError::OverLimit`] when the messages are too many bytes for one batch.
    pub fn to_stored(&self) -> Result<Vec<u8>, DecodeError> {
        let bytes = self.to_cbor();
        check_limit("batch", bytes.len(), BATCH_BYTES_MAX)?;
        Ok(frame::compress(&bytes, Level::Usual))
    }

    /// Reads what [`Self::to_stored`] wrote. No signature is checked by that.
    ///
    /// # Errors
    /// [`DecodeError`] when the object is over its limits or not canonical.
    pub fn from_stored(stored: &[u8]) -> Result<Self, DecodeError> {
        check_limit("stored batch", stored.len(), BATCH_STORED_MAX)?;
        Self::from_cbor(&frame::decompress_at("batch", stored, BATCH_BYTES_MAX, Level::Usual)?)
    }

    /// The batch before its outer compression.
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut messages = Writer::default();
        for message in &self.messages {
            message.write(&mut messages);
        }
        let messages = messages.into_bytes();
        let mut writer = Writer::default();
        writer.map(7);
        writer.key(MapKey::Text("c"));
        self.checkpoint.write(&mut writer);
        writer.key(MapKey::Text("e"));
        writer.uint(self.last());
        writer.key(MapKey::Text("h"));
        writer.bytes(&sha256(&[&messages]));
        writer.key(MapKey::Text("m"));
        writer.array(self.messages.len());
        writer.raw(&messages);
        writer.key(MapKey::Text("s"));
        writer.uint(self.first());
        writer.key(MapKey::Text("t"));
        writer.uint(self.checkpoint.claim().timestamp);
        writer.key(MapKey::Text("v"));
        writer.uint(BATCH_VERSION);
        writer.into_bytes()
    }

    /// Reads what [`Self::to_cbor`] wrote. No signature is checked by that.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are over their limits or not canonical.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "batch";
        check_limit(WHAT, bytes.len(), BATCH_BYTES_MAX)?;
        let invalid = |why| Err(DecodeError::Invalid { what: WHAT, why });
        check_version(bytes)?;
        let reader = &mut Reader::new(bytes);
        let mut fields = reader.fields(WHAT, 7)?;
        let checkpoint = fields.required(reader, MapKey::Text("c"), SignedCheckpoint::read)?;
        let last: Sequence = fields.required(reader, MapKey::Text("e"), |reader| reader.number("e"))?;
        let hash = fields.required(reader, MapKey::Text("h"), |reader| reader.array_of("h"))?;
        let (messages, found) = fields.required(reader, MapKey::Text("m"), |reader| {
            let count = reader.array("messages", BATCH_MESSAGES_MAX)?;
            let from = reader.position();
            let messages: Vec<_> = (0..count).map(|_| Message::read(reader)).collect::<Result<_, _>>()?;
            Ok((messages, sha256(&[reader.between(from, reader.position())])))
        })?;
        let first: Sequence = fields.required(reader, MapKey::Text("s"), |reader| reader.number("s"))?;
        let time: u64 = fields.required(reader, MapKey::Text("t"), |reader| reader.uint("t"))?;
        let version = fields.required(reader, MapKey::Text("v"), |reader| reader.uint("v"))?;
        fields.end(reader)?;
        reader.end(WHAT)?;
        if version != BATCH_VERSION {
            return invalid("v is 2");
        }
        let batch = Self::new(messages, checkpoint)?;
        if first != batch.first() || last != batch.last() {
            return invalid("s and e are its first and last sequence");
        }
        if time != batch.checkpoint.claim().timestamp.as_ms() {
            return invalid("t is its checkpoint's timestamp");
        }
        if found != hash {
            return invalid("h is the hash of its messages");
        }
        Ok(batch)
    }

    /// Checks every signature, every body, and that the batch follows `tip`.
    ///
    /// # Errors
    /// [`BatchError`] for the first thing refused, with its place. Nothing is accepted in part.
    pub fn verify(self, leaders: &Leaders, tip: &Tip) -> Result<VerifiedBatch, BatchError> {
        self.check_revoked(leaders)?;
        let checkpoint = self.checkpoint.verify(leaders).map_err(BatchError::CheckpointSignature)?;
        let mut after = tip.clone();
        let mut room = BATCH_BODIES_MAX;
        let mut messages = Vec::with_capacity(self.messages.len());
        for message in self.messages {
            let sequence = message.receipt.header().sequence;
            let message =
                message.verify(leaders, room).map_err(|source| BatchError::Message { sequence, source })?;
            after = after.after(&message).map_err(|source| BatchError::Log { sequence, source })?;
            room -= message.body_bytes();
            messages.push(message);
        }
        let tip = after.after_checkpoint(&checkpoint).map_err(BatchError::Checkpoint)?;
        Ok(VerifiedBatch { messages, checkpoint, tip })
    }

    /// Where a batch goes beyond what a revoked key is believed for, the first such message is what is named. Whoever only uses the
    /// name of that key is refused as well, by its signature.
    fn check_revoked(&self, leaders: &Leaders) -> Result<(), BatchError> {
        for message in &self.messages {
            let MessageHeader { epoch, sequence, .. } = *message.receipt.header();
            let refused = leaders.revoked().check(message.receipt.key(), epoch, sequence);
            refused.map_err(|source| BatchError::Message { sequence, source: source.into() })?;
        }
        Ok(())
    }
}

/// Looks at the version before anything else: `v` sorts last, so it ends the batch, whatever the rest of
/// a newer form looks like.
fn check_version(bytes: &[u8]) -> Result<(), DecodeError> {
    match bytes {
        [.., 0x61, b'v', version @ 3..=23] => Err(DecodeError::UpgradeRequired {
            what: "batch",
            supported: BATCH_VERSION,
            found: u64::from(*version),
        }),
        _ => Ok(()),
    }
}

/// A batch whose signatures, bodies and place were checked. Only this may be applied (I7).
///
/// ```
/// fn apply(batch: synddb_protocol::log::VerifiedBatch) {
///     let synddb_protocol::log::VerifiedBatch { .. } = batch;
/// }
/// ```
/// The same with a field does not compile: nobody but [`Batch::verify`] makes one or takes one apart.
/// ```compile_fail
/// fn apply(batch: synddb_protocol::log::VerifiedBatch) {
///     let synddb_protocol::log::VerifiedBatch { messages, .. } = batch;
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBatch {
    messages: Vec<VerifiedMessage>,
    checkpoint: TrustedCheckpoint,
    tip: Tip,
}

impl VerifiedBatch {
    /// The messages in order.
    pub fn messages(&self) -> &[VerifiedMessage] {
        &self.messages
    }

    /// The same for who has no need of the rest.
    pub fn into_messages(self) -> Vec<VerifiedMessage> {
        self.messages
    }

    /// The checkpoint that closes it.
    pub const fn checkpoint(&self) -> &TrustedCheckpoint {
        &self.checkpoint
    }

    /// The tip that the next batch must follow.
    pub const fn tip(&self) -> &Tip {
        &self.tip
    }
}
