//! What the bridge sent, as its nodes told it, and where to go on: a small file beside the replica.
//!
//! Whoever removes it has the chain looked at from the beginning again. Nothing in it is trusted further than the nodes were.

use std::path::{Path, PathBuf};

use synddb_chain::follow::Cursor;
use synddb_protocol::hash::BodyHash;
use synddb_protocol::id::InboundNonce;
use synddb_protocol::log::Inbound;
use synddb_protocol::signing::Domain;
use synddb_sqlite::connection::{PATIENCE, SqliteError};
use synddb_sqlite::name::beside;
use synddb_sqlite::rusqlite::{self, Connection, OpenFlags, OptionalExtension as _, params};

use crate::rules::digest;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "what the bridge sent cannot be noted beside the replica; if the file is damaged, remove it: the chain is looked at again. file=`{}`",
    file.display()
)]
pub(in crate::endorse) struct NotNotable {
    file: PathBuf,
    source: SqliteError,
}

/// The notes, for as long as they are read or written.
pub(super) struct Notes {
    sqlite: Connection,
    file: PathBuf,
}

/// The file of them.
pub(super) fn file_beside(replica: &Path) -> PathBuf {
    beside(replica, ".inbox.db")
}

impl Notes {
    /// Opens them; makes them where there are none.
    pub(super) fn open(replica: &Path) -> Result<Self, NotNotable> {
        let file = file_beside(replica);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&file, flags).and_then(|sqlite| {
            sqlite.busy_timeout(PATIENCE)?;
            // What a power cut takes back is looked at again.
            sqlite.execute_batch(
                "PRAGMA synchronous = NORMAL;
                 CREATE TABLE IF NOT EXISTS followed(
                     one INTEGER PRIMARY KEY CHECK (one = 1), bridge TEXT NOT NULL, next INTEGER NOT NULL, block INTEGER NOT NULL);
                 CREATE TABLE IF NOT EXISTS sent(nonce INTEGER PRIMARY KEY, block INTEGER NOT NULL, digest BLOB NOT NULL)",
            )?;
            Ok(sqlite)
        });
        match opened {
            Ok(sqlite) => Ok(Self { sqlite, file }),
            Err(error) => Err(NotNotable { file, source: error.into() }),
        }
    }

    /// Where to go on with a bridge. What was noted of another one, or does not fit together, is forgotten.
    pub(super) fn cursor(&self, bridge: Domain, from_block: u64) -> Result<Cursor, NotNotable> {
        self.told(|sqlite| {
            let beginning = Cursor { next: InboundNonce::FIRST, block: from_block };
            let read = sqlite
                .query_row("SELECT bridge, next, block FROM followed WHERE one = 1", [], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
                })
                .optional()?;
            let of_it = read.filter(|(of, ..)| *of == name(bridge)).and_then(|(_, next, block)| {
                let next = InboundNonce::new(next.cast_unsigned()).ok()?;
                Some(Cursor { next, block: block.cast_unsigned() })
            });
            let (count, last): (i64, i64) =
                sqlite.query_row("SELECT count(*), coalesce(max(nonce), 0) FROM sent", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            match of_it {
                Some(cursor) if count == last && last.cast_unsigned() == cursor.next.get() - 1 => Ok(cursor),
                Some(_) | None => {
                    sqlite.execute_batch("BEGIN; DELETE FROM followed; DELETE FROM sent; COMMIT")?;
                    Ok(beginning)
                }
            }
        })
    }

    /// What was sent, and where to go on behind it.
    pub(super) fn note(&self, bridge: Domain, sent: &[Inbound], cursor: Cursor) -> Result<(), NotNotable> {
        self.told(|sqlite| {
            let transaction = sqlite.unchecked_transaction()?;
            let mut write =
                sqlite.prepare("INSERT OR REPLACE INTO sent(nonce, block, digest) VALUES(?1, ?2, ?3)")?;
            for inbound in sent {
                let (nonce, block) = (inbound.nonce.get().cast_signed(), inbound.block_number.cast_signed());
                write.execute(params![nonce, block, digest(inbound).as_bytes()])?;
            }
            drop(write);
            let (next, block) = (cursor.next.get().cast_signed(), cursor.block.cast_signed());
            let sql = "INSERT OR REPLACE INTO followed(one, bridge, next, block) VALUES(1, ?1, ?2, ?3)";
            sqlite.execute(sql, params![name(bridge), next, block])?;
            transaction.commit()
        })
    }

    /// What those say that stand behind a number, up to another one, ascending.
    pub(super) fn sent(
        &self,
        after: u64,
        through: u64,
        count_max: usize,
    ) -> Result<Vec<(u64, BodyHash)>, NotNotable> {
        self.told(|sqlite| {
            let sql =
                "SELECT nonce, digest FROM sent WHERE nonce > ?1 AND nonce <= ?2 ORDER BY nonce LIMIT ?3";
            let bound = |number| i64::try_from(number).unwrap_or(i64::MAX);
            let values = params![bound(after), bound(through), i64::try_from(count_max).unwrap_or(i64::MAX)];
            let mut statement = sqlite.prepare(sql)?;
            let rows = statement.query_map(values, |row| {
                let (nonce, digest): (i64, [u8; 32]) = (row.get(0)?, row.get(1)?);
                Ok((nonce.cast_unsigned(), BodyHash::from_bytes(digest)))
            })?;
            rows.collect()
        })
    }

    /// The block of one of them, if it was sent.
    pub(super) fn block_of(&self, nonce: u64) -> Result<Option<u64>, NotNotable> {
        self.told(|sqlite| {
            let nonce = i64::try_from(nonce).unwrap_or(i64::MAX);
            let sql = "SELECT block FROM sent WHERE nonce = ?1";
            let block = sqlite.query_row(sql, [nonce], |row| row.get::<_, i64>(0)).optional()?;
            Ok(block.map(i64::cast_unsigned))
        })
    }

    fn told<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, NotNotable> {
        ask(&self.sqlite).map_err(|error| NotNotable { file: self.file.clone(), source: error.into() })
    }
}

fn name(bridge: Domain) -> String {
    format!("{} {}", bridge.chain_id, bridge.contract)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::hash::ChainHash;
    use synddb_protocol::id::Address;

    use super::*;

    const BRIDGE: Domain = Domain { chain_id: 5, contract: Address::from_bytes([7; 20]) };

    fn sent(nonce: u64) -> Inbound {
        Inbound {
            chain_id: BRIDGE.chain_id,
            bridge: BRIDGE.contract,
            nonce: InboundNonce::new(nonce).unwrap(),
            block_number: nonce * 10,
            block_hash: ChainHash::from_bytes([1; 32]),
            transaction_hash: ChainHash::from_bytes([2; 32]),
            log_index: 0,
            event: vec![3],
        }
    }

    fn cursor(next: u64, block: u64) -> Cursor {
        Cursor { next: InboundNonce::new(next).unwrap(), block }
    }

    #[test]
    fn it_goes_on_where_it_was_and_anew_with_another_bridge_or_what_does_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let replica = folder.path().join("replica.db");
        let notes = Notes::open(&replica).unwrap();
        assert_eq!(notes.cursor(BRIDGE, 4).unwrap(), cursor(1, 4));
        notes.note(BRIDGE, &[sent(1), sent(2)], cursor(3, 20)).unwrap();
        notes.note(BRIDGE, &[], cursor(3, 900)).unwrap();
        drop(notes);
        let notes = Notes::open(&replica).unwrap();
        assert_eq!(notes.cursor(BRIDGE, 4).unwrap(), cursor(3, 900));
        assert_eq!(notes.sent(1, 9, 9).unwrap(), [(2, digest(&sent(2)))]);
        assert_eq!(notes.sent(0, 9, 1).unwrap(), [(1, digest(&sent(1)))]);
        assert_eq!((notes.block_of(2).unwrap(), notes.block_of(3).unwrap()), (Some(20), None));
        // One of them is not there.
        notes.sqlite.execute("DELETE FROM sent WHERE nonce = 1", []).unwrap();
        assert_eq!(notes.cursor(BRIDGE, 4).unwrap(), cursor(1, 4));
        assert_eq!(notes.sent(0, 9, 9).unwrap(), []);
        notes.note(BRIDGE, &[sent(1)], cursor(2, 10)).unwrap();
        assert_eq!(notes.cursor(Domain { chain_id: 6, ..BRIDGE }, 4).unwrap(), cursor(1, 4));
        std::fs::write(file_beside(&replica), "no database, and longer than nothing at all").unwrap();
        let refused = Notes::open(&replica).err().unwrap();
        assert!(refused.to_string().contains("remove it"), "{refused}");
    }
}
