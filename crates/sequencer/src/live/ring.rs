//! The ring of recent messages, and what a reader at some place in it is shown next. Pure.

use std::collections::VecDeque;

use bytes::Bytes;
use synddb_protocol::id::{Epoch, Sequence};
use synddb_protocol::limits::BODY_COMPRESSED_MAX;
use synddb_protocol::log::{Receipt, SignedCheckpoint};

/// Most messages that one stream keeps for readers. At full speed this and the next bound are more than what waits to be stored, so
/// that whoever has read the store finds the next message here.
const RING_MESSAGES_MAX: usize = 1 << 15;

/// Most memory that they take, in bytes. The newest message is kept whatever its size.
const RING_BYTES_MAX: usize = 16 << 20;

/// What a message takes in memory beside its body, in bytes, about.
const MESSAGE_BYTES: usize = 512;

/// Bytes of bodies that one step shows, unless the first message alone is larger.
const STEP_BYTES: usize = 256 << 10;

/// Most messages that one step shows.
const STEP_MESSAGES_MAX: usize = 256;

const _: () = assert!(BODY_COMPRESSED_MAX <= RING_BYTES_MAX && STEP_MESSAGES_MAX <= RING_MESSAGES_MAX);

/// A message that is shown.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) receipt: Receipt,
    pub(super) body: Bytes,
}

impl Shown {
    fn sequence(&self) -> Sequence {
        self.receipt.header().sequence
    }

    fn bytes(&self) -> usize {
        self.body.len() + MESSAGE_BYTES
    }
}

/// Why nothing is shown from some place on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotShown {
    /// No epoch leads, not yet or no more.
    #[error("the stream is not led here")]
    NotLed,
    /// The log does not go on there.
    #[error(
        "the log has no message before this place: what was shown of it is withdrawn. from=`{from}` next=`{next}`"
    )]
    Past {
        /// The place asked for.
        from: Sequence,
        /// The next free place.
        next: Sequence,
    },
    /// What the reader saw before is not what stands there.
    #[error(
        "another message stands before this place: what was shown of it is withdrawn. from=`{from}` found_epoch=`{found}`"
    )]
    Withdrawn {
        /// The place asked for.
        from: Sequence,
        /// The epoch of the message before it.
        found: Epoch,
    },
}

/// Where a reader stands.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    /// What it is shown next.
    next: Sequence,
    /// Up to where it was told that everything is stored.
    told: Option<Sequence>,
    /// The first message that was not stored when it was shown something last.
    floor: Sequence,
    /// Withdrawals that it knows of.
    withdrawals: u64,
}

/// What a reader is shown next, in this order.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) withdrawn: Option<Sequence>,
    /// The signed checkpoint through which everything is stored.
    pub(super) stored: Option<Bytes>,
    /// Messages, and whether each is stored.
    pub(super) messages: Vec<(Shown, bool)>,
    /// It goes on in the store.
    pub(super) behind: Option<Sequence>,
}

impl Step {
    pub(super) fn is_empty(&self) -> bool {
        self.withdrawn.is_none() && self.stored.is_none() && self.messages.is_empty() && self.behind.is_none()
    }
}

/// Recent messages of one stream, dense, and how far they are stored.
#[derive(Debug, Default)]
pub(super) struct Ring {
    messages: VecDeque<Shown>,
    bytes: usize,
    /// The first message of the epoch that leads; everything here stands behind it. `None` before there was one.
    fence: Option<(Sequence, Epoch)>,
    /// The next free place; `None` before an epoch began.
    next: Option<Sequence>,
    stored: Option<(Sequence, Bytes)>,
    /// How often something was withdrawn, and from where the last time.
    withdrawals: u64,
    withdrawn_from: Option<Sequence>,
    is_deposed: bool,
}

impl Ring {
    pub(super) fn open(&mut self, fence: Sequence, epoch: Epoch, stored: Option<(Sequence, Bytes)>) {
        self.withdraw(self.first_unstored());
        // What is stored of it is in the store, and what follows does not follow it.
        self.messages.clear();
        self.bytes = 0;
        self.fence = Some((fence, epoch));
        self.next = fence.next();
        self.stored = stored;
        self.is_deposed = false;
    }

    pub(super) fn push(&mut self, shown: Shown) {
        debug_assert!(self.next == Some(shown.sequence()), "an owner shows dense sequences");
        self.next = shown.sequence().next();
        self.bytes += shown.bytes();
        self.messages.push_back(shown);
        while self.messages.len() > RING_MESSAGES_MAX
            || (self.bytes > RING_BYTES_MAX && self.messages.len() > 1)
        {
            let Some(oldest) = self.messages.pop_front() else { return };
            self.bytes -= oldest.bytes();
        }
    }

    pub(super) fn store(&mut self, stored: (Sequence, Bytes)) {
        self.stored = Some(stored);
    }

    pub(super) fn depose(&mut self) {
        self.withdraw(self.first_unstored());
        self.is_deposed = true;
    }

    fn first_unstored(&self) -> Sequence {
        self.stored.as_ref().and_then(|(last, _)| last.next()).unwrap_or(Sequence::FIRST)
    }

    fn withdraw(&mut self, from: Sequence) {
        if self.next.is_none_or(|next| next <= from) {
            return;
        }
        while let Some(last) = self.messages.pop_back_if(|last| last.sequence() >= from) {
            self.bytes -= last.bytes();
        }
        self.next = Some(from);
        self.withdrawals += 1;
        self.withdrawn_from = Some(from);
    }

    fn get(&self, sequence: Sequence) -> Option<&Shown> {
        let first = self.messages.front()?.sequence();
        let offset = sequence.get().checked_sub(first.get())?;
        self.messages.get(usize::try_from(offset).ok()?)
    }

    /// A reader that begins.
    pub(super) fn begin(&self, from: Option<Sequence>, epoch: Option<Epoch>) -> Result<Cursor, NotShown> {
        let Some(next) = self.next.filter(|_| !self.is_deposed) else { return Err(NotShown::NotLed) };
        let from = from.unwrap_or(next);
        if from > next {
            return Err(NotShown::Past { from, next });
        }
        // What stands before the fence was read from the store, or is read from there.
        if let (Some((fence, found)), Some(epoch)) = (self.fence, epoch)
            && from > fence
            && found != epoch
        {
            return Err(NotShown::Withdrawn { from, found });
        }
        // Right behind what is stored the checkpoint tells, also of leaders between that nobody here saw.
        if let (Some((last, checkpoint)), Some(epoch)) = (&self.stored, epoch)
            && last.next() == Some(from)
            && let Ok(checkpoint) = SignedCheckpoint::from_bytes(checkpoint)
        {
            let found = checkpoint.claim().last_leader.epoch;
            if found != epoch {
                return Err(NotShown::Withdrawn { from, found });
            }
        }
        let (floor, withdrawals) = (self.first_unstored(), self.withdrawals);
        Ok(Cursor { next: from, told: None, floor, withdrawals })
    }

    /// What a reader is shown next, which moves it on. Nothing means that it has seen everything.
    pub(super) fn step(&self, cursor: &mut Cursor) -> Step {
        let mut step = Step::default();
        let missed = self.withdrawals - cursor.withdrawals;
        if missed > 0 {
            // What is stored only grows, so of several the first went furthest back, and not further than to what was unstored then.
            let from = self.withdrawn_from.filter(|_| missed == 1).unwrap_or(cursor.floor);
            if from < cursor.next {
                cursor.next = from;
                step.withdrawn = Some(from);
            }
            cursor.withdrawals = self.withdrawals;
        }
        cursor.floor = self.first_unstored();
        if let Some((last, checkpoint)) = &self.stored
            && Some(*last) > cursor.told
        {
            cursor.told = Some(*last);
            step.stored = Some(checkpoint.clone());
        }
        let stored = self.stored.as_ref().map(|(last, _)| *last);
        let mut bytes = 0;
        while let Some(shown) = self.get(cursor.next)
            && let Some(next) = cursor.next.next()
            && step.messages.len() < STEP_MESSAGES_MAX
        {
            bytes += shown.body.len();
            if bytes > STEP_BYTES && !step.messages.is_empty() {
                break;
            }
            step.messages.push((shown.clone(), Some(cursor.next) <= stored));
            cursor.next = next;
        }
        // Somewhere between the ring and the store it waits until the store has it: then the store is where it goes on.
        let is_behind = self.is_deposed || Some(cursor.next) <= stored;
        if step.messages.is_empty() && is_behind {
            step.behind = Some(cursor.next);
        }
        step
    }

    /// The receipts of these messages, if all of them are here.
    pub(super) fn receipts(&self, start: Sequence, end: Sequence) -> Option<Vec<Receipt>> {
        self.get(end)?;
        self.get(start)?;
        let places = start.get()..=end.get();
        let shown = places.map(|place| Sequence::new(place).ok().and_then(|place| self.get(place)));
        shown.map(|shown| shown.map(|shown| shown.receipt.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use synddb_protocol::hash::TreeHash;
    use synddb_protocol::id::{StreamId, Timestamp};
    use synddb_protocol::log::{
        Checkpoint, Frontier, Leader, MessageHeader, MessageType, StatusLevel, Versions,
    };
    use synddb_protocol::signing::SigningKey;

    use super::*;

    fn at(sequence: u64) -> Sequence {
        Sequence::new(sequence).unwrap()
    }

    fn shown(sequence: u64, epoch: u64, bytes: usize) -> Shown {
        let header = MessageHeader {
            stream: StreamId::from_bytes([0x5d; 32]),
            epoch: Epoch::new(epoch).unwrap(),
            sequence: at(sequence),
            timestamp: Timestamp::ZERO,
            message_type: MessageType::Submission,
        };
        let body = Bytes::from(vec![7; bytes]);
        Shown { receipt: Receipt::sign(header, b"", &SigningKey::from_bytes([7; 32]).unwrap()), body }
    }

    fn mark(sequence: u64) -> (Sequence, Bytes) {
        (at(sequence), Bytes::from(sequence.to_be_bytes().to_vec()))
    }

    /// A ring whose epoch began at 1, with messages from 2 to `last`.
    fn ring(last: u64) -> Ring {
        let mut ring = Ring::default();
        ring.open(Sequence::FIRST, Epoch::FIRST, None);
        ring.store(mark(1));
        (2..=last).for_each(|sequence| ring.push(shown(sequence, 1, 10)));
        ring
    }

    fn places(step: &Step) -> Vec<(u64, bool)> {
        step.messages.iter().map(|(shown, is_stored)| (shown.sequence().get(), *is_stored)).collect()
    }

    #[test]
    fn a_reader_sees_each_place_once_and_what_is_stored() {
        let mut ring = ring(4);
        let mut cursor = ring.begin(Some(at(3)), None).unwrap();
        let step = ring.step(&mut cursor);
        assert_eq!((places(&step), step.stored), (vec![(3, false), (4, false)], Some(mark(1).1)));
        assert!(ring.step(&mut cursor).is_empty());
        ring.push(shown(5, 1, 10));
        ring.store(mark(5));
        let step = ring.step(&mut cursor);
        assert_eq!((places(&step), step.stored), (vec![(5, true)], Some(mark(5).1)));
        assert!(ring.step(&mut cursor).is_empty());
    }

    #[test]
    fn who_is_behind_the_ring_waits_until_the_store_has_it() {
        let mut ring = ring(2);
        let mut cursor = ring.begin(Some(at(2)), None).unwrap();
        (3..=9).for_each(|sequence| ring.push(shown(sequence, 1, RING_BYTES_MAX / 3)));
        let step = ring.step(&mut cursor);
        assert!(step.messages.is_empty() && step.behind.is_none(), "nobody has it yet: {step:?}");
        ring.store(mark(4));
        assert_eq!(ring.step(&mut cursor).behind, Some(at(2)));
        // One large message stays, and is shown by itself.
        let mut cursor = ring.begin(Some(at(9)), None).unwrap();
        assert_eq!(places(&ring.step(&mut cursor)), [(9, false)]);
    }

    #[test]
    fn what_is_never_stored_is_withdrawn_from_those_who_saw_it() {
        let mut ring = ring(6);
        let (mut saw, mut slow) =
            (ring.begin(Some(at(2)), None).unwrap(), ring.begin(Some(at(2)), None).unwrap());
        ring.step(&mut saw);
        ring.store(mark(3));
        ring.depose();
        let step = ring.step(&mut saw);
        assert_eq!((step.withdrawn, step.behind), (Some(at(4)), Some(at(4))));
        let step = ring.step(&mut slow);
        assert_eq!((step.withdrawn, places(&step)), (None, vec![(2, true), (3, true)]));
        assert_eq!(ring.step(&mut slow).behind, Some(at(4)));
        assert_eq!(ring.begin(None, None).unwrap_err(), NotShown::NotLed);
    }

    #[test]
    fn several_withdrawals_are_told_as_one_that_goes_back_far_enough() {
        let mut ring = ring(6);
        let second = Epoch::new(2).unwrap();
        let mut cursor = ring.begin(Some(at(2)), None).unwrap();
        ring.step(&mut cursor);
        ring.open(at(4), second, Some(mark(3)));
        ring.store(mark(4));
        (5..=7).for_each(|sequence| ring.push(shown(sequence, 2, 10)));
        ring.open(at(8), second.next().unwrap(), Some(mark(7)));
        let step = ring.step(&mut cursor);
        // Only 1 was stored when it looked last.
        assert_eq!((step.withdrawn, step.behind), (Some(at(2)), Some(at(2))));
    }

    #[test]
    fn a_place_in_another_history_is_refused() {
        let mut ring = ring(3);
        assert_eq!(ring.begin(Some(at(5)), None).unwrap_err(), NotShown::Past { from: at(5), next: at(4) });
        assert!(ring.begin(Some(at(4)), Some(Epoch::FIRST)).is_ok());
        let found = Epoch::new(2).unwrap();
        ring.open(at(3), found, Some(mark(2)));
        ring.push(shown(4, 2, 10));
        for from in [at(4), at(5)] {
            let refused = ring.begin(Some(from), Some(Epoch::FIRST)).unwrap_err();
            assert_eq!(refused, NotShown::Withdrawn { from, found });
            assert!(ring.begin(Some(from), Some(found)).is_ok());
        }
        assert!(ring.begin(Some(at(3)), Some(Epoch::FIRST)).is_ok(), "the store tells");
    }

    /// The checkpoint of a log of this size whose last message was signed in this epoch.
    fn checkpoint(size: u64, epoch: u64) -> (Sequence, Bytes) {
        let (key, epoch) = (SigningKey::from_bytes([7; 32]).unwrap(), Epoch::new(epoch).unwrap());
        let peaks = vec![TreeHash::from_bytes([0; 32]); size.count_ones() as usize];
        let claim = Checkpoint {
            stream: StreamId::from_bytes([0x5d; 32]),
            epoch,
            size: at(size),
            timestamp: Timestamp::ZERO,
            last_leader: Leader { epoch, key: key.id() },
            client: None,
            inbound: None,
            inbox_consumed: 0,
            status: StatusLevel::Healthy,
            frontier: Frontier::new(size, peaks).unwrap(),
            versions: Versions::SUPPORTED,
        };
        (at(size), Bytes::from(claim.sign(&key).unwrap().to_bytes()))
    }

    #[test]
    fn what_a_leader_between_put_in_its_place_is_told_to_who_reconnects() {
        // The first leader showed 5 and died; the second one's fence took the place, and it died; the third one's fence is 6.
        let mut ring = Ring::default();
        ring.open(at(6), Epoch::new(3).unwrap(), Some(checkpoint(5, 2)));
        let refused = ring.begin(Some(at(6)), Some(Epoch::FIRST)).unwrap_err();
        assert_eq!(refused, NotShown::Withdrawn { from: at(6), found: Epoch::new(2).unwrap() });
        assert!(ring.begin(Some(at(6)), Epoch::new(2).ok()).is_ok(), "it saw what is stored");
    }

    #[test]
    fn recent_receipts_are_all_there_or_none() {
        let ring = ring(6);
        assert_eq!(ring.receipts(at(3), at(5)).unwrap().len(), 3);
        assert!(ring.receipts(at(1), at(5)).is_none() && ring.receipts(at(3), at(7)).is_none());
    }
}
