//! What the first bytes of a file say, read without SQLite and without a lock: a database that somebody keeps locked is one too.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::Unfit;
use super::processes::NONBLOCK;
use crate::file::Damaged;
use crate::file::header::{HEADER_BYTES, Header};

/// What every database file begins with (file format, section 1.3).
const MAGIC: &[u8] = b"SQLite format 3\0";

/// So many of the first bytes are looked at, when they are no database's.
const LOOKED_AT: usize = 512;

/// So many different values have bytes that were drawn by chance, at the least: of 512 they have about 221.
const VALUES_BY_CHANCE: usize = 170;

/// How a database keeps what is not yet in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalMode {
    /// A rollback journal, of whatever kind.
    Rollback,
    /// A write-ahead log.
    Wal,
}

/// What the header of a database says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Page size, reserved bytes, encoding.
    pub header: Header,
    /// How it is written.
    pub journal_mode: JournalMode,
}

/// What a file is by its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// Nothing was written to it yet.
    Empty,
    /// A database that SQLite reads.
    Database(Form),
    /// A database by its first bytes, with a header that no SQLite writes.
    Damaged(Damaged),
    /// Something else, or in a form that cannot be followed.
    Unfit(Unfit),
}

impl Head {
    /// Reads the first bytes. Only for a process that has no connection to the file: closing it drops every lock that the process holds
    /// on it.
    ///
    /// # Errors
    /// When the file cannot be opened or read.
    pub fn read(path: &Path) -> io::Result<Self> {
        // A pipe would keep us waiting.
        let file = File::options().read(true).custom_flags(NONBLOCK).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let length = found.len();
        let mut bytes = Vec::new();
        file.take(LOOKED_AT as u64).read_to_end(&mut bytes)?;
        Ok(Self::of(path, &bytes, length))
    }

    fn of(path: &Path, bytes: &[u8], length: u64) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        let path = path.to_owned();
        if !bytes.starts_with(MAGIC) {
            let is_encrypted = length.is_multiple_of(LOOKED_AT as u64) && is_by_chance(bytes);
            return Self::Unfit(if is_encrypted {
                Unfit::Encrypted { path }
            } else {
                Unfit::NotADatabase { path }
            });
        }
        let header = match Header::read(bytes) {
            Ok(header) => header,
            Err(damaged) => return Self::Damaged(damaged),
        };
        let journal_mode = match [bytes[18], bytes[19]] {
            [1, 1] => JournalMode::Rollback,
            [2, 2] => JournalMode::Wal,
            versions => return Self::Unfit(Unfit::Form { path, versions }),
        };
        // An encryption that leaves the header readable leaves nothing else of the first page.
        if bytes.get(HEADER_BYTES).is_some_and(|kind| !matches!(kind, 2 | 5 | 10 | 13)) {
            return Self::Unfit(Unfit::Encrypted { path });
        }
        Self::Database(Form { header, journal_mode })
    }
}

fn is_by_chance(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in bytes {
        seen[usize::from(*byte)] = true;
    }
    seen.iter().filter(|seen| **seen).count() >= VALUES_BY_CHANCE
}
