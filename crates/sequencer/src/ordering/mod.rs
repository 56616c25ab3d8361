//! The pure core: puts what is sent in one order, signs it, and says what stands in which batch.
//!
//! ```text
//! body -> judge -> sign ---(the journal has it)---> accept -> due -> cut -> a batch in a store
//!              \-> known: look it up
//!              \-> refused, with the reason
//! ```
//!
//! Decides only: no I/O, no async, no clock; time is an argument. What must stay true:
//!
//! - Everything signed goes through [`Tip::sign`], so a reader accepts it, and no place is signed twice.
//! - A [`Draft`] changes nothing. Only what the journal has durably is accepted; what a failed transaction takes with it uses no
//!   sequence.
//! - What is accepted can always be cut: a batch in the making knows its bounds, so [`Batch::new`] and `to_stored` cannot fail.
//!
//! Does not know where messages are kept, who asks, and what became of a batch.

mod held;
mod judge;
mod making;

pub use held::{Held, What, digest_within};
pub use judge::Judgement;
pub use making::{Due, Weight};

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use synddb_protocol::DecodeError;
use synddb_protocol::http::Reason;
use synddb_protocol::id::{Epoch, Sequence, Timestamp};
use synddb_protocol::log::{
    Batch, Body, Entry, EpochStart, InboundState, LogError, Message, SignedCheckpoint, SignedEpochRecord,
    Tip, VerifiedMessage, Versions,
};
use synddb_protocol::signing::SigningKey;

use crate::config::Batching;
use making::{Bounds, Making};

/// The order of one stream in one epoch.
#[derive(Debug)]
pub struct Ordering {
    key: Arc<SigningKey>,
    epoch: Epoch,
    bounds: Bounds,
    /// Inbound messages that are known to be acknowledged: counted from rows, which nobody here reads.
    inbox_consumed: u64,
    /// After everything accepted.
    tip: Tip,
    /// Everything accepted and not cut, in order.
    making: VecDeque<Making>,
}

/// A message that was signed, with what [`Ordering::accept`] needs to know of it.
#[derive(Debug)]
pub struct Signed {
    /// The message.
    pub message: Message,
    /// What of the client it holds.
    pub held: Option<Held>,
    /// Its place among the accepted.
    pub placed: Placed,
}

/// A message without its content: what is left to accept once the journal has it.
#[derive(Debug)]
pub struct Placed {
    sequence: Sequence,
    weight: Weight,
    tip: Tip,
}

impl Ordering {
    /// The order that goes on at `tip`. `inbox_consumed` is the last checkpoint's.
    pub fn new(
        tip: Tip,
        epoch: Epoch,
        key: Arc<SigningKey>,
        batching: Batching,
        inbox_consumed: u64,
    ) -> Self {
        let bounds = Bounds::new(batching);
        Self { key, epoch, bounds, inbox_consumed, tip, making: VecDeque::new() }
    }

    /// After everything accepted.
    pub const fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The epoch.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes a message over that an earlier epoch signed and nobody stored.
    ///
    /// # Errors
    /// [`LogError`] when it does not follow; nothing is taken then.
    pub fn adopt(
        &mut self,
        message: &VerifiedMessage,
        body_bytes: usize,
        now: Instant,
    ) -> Result<(), LogError> {
        let tip = self.tip.after(message)?;
        let weight = Weight::of(body_bytes, message.body_bytes());
        self.accept([Placed { sequence: message.header().sequence, weight, tip }], now);
        Ok(())
    }

    /// Begins to sign further messages. Nothing of it counts before [`Self::accept`].
    pub fn draft(&self) -> Draft {
        Draft { key: Arc::clone(&self.key), epoch: self.epoch, tip: self.tip.clone() }
    }

    /// Takes what was signed, in order, once it is durable.
    pub fn accept(&mut self, placed: impl IntoIterator<Item = Placed>, now: Instant) {
        for Placed { sequence, weight, tip } in placed {
            assert_eq!(self.tip.next().ok(), Some(sequence), "what is accepted was drafted from this tip");
            let fits = self.making.back_mut().is_some_and(|last| last.add(self.bounds, weight, &tip, now));
            if !fits {
                self.making.push_back(Making::begin(sequence, weight, tip.clone(), now));
            }
            self.tip = tip;
        }
    }

    /// So many inbound messages are acknowledged in what is stored.
    pub fn acknowledge(&mut self, inbox_consumed: u64) {
        self.inbox_consumed = self.inbox_consumed.max(inbox_consumed);
    }

    /// When the next batch is to be cut.
    pub fn due(&self, now: Instant) -> Due {
        match self.making.front() {
            None => Due::Never,
            // Messages behind it show that it is full.
            Some(front) => front.due(self.bounds, now),
        }
    }

    /// The same for a leader that ends: whatever is there is due.
    pub fn due_at_end(&self) -> Due {
        self.making.front().map_or(Due::Never, |front| Due::Now(front.last()))
    }

    /// The first message that is in no batch yet.
    pub fn first_uncut(&self) -> Option<Sequence> {
        self.making.front().map(Making::first)
    }

    /// Ends the next batch at `last`, which [`Self::due`] named, and signs its checkpoint.
    ///
    /// # Panics
    /// When nothing is due.
    pub fn cut(&mut self, last: Sequence) -> Cut {
        let front = self.making.pop_front().expect("only what is due is cut");
        let first = front.first();
        let (tip, rest) = front.cut(last);
        if let Some(rest) = rest {
            self.making.push_front(rest);
        }
        // An application may say that it is done with what nobody has told it.
        let inbox_consumed = self.inbox_consumed.min(tip.inbound().map_or(0, InboundState::delivered));
        let claim = tip.checkpoint(self.epoch, inbox_consumed).expect("there are messages");
        let checkpoint = claim.sign(&self.key).expect("a tip does not contradict itself");
        Cut { first, last, checkpoint }
    }
}

/// A batch without its messages.
#[derive(Debug)]
pub struct Cut {
    /// The first message.
    pub first: Sequence,
    /// The last message.
    pub last: Sequence,
    /// The checkpoint after it.
    pub checkpoint: SignedCheckpoint,
}

impl Cut {
    /// The bytes to store.
    ///
    /// # Errors
    /// [`DecodeError`] when these are not the messages from `first` to `last` as they were signed.
    pub fn to_stored(&self, messages: Vec<Message>) -> Result<Vec<u8>, DecodeError> {
        Batch::new(messages, self.checkpoint.clone())?.to_stored()
    }
}

/// Messages that are signed and not durable yet. Dropping it takes back every one of them.
#[derive(Debug)]
pub struct Draft {
    key: Arc<SigningKey>,
    epoch: Epoch,
    tip: Tip,
}

impl Draft {
    /// Whether what a client sends is new, or has a place.
    pub fn judge(&self, entry: &Entry) -> Judgement {
        judge::judge(self.tip.client(), entry)
    }

    /// Signs `body` into the next place. Log time never goes back, whatever the clock says.
    ///
    /// # Errors
    /// The [`Reason`] why it does not follow, with a text for people. No sequence is used then.
    pub fn sign(&mut self, now: Timestamp, body: Body) -> Result<Signed, (Reason, String)> {
        self.try_sign(now, body).map_err(|error| {
            let reason = match &error {
                LogError::Continuity(error) => Reason::of_continuity(error, self.tip.client()),
                LogError::Full
                | LogError::Sequence { .. }
                | LogError::Timestamp { .. }
                | LogError::Epoch { .. }
                | LogError::Key { .. }
                | LogError::UpgradeRequired { .. }
                | LogError::ForeignStream { .. }
                | LogError::Inbound(_)
                | LogError::Checkpoint { .. } => Reason::Unprocessable,
            };
            (reason, error.to_string())
        })
    }

    /// Signs the first message of the epoch that `record` claims.
    ///
    /// # Errors
    /// [`LogError`] when the log is past that epoch, or full.
    pub fn sign_epoch(&mut self, now: Timestamp, record: &SignedEpochRecord) -> Result<Signed, LogError> {
        let start = EpochStart { record: record.hash(), versions: Versions::SUPPORTED };
        let body = Body::of(&Entry::Epoch(start)).expect("an epoch message is within its limits");
        self.try_sign(now, body)
    }

    fn try_sign(&mut self, now: Timestamp, body: Body) -> Result<Signed, LogError> {
        let held = Held::of(body.entry());
        let weight = Weight::of(body.as_stored().len(), body.content_bytes());
        let time = now.max(self.tip.timestamp());
        let (message, tip) = self.tip.sign(self.epoch, time, body, &self.key)?;
        self.tip = tip.clone();
        let sequence = message.receipt.header().sequence;
        Ok(Signed { message, held, placed: Placed { sequence, weight, tip } })
    }
}
