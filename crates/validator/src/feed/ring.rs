//! What was applied last, for readers at the tip. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use synddb_protocol::log::VerifiedMessage;

use super::render::Anew;

/// Most bytes of bodies that are kept. What was applied last is kept whatever its size.
const RING_BYTES_MAX: usize = 32 << 20;
/// What a message takes beside its body, in bytes, about.
const MESSAGE_BYTES: usize = 512;

/// Messages of one batch that were applied.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// The size of the log that everything before them was shown at.
    pub(crate) after: u64,
    /// The size of the log behind them.
    pub(crate) size: u64,
    /// Whether the first one is a snapshot to begin anew with.
    pub(crate) anew: Option<Anew>,
    pub(crate) messages: Vec<Arc<VerifiedMessage>>,
}

impl Shown {
    /// The first message from `next` on, and whether it is one to begin anew with.
    pub(super) fn message(&self, next: u64) -> Option<(Arc<VerifiedMessage>, Option<Anew>)> {
        let at = self.messages.partition_point(|message| message.header().sequence.get() < next);
        let message = Arc::clone(self.messages.get(at)?);
        Some((message, self.anew.filter(|_| at == 0)))
    }

    fn bytes(&self) -> usize {
        self.messages.iter().map(|message| message.body_bytes() + MESSAGE_BYTES).sum()
    }
}

/// Batches in order, the oldest of which go where there are too many.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    batches: VecDeque<Shown>,
    bytes: usize,
}

impl Ring {
    pub(crate) fn push(&mut self, shown: Shown) {
        if self.batches.back().is_some_and(|last| last.size != shown.after) {
            // What is between them went already.
            self.batches.clear();
            self.bytes = 0;
        }
        self.bytes += shown.bytes();
        self.batches.push_back(shown);
        while self.bytes > RING_BYTES_MAX && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else { return };
            self.bytes -= oldest.bytes();
        }
    }

    /// The size of the log before the first batch.
    pub(crate) fn after(&self) -> Option<u64> {
        self.batches.front().map(|shown| shown.after)
    }

    /// Takes all batches of another one.
    pub(crate) fn append(&mut self, other: Self) {
        other.batches.into_iter().for_each(|shown| self.push(shown));
    }

    /// The batch with message `next`, or the one behind it where that is not shown.
    pub(crate) fn get(&self, next: u64) -> Option<&Shown> {
        let at = self.batches.partition_point(|shown| shown.size < next);
        self.batches.get(at).filter(|shown| shown.after < next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(after: u64, size: u64) -> Shown {
        Shown { after, size, anew: None, messages: Vec::new() }
    }

    #[test]
    fn a_message_is_found_in_its_batch_and_what_went_is_not() {
        let mut ring = Ring::default();
        for (after, size) in [(2, 5), (5, 6), (6, 10)] {
            ring.push(shown(after, size));
        }
        let found = |ring: &Ring, next| ring.get(next).map(|shown| shown.size);
        assert_eq!(
            [2, 3, 5, 6, 7, 10, 11].map(|next| found(&ring, next)),
            [None, Some(5), Some(5), Some(6), Some(10), Some(10), None]
        );
        let mut later = Ring::default();
        later.push(shown(12, 13));
        ring.append(later);
        assert_eq!([10, 12, 13].map(|next| found(&ring, next)), [None, None, Some(13)]);
    }
}
