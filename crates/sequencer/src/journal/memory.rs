//! A journal in memory, for the simulation of leaders: it outlives a crash of its process as a file would, and can be made to forget.

use synddb_protocol::id::StreamId;

use super::{File, Journal, JournalError};

/// What a test knows of a journal, and does to it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// It has no file.
    pub(super) is_here: bool,
    /// A fault: what is committed is forgotten by a crash.
    pub(super) forgets: bool,
    /// How often it began anew.
    pub(super) begun_anew: u32,
}

impl Memory {
    /// Whether the transaction before this one was never committed, and takes this one in.
    pub(super) fn keeps_open(&self, file: &File) -> bool {
        self.forgets && file.is_in_transaction()
    }
}

impl Journal {
    pub(crate) fn in_memory(stream: StreamId) -> Result<Self, JournalError> {
        let mut journal = Self::read(File::in_memory(stream)?, stream)?;
        journal.memory.is_here = true;
        Ok(journal)
    }

    /// The journal as a crash leaves it: without the transaction that was open, read anew.
    pub(crate) fn crashed(self) -> Result<Self, JournalError> {
        if self.file.is_in_transaction() {
            self.file.run("ROLLBACK")?;
        }
        let stream = self.file.sqlite().query_row("SELECT stream FROM lead", [], |row| row.get(0));
        let stream = stream.map_err(|error| self.file.refused(error))?;
        let mut journal = Self::read(self.file, StreamId::from_bytes(stream))?;
        journal.memory = self.memory;
        Ok(journal)
    }

    /// Has it forget at a crash what it took.
    pub(crate) fn forget(&mut self) {
        self.memory.forgets = true;
    }

    /// How many pages it takes.
    pub(crate) fn pages(&self) -> u32 {
        u32::try_from(self.file.integer("PRAGMA page_count").expect("it is read")).expect("it is small")
    }

    /// How often it began anew.
    pub(crate) fn begun_anew(&self) -> u32 {
        self.memory.begun_anew
    }
}
