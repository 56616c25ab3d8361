//! What was promised and is not yet seen kept, and up to where the stored log is known. It decides; it asks nobody.
//!
//! What must stay true:
//!
//! - A promise counts as kept only when its leaf stands at its sequence in a tree whose frontier a signed checkpoint names.
//! - Each promise is counted once: kept, unkept, or unchecked. `got` is their sum and what still waits.
//! - Memory is bounded: by [`PROMISES_MAX`] receipts that wait, as many that are doubted, and [`LEAVES_MAX`] leaves.

use std::collections::{BTreeMap, VecDeque};

use synddb_protocol::hash::TreeHash;
use synddb_protocol::id::{Epoch, Sequence};
use synddb_protocol::limits::BATCH_MESSAGES_MAX;
use synddb_protocol::log::{Frontier, Receipt, SignedCheckpoint};

use crate::status::{PromiseCheck, Promises as Counts};

/// Most receipts that wait to be seen kept. Beyond it the oldest are not checked.
pub(super) const PROMISES_MAX: usize = 4096;
/// Most leaves in one answer of a sequencer, and the last leaves that are remembered for a receipt that comes late.
pub(super) const LEAVES_MAX: usize = BATCH_MESSAGES_MAX;
/// Most leaves between two checkpoints that are fetched. Over more, the check begins anew at the later one.
const BETWEEN_MAX: u64 = 16 * LEAVES_MAX as u64;

/// How a checkpoint stands to the ones before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It is the same, or of a later log.
    Further,
    /// A later leader was seen: whoever signed this does not lead any more.
    Stale,
    /// Its log is smaller than what was seen stored. Whoever shows an old checkpoint need not be who signed it, so it accuses nobody.
    Behind,
    /// This one is of the same epoch and size, and has another content.
    Contradicts(Box<SignedCheckpoint>),
}

/// Up to where the log is known.
#[derive(Debug)]
struct Known {
    /// What says so; nothing when the log is known from its beginning.
    checkpoint: Option<SignedCheckpoint>,
    frontier: Frontier,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    waiting: BTreeMap<(Sequence, Epoch), Receipt>,
    /// Promises in whose place another leaf stands, and that leaf.
    doubted: VecDeque<(Receipt, TreeHash)>,
    known: Option<Known>,
    /// The last checkpoint that was believed.
    seen: Option<SignedCheckpoint>,
    /// The last leaves before where the log is known.
    recent: VecDeque<TreeHash>,
    /// Whether leaves were ever shown that led to a checkpoint.
    was_shown: bool,
    counts: Counts,
}

impl Ledger {
    /// What was counted so far.
    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Counts what is kept as evidence.
    pub(super) const fn count_evidence(&mut self, count: u64) {
        self.counts.evidence += count;
    }

    /// Notes a promise. Returns the one before it for the same place by the same epoch, if that says something else.
    pub(super) fn take(&mut self, receipt: Receipt) -> Option<Receipt> {
        let place = (receipt.header().sequence, receipt.header().epoch);
        if let Some(before) = self.waiting.get(&place) {
            return (*before != receipt).then(|| before.clone());
        }
        if self.doubted.iter().any(|(doubted, _)| *doubted == receipt) {
            return None;
        }
        self.counts.got += 1;
        let size = self.known.as_ref().map_or(0, |known| known.frontier.size());
        let sequence = receipt.header().sequence.get();
        if sequence > size {
            self.waiting.insert(place, receipt);
            if self.waiting.len() > PROMISES_MAX {
                self.waiting.pop_first();
                self.counts.unchecked += 1;
            }
            return None;
        }
        // It comes after the batch that holds it, or is for something old.
        let back = usize::try_from(size - sequence).unwrap_or(usize::MAX);
        match self.recent.len().checked_sub(back.saturating_add(1)).map(|at| self.recent[at]) {
            Some(leaf) if leaf == receipt.leaf() => self.counts.kept += 1,
            Some(leaf) => self.doubt(receipt, leaf),
            None => self.counts.unchecked += 1,
        }
        None
    }

    fn doubt(&mut self, receipt: Receipt, leaf: TreeHash) {
        if self.doubted.len() < PROMISES_MAX {
            self.doubted.push_back((receipt, leaf));
        } else {
            self.counts.unchecked += 1;
        }
    }

    /// How a checkpoint stands to those that were believed before.
    pub(super) fn relation(&self, new: &SignedCheckpoint) -> Relation {
        let Some(seen) = &self.seen else { return Relation::Further };
        let place = |signed: &SignedCheckpoint| (signed.claim().epoch, signed.claim().size);
        let ((epoch, size), (seen_epoch, seen_size)) = (place(new), place(seen));
        if epoch < seen_epoch {
            return Relation::Stale;
        }
        match (epoch == seen_epoch, size.cmp(&seen_size)) {
            (true, std::cmp::Ordering::Equal) if new != seen => Relation::Contradicts(Box::new(seen.clone())),
            (_, std::cmp::Ordering::Less) => Relation::Behind,
            (_, std::cmp::Ordering::Equal | std::cmp::Ordering::Greater) => Relation::Further,
        }
    }

    /// The frontier from which the log has to be extended to the checkpoint's. Where that is too far, the check begins anew at the checkpoint.
    pub(super) fn begin(&mut self, new: &SignedCheckpoint) -> Frontier {
        let size = new.claim().size.get();
        let from = self.known.as_ref().map_or_else(Frontier::default, |known| known.frontier.clone());
        let far = if self.known.is_some() { BETWEEN_MAX } else { LEAVES_MAX as u64 };
        if size.saturating_sub(from.size()) > far {
            self.begin_at(new);
            return new.claim().frontier.clone();
        }
        from
    }

    /// The checkpoint from which the log is known.
    pub(super) fn known(&self) -> Option<&SignedCheckpoint> {
        self.known.as_ref()?.checkpoint.as_ref()
    }

    /// Whether the log was ever checked by leaves that were shown.
    pub(super) const fn was_shown(&self) -> bool {
        self.was_shown
    }

    /// Nothing before the checkpoint is checked.
    pub(super) fn begin_at(&mut self, new: &SignedCheckpoint) {
        self.recent.clear();
        let frontier = new.claim().frontier.clone();
        self.known = Some(Known { checkpoint: Some(new.clone()), frontier });
        self.counts.unchecked += self.take_through(new.claim().size).len() as u64;
        self.believe(new, PromiseCheck::Unchecked);
    }

    /// The checkpoint is believed, as far as it was checked.
    pub(super) fn believe(&mut self, new: &SignedCheckpoint, check: PromiseCheck) {
        self.seen = Some(new.clone());
        self.counts.check = check;
    }

    /// The leaves behind where the log was known lead to the checkpoint's frontier: what was promised up to there is decided, or doubted.
    pub(super) fn settle(&mut self, new: &SignedCheckpoint, leaves: &[TreeHash]) {
        let frontier = new.claim().frontier.clone();
        let first = frontier.size() - leaves.len() as u64 + 1;
        for ((sequence, _), receipt) in self.take_through(new.claim().size) {
            let at = sequence.get().checked_sub(first).and_then(|at| usize::try_from(at).ok());
            match at.and_then(|at| leaves.get(at)) {
                Some(leaf) if *leaf == receipt.leaf() => self.counts.kept += 1,
                Some(leaf) => self.doubt(receipt, *leaf),
                None => self.counts.unchecked += 1,
            }
        }
        self.was_shown |= !leaves.is_empty();
        let remembered = leaves.len().min(LEAVES_MAX);
        self.recent.extend(&leaves[leaves.len() - remembered..]);
        self.recent.drain(..self.recent.len().saturating_sub(LEAVES_MAX));
        self.known = Some(Known { checkpoint: Some(new.clone()), frontier });
        self.believe(new, PromiseCheck::Checked);
    }

    /// The promises up to a sequence, which do not wait any more.
    fn take_through(&mut self, size: Sequence) -> BTreeMap<(Sequence, Epoch), Receipt> {
        let after = size.next().map(|next| self.waiting.split_off(&(next, Epoch::FIRST)));
        std::mem::replace(&mut self.waiting, after.unwrap_or_default())
    }

    /// A promise in whose place another leaf stands, and that leaf.
    pub(super) fn doubted(&self) -> Option<(Receipt, TreeHash)> {
        self.doubted.front().cloned()
    }

    /// The message of a later epoch stands at this sequence: what earlier leaders promised from there on never came true, which they may.
    pub(super) fn give_up(&mut self, sequence: Sequence, epoch: Epoch) {
        let is_open =
            |receipt: &Receipt| receipt.header().epoch >= epoch || receipt.header().sequence < sequence;
        let count = self.doubted.len() + self.waiting.len();
        self.doubted.retain(|(receipt, _)| is_open(receipt));
        // Epochs never go back in a log, so what waits behind that place is decided as well.
        self.waiting.retain(|_, receipt| is_open(receipt));
        self.counts.unkept += (count - self.doubted.len() - self.waiting.len()) as u64;
    }

    /// The promise that is doubted first was broken, and that is told.
    pub(super) fn break_doubted(&mut self) {
        if self.doubted.pop_front().is_some() {
            self.counts.unkept += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::id::{StreamId, Timestamp};
    use synddb_protocol::log::{Leader, MessageHeader, MessageType, StatusLevel, Versions};
    use synddb_protocol::signing::SigningKey;

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes([7; 32]).unwrap()
    }

    fn receipt(sequence: u64, epoch: u64, body: u8) -> Receipt {
        let header = MessageHeader {
            stream: StreamId::from_bytes([1; 32]),
            epoch: Epoch::new(epoch).unwrap(),
            sequence: Sequence::new(sequence).unwrap(),
            timestamp: Timestamp::ZERO,
            message_type: MessageType::Submission,
        };
        Receipt::sign(header, &[body], &key())
    }

    /// The leaves of a log whose bodies are these, and its checkpoint.
    fn log(epoch: u64, bodies: &[u8]) -> (Vec<TreeHash>, SignedCheckpoint) {
        let mut frontier = Frontier::default();
        let place = |at: usize| at as u64 + 1;
        let leaves: Vec<_> =
            bodies.iter().enumerate().map(|(at, body)| receipt(place(at), epoch, *body).leaf()).collect();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        let checkpoint = synddb_protocol::log::Checkpoint {
            stream: StreamId::from_bytes([1; 32]),
            epoch: Epoch::new(epoch).unwrap(),
            size: Sequence::new(bodies.len() as u64).unwrap(),
            timestamp: Timestamp::ZERO,
            last_leader: Leader { epoch: Epoch::new(epoch).unwrap(), key: key().id() },
            client: None,
            inbound: None,
            inbox_consumed: 0,
            status: StatusLevel::Healthy,
            frontier,
            versions: Versions::SUPPORTED,
        };
        (leaves, checkpoint.sign(&key()).unwrap())
    }

    fn counted(ledger: &Ledger) -> [u64; 4] {
        let Counts { got, kept, unkept, unchecked, .. } = ledger.counts();
        [got, kept, unkept, unchecked]
    }

    #[test]
    fn a_promise_is_counted_once_however_late_or_often_it_comes() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.take(receipt(2, 1, 2)), None);
        assert_eq!(ledger.take(receipt(2, 1, 2)), None);
        let (leaves, checkpoint) = log(1, &[1, 2, 3]);
        assert_eq!(ledger.begin(&checkpoint), Frontier::default());
        ledger.settle(&checkpoint, &leaves);
        assert_eq!(counted(&ledger), [1, 1, 0, 0]);
        // The batch was faster than its receipt.
        assert_eq!(ledger.take(receipt(3, 1, 3)), None);
        assert_eq!(counted(&ledger), [2, 2, 0, 0]);
        // It says something else than what is stored.
        assert_eq!(ledger.take(receipt(1, 1, 9)), None);
        assert_eq!(ledger.doubted(), Some((receipt(1, 1, 9), leaves[0])));
        assert_eq!(ledger.begin(&checkpoint), checkpoint.claim().frontier);
    }

    #[test]
    fn two_promises_for_one_place_are_seen_before_anything_is_stored() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.take(receipt(5, 1, 1)), None);
        assert_eq!(ledger.take(receipt(5, 2, 2)), None, "another leader may");
        assert_eq!(ledger.take(receipt(5, 1, 2)), Some(receipt(5, 1, 1)));
    }

    #[test]
    fn what_an_earlier_leader_promised_behind_a_later_one_is_given_up_at_once() {
        let mut ledger = Ledger::default();
        for sequence in 2..=9 {
            ledger.take(receipt(sequence, 1, 1));
        }
        ledger.take(receipt(4, 2, 4));
        let (leaves, checkpoint) = log(2, &[1, 2, 3]);
        ledger.settle(&checkpoint, &leaves);
        let (doubted, _) = ledger.doubted().unwrap();
        assert_eq!(doubted.header().sequence.get(), 2);
        ledger.give_up(doubted.header().sequence, Epoch::new(2).unwrap());
        assert_eq!((ledger.doubted(), counted(&ledger)), (None, [9, 0, 8, 0]));
        assert_eq!(ledger.waiting.len(), 1);
    }

    #[test]
    fn more_promises_than_are_kept_are_not_checked_and_counted() {
        let mut ledger = Ledger::default();
        for sequence in 1..=PROMISES_MAX as u64 + 3 {
            ledger.take(receipt(sequence, 1, 1));
        }
        assert_eq!((ledger.waiting.len(), counted(&ledger)[3]), (PROMISES_MAX, 3));
        assert!(ledger.waiting.keys().all(|(sequence, _)| sequence.get() > 3), "the oldest go first");
    }

    #[test]
    fn a_log_that_is_too_far_ahead_is_known_from_there_on() {
        let mut ledger = Ledger::default();
        ledger.take(receipt(7, 1, 7));
        let bodies = vec![1; LEAVES_MAX + 1];
        let (_, checkpoint) = log(1, &bodies);
        assert_eq!(ledger.begin(&checkpoint), checkpoint.claim().frontier);
        assert_eq!(counted(&ledger), [1, 0, 0, 1]);
        assert_eq!(ledger.known(), Some(&checkpoint));
    }

    #[test]
    fn checkpoints_are_held_against_the_ones_before() {
        let mut ledger = Ledger::default();
        let (_, seen) = log(2, &[1, 2, 3]);
        assert_eq!(ledger.relation(&seen), Relation::Further);
        ledger.believe(&seen, PromiseCheck::Checked);
        let before = || Box::new(seen.clone());
        for (epoch, bodies, expected) in [
            (2, &[1, 2, 3][..], Relation::Further),
            (2, &[1, 2, 3, 4], Relation::Further),
            (3, &[1, 2, 3], Relation::Further),
            (2, &[1, 2, 4], Relation::Contradicts(before())),
            (2, &[1, 2], Relation::Behind),
            (3, &[1, 2], Relation::Behind),
            (1, &[1, 2, 3, 4], Relation::Stale),
        ] {
            assert_eq!(ledger.relation(&log(epoch, bodies).1), expected, "{epoch} {bodies:?}");
        }
    }
}
