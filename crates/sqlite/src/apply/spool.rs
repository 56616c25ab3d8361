//! The rows of a huge commit, on disk until its last part came.

use std::fs::File;
use std::io::{self, BufRead, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Rows that are still coming. The file has no name, so nothing of it stays behind, however this process ends.
pub(super) struct Spool(File);

impl Spool {
    pub(super) fn begin(folder: &Path) -> io::Result<Self> {
        tempfile::tempfile_in(folder).map(Self)
    }

    pub(super) fn append(&mut self, rows: &[u8]) -> io::Result<()> {
        self.0.write_all(rows)
    }

    /// All of them, from the first on.
    pub(super) fn read(self) -> SpooledRows {
        SpooledRows { file: Arc::new(self.0), offset: 0, buffer: Vec::new(), used: 0 }
    }
}

/// Spooled rows, read from where this reader stands. A clone reads on from the same place by itself, because the file's own
/// offset is not used.
#[derive(Debug, Clone)]
pub(super) struct SpooledRows {
    file: Arc<File>,
    /// Where in the file the buffer ends.
    offset: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl BufRead for SpooledRows {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len() {
            self.buffer.resize(READ_BYTES, 0);
            // Should the read fail, nothing is in the buffer.
            let read = self.file.read_at(&mut self.buffer, self.offset);
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            self.used = 0;
            self.offset += read? as u64;
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, amount: usize) {
        self.used = (self.used + amount).min(self.buffer.len());
    }
}

impl Read for SpooledRows {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let here = self.fill_buf()?;
        let count = here.len().min(into.len());
        into[..count].copy_from_slice(&here[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_reads_on_from_where_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::begin(folder.path()).unwrap();
        let rows: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        for piece in rows.chunks(70_001) {
            spool.append(piece).unwrap();
        }
        let mut reader = spool.read();
        let mut start = vec![0; 100_000];
        reader.read_exact(&mut start).unwrap();
        for mut reader in [reader.clone(), reader] {
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert_eq!([&start[..], &rest].concat(), rows);
        }
    }
}
