//! The submitter's queue, in the relayer's file: what was signed is there before it is sent, so that no restart pays twice.
//!
//! ```text
//! sender    one row: the account, and the next nonce that nothing was signed for
//! jobs      one row for each call that was ever to be mined; of a settled one the digest stays, so that it is never opened again
//! attempts  one row for each transaction that was signed for an open job
//! ```

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use synddb_chain::submit::{Added, Attempt, Job, JobId, Queue, QueueError, Stored, StoredJob};
use synddb_chain::{Fees, Receipt};
use synddb_protocol::hash::PayloadHash;
use synddb_protocol::id::Address;
use synddb_sqlite::rusqlite::{self, OptionalExtension as _, Row, params};

use crate::journal::{FILE, JournalError, open};

pub(crate) const TABLES: &str = "
    CREATE TABLE sender (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        account BLOB,
        next_nonce INTEGER
    ) STRICT;
    INSERT INTO sender VALUES (1, NULL, NULL);
    CREATE TABLE jobs (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        digest BLOB NOT NULL,
        job TEXT,
        receipt TEXT
    ) STRICT;
    CREATE TABLE attempts (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL,
        nonce INTEGER NOT NULL,
        max_fee BLOB NOT NULL,
        priority_fee BLOB NOT NULL,
        hash BLOB NOT NULL,
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE INDEX attempts_of ON attempts (id);
";

/// The queue of one account. Everything is one transaction each.
#[derive(Debug)]
pub(crate) struct SqliteQueue(Mutex<rusqlite::Connection>);

/// What the queue has of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was never added.
    Unknown,
    /// It is open; the hash of what was signed last.
    Open(Option<[u8; 32]>),
    /// The receipt that settled it.
    Settled(Receipt),
}

impl SqliteQueue {
    /// Opens what [`Journal::open`](crate::journal::Journal::open) has made, for an account. Another one takes over when nothing is open.
    ///
    /// # Errors
    /// [`JournalError`], [`JournalError::OtherAccount`] among them.
    pub(crate) fn open(folder: &Path, account: Address) -> Result<Self, JournalError> {
        let mut sqlite = open(&folder.join(FILE))?;
        let transaction = sqlite.transaction()?;
        let known: Option<[u8; 20]> =
            transaction.query_row("SELECT account FROM sender", [], |row| row.get(0))?;
        if known.is_none_or(|known| known != *account.as_bytes()) {
            let sql = "SELECT count(*) FROM jobs WHERE receipt IS NULL";
            if let Some(known) = known
                && transaction.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0
            {
                return Err(JournalError::OtherAccount { account: Address::from_bytes(known) });
            }
            transaction.execute("UPDATE sender SET account = ?1, next_nonce = NULL", [account.as_bytes()])?;
        }
        transaction.commit()?;
        Ok(Self(Mutex::new(sqlite)))
    }

    /// What is there of a job.
    pub(crate) fn find(&self, id: &JobId) -> Result<Found, QueueError> {
        let sqlite = self.lock();
        let receipt = sqlite.query_row("SELECT receipt FROM jobs WHERE id = ?1", [&id.0], |row| row.get(0));
        let receipt: Option<Option<String>> = receipt.optional().map_err(failed)?;
        match receipt {
            None => Ok(Found::Unknown),
            Some(Some(text)) => Ok(Found::Settled(read(&text)?)),
            Some(None) => {
                let sql = "SELECT hash FROM attempts WHERE id = ?1 ORDER BY number DESC LIMIT 1";
                let hash = sqlite.query_row(sql, [&id.0], |row| row.get(0)).optional();
                Ok(Found::Open(hash.map_err(failed)?))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, rusqlite::Connection> {
        // A transaction that a panic left open is taken back by its own end.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn within<T>(
        &self,
        body: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let mut sqlite = self.lock();
        let transaction =
            sqlite.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        let done = body(&transaction)?;
        transaction.commit().map_err(failed)?;
        Ok(done)
    }
}

impl Queue for SqliteQueue {
    fn load(&self) -> Result<Stored, QueueError> {
        self.within(|sqlite| {
            let mut jobs = Vec::new();
            let mut statement = sqlite
                .prepare_cached("SELECT job FROM jobs WHERE receipt IS NULL ORDER BY place")
                .map_err(failed)?;
            let texts = statement.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
            for text in texts {
                let job: Job = read(&text.map_err(failed)?)?;
                let attempts = attempts(sqlite, &job.id)?;
                jobs.push(StoredJob { job, attempts });
            }
            Ok(Stored { next_nonce: next_nonce(sqlite)?, jobs })
        })
    }

    fn add(&self, job: &Job) -> Result<Added, QueueError> {
        job.check()?;
        let text = written(job)?;
        let digest = *PayloadHash::of(text.as_bytes()).as_bytes();
        self.within(|sqlite| {
            let sql = "SELECT digest FROM jobs WHERE id = ?1";
            let known: Option<[u8; 32]> =
                sqlite.query_row(sql, [&job.id.0], |row| row.get(0)).optional().map_err(failed)?;
            match known {
                Some(known) if known == digest => Ok(Added::Known),
                Some(_) => Err(QueueError::Conflict(job.id.clone())),
                None => {
                    let sql = "INSERT INTO jobs (id, digest, job) VALUES (?1, ?2, ?3)";
                    sqlite.execute(sql, params![job.id.0, digest, text]).map_err(failed)?;
                    Ok(Added::New)
                }
            }
        })
    }

    fn begin(&self, nonce: u64) -> Result<(), QueueError> {
        self.within(|sqlite| {
            let sql = "UPDATE sender SET next_nonce = ?1 WHERE next_nonce IS NULL";
            sqlite.execute(sql, [integer(nonce)?]).map_err(failed)?;
            Ok(())
        })
    }

    fn record(&self, id: &JobId, attempt: &Attempt) -> Result<(), QueueError> {
        self.within(|sqlite| {
            require_open(sqlite, id)?;
            let first = attempts(sqlite, id)?.first().map(|first| first.nonce);
            if first.or(next_nonce(sqlite)?) != Some(attempt.nonce) {
                return Err(QueueError::NonceUnfit { job: id.clone(), nonce: attempt.nonce });
            }
            let Attempt { nonce, fees: Fees { max_fee, priority_fee }, hash, bytes } = attempt;
            let sql = "INSERT INTO attempts (id, nonce, max_fee, priority_fee, hash, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let nonce = integer(*nonce)?;
            let values = params![id.0, nonce, max_fee.to_be_bytes(), priority_fee.to_be_bytes(), hash, bytes];
            sqlite.execute(sql, values).map_err(failed)?;
            if first.is_none() {
                sqlite.execute("UPDATE sender SET next_nonce = ?1 + 1", [nonce]).map_err(failed)?;
            }
            Ok(())
        })
    }

    fn release(&self, id: &JobId) -> Result<(), QueueError> {
        self.within(|sqlite| {
            require_open(sqlite, id)?;
            sqlite.execute("DELETE FROM attempts WHERE id = ?1", [&id.0]).map_err(failed)?;
            Ok(())
        })
    }

    fn settle(&self, id: &JobId, receipt: &Receipt) -> Result<(), QueueError> {
        let text = written(receipt)?;
        self.within(|sqlite| {
            let sql = "SELECT count(*) FROM jobs WHERE id = ?1 AND receipt = ?2";
            let is_known: bool =
                sqlite.query_row(sql, params![id.0, text], |row| row.get(0)).map_err(failed)?;
            if is_known {
                return Ok(());
            }
            require_open(sqlite, id)?;
            let sql = "UPDATE jobs SET job = NULL, receipt = ?2 WHERE id = ?1";
            sqlite.execute(sql, params![id.0, text]).map_err(failed)?;
            sqlite.execute("DELETE FROM attempts WHERE id = ?1", [&id.0]).map_err(failed)?;
            Ok(())
        })
    }

    fn receipt(&self, id: &JobId) -> Result<Option<Receipt>, QueueError> {
        match self.find(id)? {
            Found::Unknown | Found::Open(_) => Ok(None),
            Found::Settled(receipt) => Ok(Some(receipt)),
        }
    }
}

fn require_open(sqlite: &rusqlite::Connection, id: &JobId) -> Result<(), QueueError> {
    let sql = "SELECT count(*) FROM jobs WHERE id = ?1 AND receipt IS NULL";
    let is_open: bool = sqlite.query_row(sql, [&id.0], |row| row.get(0)).map_err(failed)?;
    if is_open { Ok(()) } else { Err(QueueError::Unknown(id.clone())) }
}

fn next_nonce(sqlite: &rusqlite::Connection) -> Result<Option<u64>, QueueError> {
    let next: Option<i64> =
        sqlite.query_row("SELECT next_nonce FROM sender", [], |row| row.get(0)).map_err(failed)?;
    Ok(next.and_then(|next| u64::try_from(next).ok()))
}

fn attempts(sqlite: &rusqlite::Connection, id: &JobId) -> Result<Vec<Attempt>, QueueError> {
    let sql = "SELECT nonce, max_fee, priority_fee, hash, bytes FROM attempts WHERE id = ?1 ORDER BY number";
    let mut statement = sqlite.prepare_cached(sql).map_err(failed)?;
    let found = statement.query_map([&id.0], attempt).map_err(failed)?;
    found.collect::<Result<_, _>>().map_err(failed)
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let nonce: i64 = row.get(0)?;
    let nonce = u64::try_from(nonce).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, nonce))?;
    let fees =
        Fees { max_fee: u128::from_be_bytes(row.get(1)?), priority_fee: u128::from_be_bytes(row.get(2)?) };
    Ok(Attempt { nonce, fees, hash: row.get(3)?, bytes: row.get(4)? })
}

fn integer(nonce: u64) -> Result<i64, QueueError> {
    i64::try_from(nonce).map_err(|error| QueueError::Failed(Box::new(error)))
}

fn written<T: serde::Serialize>(value: &T) -> Result<String, QueueError> {
    serde_json::to_string(value).map_err(|error| QueueError::Failed(Box::new(error)))
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, QueueError> {
    serde_json::from_str(text).map_err(|error| QueueError::Failed(Box::new(error)))
}

fn failed(error: rusqlite::Error) -> QueueError {
    QueueError::Failed(Box::new(JournalError::from(error)))
}

#[cfg(test)]
mod tests {
    use synddb_chain::submit::conformance;
    use synddb_protocol::id::StreamId;
    use synddb_protocol::signing::Domain;

    use super::*;
    use crate::journal::Journal;

    const ACCOUNT: Address = Address::from_bytes([7; 20]);

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let domain = Domain { chain_id: 31337, contract: Address::from_bytes([9; 20]) };
        drop(Journal::open(folder.path(), StreamId::from_bytes([1; 32]), &domain).unwrap());
        folder
    }

    #[test]
    fn it_is_a_queue() {
        let folder = folder();
        let mut open = || -> Box<dyn Queue> { Box::new(SqliteQueue::open(folder.path(), ACCOUNT).unwrap()) };
        assert_eq!(conformance::run(&mut open).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn another_account_takes_over_only_when_nothing_is_open() {
        let folder = folder();
        let queue = SqliteQueue::open(folder.path(), ACCOUNT).unwrap();
        let id = JobId("one".to_owned());
        let job = Job { id: id.clone(), to: ACCOUNT, value: 0, data: vec![1], gas_limit: 1 };
        assert_eq!(queue.find(&id).unwrap(), Found::Unknown);
        queue.add(&job).unwrap();
        queue.begin(5).unwrap();
        assert_eq!(queue.find(&id).unwrap(), Found::Open(None));
        let fees = Fees { max_fee: 2, priority_fee: 1 };
        queue.record(&id, &Attempt { nonce: 5, fees, hash: [3; 32], bytes: vec![4] }).unwrap();
        assert_eq!(queue.find(&id).unwrap(), Found::Open(Some([3; 32])));
        drop(queue);
        let other = Address::from_bytes([8; 20]);
        let opened = SqliteQueue::open(folder.path(), other);
        assert!(matches!(opened, Err(JournalError::OtherAccount { account }) if account == ACCOUNT));
        let queue = SqliteQueue::open(folder.path(), ACCOUNT).unwrap();
        let (block_hash, gas_used, gas_price, logs) = ([6; 32], 1, 1, Vec::new());
        let receipt =
            Receipt { hash: [3; 32], block: 9, block_hash, succeeded: true, gas_used, gas_price, logs };
        queue.settle(&id, &receipt).unwrap();
        drop(queue);
        let queue = SqliteQueue::open(folder.path(), other).unwrap();
        assert_eq!(queue.load().unwrap(), Stored::default());
    }
}
