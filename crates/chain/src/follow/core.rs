//! Decides which blocks are asked about, and what of the answers comes next. It has no clock, asks nobody and remembers nothing beyond its value.

use synddb_protocol::id::InboundNonce;
use synddb_protocol::log::Inbound;

/// Most blocks of one question. It doubles with each answer up to this, and halves with each refusal.
pub const RANGE_MAX: u64 = 10_000;
/// Blocks of the first question.
const RANGE_FIRST: u64 = 1_000;

/// Where a follower goes on. Nothing before [`Self::block`] has the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The next message.
    pub next: InboundNonce,
    /// The first block that may have it.
    pub block: u64,
}

/// Where the chain is, by every node that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The newest block that is final.
    pub block: u64,
    /// How many messages the bridge has sent up to there.
    pub sent: u64,
}

/// What is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The first block.
    pub from: u64,
    /// The last block.
    pub to: u64,
    /// The one message that is asked for, where a node calls all those of one block too much.
    pub only: Option<InboundNonce>,
}

/// What is wrong with what nodes say. Nothing of it is given, and it is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bridge has sent fewer messages than were taken from it.
    #[error(
        "the bridge has sent fewer messages than were taken from it: the chain was taken back behind what was final, or is another one. sent=`{sent}` taken=`{taken}`"
    )]
    TakenBack {
        /// How many it has sent.
        sent: u64,
        /// How many were taken.
        taken: u64,
    },
    /// A message is missing.
    #[error("the node leaves out a message. missing=`{missing}`")]
    LeftOut {
        /// Which.
        missing: InboundNonce,
    },
    /// A message is of a block that was not asked for.
    #[error("the node gives a message of a block that was not asked for. block=`{block}`")]
    Elsewhere {
        /// The block.
        block: u64,
    },
    /// There are no more numbers.
    #[error("there are more messages than have numbers")]
    Exhausted,
}

/// How far the messages of one bridge have come.
#[derive(Debug, Clone)]
pub struct Core {
    next: InboundNonce,
    /// The first block that is not looked at.
    block: u64,
    /// The block of the last message, or the first of all: nothing before it has the next one.
    since: u64,
    range: u64,
    /// All messages of one block are too much.
    is_single: bool,
    head: Option<Head>,
}

impl Core {
    /// Goes on from a cursor.
    pub const fn new(cursor: Cursor) -> Self {
        let Cursor { next, block } = cursor;
        Self { next, block, since: block, range: RANGE_FIRST, is_single: false, head: None }
    }

    /// Where to go on.
    pub const fn cursor(&self) -> Cursor {
        // What was looked at since the last message may have been answered wrongly.
        Cursor { next: self.next, block: self.since }
    }

    /// Whether blocks are left to be looked at, up to where the chain was when it was known last.
    pub const fn is_behind(&self) -> bool {
        self.head.is_some()
    }

    /// What is to be asked, once the chain is known to be somewhere; `None` where there is nothing new.
    ///
    /// # Errors
    /// [`Fault::TakenBack`].
    pub fn at(&mut self, head: Head) -> Result<Option<Ask>, Fault> {
        let taken = self.next.get() - 1;
        if head.sent < taken {
            return Err(Fault::TakenBack { sent: head.sent, taken });
        }
        self.head = Some(head);
        Ok(self.ask())
    }

    /// What is to be asked next.
    pub fn ask(&mut self) -> Option<Ask> {
        let head = self.head?;
        if head.sent < self.next.get() {
            // Whatever is in the blocks up to there is known.
            self.block = self.block.max(head.block.saturating_add(1));
            self.since = self.block;
            self.head = None;
            return None;
        }
        if self.block > head.block {
            // All were looked at, and the next was in none.
            self.block = self.since;
        }
        let to = self.block.saturating_add(self.range - 1).min(head.block);
        Some(Ask { from: self.block, to, only: self.is_single.then_some(self.next) })
    }

    /// It was refused, or too much. Says whether a smaller question is left to ask.
    pub const fn refused(&mut self) -> bool {
        let (was_one, was_single) = (self.range == 1, self.is_single);
        self.is_single = was_one;
        self.range = if was_one { 1 } else { self.range / 2 };
        !was_single
    }

    /// What of an answer comes next, in order. What is behind something that is left out is not given.
    ///
    /// # Errors
    /// [`Fault`]. Nothing of the answer is taken then, and what is asked next begins where the last message was.
    pub fn answered(&mut self, asked: Ask, mut found: Vec<Inbound>) -> Result<Vec<Inbound>, Fault> {
        if let Some(other) = found.iter().find(|event| !(asked.from..=asked.to).contains(&event.block_number))
        {
            return Err(Fault::Elsewhere { block: other.block_number });
        }
        found.sort_by_key(|event| (event.nonce, event.block_number));
        found.retain(|event| event.nonce >= self.next);
        found.dedup_by_key(|event| event.nonce);
        let (mut next, mut since) = (self.next, self.since);
        for event in &found {
            if event.nonce != next {
                // It may have been left out of any answer since the last one.
                self.block = self.since;
                return Err(Fault::LeftOut { missing: next });
            }
            next = InboundNonce::new(next.get() + 1).map_err(|_| Fault::Exhausted)?;
            since = event.block_number;
        }
        if asked.only.is_some() && !found.is_empty() {
            // The block may have more of them.
            (self.next, self.since, self.block) = (next, since, asked.from);
            return Ok(found);
        }
        let is_last = self.head.is_some_and(|head| asked.to >= head.block);
        let missing = self.head.is_some_and(|head| is_last && head.sent >= next.get());
        if missing && found.is_empty() {
            self.block = self.since;
            return Err(Fault::LeftOut { missing: next });
        }
        (self.next, self.since, self.block) = (next, since, asked.to.saturating_add(1));
        self.is_single = false;
        self.range = self.range.saturating_mul(2).min(RANGE_MAX);
        Ok(found)
    }
}
