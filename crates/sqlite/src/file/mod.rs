//! The bytes of SQLite's files, decoded: pages, records, the WAL and its index.
//!
//! Pure functions over bytes, written from the published file format (sqlite.org/fileformat2.html) and the header of wal.c. Every
//! offset is checked: a damaged or foreign file gives [`Damaged`], never a panic, and no loop is longer than what it reads.

pub mod header;
pub mod page;
pub mod record;
pub mod wal;
pub mod wal_index;

/// Bytes that no SQLite writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the database file or its WAL is damaged; run `PRAGMA integrity_check`. what=`{what}`, page=`{page}`"
)]
pub struct Damaged {
    /// What is wrong.
    pub what: &'static str,
    /// In which page (or frame, for what is wrong with the WAL); 0 where no page can be named.
    pub page: u32,
}

impl Damaged {
    pub(crate) const fn new(what: &'static str, page: u32) -> Self {
        Self { what, page }
    }
}

/// A big-endian number of the bytes at `at`.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A big-endian number of the bytes at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// SQLite's variable-length integer at the start of `bytes`, and how many bytes it takes.
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(8).enumerate() {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    // The ninth byte gives all its eight bits.
    Some((value << 8 | u64::from(*bytes.get(8)?), 9))
}
