//! What the relayer remembers: messages, how often it paid for each, and how far it has looked.
//!
//! ```text
//! relay     one row: stream and bridge, from which nonce on the sequencer is asked, when a checkpoint was brought last
//! messages  one row for each message that was ever seen signed
//! ```
//!
//! The tables of [`crate::queue`] are in the same file.
//!
//! WAL with `synchronous=FULL`: what was saved survives a power cut. One process writes it, which owns the folder; those who ask over HTTP read it
//! through connections of their own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use synddb_protocol::id::{Address, StreamId};
use synddb_protocol::signing::Domain;
use synddb_sqlite::connection::{PATIENCE, SqliteError};
use synddb_sqlite::rusqlite::{self, OpenFlags, OptionalExtension as _, Params, Row, ffi, params};

use crate::folder::make_private;
use crate::message::{RelayedMessage, Standing, Tracked};

/// The name of the file in its folder.
pub(crate) const FILE: &str = "relayer.db";

/// `PRAGMA application_id`: "SRel".
const APPLICATION: i64 = 0x5352_656c;

/// `PRAGMA user_version`: the form of the tables.
const FORM: i64 = 2;

/// Messages in one answer, at most.
pub(crate) const LISTED_MAX: usize = 100;

const TABLES: &str = "
    CREATE TABLE relay (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        stream BLOB NOT NULL,
        chain_id INTEGER NOT NULL,
        bridge BLOB NOT NULL,
        from_nonce INTEGER NOT NULL,
        checkpoint_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE messages (
        nonce INTEGER PRIMARY KEY,
        standing TEXT NOT NULL,
        is_settled INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        pauses INTEGER NOT NULL,
        due_ms INTEGER NOT NULL,
        ended_looks INTEGER NOT NULL,
        error TEXT
    ) STRICT;
    CREATE INDEX messages_due ON messages (due_ms) WHERE is_settled = 0;
";

const COLUMNS: &str = "nonce, standing, attempts, pauses, due_ms, ended_looks, error";

/// Why the relayer's memory does not open, or does not take something.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file is something else.
    #[error("the file is no queue of a relayer; name another `dir`, or move it away. file=`{}`", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// The file is of another stream, chain or bridge.
    #[error("the queue is of another stream, chain or bridge; name another `dir`. file=`{}`", file.display())]
    OtherBridge {
        /// The file.
        file: PathBuf,
    },
    /// Transactions of another account are under way.
    #[error(
        "transactions of another account are under way; start with its key until they are final, or name another `dir`. account=`{account}`"
    )]
    OtherAccount {
        /// That account.
        account: Address,
    },
    /// The file has a newer form.
    #[error(
        "upgrade required: the relayer's queue has a newer form. supported=`{FORM}` found=`{found}` file=`{}`",
        file.display()
    )]
    Newer {
        /// The form found.
        found: i64,
        /// The file.
        file: PathBuf,
    },
    /// A value in the file is not one that this program writes.
    #[error("the relayer's queue is damaged; move it away, and it looks at everything again. what=`{what}`")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// The file cannot be made.
    #[error("cannot make the relayer's queue. file=`{}`", file.display())]
    Unmade {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// SQLite cannot do it.
    #[error("the relayer's queue fails; see the disk, then start again")]
    Sqlite(#[source] SqliteError),
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error.into())
    }
}

/// Opens the file with what everything here relies on.
pub(crate) fn open(path: &Path) -> Result<rusqlite::Connection, JournalError> {
    make_private(path).map_err(|source| JournalError::Unmade { file: path.to_owned(), source })?;
    let foreign = |error: rusqlite::Error| match SqliteError::from(error) {
        error if error.primary() == ffi::SQLITE_NOTADB => JournalError::Foreign { file: path.to_owned() },
        error => JournalError::Sqlite(error),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sqlite = rusqlite::Connection::open_with_flags(path, flags).map_err(foreign)?;
    sqlite.busy_timeout(PATIENCE)?;
    sqlite.pragma_update(None, "journal_mode", "WAL").map_err(foreign)?;
    sqlite.pragma_update(None, "synchronous", "FULL")?;
    Ok(sqlite)
}

/// The memory of one relayer.
#[derive(Debug)]
pub(crate) struct Journal {
    sqlite: rusqlite::Connection,
}

impl Journal {
    /// Opens it in its folder, and makes it where there is none.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) fn open(folder: &Path, stream: StreamId, domain: &Domain) -> Result<Self, JournalError> {
        let path = folder.join(FILE);
        let sqlite = open(&path)?;
        let integer = |sql: &str| sqlite.query_row(sql, [], |row| row.get::<_, i64>(0));
        let (is_new, found) =
            (integer("SELECT count(*) FROM sqlite_schema")? == 0, integer("PRAGMA application_id")?);
        let chain_id = integer_of(domain.chain_id);
        if is_new && found == 0 {
            sqlite.execute_batch("BEGIN IMMEDIATE")?;
            sqlite.execute_batch(TABLES)?;
            sqlite.execute_batch(crate::queue::TABLES)?;
            sqlite.execute(
                "INSERT INTO relay VALUES (1, ?1, ?2, ?3, 1, 0)",
                params![stream.as_bytes(), chain_id, domain.contract.as_bytes()],
            )?;
            sqlite.execute_batch(&format!(
                "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORM}; COMMIT"
            ))?;
        } else if found != APPLICATION {
            return Err(JournalError::Foreign { file: path });
        }
        match integer("PRAGMA user_version")? {
            FORM => {}
            newer @ FORM.. => return Err(JournalError::Newer { found: newer, file: path }),
            ..FORM => return Err(JournalError::Damaged { what: "its form" }),
        }
        let of = sqlite.query_row("SELECT stream, chain_id, bridge FROM relay", [], |row| {
            Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, i64>(1)?, row.get::<_, [u8; 20]>(2)?))
        })?;
        if of != (*stream.as_bytes(), chain_id, *domain.contract.as_bytes()) {
            return Err(JournalError::OtherBridge { file: path });
        }
        Ok(Self { sqlite })
    }

    /// The nonce from which on the sequencer is asked: everything before it is known.
    pub(crate) fn asks_from(&self) -> Result<u64, JournalError> {
        let from: i64 = self.sqlite.query_row("SELECT from_nonce FROM relay", [], |row| row.get(0))?;
        number(from, "from_nonce")
    }

    /// Remembers messages that were found, all at once, and from where on to ask next. What is known already stays as it is.
    pub(crate) fn found(&mut self, found: &[Tracked], from_nonce: u64) -> Result<(), JournalError> {
        let transaction = self.sqlite.transaction()?;
        for tracked in found {
            put(&transaction, "INSERT OR IGNORE", tracked)?;
        }
        transaction.execute("UPDATE relay SET from_nonce = ?1", [integer_of(from_nonce)])?;
        Ok(transaction.commit()?)
    }

    /// Remembers what became of a message. It survives a power cut when this returns.
    pub(crate) fn save(&mut self, tracked: &Tracked) -> Result<(), JournalError> {
        put(&self.sqlite, "INSERT OR REPLACE", tracked)
    }

    /// Messages whose time has come, those first that wait longest: however many there are, each has its turn.
    pub(crate) fn due(&self, now_ms: u64, limit: u32) -> Result<Vec<Tracked>, JournalError> {
        let sql = "WHERE is_settled = 0 AND due_ms <= ?1 ORDER BY due_ms, nonce LIMIT ?2";
        select(&self.sqlite, sql, params![integer_of(now_ms), limit])
    }

    /// When a checkpoint was brought last, in milliseconds since 1970; 0 for never.
    pub(crate) fn checkpoint_ms(&self) -> Result<u64, JournalError> {
        let at: i64 = self.sqlite.query_row("SELECT checkpoint_ms FROM relay", [], |row| row.get(0))?;
        number(at, "checkpoint_ms")
    }

    /// Remembers when a checkpoint was brought.
    pub(crate) fn checkpoint_brought(&mut self, at_ms: u64) -> Result<(), JournalError> {
        self.sqlite.execute("UPDATE relay SET checkpoint_ms = ?1", [integer_of(at_ms)])?;
        Ok(())
    }
}

/// How messages stand, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    /// The highest nonce of all.
    pub(crate) known: u64,
    /// Those that may still change.
    pub(crate) open: u64,
    /// Everything up to this nonce does not.
    pub(crate) settled: u64,
}

/// Reads beside the one who writes.
#[derive(Debug)]
pub(crate) struct Reader {
    sqlite: rusqlite::Connection,
}

impl Reader {
    /// Opens what [`Journal::open`] has made.
    pub(crate) fn open(folder: &Path) -> Result<Self, JournalError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let sqlite = rusqlite::Connection::open_with_flags(folder.join(FILE), flags)?;
        sqlite.busy_timeout(Duration::from_secs(1))?;
        sqlite.pragma_update(None, "query_only", true)?;
        Ok(Self { sqlite })
    }

    /// Messages from a nonce on: [`LISTED_MAX`] at most.
    pub(crate) fn list(&self, from: u64) -> Result<Vec<RelayedMessage>, JournalError> {
        let sql = "WHERE nonce >= ?1 ORDER BY nonce LIMIT ?2";
        let limit = i64::try_from(LISTED_MAX).unwrap_or(i64::MAX);
        let found = select(&self.sqlite, sql, params![integer_of(from), limit])?;
        Ok(found.into_iter().map(RelayedMessage::from).collect())
    }

    /// One message.
    pub(crate) fn message(&self, nonce: u64) -> Result<Option<RelayedMessage>, JournalError> {
        let found = select(&self.sqlite, "WHERE nonce = ?1", [integer_of(nonce)])?;
        Ok(found.into_iter().next().map(RelayedMessage::from))
    }

    /// How they stand.
    pub(crate) fn counted(&self) -> Result<Counted, JournalError> {
        let one = |sql: &str| -> Result<u64, JournalError> {
            let found: Option<i64> = self.sqlite.query_row(sql, [], |row| row.get(0)).optional()?.flatten();
            number(found.unwrap_or(0), "a count")
        };
        Ok(Counted {
            known: one("SELECT max(nonce) FROM messages")?,
            open: one("SELECT count(*) FROM messages WHERE is_settled = 0")?,
            settled: one(
                "SELECT coalesce((SELECT min(nonce) - 1 FROM messages WHERE is_settled = 0), (SELECT max(nonce) FROM messages))",
            )?,
        })
    }
}

fn put(sqlite: &rusqlite::Connection, how: &str, tracked: &Tracked) -> Result<(), JournalError> {
    let Tracked { nonce, standing, attempts, pauses, due_ms, ended_looks, error } = tracked;
    let text = serde_json::to_string(standing).map_err(|_| JournalError::Damaged { what: "a standing" })?;
    let sql = format!(
        "{how} INTO messages (nonce, standing, is_settled, attempts, pauses, due_ms, ended_looks, error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
    );
    sqlite.prepare_cached(&sql)?.execute(params![
        integer_of(*nonce),
        text,
        standing.is_settled(),
        attempts,
        pauses,
        integer_of(*due_ms),
        ended_looks,
        error
    ])?;
    Ok(())
}

fn select(
    sqlite: &rusqlite::Connection,
    which: &str,
    values: impl Params,
) -> Result<Vec<Tracked>, JournalError> {
    let mut statement = sqlite.prepare_cached(&format!("SELECT {COLUMNS} FROM messages {which}"))?;
    let mut rows = statement.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(tracked(row)?);
    }
    Ok(found)
}

fn tracked(row: &Row<'_>) -> Result<Tracked, JournalError> {
    let standing: String = row.get(1)?;
    let standing: Standing =
        serde_json::from_str(&standing).map_err(|_| JournalError::Damaged { what: "a standing" })?;
    Ok(Tracked {
        nonce: number(row.get(0)?, "a nonce")?,
        standing,
        attempts: row.get(2)?,
        pauses: row.get(3)?,
        due_ms: number(row.get(4)?, "a time")?,
        ended_looks: row.get(5)?,
        error: row.get(6)?,
    })
}

fn number(value: i64, what: &'static str) -> Result<u64, JournalError> {
    u64::try_from(value).map_err(|_| JournalError::Damaged { what })
}

/// What is larger than SQLite holds is as far away as can be.
fn integer_of(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: Domain = Domain { chain_id: 31337, contract: Address::from_bytes([7; 20]) };

    fn open_in(folder: &Path) -> Journal {
        Journal::open(folder, StreamId::from_bytes([1; 32]), &DOMAIN).unwrap()
    }

    #[test]
    fn what_was_saved_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open_in(folder.path());
        assert_eq!((journal.asks_from().unwrap(), journal.checkpoint_ms().unwrap()), (1, 0));
        journal.found(&[Tracked::new(1, 5), Tracked::new(2, 6), Tracked::new(3, 5)], 4).unwrap();
        let sent = Tracked {
            standing: Standing::Submitted { tx: Some("0x01".to_owned()), block: Some(9) },
            attempts: 2,
            pauses: 1,
            due_ms: 4,
            ended_looks: 2,
            error: Some("away".to_owned()),
            ..Tracked::new(2, 0)
        };
        journal.save(&sent).unwrap();
        journal.save(&Tracked { standing: Standing::Expired, ..Tracked::new(3, 0) }).unwrap();
        journal.checkpoint_brought(77).unwrap();
        drop(journal);
        let mut journal = open_in(folder.path());
        assert_eq!((journal.asks_from().unwrap(), journal.checkpoint_ms().unwrap()), (4, 77));
        assert_eq!(journal.due(4, 10).unwrap(), std::slice::from_ref(&sent));
        assert_eq!(journal.due(5, 10).unwrap().len(), 2);
        assert_eq!(journal.due(9, 1).unwrap(), std::slice::from_ref(&sent), "it waits longest");
        journal.found(&[Tracked::new(2, 100)], 4).unwrap();
        assert_eq!(journal.due(4, 10).unwrap(), [sent], "what is known stays");
        let reader = Reader::open(folder.path()).unwrap();
        assert_eq!(reader.counted().unwrap(), Counted { known: 3, open: 2, settled: 0 });
        for nonce in [1, 2] {
            journal.save(&Tracked { standing: Standing::Rejected, ..Tracked::new(nonce, 0) }).unwrap();
        }
        assert_eq!(reader.counted().unwrap(), Counted { known: 3, open: 0, settled: 3 });
        assert_eq!(reader.list(2).unwrap().len(), 2);
        assert_eq!(reader.message(3).unwrap().unwrap().standing, Standing::Expired);
        assert_eq!(reader.message(4).unwrap(), None);
    }

    #[test]
    fn it_belongs_to_one_bridge() {
        let folder = tempfile::tempdir().unwrap();
        drop(open_in(folder.path()));
        let other = Domain { chain_id: 1, ..DOMAIN };
        let opened = Journal::open(folder.path(), StreamId::from_bytes([1; 32]), &other);
        assert!(matches!(opened, Err(JournalError::OtherBridge { .. })), "{opened:?}");
        let foreign = tempfile::tempdir().unwrap();
        std::fs::write(foreign.path().join(FILE), [b'x'; 4096]).unwrap();
        let opened = Journal::open(foreign.path(), StreamId::from_bytes([1; 32]), &DOMAIN);
        assert!(matches!(opened, Err(JournalError::Foreign { .. })), "{opened:?}");
    }
}
