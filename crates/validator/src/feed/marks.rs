//! Where reading of the log may begin again: checkpoints that the replica stood at, as bytes, sparse. Pure.
//!
//! However long the log is, there are at most [`MARKS_MAX`]; the more messages, the further they are apart. So whoever begins somewhere reads about
//! a thousandth of the log in vain, and never all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use synddb_protocol::id::Sequence;

/// Most marks.
const MARKS_MAX: usize = 1024;
/// How many messages are between two marks at least.
const EVERY_MIN: u64 = 256;

/// All marks. The checkpoint of the beginning of the log has no bytes.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    every: u64,
    kept: BTreeMap<u64, Arc<[u8]>>,
}

impl Marks {
    /// None.
    pub(crate) const fn none() -> Self {
        Self { every: EVERY_MIN, kept: BTreeMap::new() }
    }

    /// With the one at the beginning of the log, which everybody knows.
    pub(crate) fn of_log() -> Self {
        let mut marks = Self::none();
        marks.kept.insert(0, Arc::from([]));
        marks
    }

    /// Takes one in that is kept already.
    pub(crate) fn restore(&mut self, size: u64, checkpoint: Vec<u8>) {
        self.kept.insert(size, checkpoint.into());
    }

    /// Whether a mark is due at this size of the log.
    pub(crate) fn is_due(&self, size: Sequence) -> bool {
        self.kept.last_key_value().is_none_or(|(last, _)| size.get() / self.every != last / self.every)
    }

    /// Takes a mark in. Returns the sizes of those that went for it.
    pub(crate) fn add(&mut self, size: Sequence, checkpoint: &[u8]) -> Vec<u64> {
        self.kept.insert(size.get(), checkpoint.into());
        let mut gone = Vec::new();
        while self.kept.len() > MARKS_MAX {
            self.every = self.every.saturating_mul(2);
            let mut last = None;
            let every = self.every;
            self.kept.retain(|size, _| {
                // The first one is where everything that can be shown begins.
                let stays = last.is_none_or(|last| size / every != last / every);
                if stays {
                    last = Some(*size);
                } else {
                    gone.push(*size);
                }
                stays
            });
        }
        gone
    }

    /// Forgets those before a message. Returns their sizes.
    pub(crate) fn forget_before(&mut self, floor: Sequence) -> Vec<u64> {
        let stay = self.kept.split_off(&floor.get());
        std::mem::replace(&mut self.kept, stay).into_keys().collect()
    }

    /// The last mark at this size or before.
    pub(crate) fn before(&self, size: u64) -> Option<(u64, &Arc<[u8]>)> {
        self.kept.range(..=size).next_back().map(|(size, checkpoint)| (*size, checkpoint))
    }

    /// The mark at this size.
    pub(crate) fn at(&self, size: Sequence) -> Option<&Arc<[u8]>> {
        self.kept.get(&size.get())
    }

    /// Whether there is one at this size.
    pub(crate) fn has(&self, size: u64) -> bool {
        self.kept.contains_key(&size)
    }

    /// The size that the first one is at.
    pub(crate) fn first(&self) -> Option<u64> {
        self.kept.first_key_value().map(|(size, _)| *size)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.kept.iter().map(|(size, checkpoint)| (*size, &**checkpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_long_the_log_is_there_are_few_marks_and_all_of_it_can_be_read() {
        let mut marks = Marks::of_log();
        let mut kept = std::collections::BTreeSet::from([0]);
        for number in 1..2_000_000_u64 {
            let size = Sequence::new(number * 3).unwrap();
            if marks.is_due(size) {
                kept.insert(size.get());
                for gone in marks.add(size, b"checkpoint") {
                    assert!(kept.remove(&gone));
                }
            }
        }
        assert!(kept.len() <= MARKS_MAX && kept.len() > MARKS_MAX / 4, "{}", kept.len());
        assert_eq!(
            marks.all().map(|(size, _)| size).collect::<Vec<_>>(),
            kept.into_iter().collect::<Vec<_>>()
        );
        assert_eq!(marks.first(), Some(0));
        let (size, _) = marks.before(3_000_000).unwrap();
        assert!(3_000_000 - size <= 2 * 6_000_000 / (MARKS_MAX as u64 / 2), "{size}");
        let gone = marks.forget_before(Sequence::new(size).unwrap());
        assert!(gone.contains(&0) && marks.first() == Some(size));
    }
}
