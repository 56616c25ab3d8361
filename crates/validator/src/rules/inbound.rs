//! Inbound messages that came by the log: what each of them said, for whoever compares that with the chain.
//!
//! Written with the position, in the transaction that applies what the log has, so what is here follows from the verified log alone. A replica that began with a
//! snapshot, or that an older release kept, lacks those that came before: they have no row. The table is there from the first message on.

use std::collections::BTreeMap;

use synddb_protocol::Canonical as _;
use synddb_protocol::hash::BodyHash;
use synddb_protocol::id::{Sequence, Timestamp};
use synddb_protocol::log::{Entry, Inbound, VerifiedMessage};
use synddb_sqlite::connection::has_table;
use synddb_sqlite::rusqlite::{self, Connection, OptionalExtension as _, Row, params};

/// What names the content of an inbound message: the hash of all of it, place on the chain included.
pub(crate) fn digest(inbound: &Inbound) -> BodyHash {
    BodyHash::of(&inbound.to_bytes())
}

/// An inbound message of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CameInbound {
    /// Its number.
    pub(crate) nonce: u64,
    /// Its place in the log.
    pub(crate) sequence: Sequence,
    /// Log time there.
    pub(crate) timestamp: Timestamp,
    /// What it says.
    pub(crate) digest: BodyHash,
}

impl CameInbound {
    /// The one that a message of the log is, if it is any.
    pub(crate) fn of(message: &VerifiedMessage) -> Option<Self> {
        let Entry::Inbound(inbound) = message.entry() else { return None };
        let header = message.header();
        Some(Self {
            nonce: inbound.nonce.get(),
            sequence: header.sequence,
            timestamp: header.timestamp,
            digest: digest(inbound),
        })
    }
}

/// Writes them down in the transaction that is open.
pub(crate) fn keep_inbound(sqlite: &Connection, came: &[CameInbound]) -> rusqlite::Result<()> {
    if came.is_empty() {
        return Ok(());
    }
    create(sqlite)?;
    let sql = "INSERT OR REPLACE INTO main._synddb_inbound(nonce, sequence, timestamp_ms, digest) VALUES(?1, ?2, ?3, ?4)";
    let mut write = sqlite.prepare_cached(sql)?;
    for CameInbound { nonce, sequence, timestamp, digest } in came {
        let (nonce, sequence) = (nonce.cast_signed(), sequence.get().cast_signed());
        write.execute(params![nonce, sequence, timestamp.as_ms().cast_signed(), digest.as_bytes()])?;
    }
    Ok(())
}

/// Copies all of them into a file that takes the place of another one.
pub(crate) fn copy_inbound(from: &Connection, to: &Connection) -> rusqlite::Result<()> {
    if !has_table(from, "_synddb_inbound")? {
        return Ok(());
    }
    let transaction = to.unchecked_transaction()?;
    create(to)?;
    let mut read = from.prepare("SELECT nonce, sequence, timestamp_ms, digest FROM main._synddb_inbound")?;
    let mut rows = read.query([])?;
    let mut write = to.prepare("INSERT OR REPLACE INTO main._synddb_inbound VALUES(?1, ?2, ?3, ?4)")?;
    while let Some(row) = rows.next()? {
        let (nonce, sequence, timestamp): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        write.execute(params![nonce, sequence, timestamp, row.get::<_, Vec<u8>>(3)?])?;
    }
    drop(write);
    transaction.commit()
}

/// What those say that stand behind a number, up to another one, by their numbers. Those that are lacking are not among them.
pub(crate) fn inbound_between(
    sqlite: &Connection,
    after: u64,
    through: u64,
) -> rusqlite::Result<BTreeMap<u64, BodyHash>> {
    if !has_table(sqlite, "_synddb_inbound")? {
        return Ok(BTreeMap::new());
    }
    let sql = "SELECT nonce, digest FROM main._synddb_inbound WHERE nonce > ?1 AND nonce <= ?2";
    let mut statement = sqlite.prepare(sql)?;
    let read = |row: &Row<'_>| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), BodyHash::from_bytes(row.get::<_, [u8; 32]>(1)?)))
    };
    statement.query_map([bounded(after), bounded(through)], read)?.collect()
}

/// When the first of those entered the log that stand behind a number, up to another one, by log time. Of those that are lacking nobody knows.
pub(crate) fn oldest_inbound(
    sqlite: &Connection,
    after: u64,
    through: u64,
) -> rusqlite::Result<Option<Timestamp>> {
    if !has_table(sqlite, "_synddb_inbound")? {
        return Ok(None);
    }
    let sql = "SELECT timestamp_ms FROM main._synddb_inbound WHERE nonce > ?1 AND nonce <= ?2 ORDER BY nonce LIMIT 1";
    let read = |row: &Row<'_>| row.get::<_, i64>(0);
    let at = sqlite.query_row(sql, [bounded(after), bounded(through)], read).optional()?;
    Ok(at.and_then(|at| Timestamp::from_ms(at.cast_unsigned()).ok()))
}

fn create(sqlite: &Connection) -> rusqlite::Result<()> {
    sqlite.execute_batch(
        "CREATE TABLE IF NOT EXISTS main._synddb_inbound(
             nonce INTEGER PRIMARY KEY,
             sequence INTEGER NOT NULL,
             timestamp_ms INTEGER NOT NULL,
             digest BLOB NOT NULL
         )",
    )
}

fn bounded(nonce: u64) -> i64 {
    i64::try_from(nonce).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn came(nonce: u64) -> CameInbound {
        CameInbound {
            nonce,
            sequence: Sequence::new(nonce + 10).unwrap(),
            timestamp: Timestamp::from_ms(nonce * 100).unwrap(),
            digest: BodyHash::of(&nonce.to_be_bytes()),
        }
    }

    #[test]
    fn what_came_is_kept_and_what_is_lacking_has_no_row() {
        let sqlite = Connection::open_in_memory().unwrap();
        keep_inbound(&sqlite, &[]).unwrap();
        assert!(!has_table(&sqlite, "_synddb_inbound").unwrap(), "it is there from the first message on");
        assert_eq!(inbound_between(&sqlite, 0, 9).unwrap(), BTreeMap::new());
        assert_eq!(oldest_inbound(&sqlite, 0, 9).unwrap(), None);
        keep_inbound(&sqlite, &[came(3), came(4), came(5)]).unwrap();
        keep_inbound(&sqlite, &[came(5)]).unwrap();
        let copied = Connection::open_in_memory().unwrap();
        copy_inbound(&copied, &sqlite).unwrap();
        copy_inbound(&sqlite, &copied).unwrap();
        let found = inbound_between(&copied, 3, u64::MAX).unwrap();
        assert_eq!(found, BTreeMap::from([(4, came(4).digest), (5, came(5).digest)]));
        assert_eq!(inbound_between(&copied, 0, 3).unwrap().len(), 1, "1 and 2 are lacking");
        for (after, through, oldest) in [(0, 5, Some(3)), (3, 5, Some(4)), (5, 9, None), (0, 2, None)] {
            let oldest = oldest.map(|nonce| came(nonce).timestamp);
            assert_eq!(oldest_inbound(&copied, after, through).unwrap(), oldest, "{after} {through}");
        }
    }
}
