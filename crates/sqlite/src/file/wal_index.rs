//! The header of the wal-index, the `-shm` file (file format, section 4.3, and wal.c).
//!
//! It alone says what is committed: frames past `mxFrame` may be spilled, rolled back, and overwritten. Two copies are written, the
//! second first, so a reader that finds them equal and the checksum right has one writer's whole word.

use super::wal::{Checksum, Salts};

/// Bytes of one copy of the header.
pub const COPY_BYTES: usize = 48;
/// Bytes of both copies.
pub const HEAD_BYTES: usize = 2 * COPY_BYTES;

/// What the wal-index says is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalIndex {
    /// The last committed frame; 0 when the generation has none.
    pub last_frame: u32,
    /// Pages of the database after it. 0 in an empty WAL.
    pub pages: u32,
    /// Checksum of the last committed frame.
    pub checksum: Checksum,
    /// The generation.
    pub salts: Salts,
    /// How many transactions were committed since the wal-index was made, over all generations; it begins again at 0 after a recovery.
    pub changes: u32,
}

impl WalIndex {
    /// Reads the header; `None` while a writer is at work on it, or died there.
    pub fn read(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (one, two) = bytes.split_at(COPY_BYTES);
        if one == two { Self::read_copy(one) } else { None }
    }

    /// Reads one copy, as `sqlite3_snapshot` also holds it.
    pub fn read_copy(copy: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(*copy.get(at..)?.first_chunk()?));
        let initialised = *copy.get(12)? != 0;
        if !initialised || sum(copy)? != [word(40)?, word(44)?] {
            return None;
        }
        // The salts stand here as they stand in the file, big-endian.
        let salts = [word(32)?.to_be(), word(36)?.to_be()];
        let (last_frame, pages, checksum) = (word(16)?, word(20)?, [word(24)?, word(28)?]);
        Some(Self { last_frame, pages, checksum, salts, changes: word(8)? })
    }

    /// Makes one copy say that another frame of its generation is the last.
    pub(crate) fn rewrite(copy: &mut [u8; COPY_BYTES], last_frame: u32, pages: u32, checksum: Checksum) {
        let words = [last_frame, pages, checksum[0], checksum[1]];
        for (place, word) in copy[16..32].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let sum = sum(copy.as_slice()).unwrap_or_default();
        for (place, word) in copy[40..].chunks_exact_mut(4).zip(sum) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
    }
}

/// The checksum over a copy, which stands at its end.
fn sum(copy: &[u8]) -> Option<Checksum> {
    let word = |at: usize| Some(u32::from_ne_bytes(*copy.get(at..)?.first_chunk()?));
    let [mut one, mut two] = [0_u32, 0_u32];
    for at in (0..COPY_BYTES - 8).step_by(8) {
        one = one.wrapping_add(word(at)?).wrapping_add(two);
        two = two.wrapping_add(word(at + 4)?).wrapping_add(one);
    }
    Some([one, two])
}
