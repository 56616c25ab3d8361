//! One stream and its owner.
//!
//! The owner is one thread with everything that may change: order, journal, what is being stored. Others hold a [`Handle`]: they
//! send it commands over a bounded channel, and look at its [`View`].

mod owner;
mod publish;
mod underway;

pub(crate) use owner::{Owner, Parts};

use std::sync::Arc;

use bytes::Bytes;
use synddb_protocol::http::{Reason, StreamStatus};
use synddb_protocol::id::Sequence;
use synddb_protocol::log::{Body, Receipt};
use synddb_service::shutdown::Shutdown;
use tokio::sync::{mpsc, oneshot, watch};

use crate::admission::Room;
use crate::live::Feed;
use crate::mailbox::Mailbox;
use crate::ordering::Held;

/// Whether a stream takes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// An epoch is being claimed, or its first message is not stored yet.
    Opening,
    /// Everything that follows is taken.
    Leading,
    /// Another sequencer leads. This owner never leads the stream again.
    Deposed,
    /// Its owner is gone.
    Ended,
}

/// What everybody may know of a stream.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) phase: Phase,
    /// `None` before an epoch was claimed.
    pub(crate) status: Option<StreamStatus>,
    /// How many inbound messages the log has.
    pub(crate) delivered: u64,
    /// The signed checkpoint of the newest stored batch, with its size.
    pub(crate) stored: Option<(Sequence, Bytes)>,
    /// Why nothing can be stored now, if that is so. Strangers read it: the cause stands in the log of the service.
    pub(crate) trouble: Option<&'static str>,
}

impl View {
    pub(crate) const fn opening() -> Self {
        Self { phase: Phase::Opening, status: None, delivered: 0, stored: None, trouble: None }
    }
}

/// Something that a client or the mailbox sent, opened, and on its way to the owner.
pub(crate) struct Command {
    pub(crate) body: Body,
    /// The store was asked, and has it not: it is new.
    pub(crate) is_looked_up: bool,
    /// So many inbound messages are acknowledged in what is stored, as whoever sends it knows; 0 for who knows of none.
    pub(crate) acknowledged: u64,
    pub(crate) answer: oneshot::Sender<Answer>,
    /// The memory it takes, until it is answered.
    pub(crate) room: Room,
}

/// What the owner says to it.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is durable under this new place.
    Taken(Receipt),
    /// It had these places already.
    Known(Vec<Receipt>),
    /// Only the store tells whether it has a place. Where it has none it is refused for this reason, or new.
    LookUp(Held, Option<Reason>),
    /// Nothing of it was taken.
    Refused(Reason, String),
}

/// What others hold of a stream. Clones are the same.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) view: watch::Receiver<View>,
    /// The log as it grows.
    pub(crate) feed: Feed,
    /// What it and its bridge tell each other; `None` where no bridge is configured.
    pub(crate) mailbox: Option<Arc<Mailbox>>,
    /// Asks the owner to store what it has, and to end.
    pub(crate) finish: Shutdown,
}
