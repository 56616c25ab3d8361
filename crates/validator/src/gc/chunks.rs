//! The chunks of a stream, and which of them somebody needs. Pure: chunks are added, named and asked for.
//!
//! Only what was there when the store was listed can be removed, so memory is bounded by that and not by what the log names.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::submission::Chunk;

/// Chunks that are remembered, at most: about 150 MiB, and 16 TiB of databases.
pub(super) const CHUNKS_MAX: usize = 1 << 21;

/// There are more chunks than can be remembered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// Somebody names a chunk that was removed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// How many there are, and how large they are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// In bytes.
    pub bytes: u64,
}

impl Tally {
    pub(super) const fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What lies in the store.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    known: HashMap<ChunkHash, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    bytes: u32,
    is_old: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody was found that names it.
    Unnamed,
    /// A kept manifest or a message names it.
    Named,
    /// It was removed, or is about to be.
    Removed,
}

impl Chunks {
    /// A chunk that was listed.
    pub(super) fn add(&mut self, hash: ChunkHash, bytes: u64, is_old: bool) -> Result<(), TooMany> {
        let is_full = self.known.len() >= CHUNKS_MAX;
        match self.known.entry(hash) {
            // Told twice: a listing may do so where the store changes.
            Entry::Occupied(mut known) => known.get_mut().is_old &= is_old,
            Entry::Vacant(_) if is_full => return Err(TooMany),
            Entry::Vacant(room) => {
                // No chunk is so large; what is, is none, and is not what anybody names.
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                room.insert(Known { bytes, is_old, state: State::Unnamed });
            }
        }
        Ok(())
    }

    /// Whether a chunk is there with the size that its name in a manifest states.
    pub(super) fn has(&self, chunk: &Chunk) -> bool {
        self.known.get(&chunk.hash).is_some_and(|known| {
            u64::from(known.bytes) == chunk.stored_bytes && known.state != State::Removed
        })
    }

    /// Somebody needs a chunk.
    ///
    /// # Errors
    /// [`Gone`] when it was removed.
    pub(super) fn name(&mut self, hash: &ChunkHash) -> Result<(), Gone> {
        match self.known.get_mut(hash) {
            Some(Known { state: State::Removed, .. }) => Err(Gone),
            Some(known) => {
                known.state = State::Named;
                Ok(())
            }
            // It came after the listing, or is missing; either way nobody removes it here.
            None => Ok(()),
        }
    }

    /// Those that are old and that nobody names.
    pub(super) fn unneeded(&self) -> Vec<ChunkHash> {
        let unneeded = self.known.iter().filter(|(_, known)| known.is_unneeded());
        unneeded.map(|(hash, _)| *hash).collect()
    }

    /// Whether nobody names one, and it is old.
    pub(super) fn is_unneeded(&self, hash: &ChunkHash) -> bool {
        self.known.get(hash).is_some_and(Known::is_unneeded)
    }

    /// One is about to be removed: whether or not it succeeds, nobody may count on it any more.
    pub(super) fn give_up(&mut self, hash: &ChunkHash) {
        if let Some(known) = self.known.get_mut(hash) {
            known.state = State::Removed;
        }
    }

    /// The size of one.
    pub(super) fn bytes(&self, hash: &ChunkHash) -> u64 {
        self.known.get(hash).map_or(0, |known| known.bytes.into())
    }

    /// Those that somebody names; and those that nobody does and that stay, with those that are unneeded told apart.
    pub(super) fn tallies(&self) -> Tallies {
        let mut tallies = Tallies::default();
        for known in self.known.values() {
            let tally = match (known.state, known.is_old) {
                (State::Named, _) => &mut tallies.named,
                (State::Unnamed, false) => &mut tallies.young,
                (State::Unnamed, true) => &mut tallies.unneeded,
                (State::Removed, _) => continue,
            };
            tally.add(known.bytes.into());
        }
        tallies
    }
}

/// Chunks that were not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tallies {
    pub(super) named: Tally,
    pub(super) young: Tally,
    pub(super) unneeded: Tally,
}

impl Known {
    fn is_unneeded(&self) -> bool {
        self.is_old && self.state == State::Unnamed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn hash(byte: u8) -> ChunkHash {
        ChunkHash::from_bytes([byte; 32])
    }

    #[test]
    fn only_what_is_old_and_unnamed_goes() {
        let mut chunks = Chunks::default();
        for (byte, is_old) in [(1, true), (2, false), (3, true), (4, false)] {
            chunks.add(hash(byte), 10, is_old).unwrap();
        }
        chunks.name(&hash(3)).unwrap();
        chunks.name(&hash(4)).unwrap();
        chunks.name(&hash(9)).unwrap();
        assert_eq!(chunks.unneeded(), [hash(1)]);
        chunks.give_up(&hash(1));
        assert_eq!(chunks.unneeded(), []);
        assert_eq!(chunks.name(&hash(1)), Err(Gone));
        let Tallies { named, young, unneeded } = chunks.tallies();
        assert_eq!((named.count, young.count, unneeded.count), (2, 1, 0));
    }

    #[test]
    fn a_chunk_of_another_size_is_not_the_one_that_is_named() {
        let mut chunks = Chunks::default();
        chunks.add(hash(1), 10, true).unwrap();
        let named = |stored_bytes| Chunk { hash: hash(1), pages: 1, stored_bytes };
        assert!(chunks.has(&named(10)) && !chunks.has(&named(11)));
        // Told once as young, it is young.
        chunks.add(hash(1), 10, false).unwrap();
        assert_eq!(chunks.unneeded(), []);
    }
}
