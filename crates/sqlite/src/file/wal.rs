//! The write-ahead log (file format, section 4).
//!
//! ```text
//! file   = header { frame }
//! header = magic version page-size checkpoint-sequence salts:2 checksum:2     32 bytes, 4 each, big-endian
//! frame  = page size-after-commit-or-0 salts:2 checksum:2 content             24 bytes and a page
//! ```
//!
//! The checksum of a frame runs on from the frame before it, over the first 8 bytes of its header and its content.

use super::{Damaged, u32_at};

/// Bytes before the first frame.
pub const HEADER_BYTES: usize = 32;
/// Bytes of a frame before its page.
pub const FRAME_HEADER_BYTES: usize = 24;

/// The two numbers that tell one generation of a WAL from another.
pub type Salts = [u32; 2];
/// Two numbers that run over everything before.
pub type Checksum = [u32; 2];

/// The header of a WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalHeader {
    /// Which generation the file holds.
    pub salts: Salts,
    /// Where the frames' checksums run on from.
    pub checksum: Checksum,
    /// Whether checksums read big-endian words.
    pub big_endian: bool,
    /// Size of a page.
    pub page_size: u32,
}

impl WalHeader {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Damaged`] when it is no WAL header, or its checksum is wrong.
    pub fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Damaged> {
        let word = |at| u32_at(bytes, at).unwrap_or(0);
        let big_endian = match word(0) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return Err(Damaged::new("the WAL does not start as a WAL does", 0)),
        };
        let checksum = [word(24), word(28)];
        if sum(big_endian, [0, 0], &bytes[..24]) != checksum {
            return Err(Damaged::new("the checksum of the WAL's header", 0));
        }
        Ok(Self { salts: [word(16), word(20)], checksum, big_endian, page_size: word(8) })
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The page that the frame holds.
    pub page: u32,
    /// On the last frame of a commit, how many pages the database then has; 0 on every other.
    pub size_after: u32,
    /// The generation it belongs to.
    pub salts: Salts,
    /// The checksum up to here.
    pub checksum: Checksum,
}

impl FrameHeader {
    /// Reads the header of a frame.
    pub fn read(bytes: &[u8; FRAME_HEADER_BYTES]) -> Self {
        let word = |at| u32_at(bytes, at).unwrap_or(0);
        Self {
            page: word(0),
            size_after: word(4),
            salts: [word(8), word(12)],
            checksum: [word(16), word(20)],
        }
    }

    /// Whether SQLite wrote the frame to sum it up later, and has not: salts and checksum are zeros.
    ///
    /// Where a spilled page is written again in its transaction, SQLite sums up at COMMIT, from the first such frame on. Up to 3.50.1 a
    /// `ROLLBACK TO` leaves that place behind the frames that come next, and those stay as they are. They are committed, by the
    /// wal-index; but whoever recovers the file after a power cut stops at the first one (ADR 21).
    pub fn is_unsummed(&self) -> bool {
        self.salts == [0, 0] && self.checksum == [0, 0]
    }

    /// The checksum that the frame must have, after one that had `before`.
    pub fn sum(frame: &[u8], big_endian: bool, before: Checksum) -> Checksum {
        let (head, content) = frame.split_at_checked(FRAME_HEADER_BYTES).unwrap_or((frame, &[]));
        sum(big_endian, sum(big_endian, before, head.get(..8).unwrap_or_default()), content)
    }
}

/// Runs a checksum on over bytes, eight at a time.
fn sum(big_endian: bool, before: Checksum, bytes: &[u8]) -> Checksum {
    // Decided once: this runs over every byte that an application writes.
    if big_endian {
        sum_of(before, bytes, u32::from_be_bytes)
    } else {
        sum_of(before, bytes, u32::from_le_bytes)
    }
}

fn sum_of(before: Checksum, bytes: &[u8], word: impl Fn([u8; 4]) -> u32) -> Checksum {
    let step = |[one, two]: Checksum, [a, b, c, d, e, f, g, h]: &[u8; PAIR_BYTES]| {
        let one = one.wrapping_add(word([*a, *b, *c, *d])).wrapping_add(two);
        [one, two.wrapping_add(word([*e, *f, *g, *h])).wrapping_add(one)]
    };
    let (pairs, _) = bytes.as_chunks::<PAIR_BYTES>();
    let part = pairs.len() / PARTS;
    let (first, rest) = pairs.split_at(part);
    let (second, rest) = rest.split_at(part);
    let (third, rest) = rest.split_at(part);
    let (fourth, rest) = rest.split_at(part);
    // Each step waits for the one before it, so four sums that know nothing of each other take as long as one. A sum is what its steps make of
    // what was before them, plus the sum from zero on.
    let mut sums = [before, [0, 0], [0, 0], [0, 0]];
    for at in 0..part {
        sums[0] = step(sums[0], &first[at]);
        sums[1] = step(sums[1], &second[at]);
        sums[2] = step(sums[2], &third[at]);
        sums[3] = step(sums[3], &fourth[at]);
    }
    let over = Steps::new(part);
    let [mut sum, others @ ..] = sums;
    for other in others {
        sum = over.join(sum, other);
    }
    rest.iter().fold(sum, step)
}

/// Parts that are summed up side by side.
const PARTS: usize = 4;
/// Bytes that the checksum takes at once: two words.
const PAIR_BYTES: usize = 8;

/// What so many steps of the checksum make of what was before them, whatever they are over: it is linear, modulo 2^32. One step is the matrix
/// `1 1 | 1 2`.
#[derive(Clone, Copy)]
struct Steps([[u32; 2]; 2]);

impl Steps {
    fn new(mut count: usize) -> Self {
        let (mut all, mut power) = (Self([[1, 0], [0, 1]]), Self([[1, 1], [1, 2]]));
        while count > 0 {
            if count % 2 == 1 {
                all = all.then(power);
            }
            power = power.then(power);
            count /= 2;
        }
        all
    }

    fn then(self, next: Self) -> Self {
        let [[a, b], [c, d]] = self.0;
        let column = |one, two| next.applied_to([one, two]);
        let ([a, c], [b, d]) = (column(a, c), column(b, d));
        Self([[a, b], [c, d]])
    }

    fn applied_to(self, [one, two]: Checksum) -> Checksum {
        self.0.map(|[a, b]| a.wrapping_mul(one).wrapping_add(b.wrapping_mul(two)))
    }

    /// The checksum over all of it, where so many steps from zero on gave `sum`.
    fn join(self, before: Checksum, sum: Checksum) -> Checksum {
        let [one, two] = self.applied_to(before);
        [one.wrapping_add(sum[0]), two.wrapping_add(sum[1])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Word by word, as the file format says it.
    fn slowly(big_endian: bool, [mut one, mut two]: Checksum, bytes: &[u8]) -> Checksum {
        let word = |bytes: &[u8]| {
            let bytes = bytes.try_into().unwrap();
            if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        for pair in bytes.chunks_exact(PAIR_BYTES) {
            one = one.wrapping_add(word(&pair[..4])).wrapping_add(two);
            two = two.wrapping_add(word(&pair[4..])).wrapping_add(one);
        }
        [one, two]
    }

    #[test]
    fn parts_that_are_summed_up_side_by_side_give_the_sum_of_all() {
        let mut state = 1_u32;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(65_536 + 24)
        .collect();
        for length in [0, 8, 16, 24, 32, 40, 56, 64, 72, 512, 1024, 4096, 4104, 65_536, 65_560] {
            for (big_endian, before) in [(false, [0, 0]), (true, [7, u32::MAX]), (false, [u32::MAX, 1])] {
                let bytes = &bytes[bytes.len() - length..];
                let expected = slowly(big_endian, before, bytes);
                assert_eq!(sum(big_endian, before, bytes), expected, "{length} bytes from {before:?}");
            }
        }
    }
}
