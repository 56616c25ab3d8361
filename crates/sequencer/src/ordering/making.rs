//! Batches in the making: which of the signed messages will stand in one object.
//!
//! Messages come one by one, so each batch knows from the start whether the next one still fits it, and nothing is signed that
//! no batch could hold. A batch keeps the tip at its end, which its checkpoint claims, and also the tip at the last place where no
//! commit was half done: readers endorse only there.

use std::time::{Duration, Instant};

use synddb_protocol::id::Sequence;
use synddb_protocol::limits::{
    BATCH_BODIES_MAX, BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, BODY_COMPRESSED_MAX, CHECKPOINT_BYTES_MAX,
    RECEIPT_BYTES_MAX,
};
use synddb_protocol::log::Tip;

use crate::config::Batching;

/// What the map around messages and checkpoint takes at most, in bytes.
const MAP_BYTES_MAX: usize = 256;
/// What a body adds to its own length in a batch: the heads of the pair and of the body.
const MESSAGE_HEADS_BYTES: usize = 1 + 5;
/// All messages of one batch, as they stand in it, in bytes.
const MESSAGES_BYTES_MAX: usize = BATCH_BYTES_MAX - CHECKPOINT_BYTES_MAX - MAP_BYTES_MAX;

const _: () = assert!(BODY_COMPRESSED_MAX + RECEIPT_BYTES_MAX + MESSAGE_HEADS_BYTES <= MESSAGES_BYTES_MAX);

/// How long a batch that would end inside a commit waits for the rest of it, beyond its age.
const GROUP_PATIENCE: Duration = Duration::from_secs(1);

/// What one message takes in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Bytes of receipt and body as they stand in the batch.
    pub(super) bytes: usize,
    /// Bytes of the body after decompression.
    pub(super) content: usize,
}

impl Weight {
    pub(super) const fn of(body_bytes: usize, content: usize) -> Self {
        Self { bytes: RECEIPT_BYTES_MAX + MESSAGE_HEADS_BYTES + body_bytes, content }
    }
}

/// The bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    messages: usize,
    bytes: usize,
    age: Duration,
}

impl Bounds {
    pub(super) fn new(batching: Batching) -> Self {
        Self {
            messages: batching.messages_max.clamp(1, BATCH_MESSAGES_MAX),
            bytes: batching.bytes_max.clamp(1, MESSAGES_BYTES_MAX),
            age: Duration::from_millis(batching.age_ms),
        }
    }
}

/// Messages so far, and what they add up to.
#[derive(Debug, Clone)]
struct End {
    last: Sequence,
    messages: usize,
    weight: Weight,
    tip: Tip,
}

/// One batch in the making.
#[derive(Debug, Clone)]
pub(super) struct Making {
    first: Sequence,
    /// When its first message was signed.
    since: Instant,
    end: End,
    /// The end at the last place where no commit is half done, and when the first message behind it was signed.
    whole: Option<(End, Instant)>,
    /// A message did not fit any more.
    is_closed: bool,
}

/// When the next batch is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// There is nothing to cut.
    Never,
    /// At this time, unless it becomes full before.
    At(Instant),
    /// Now, up to this message.
    Now(Sequence),
}

impl Making {
    pub(super) fn begin(first: Sequence, weight: Weight, tip: Tip, now: Instant) -> Self {
        let end = End { last: first, messages: 1, weight, tip };
        let whole = (!is_in_group(&end.tip)).then(|| (end.clone(), now));
        Self { first, since: now, end, whole, is_closed: false }
    }

    /// Adds the next message, if it fits. Otherwise the batch is closed.
    pub(super) fn add(&mut self, bounds: Bounds, weight: Weight, tip: &Tip, now: Instant) -> bool {
        let sum = Weight {
            bytes: self.end.weight.bytes + weight.bytes,
            content: self.end.weight.content + weight.content,
        };
        let fits = self.end.messages < bounds.messages
            && sum.bytes <= bounds.bytes
            && sum.content <= BATCH_BODIES_MAX;
        let (true, false, Some(last)) = (fits, self.is_closed, self.end.last.next()) else {
            self.is_closed = true;
            return false;
        };
        if let Some((whole, behind)) = &mut self.whole
            && whole.last == self.end.last
        {
            *behind = now;
        }
        self.end = End { last, messages: self.end.messages + 1, weight: sum, tip: tip.clone() };
        if !is_in_group(tip) {
            self.whole = Some((self.end.clone(), now));
        }
        true
    }

    fn is_full(&self, bounds: Bounds) -> bool {
        self.is_closed || self.end.messages >= bounds.messages || self.end.weight.bytes >= bounds.bytes
    }

    pub(super) fn due(&self, bounds: Bounds, now: Instant) -> Due {
        if self.is_full(bounds) {
            return Due::Now(self.end.last);
        }
        let aged = self.since + bounds.age;
        match &self.whole {
            Some((whole, _)) if aged <= now => Due::Now(whole.last),
            Some(_) => Due::At(aged),
            None if aged + GROUP_PATIENCE <= now => Due::Now(self.end.last),
            None => Due::At(aged + GROUP_PATIENCE),
        }
    }

    pub(super) const fn first(&self) -> Sequence {
        self.first
    }

    pub(super) const fn last(&self) -> Sequence {
        self.end.last
    }

    /// Ends the batch at `last`, which [`Self::due`] named. Gives the tip there, and what is left.
    pub(super) fn cut(self, last: Sequence) -> (Tip, Option<Self>) {
        let Some((whole, since)) = self.whole.filter(|_| last < self.end.last) else {
            return (self.end.tip, None);
        };
        let weight = Weight {
            bytes: self.end.weight.bytes - whole.weight.bytes,
            content: self.end.weight.content - whole.weight.content,
        };
        let messages = self.end.messages - whole.messages;
        let first = whole.last.next().expect("a message stands behind it");
        let end = End { messages, weight, ..self.end };
        (whole.tip, Some(Self { first, since, end, whole: None, is_closed: self.is_closed }))
    }
}

/// Whether a commit is half done at this tip.
fn is_in_group(tip: &Tip) -> bool {
    tip.client().is_some_and(|client| client.group.is_some())
}
