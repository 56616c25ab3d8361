//! The ledger of a stream and its bridge: what became of each message in both directions, for ever, and how far the log was read for it.
//!
//! ```text
//! lead      one row: stream, bridge, what was read with its checkpoint, how far the tables have come
//! outbound  one row for each nonce: where it stands, its fields and call data, or why it is never signed
//! inbound   one row for each nonce: where and when it came, what it says, and what the application said of it (inbound.rs)
//! parts     the rows of a commit that comes in parts, until its last one
//! ```
//!
//! What must stay true: a nonce of an outbound message has one row, which never changes, so that it has one digest (`spec/signing.md`, section 10); what one batch brings and how far
//! was read are one transaction. Holds no signature: a key makes the same one each time.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use synddb_protocol::hash::PayloadHash;
use synddb_protocol::http::OutboundFields;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{Entry, OutboundMessage, StatusLevel, VerifiedBatch};
use synddb_protocol::signing::Domain;
use synddb_protocol::submission::{Changes, Content, Part, SnapshotPlace, TextEncoding};
use synddb_sqlite::connection::SqliteError;
use synddb_sqlite::killable::reached;
use synddb_sqlite::rusqlite::{self, OptionalExtension as _, params};

use super::parts::Parts;
use super::walk::{Ruling, Standing, Told, WalkError, remakes, walk};
use crate::journal::{JournalError, make_folder, make_private};

/// `PRAGMA application_id` of a ledger: "SMai".
const APPLICATION: i64 = 0x534d_6169;

/// `PRAGMA user_version`: the form of the tables.
const FORM: i64 = 2;

/// The name of the file in its stream's folder.
const FILE: &str = "mailbox.db";

const TABLES: &str = "
    CREATE TABLE lead (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        stream BLOB NOT NULL,
        chain_id INTEGER NOT NULL,
        contract BLOB NOT NULL,
        read INTEGER,
        checkpoint BLOB,
        last INTEGER NOT NULL,
        consumed INTEGER NOT NULL,
        delivered INTEGER NOT NULL,
        passed INTEGER NOT NULL,
        level TEXT NOT NULL,
        held_from INTEGER,
        is_open INTEGER NOT NULL,
        encoding INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE outbound (
        nonce INTEGER PRIMARY KEY,
        sequence INTEGER NOT NULL,
        fields TEXT,
        payload BLOB,
        refused TEXT
    ) STRICT;
    CREATE TABLE inbound (
        nonce INTEGER PRIMARY KEY,
        timestamp_ms INTEGER NOT NULL,
        message TEXT NOT NULL,
        acknowledged INTEGER,
        outcome TEXT
    ) STRICT;
    CREATE TABLE parts (place INTEGER PRIMARY KEY, is_remade INTEGER NOT NULL, rows BLOB NOT NULL) STRICT;
";

/// Why the ledger did not open, or did not take something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// Its folder or file cannot be made.
    #[error("the ledger of the bridge's messages cannot be made")]
    Unmade(#[from] JournalError),
    /// SQLite cannot do it.
    #[error("the ledger of the bridge's messages fails; see the disk. file=`{}`", file.display())]
    Sqlite {
        /// The ledger.
        file: PathBuf,
        /// Why not.
        source: SqliteError,
    },
    /// The file is something else, of another stream, or newer.
    #[error(
        "the file is no ledger of this stream's messages that this program knows; upgrade, or move it away, and it is made anew from the log. file=`{}`",
        file.display()
    )]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// It was written for another bridge.
    #[error(
        "the ledger was written for another bridge, and a message has one digest; name that bridge again, or move the file away so that everything is signed for the new one. chain_id=`{chain_id}` contract=`{contract}` file=`{}`",
        file.display()
    )]
    OtherBridge {
        /// The chain.
        chain_id: u64,
        /// The contract there.
        contract: String,
        /// The ledger.
        file: PathBuf,
    },
    /// A value in the file is not one that this program writes.
    #[error(
        "the ledger of the bridge's messages is damaged; move the file away, and it is made anew from the log. what=`{what}` file=`{}`",
        file.display()
    )]
    Damaged {
        /// What is wrong.
        what: &'static str,
        /// The ledger.
        file: PathBuf,
    },
    /// The rows of a commit could not be read to their end: this machine failed, and the bytes say nothing of it.
    #[error("the rows of a commit cannot be read; see the disk and the memory. file=`{}`", file.display())]
    Unread {
        /// The ledger, which holds them where they came in parts.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The batch does not follow what was read.
    #[error("the batch does not follow what the ledger has read. read=`{read:?}` first=`{first}`")]
    Elsewhere {
        /// The last message that was read.
        read: Option<Sequence>,
        /// The first of the batch.
        first: Sequence,
    },
}

/// What the ledger says of one nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) nonce: u64,
    pub(super) sequence: Sequence,
    /// What is signed, or why nothing is.
    pub(super) of: Result<OutboundMessage, String>,
}

/// What a batch brought.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Brought {
    pub(super) signed: u64,
    pub(super) refused: u64,
    /// The first nonce that is refused, and why.
    pub(super) first_refused: Option<(u64, String)>,
    /// The first nonce that was known already.
    pub(super) first_again: Option<u64>,
}

/// A row of a message: nonce, sequence, fields, why it is refused.
type Written = (i64, i64, Option<String>, Option<String>);

/// The ledger of one stream.
pub(super) struct Ledger {
    pub(super) sqlite: rusqlite::Connection,
    file: PathBuf,
    stream: StreamId,
    read: Option<Sequence>,
    standing: Standing,
}

impl Ledger {
    /// Opens the ledger in `folder`, and makes it when there is none.
    pub(super) fn open(folder: &Path, stream: StreamId, bridge: &Domain) -> Result<Self, LedgerError> {
        make_folder(folder)?;
        let file = folder.join(FILE);
        make_private(&file)?;
        let opened = open_file(&file, stream, bridge);
        let sqlite =
            opened.map_err(|error| LedgerError::Sqlite { file: file.clone(), source: error.into() })?;
        let mut ledger = Self { sqlite, file, stream, read: None, standing: Standing::START };
        ledger.check(bridge)?;
        ledger.load()?;
        Ok(ledger)
    }

    fn check(&self, bridge: &Domain) -> Result<(), LedgerError> {
        let is_known = self.pragma("application_id")? == APPLICATION && self.pragma("user_version")? == FORM;
        let foreign = || LedgerError::Foreign { file: self.file.clone() };
        if !is_known {
            return Err(foreign());
        }
        let sql = "SELECT stream, chain_id, contract FROM lead";
        let of = self.sqlite.query_row(sql, [], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?))
        });
        let (found, chain_id, contract) = self.done(of)?;
        if found != self.stream.as_bytes() {
            return Err(foreign());
        }
        let chain_id = chain_id.cast_unsigned();
        if chain_id != bridge.chain_id || contract != bridge.contract.as_bytes() {
            let contract = format!("0x{}", hex::encode(contract));
            return Err(LedgerError::OtherBridge { chain_id, contract, file: self.file.clone() });
        }
        Ok(())
    }

    fn load(&mut self) -> Result<(), LedgerError> {
        let sql =
            "SELECT read, last, consumed, is_open, encoding, delivered, level, held_from, passed FROM lead";
        let row = self.sqlite.query_row(sql, [], |row| {
            let (read, held_from): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(7)?);
            let numbers: [i64; 4] = [row.get(1)?, row.get(2)?, row.get(5)?, row.get(8)?];
            let (is_open, encoding): (bool, u8) = (row.get(3)?, row.get(4)?);
            Ok((read, numbers, is_open, encoding, row.get::<_, String>(6)?, held_from))
        });
        let (read, numbers, is_open, encoding, level, held_from) = self.done(row)?;
        let [last, consumed, delivered, passed] = numbers.map(i64::cast_unsigned);
        let encodings = [TextEncoding::Utf8, TextEncoding::Utf16Le, TextEncoding::Utf16Be];
        let encoding = encodings.into_iter().find(|known| known.code() == encoding);
        let encoding = encoding.ok_or_else(|| self.damaged("the text encoding"))?;
        let level = serde_json::from_str(&level).map_err(|_| self.damaged("the status"))?;
        let held_from = held_from.map(|held| self.sequence(held)).transpose()?;
        self.read = read.map(|read| self.sequence(read)).transpose()?;
        self.standing = Standing { last, consumed, delivered, passed, level, held_from, is_open, encoding };
        Ok(())
    }

    /// How far everything has come.
    pub(super) const fn standing(&self) -> (Option<Sequence>, Standing) {
        (self.read, self.standing)
    }

    /// The last message that was read, and the signed checkpoint behind it.
    pub(super) fn read(&self) -> Result<Option<(Sequence, Vec<u8>)>, LedgerError> {
        let Some(read) = self.read else { return Ok(None) };
        let checkpoint = self.sqlite.query_row("SELECT checkpoint FROM lead", [], |row| row.get(0));
        Ok(Some((read, self.done(checkpoint)?)))
    }

    /// The highest nonce of an outbound message that is recorded; 0 for none.
    pub(super) fn last(&self) -> Result<u64, LedgerError> {
        let last =
            self.sqlite.query_row("SELECT max(nonce) FROM outbound", [], |row| row.get::<_, Option<i64>>(0));
        Ok(self.done(last)?.unwrap_or_default().cast_unsigned())
    }

    /// Takes in what a verified batch brings, in one transaction.
    ///
    /// # Errors
    /// [`LedgerError`]; then nothing of it was taken in.
    pub(super) fn take(&mut self, batch: &VerifiedBatch, checkpoint: &[u8]) -> Result<Brought, LedgerError> {
        let headers = || batch.messages().iter().map(|message| message.header().sequence);
        let (Some(first), Some(last)) = (headers().next(), headers().next_back()) else {
            return Ok(Brought::default());
        };
        let next = self.read.map_or(Some(Sequence::FIRST), Sequence::next);
        if next != Some(first) {
            return Err(LedgerError::Elsewhere { read: self.read, first });
        }
        self.run("BEGIN IMMEDIATE")?;
        let mut standing = self.standing;
        let taken = self.take_all(batch, &mut standing).and_then(|brought| {
            self.write(last, checkpoint, &standing)?;
            reached("mailbox walked");
            self.run("COMMIT")?;
            reached("mailbox recorded");
            Ok(brought)
        });
        match taken {
            Ok(brought) => {
                (self.read, self.standing) = (Some(last), standing);
                Ok(brought)
            }
            Err(error) => {
                // Where even that fails the connection is opened anew.
                self.run("ROLLBACK").ok();
                Err(error)
            }
        }
    }

    fn write(&self, read: Sequence, checkpoint: &[u8], standing: &Standing) -> Result<(), LedgerError> {
        let sql = "UPDATE lead SET read = ?, checkpoint = ?, last = ?, consumed = ?, delivered = ?, passed = ?, level = ?, held_from = ?, is_open = ?, encoding = ?";
        let Standing { last, consumed, delivered, passed, level, held_from, is_open, encoding } = *standing;
        let values = params![
            read.get().cast_signed(),
            checkpoint,
            last.cast_signed(),
            consumed.cast_signed(),
            delivered.cast_signed(),
            passed.cast_signed(),
            word_of(level),
            held_from.map(|held| held.get().cast_signed()),
            is_open,
            encoding.code()
        ];
        self.done(self.sqlite.execute(sql, values)).map(drop)
    }

    fn take_all(&self, batch: &VerifiedBatch, standing: &mut Standing) -> Result<Brought, LedgerError> {
        let mut brought = Brought::default();
        for message in batch.messages() {
            let sequence = message.header().sequence;
            match message.entry() {
                Entry::Snapshot(snapshot) => {
                    standing.encoding = snapshot.encoding;
                    if matches!(snapshot.place, SnapshotPlace::Begins { .. }) {
                        standing.is_open = true;
                        standing.passed = standing.delivered;
                        self.run("DELETE FROM parts")?;
                    }
                }
                Entry::Submission(submission) => match &submission.content {
                    Content::Commits(commits) => {
                        for commit in commits.as_slice() {
                            let Changes { schema, rows, .. } = &commit.changes;
                            let is_remade = remakes(schema, standing.encoding);
                            self.walk(standing, sequence, is_remade, || rows.as_slice(), &mut brought)?;
                        }
                    }
                    Content::Part(part) => self.take_part(standing, sequence, part, &mut brought)?,
                },
                Entry::Inbound(inbound) => {
                    self.deliver(message.header(), inbound)?;
                    standing.delivered = inbound.nonce.get();
                }
                Entry::Status(status) => standing.says(status.level, sequence),
                Entry::Epoch(_) => {}
            }
        }
        Ok(brought)
    }

    /// Keeps a part, and walks the commit when it is the last one.
    fn take_part(
        &self,
        standing: &mut Standing,
        sequence: Sequence,
        part: &Part,
        brought: &mut Brought,
    ) -> Result<(), LedgerError> {
        if part.index.get() == 0 {
            self.run("DELETE FROM parts")?;
        }
        let sql = "INSERT OR REPLACE INTO parts VALUES (?, ?, ?)";
        let is_remade = remakes(&part.changes.schema, standing.encoding);
        let values = params![i64::from(part.index.get()), is_remade, part.changes.rows];
        self.done(self.sqlite.prepare_cached(sql).and_then(|mut insert| insert.execute(values)))?;
        if part.last.is_none() {
            return Ok(());
        }
        let any = self.sqlite.query_row("SELECT max(is_remade) FROM parts", [], |row| row.get(0));
        let is_remade = self.done(any)?;
        self.walk(standing, sequence, is_remade, || Parts::of(&self.sqlite), brought)?;
        self.run("DELETE FROM parts")
    }

    fn walk<R: BufRead>(
        &self,
        standing: &mut Standing,
        sequence: Sequence,
        is_remade: bool,
        rows: impl Fn() -> R,
        brought: &mut Brought,
    ) -> Result<(), LedgerError> {
        let mut behind = *standing;
        let walked = walk(&mut behind, is_remade, rows, |told| match told {
            Told::Outbound { ruling, consumed } => self.record(sequence, ruling, consumed, brought),
            Told::Acknowledged { nonce, outcome } => self.acknowledge(sequence, nonce, outcome.as_deref()),
        });
        match walked {
            Ok(()) => *standing = behind,
            Err(WalkError::Told(error)) => return Err(error),
            Err(WalkError::Unread(source)) => {
                return Err(LedgerError::Unread { file: self.file.clone(), source });
            }
            Err(WalkError::Malformed(error)) => {
                tracing::warn!(%sequence, error = synddb_protocol::chain(&error),
                    "the rows of a commit cannot be read; none of them is signed");
            }
        }
        Ok(())
    }

    /// Writes down what a row is worth, unless its nonce is known: that stays as it is.
    fn record(
        &self,
        sequence: Sequence,
        ruling: Ruling,
        consumed: u64,
        brought: &mut Brought,
    ) -> Result<(), LedgerError> {
        let (nonce, fields, payload, refused) = match ruling {
            Ruling::Message(row) => {
                let fields = OutboundFields::of(&row.message(self.stream, consumed));
                let fields = serde_json::to_string(&fields).map_err(|_| self.damaged("fields"))?;
                (row.nonce, Some(fields), Some(row.payload), None)
            }
            Ruling::Refused { nonce, detail } => (nonce, None, None, Some(detail)),
            Ruling::Nameless => {
                tracing::warn!(%sequence, "a row of `outbound_messages` has no id that is an integer of 1 or more");
                return Ok(());
            }
        };
        let sql = "INSERT INTO outbound VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
        let values = params![nonce.cast_signed(), sequence.get().cast_signed(), fields, payload, &refused];
        let inserted = self.sqlite.prepare_cached(sql).and_then(|mut insert| insert.execute(values));
        let is_new = self.done(inserted)? > 0;
        match (refused, is_new) {
            (None, true) => brought.signed += 1,
            (Some(detail), true) => {
                brought.refused += 1;
                brought.first_refused.get_or_insert((nonce, detail));
            }
            (_, false) => {
                brought.first_again.get_or_insert(nonce);
            }
        }
        Ok(())
    }

    /// What is known of a nonce.
    pub(super) fn recorded(&self, nonce: u64) -> Result<Option<Recorded>, LedgerError> {
        Ok(self.recorded_from(nonce, 1)?.pop().filter(|recorded| recorded.nonce == nonce))
    }

    /// What is known of nonces from one on, in their order: so many at most.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] where one of them does not read: from damage nobody may conclude that it is refused.
    pub(super) fn recorded_from(&self, from: u64, limit: usize) -> Result<Vec<Recorded>, LedgerError> {
        let Ok(from) = i64::try_from(from) else { return Ok(Vec::new()) };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql =
            "SELECT nonce, sequence, fields, refused FROM outbound WHERE nonce >= ? ORDER BY nonce LIMIT ?";
        let read = || -> rusqlite::Result<Vec<Written>> {
            let mut select = self.sqlite.prepare_cached(sql)?;
            let rows = select.query_map(params![from, limit], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            rows.collect()
        };
        self.done(read())?.into_iter().map(|written| self.recorded_of(written)).collect()
    }

    fn recorded_of(&self, (nonce, sequence, fields, refused): Written) -> Result<Recorded, LedgerError> {
        let nonce = nonce.cast_unsigned();
        let of = match (fields, refused) {
            (Some(fields), None) => {
                let fields = serde_json::from_str::<OutboundFields>(&fields).ok();
                let message = fields.and_then(|fields| fields.message(self.stream, nonce).ok());
                Ok(message.ok_or_else(|| self.damaged("the fields of a message"))?)
            }
            (None, Some(refused)) => Err(refused),
            (None, None) | (Some(_), Some(_)) => return Err(self.damaged("a message")),
        };
        Ok(Recorded { nonce, sequence: self.sequence(sequence)?, of })
    }

    /// The call data of a message whose fields name its hash.
    pub(super) fn payload(&self, nonce: u64, hash: PayloadHash) -> Result<Vec<u8>, LedgerError> {
        let sql = "SELECT payload FROM outbound WHERE nonce = ?";
        let payload =
            self.sqlite.query_row(sql, [nonce.cast_signed()], |row| row.get::<_, Option<Vec<u8>>>(0));
        let payload = self.done(payload.optional())?.flatten();
        let payload = payload.filter(|payload| PayloadHash::of(payload) == hash);
        payload.ok_or_else(|| self.damaged("the call data of a message"))
    }

    fn pragma(&self, name: &str) -> Result<i64, LedgerError> {
        self.done(self.sqlite.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)))
    }

    pub(super) fn sequence(&self, number: i64) -> Result<Sequence, LedgerError> {
        Sequence::new(number.cast_unsigned()).map_err(|_| self.damaged("a sequence"))
    }

    fn run(&self, sql: &str) -> Result<(), LedgerError> {
        self.done(self.sqlite.execute_batch(sql))
    }

    pub(super) fn done<T>(&self, done: rusqlite::Result<T>) -> Result<T, LedgerError> {
        done.map_err(|error| LedgerError::Sqlite { file: self.file.clone(), source: error.into() })
    }

    pub(super) fn damaged(&self, what: &'static str) -> LedgerError {
        LedgerError::Damaged { what, file: self.file.clone() }
    }
}

/// A level as the file has it.
fn word_of(level: StatusLevel) -> String {
    serde_json::to_string(&level).unwrap_or_default()
}

/// Opens the file, which is this process's alone from here on, and makes its tables where it is empty.
fn open_file(file: &Path, stream: StreamId, bridge: &Domain) -> rusqlite::Result<rusqlite::Connection> {
    let sqlite = rusqlite::Connection::open(file)?;
    sqlite.busy_timeout(std::time::Duration::ZERO)?;
    sqlite.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    sqlite.pragma_update(None, "journal_mode", "WAL")?;
    // What is written is shown to others at once: a power cut must not take it back.
    sqlite.pragma_update(None, "synchronous", "FULL")?;
    let is_empty = sqlite.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
    if is_empty {
        let transaction = sqlite.unchecked_transaction()?;
        transaction.execute_batch(TABLES)?;
        // Everything else is what `Standing::START` says.
        transaction.execute(
            "INSERT INTO lead VALUES (1, ?, ?, ?, NULL, NULL, 0, 0, 0, 0, ?, NULL, ?, ?)",
            params![
                stream.as_bytes(),
                bridge.chain_id.cast_signed(),
                bridge.contract.as_bytes(),
                word_of(Standing::START.level),
                Standing::START.is_open,
                Standing::START.encoding.code()
            ],
        )?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", FORM)?;
        transaction.commit()?;
    }
    Ok(sqlite)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::{BufReader, Read as _};

    use synddb_protocol::id::Address;
    use synddb_sqlite::changeset::{Table, write_table};
    use synddb_sqlite::messages::OUTBOUND;

    use super::*;

    /// Something that cannot be read.
    struct Broken;

    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }

    #[test]
    fn rows_that_this_machine_cannot_read_are_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let bridge = Domain { chain_id: 1, contract: Address::ZERO };
        let ledger = Ledger::open(folder.path(), StreamId::from_bytes([1; 32]), &bridge).unwrap();
        let mut begun = Vec::new();
        write_table(&mut begun, &Table { name: OUTBOUND.to_owned(), key: vec![true] });
        let walk = |rows: &dyn Fn() -> Box<dyn BufRead>| {
            let (mut standing, mut brought) = (Standing::START, Brought::default());
            ledger.walk(&mut standing, Sequence::FIRST, false, rows, &mut brought)
        };
        let failed = walk(&|| Box::new(BufReader::new(Broken)));
        assert!(matches!(failed, Err(LedgerError::Unread { .. })), "{failed:?}");
        let failed = walk(&|| Box::new(io::Cursor::new(begun.clone()).chain(BufReader::new(Broken))));
        assert!(matches!(failed, Err(LedgerError::Unread { .. })), "{failed:?}");
        // What follows from the bytes is the same at every attempt.
        walk(&|| Box::new(&b"rows"[..])).unwrap();
        walk(&|| Box::new(&[0x54, 1][..])).unwrap();
    }
}
