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
    let [mut one, mut two] = before;
    for pair in bytes.chunks_exact(8) {
        let (first, second) = ([pair[0], pair[1], pair[2], pair[3]], [pair[4], pair[5], pair[6], pair[7]]);
        one = one.wrapping_add(word(first)).wrapping_add(two);
        two = two.wrapping_add(word(second)).wrapping_add(one);
    }
    [one, two]
}
