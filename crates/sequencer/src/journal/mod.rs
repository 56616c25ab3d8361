//! The journal: what was acknowledged and is not stored yet, durably, and an index of what was.
//!
//! A file for each stream, owned by one process. What must stay true:
//!
//! - A transaction that was committed survives a power cut; 2xx is answered after it (I5).
//! - The exact bytes of a batch are here before its first put, and every put sends these bytes.
//! - A body is deleted only after its batch was stored. The index keeps the newest [`INDEXED_MAX`] stored messages; what is older
//!   is [`Found::Elsewhere`].
//!
//! Blocking, and for one thread. Does not know the order of messages, the store, or who asks.

mod error;
mod file;
mod index;
#[cfg(test)]
mod memory;

pub use error::JournalError;
pub(crate) use file::{FILE, make_folder, make_private};
pub(crate) use index::Found;

use std::path::{Path, PathBuf};

use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_protocol::log::{Message, Receipt};
use synddb_sqlite::rusqlite::{OptionalExtension as _, params};

use crate::ordering::{Held, Signed};
use file::File;

/// Stored messages whose places the index keeps.
const INDEXED_MAX: u64 = 1 << 16;

/// What a message takes on disk beside its body at most, in bytes, about: receipt, index, and what SQLite adds.
const MESSAGE_BYTES: u64 = 1 << 9;

/// How far the log is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The last message.
    pub(crate) last: Sequence,
    /// The checkpoint after it, signed.
    pub(crate) checkpoint: Vec<u8>,
}

/// A batch that was cut: what is sent at every put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CutBatch {
    pub(crate) first: Sequence,
    pub(crate) last: Sequence,
    pub(crate) bytes: Vec<u8>,
}

/// What is accepted and not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unstored {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Unstored {
    /// Whether a further body of this size would be within `max`.
    pub(crate) const fn has_room(self, body_bytes: usize, max: Self) -> bool {
        self.messages < max.messages && self.bytes + body_bytes as u64 + MESSAGE_BYTES <= max.bytes
    }

    /// What is left of it when this goes.
    const fn without(self, gone: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(gone.messages),
            bytes: self.bytes.saturating_sub(gone.bytes),
        }
    }
}

/// The journal of one stream.
pub(crate) struct Journal {
    file: File,
    epoch: Option<Epoch>,
    stored: Option<Stored>,
    /// Every message from this one on is indexed.
    indexed_from: Sequence,
    /// As the last committed transaction left it.
    durable: Unstored,
    /// As the open transaction leaves it.
    unstored: Unstored,
    #[cfg(test)]
    memory: memory::Memory,
}

impl Journal {
    /// Opens the journal of `stream` in its folder, and makes it when there is none.
    pub(crate) fn open(folder: &Path, stream: StreamId) -> Result<Self, JournalError> {
        Self::read(File::open(folder, stream)?, stream)
    }

    fn read(file: File, stream: StreamId) -> Result<Self, JournalError> {
        let sql = "SELECT stream, epoch, stored, checkpoint, indexed_from FROM lead WHERE only = 1";
        let found = file.sqlite().query_row(sql, [], |row| {
            let (epoch, stored): (Option<i64>, Option<i64>) = (row.get(1)?, row.get(2)?);
            Ok((row.get::<_, [u8; 32]>(0)?, epoch, stored, row.get::<_, Option<Vec<u8>>>(3)?, row.get(4)?))
        });
        let (owner, epoch, last, checkpoint, from) = found.map_err(|error| file.refused(error))?;
        if StreamId::from_bytes(owner) != stream {
            return Err(JournalError::Foreign { file: file.path().to_owned() });
        }
        let last = last.map(|last| number(last).ok_or_else(|| file.damaged("what is stored"))).transpose()?;
        let stored = last.zip(checkpoint).map(|(last, checkpoint)| Stored { last, checkpoint });
        let epoch = epoch.map(|epoch| number(epoch).ok_or_else(|| file.damaged("its epoch"))).transpose()?;
        let indexed_from = number(from).ok_or_else(|| file.damaged("where the index begins"))?;
        let mut journal = Self {
            file,
            epoch,
            stored,
            indexed_from,
            durable: Unstored::default(),
            unstored: Unstored::default(),
            #[cfg(test)]
            memory: memory::Memory::default(),
        };
        journal.unstored = journal.weigh_through(i64::MAX)?;
        journal.durable = journal.unstored;
        Ok(journal)
    }

    /// The epoch under which it was written last; `None` when nothing ever was.
    pub(crate) const fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// How far the log is stored, as far as was seen.
    pub(crate) const fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref()
    }

    /// What is accepted and not stored, with the open transaction.
    pub(crate) const fn unstored(&self) -> Unstored {
        self.unstored
    }

    /// Begins a transaction.
    pub(crate) fn begin(&self) -> Result<(), JournalError> {
        #[cfg(test)]
        if self.memory.keeps_open(&self.file) {
            return Ok(());
        }
        self.file.execute("BEGIN IMMEDIATE", [])
    }

    /// Returns when the transaction would survive a power cut. After [`JournalError::Full`] it is given up; after every other
    /// error nobody knows, and the journal must be opened again.
    pub(crate) fn commit(&mut self) -> Result<(), JournalError> {
        #[cfg(test)]
        if self.memory.forgets {
            self.durable = self.unstored;
            return Ok(());
        }
        match self.file.execute("COMMIT", []) {
            Ok(()) => {
                self.durable = self.unstored;
                Ok(())
            }
            Err(JournalError::Full) => self.give_up().and(Err(JournalError::Full)),
            Err(error) => Err(error),
        }
    }

    /// Gives the transaction up. One that SQLite gave up by itself is gone already.
    pub(crate) fn give_up(&mut self) -> Result<(), JournalError> {
        self.unstored = self.durable;
        if self.file.is_in_transaction() { self.file.run("ROLLBACK") } else { Ok(()) }
    }

    /// Takes a signed message, inside a transaction.
    pub(crate) fn insert(&mut self, signed: &Signed) -> Result<(), JournalError> {
        let Message { receipt, body } = &signed.message;
        index::insert(&self.file, receipt, signed.held.as_ref())?;
        let sequence = stored(receipt.header().sequence);
        self.file.execute("INSERT INTO bodies VALUES (?, ?)", params![sequence, body])?;
        self.unstored.messages += 1;
        self.unstored.bytes += body.len() as u64 + MESSAGE_BYTES;
        Ok(())
    }

    /// Says under which epoch is written from here on, inside a transaction.
    pub(crate) fn write_epoch(&mut self, epoch: Epoch) -> Result<(), JournalError> {
        self.file.execute("UPDATE lead SET epoch = ?", params![stored(epoch)])?;
        self.epoch = Some(epoch);
        Ok(())
    }

    /// Looks up what a client sent before, in this transaction too.
    pub(crate) fn find(&self, wanted: &Held) -> Result<Found, JournalError> {
        index::find(&self.file, wanted, self.indexed_from)
    }

    /// The receipt of a message, if it is indexed.
    pub(crate) fn receipt(&self, sequence: Sequence) -> Result<Option<Receipt>, JournalError> {
        let sql = "SELECT receipt FROM messages WHERE sequence = ?";
        let found = self.file.sqlite().query_row(sql, params![stored(sequence)], |row| row.get(0)).optional();
        let bytes: Option<Vec<u8>> = found.map_err(|error| self.file.refused(error))?;
        bytes.map(|bytes| self.read_receipt(&bytes)).transpose()
    }

    /// The last message that is not stored.
    pub(crate) fn last_unstored(&self) -> Result<Option<Sequence>, JournalError> {
        let last = self.file.integer("SELECT coalesce(max(sequence), 0) FROM bodies")?;
        Ok(number(last))
    }

    /// Whether something of a client is accepted and not stored.
    pub(crate) fn has_promised(&self) -> Result<bool, JournalError> {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM messages JOIN bodies USING (sequence) WHERE kind IS NOT NULL)";
        Ok(self.file.integer(sql)? != 0)
    }

    /// The messages from `first` to `last`, which are not stored.
    pub(crate) fn messages(&self, first: Sequence, last: Sequence) -> Result<Vec<Message>, JournalError> {
        let sql = "SELECT receipt, body FROM messages JOIN bodies USING (sequence)
                   WHERE sequence BETWEEN ? AND ? ORDER BY sequence";
        let read = || {
            let mut statement = self.file.sqlite().prepare_cached(sql)?;
            let values = params![stored(first), stored(last)];
            statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<Vec<_>, _>>()
        };
        let rows: Vec<(Vec<u8>, Vec<u8>)> = read().map_err(|error| self.file.refused(error))?;
        rows.into_iter()
            .map(|(receipt, body)| Ok(Message { receipt: self.read_receipt(&receipt)?, body }))
            .collect()
    }

    /// The messages from `first` on, which are not stored, for as long as there is room for the next one.
    pub(crate) fn messages_from(
        &self,
        first: Sequence,
        mut has_room: impl FnMut(&Message) -> bool,
    ) -> Result<Vec<Message>, JournalError> {
        let sql = "SELECT receipt, body FROM messages JOIN bodies USING (sequence)
                   WHERE sequence >= ? ORDER BY sequence";
        let refused = |error| self.file.refused(error);
        let mut statement = self.file.sqlite().prepare_cached(sql).map_err(refused)?;
        let mut rows = statement.query(params![stored(first)]).map_err(refused)?;
        let mut messages = Vec::new();
        while let Some(row) = rows.next().map_err(refused)? {
            let receipt: Vec<u8> = row.get(0).map_err(refused)?;
            let message =
                Message { receipt: self.read_receipt(&receipt)?, body: row.get(1).map_err(refused)? };
            if !has_room(&message) {
                break;
            }
            messages.push(message);
        }
        Ok(messages)
    }

    /// Keeps the exact bytes of the next batch, durably.
    pub(crate) fn write_cut(&mut self, cut: &CutBatch) -> Result<(), JournalError> {
        let values = params![stored(cut.first), stored(cut.last), cut.bytes];
        self.in_transaction(|journal| {
            journal.file.execute("INSERT OR REPLACE INTO cut VALUES (1, ?, ?, ?)", values)
        })
    }

    /// The batch that was cut and not seen stored.
    pub(crate) fn cut(&self) -> Result<Option<CutBatch>, JournalError> {
        let read = self.file.sqlite().query_row("SELECT first, last, bytes FROM cut", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?))
        });
        let Some((first, last, bytes)) = read.optional().map_err(|error| self.file.refused(error))? else {
            return Ok(None);
        };
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(self.file.damaged("the batch that was cut"));
        };
        Ok(Some(CutBatch { first, last, bytes }))
    }

    /// Everything up to here is stored: forgets its bodies, durably.
    pub(crate) fn mark_stored(&mut self, now: Stored) -> Result<(), JournalError> {
        let last = now.last.get();
        let from = self.indexed_from.get().max(last.saturating_sub(INDEXED_MAX) + 1);
        let from = Sequence::new(from).unwrap_or(self.indexed_from);
        self.in_transaction(|journal| {
            let through = stored(now.last);
            let gone = journal.weigh_through(through)?;
            journal.file.execute("DELETE FROM bodies WHERE sequence <= ?", params![through])?;
            journal.file.execute("DELETE FROM cut WHERE first <= ?", params![through])?;
            journal.file.execute("DELETE FROM messages WHERE sequence < ?", params![stored(from)])?;
            let sql = "UPDATE lead SET stored = ?, checkpoint = ?, indexed_from = ?";
            journal.file.execute(sql, params![through, now.checkpoint, stored(from)])?;
            // Only what goes is looked at: what stays may be very much more.
            journal.unstored = journal.unstored.without(gone);
            Ok(())
        })?;
        self.indexed_from = from;
        self.stored = Some(now);
        Ok(())
    }

    /// Writes a copy of everything, as it is, to a `.fenced` file that nobody publishes.
    pub(crate) fn copy_fenced(&self) -> Result<PathBuf, JournalError> {
        #[cfg(test)]
        if self.memory.is_here {
            return Ok(PathBuf::new());
        }
        let after = self.stored.as_ref().map_or(0, |stored| stored.last.get());
        let epoch = self.epoch.map_or(0, Epoch::get);
        self.file.copy_beside(&format!("{:012}-{epoch:012}", after + 1))
    }

    /// Forgets everything, durably, and goes on where the store ends.
    pub(crate) fn begin_anew(&mut self, tail: Option<Stored>) -> Result<(), JournalError> {
        let next = tail.as_ref().map_or(Some(Sequence::FIRST), |stored| stored.last.next());
        let from = next.ok_or_else(|| self.file.damaged("the log is full"))?;
        self.in_transaction(|journal| {
            journal.file.run("DELETE FROM messages; DELETE FROM bodies; DELETE FROM cut")?;
            let last = tail.as_ref().map(|tail| stored(tail.last));
            let checkpoint = tail.as_ref().map(|tail| tail.checkpoint.as_slice());
            let sql = "UPDATE lead SET stored = ?, checkpoint = ?, indexed_from = ?";
            journal.file.execute(sql, params![last, checkpoint, stored(from)])?;
            journal.unstored = Unstored::default();
            Ok(())
        })?;
        self.indexed_from = from;
        self.stored = tail;
        #[cfg(test)]
        {
            self.memory.begun_anew += 1;
        }
        Ok(())
    }

    /// The error that says what of the journal is damaged.
    pub(crate) fn damaged(&self, what: &'static str) -> JournalError {
        self.file.damaged(what)
    }

    /// Lets the file have at most this many pages, as a full disk would.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: u32) {
        self.file.run(&format!("PRAGMA max_page_count = {pages}")).expect("a test's file takes a limit");
    }

    fn in_transaction(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        self.begin()?;
        match work(self) {
            Ok(()) => self.commit(),
            Err(error) => self.give_up().and(Err(error)),
        }
    }

    /// What the bodies up to a sequence weigh.
    fn weigh_through(&self, last: i64) -> Result<Unstored, JournalError> {
        let sql = "SELECT count(*), coalesce(sum(length(body)), 0) FROM bodies WHERE sequence <= ?";
        let read = || {
            self.file.sqlite().prepare_cached(sql)?.query_row([last], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        let (messages, bodies): (i64, i64) = read().map_err(|error| self.file.refused(error))?;
        let count = |value: i64| u64::try_from(value).unwrap_or_default();
        Ok(Unstored { messages: count(messages), bytes: count(bodies) + count(messages) * MESSAGE_BYTES })
    }

    fn read_receipt(&self, bytes: &[u8]) -> Result<Receipt, JournalError> {
        Receipt::from_bytes(bytes).map_err(|_| self.file.damaged("a receipt"))
    }
}

/// A counter as SQLite stores it. All of ours end below 2^63.
fn stored(counter: impl Into<u64>) -> i64 {
    i64::try_from(counter.into()).unwrap_or(i64::MAX)
}

/// A counter as it was stored; `None` when nothing of its kind has this value.
fn number<T: TryFrom<u64>>(value: i64) -> Option<T> {
    u64::try_from(value).ok().and_then(|value| T::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use synddb_protocol::id::Timestamp;
    use synddb_protocol::log::{EpochRecord, KeyProof, Tip};
    use synddb_protocol::signing::SigningKey;

    use super::*;
    use crate::config::Batching;
    use crate::ordering::Ordering;

    #[test]
    fn a_full_disk_takes_nothing_of_a_transaction_and_everything_later() {
        let folder = tempfile::tempdir().unwrap();
        let stream = StreamId::from_bytes([0x5d; 32]);
        let mut journal = Journal::open(folder.path(), stream).unwrap();
        let key = Arc::new(SigningKey::from_bytes([7; 32]).unwrap());
        let record = EpochRecord { stream, epoch: Epoch::FIRST, proof: KeyProof::Unattested }.sign(&key);
        let ordering = Ordering::new(Tip::start(stream), Epoch::FIRST, key, Batching::default(), 0);
        let signed = ordering.draft().sign_epoch(Timestamp::ZERO, &record).unwrap();
        let cut = CutBatch { first: Sequence::FIRST, last: Sequence::FIRST, bytes: vec![7; 100_000] };

        journal.limit_pages(1);
        assert!(matches!(journal.write_cut(&cut), Err(JournalError::Full)));
        assert_eq!(journal.cut().unwrap(), None);
        journal.limit_pages(1_000_000);

        journal.begin().unwrap();
        journal.insert(&signed).unwrap();
        assert_eq!(journal.unstored().messages, 1);
        journal.give_up().unwrap();
        assert_eq!((journal.unstored(), journal.last_unstored().unwrap()), (Unstored::default(), None));

        journal.begin().unwrap();
        journal.insert(&signed).unwrap();
        journal.write_epoch(Epoch::FIRST).unwrap();
        journal.commit().unwrap();
        journal.write_cut(&cut).unwrap();
        let (unstored, messages) = (journal.unstored(), vec![signed.message]);
        drop(journal);
        let journal = Journal::open(folder.path(), stream).unwrap();
        assert_eq!((journal.unstored(), journal.epoch()), (unstored, Some(Epoch::FIRST)));
        assert_eq!(journal.messages(Sequence::FIRST, Sequence::FIRST).unwrap(), messages);
        assert_eq!(journal.cut().unwrap(), Some(cut));
        let other = Journal::open(folder.path(), StreamId::from_bytes([1; 32]));
        assert!(matches!(other.err(), Some(JournalError::Owned { .. })));
        drop(journal);
        let other = Journal::open(folder.path(), StreamId::from_bytes([1; 32]));
        assert!(matches!(other.err(), Some(JournalError::Foreign { .. })));
    }

    #[test]
    fn what_begins_anew_keeps_a_copy_that_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let stream = StreamId::from_bytes([0x5d; 32]);
        let mut journal = Journal::open(folder.path(), stream).unwrap();
        let cut = CutBatch { first: Sequence::FIRST, last: Sequence::FIRST, bytes: vec![7; 100] };
        journal.write_cut(&cut).unwrap();
        let copies = [journal.copy_fenced().unwrap(), journal.copy_fenced().unwrap()];
        assert_ne!(copies[0], copies[1]);
        journal.begin_anew(None).unwrap();
        assert_eq!(journal.cut().unwrap(), None);
        for copy in copies {
            let kept = folder.path().join("kept");
            std::fs::create_dir(&kept).unwrap();
            std::fs::rename(copy, kept.join(FILE)).unwrap();
            assert_eq!(Journal::open(&kept, stream).unwrap().cut().unwrap().as_ref(), Some(&cut));
            std::fs::remove_dir_all(kept).unwrap();
        }
    }
}
