//! The log as it grows: the items of `GET /log/stream`, one CBOR data item each (RFC 8742).
//!
//! ```text
//! [0, receipt, body, stored]   a message; durable at its leader, and stored if `stored` is true
//! [1, checkpoint]              everything through the checkpoint's size is stored
//! [2, from]                    what was shown from this sequence on and not as stored is withdrawn
//! [3, from]                    the last item: go on by reading the store from here
//! [4]                          nothing happened for a while
//! ```
//!
//! A message is provisional until it is stored, like its receipt. Nothing here is checked: a reader verifies receipts and
//! checkpoints as it does those of a batch.

use crate::encoding::cbor::{Reader, Writer};
use crate::encoding::{Canonical, DecodeError};
use crate::id::Sequence;
use crate::limits::{BODY_COMPRESSED_MAX, CHECKPOINT_BYTES_MAX, RECEIPT_BYTES_MAX};
use crate::log::{Message, Receipt, SignedCheckpoint};

/// What a leader shows of its log, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// A message in its place.
    Message {
        /// The message, unchecked.
        message: Box<Message>,
        /// Whether it is stored. Otherwise it is provisional.
        stored: bool,
    },
    /// Everything through the size of this checkpoint is stored.
    Stored(Box<SignedCheckpoint>),
    /// Messages from `from` on that were shown before this, here or on an earlier connection, and not as stored, count no more. What
    /// stands in their places comes next.
    Withdrawn {
        /// The first such place.
        from: Sequence,
    },
    /// The last item: what comes next is not shown here. From `from` on the log is read from the store.
    Behind {
        /// The next place of this reader.
        from: Sequence,
    },
    /// Nothing happened for a while; whoever shows the log is still there.
    Idle,
}

impl LogItem {
    /// Appends a message as an item, from its parts.
    pub fn write_message(writer: &mut Writer, receipt: &Receipt, body: &[u8], stored: bool) {
        writer.array(4);
        writer.uint(0u64);
        writer.bytes(&receipt.to_bytes());
        writer.bytes(body);
        writer.bool(stored);
    }
}

impl Canonical for LogItem {
    const WHAT: &'static str = "item of the log";
    const BYTES_MAX: usize = BODY_COMPRESSED_MAX + RECEIPT_BYTES_MAX + 32;

    fn write(&self, writer: &mut Writer) {
        let numbered = |writer: &mut Writer, kind: u64, from: Sequence| {
            writer.array(2);
            writer.uint(kind);
            writer.uint(from);
        };
        match self {
            Self::Message { message, stored } => {
                Self::write_message(writer, &message.receipt, &message.body, *stored);
            }
            Self::Stored(checkpoint) => {
                writer.array(2);
                writer.uint(1u64);
                writer.bytes(&checkpoint.to_bytes());
            }
            Self::Withdrawn { from } => numbered(writer, 2, *from),
            Self::Behind { from } => numbered(writer, 3, *from),
            Self::Idle => {
                writer.array(1);
                writer.uint(4u64);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.array(Self::WHAT, 4)?;
        let kind = reader.uint("kind of the item")?;
        match (kind, count) {
            (0, 4) => {
                let receipt = Receipt::from_bytes(reader.bytes("receipt", RECEIPT_BYTES_MAX)?)?;
                let body = reader.bytes("message body", BODY_COMPRESSED_MAX)?.to_vec();
                let message = Box::new(Message { receipt, body });
                Ok(Self::Message { message, stored: reader.bool("stored")? })
            }
            (1, 2) => {
                let bytes = reader.bytes("checkpoint", CHECKPOINT_BYTES_MAX)?;
                Ok(Self::Stored(Box::new(SignedCheckpoint::from_bytes(bytes)?)))
            }
            (2, 2) => Ok(Self::Withdrawn { from: reader.number("from")? }),
            (3, 2) => Ok(Self::Behind { from: reader.number("from")? }),
            (4, 1) => Ok(Self::Idle),
            _ => Err(DecodeError::Invalid { what: Self::WHAT, why: "no item has this kind and length" }),
        }
    }
}
