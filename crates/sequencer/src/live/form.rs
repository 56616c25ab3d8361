//! The two forms in which a reader gets items: a CBOR sequence for programs, server-sent events for browsers.
//!
//! ```text
//! event: message      data: {"sequence", "epoch", "timestamp", "type", "receipt", "body", "stored"}      id: sequence-epoch
//! event: stored       data: {"through", "checkpoint"}
//! event: withdrawn    data: {"from"}                                                                     id: from - 1
//! event: behind       data: {"from"}
//! ```
//!
//! The `id` is what `EventSource` sends as `Last-Event-ID`: the last place that was shown and counts. That of a message names its epoch as well, so that a
//! browser that connects again after another leader took the log over is told when that place was given to another message.

use serde::Serialize;
use synddb_protocol::Canonical as _;
use synddb_protocol::encoding::cbor::Writer;
use synddb_protocol::id::{Epoch, Sequence, Timestamp};
use synddb_protocol::live::LogItem;
use synddb_protocol::log::{MessageHeader, SignedCheckpoint};

use super::ring::{Shown, Step};

/// How items are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// RFC 8742, with the items of [`LogItem`].
    Cbor,
    /// `text/event-stream`, with JSON.
    Events,
}

impl Form {
    /// The media type.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Cbor => "application/cbor-seq",
            Self::Events => "text/event-stream",
        }
    }

    /// What says that nothing happened for a while.
    pub(super) fn idle(self) -> Vec<u8> {
        match self {
            Self::Cbor => LogItem::Idle.to_bytes(),
            Self::Events => b":\n\n".to_vec(),
        }
    }

    pub(super) fn write(self, step: &Step) -> Vec<u8> {
        // A checkpoint that was signed here is read again.
        let checkpoint = step.stored.as_ref().and_then(|bytes| SignedCheckpoint::from_bytes(bytes).ok());
        match self {
            Self::Cbor => as_sequence(step, checkpoint),
            Self::Events => as_events(step, checkpoint),
        }
    }
}

fn as_sequence(step: &Step, checkpoint: Option<SignedCheckpoint>) -> Vec<u8> {
    let mut writer = Writer::default();
    let withdrawn = step.withdrawn.map(|from| LogItem::Withdrawn { from });
    let stored = checkpoint.map(|checkpoint| LogItem::Stored(Box::new(checkpoint)));
    withdrawn.into_iter().chain(stored).for_each(|item| item.write(&mut writer));
    for (Shown { receipt, body }, is_stored) in &step.messages {
        LogItem::write_message(&mut writer, receipt, body, *is_stored);
    }
    if let Some(from) = step.behind {
        LogItem::Behind { from }.write(&mut writer);
    }
    writer.into_bytes()
}

#[derive(Serialize)]
struct MessageEvent {
    sequence: Sequence,
    epoch: Epoch,
    timestamp: Timestamp,
    r#type: u64,
    receipt: String,
    body: String,
    stored: bool,
}

#[derive(Serialize)]
struct StoredEvent {
    through: Sequence,
    checkpoint: String,
}

#[derive(Serialize)]
struct PlaceEvent {
    from: Sequence,
}

fn as_events(step: &Step, checkpoint: Option<SignedCheckpoint>) -> Vec<u8> {
    let mut text = String::new();
    if let Some(from) = step.withdrawn {
        event(&mut text, "withdrawn", Some((from.get() - 1).to_string()), &PlaceEvent { from });
    }
    if let Some(checkpoint) = checkpoint {
        let through = checkpoint.claim().size;
        event(
            &mut text,
            "stored",
            None,
            &StoredEvent { through, checkpoint: in_hex(&checkpoint.to_bytes()) },
        );
    }
    for (Shown { receipt, body }, stored) in &step.messages {
        let MessageHeader { epoch, sequence, timestamp, message_type, .. } = *receipt.header();
        let (r#type, receipt, body) = (message_type.code(), in_hex(&receipt.to_bytes()), in_hex(body));
        let message = MessageEvent { sequence, epoch, timestamp, r#type, receipt, body, stored: *stored };
        event(&mut text, "message", Some(format!("{sequence}-{epoch}")), &message);
    }
    if let Some(from) = step.behind {
        event(&mut text, "behind", None, &PlaceEvent { from });
    }
    text.into_bytes()
}

fn in_hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn event(text: &mut String, name: &str, id: Option<String>, data: &impl Serialize) {
    let data = serde_json::to_string(data).expect("numbers, booleans and hex are always JSON");
    text.push_str(&format!("event: {name}\n"));
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    text.push_str(&format!("data: {data}\n\n"));
}
