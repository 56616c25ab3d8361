//! What the shim wrote down, record by record.

use std::path::Path;

/// Where a record stands: its first byte in the trace. What was recorded earlier is smaller.
pub(super) type Place = u64;

/// Bytes of a record's head.
const HEAD_BYTES: usize = 32;

/// One thing that was done to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'t> {
    /// A file or folder was made. A file may have no name.
    Create { inode: u64, path: &'t str, is_folder: bool },
    /// A file got another name.
    Link { inode: u64, path: &'t str },
    /// A name was removed.
    Unlink { path: &'t str },
    /// A name was replaced by another one, which may have been there.
    Rename { from: &'t str, to: &'t str },
    /// Bytes were written.
    Write { inode: u64, offset: u64, bytes: &'t [u8] },
    /// A file was made longer or shorter.
    Resize { inode: u64, bytes: u64 },
    /// A file or folder was synced; what was recorded before the sync began is durable.
    Sync { inode: u64, began: Place },
}

impl<'t> Record<'t> {
    /// The name that something that was there already got.
    pub(super) fn named(self) -> Option<&'t str> {
        match self {
            Self::Link { path, .. } => Some(path),
            Self::Rename { to, .. } => Some(to),
            Self::Create { .. }
            | Self::Unlink { .. }
            | Self::Write { .. }
            | Self::Resize { .. }
            | Self::Sync { .. } => None,
        }
    }
}

/// All records of one machine, in the order in which things happened.
pub(super) struct Trace(Vec<u8>);

impl Trace {
    pub(super) fn read(file: &Path) -> Self {
        Self(std::fs::read(file).unwrap_or_default())
    }

    /// Where the next record would stand.
    pub(super) fn end(&self) -> Place {
        self.0.len() as u64
    }

    /// The records from a place on.
    pub(super) fn records(&self, from: Place) -> impl Iterator<Item = (Place, Record<'_>)> {
        let mut at = usize::try_from(from).unwrap();
        std::iter::from_fn(move || {
            if at == self.0.len() {
                return None;
            }
            let place = at as u64;
            let (record, bytes) = record(&self.0[at..]);
            at += bytes;
            Some((place, record))
        })
    }
}

/// The first record, and its size.
fn record(trace: &[u8]) -> (Record<'_>, usize) {
    let word = |at: usize| u32::from_le_bytes(trace[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(trace[at..at + 8].try_into().unwrap());
    let (kind, first_bytes, second_bytes) = (word(0), word(4) as usize, usize::try_from(long(8)).unwrap());
    let (inode, number) = (long(16), long(24));
    let (first, rest) = trace[HEAD_BYTES..].split_at(first_bytes);
    let bytes = &rest[..second_bytes];
    let path = str::from_utf8(first).unwrap();
    let record = match kind {
        1 => Record::Create { inode, path, is_folder: number == 1 },
        2 => Record::Link { inode, path },
        3 => Record::Unlink { path },
        4 => Record::Rename { from: path, to: str::from_utf8(bytes).unwrap() },
        5 => Record::Write { inode, offset: number, bytes },
        6 => Record::Resize { inode, bytes: number },
        7 => Record::Sync { inode, began: number },
        _ => panic!("a record of unknown kind: {kind}"),
    };
    (record, HEAD_BYTES + first_bytes + second_bytes)
}
