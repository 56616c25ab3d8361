//! Who signed what of the log that the replica stands on, in the same file: a row for each epoch, written with the position.

use std::path::Path;

use synddb_protocol::id::{Address, Epoch, KeyId, Sequence};
use synddb_protocol::log::{Signed, Signers};
use synddb_protocol::signing::LastValid;
use synddb_sqlite::connection::{Connection, SqliteError, has_table};
use synddb_sqlite::rusqlite::{self, params};

use super::Place;
use crate::error::ReplicaError;

const TABLE: &str = "_synddb_signers";

/// The row that says up to where nothing is known.
const UNKNOWN: i64 = 0;

/// Makes the table where it is missing: a replica that was kept before there was one has none.
pub(crate) fn create(connection: &Connection) -> Result<(), SqliteError> {
    if has_table(connection.sqlite(), TABLE)? {
        return Ok(());
    }
    connection.execute(
        "CREATE TABLE _synddb_signers(
             epoch INTEGER PRIMARY KEY, -- 0: nothing is known up to `through`, the end of epoch `key`
             key BLOB NOT NULL,
             through INTEGER NOT NULL
         )",
    )
}

/// Writes what there is from `since` on, or everything without one, in the transaction that is open.
pub(crate) fn write(
    connection: &Connection,
    signers: &Signers,
    since: Option<Epoch>,
) -> Result<(), SqliteError> {
    let mut statement = connection.sqlite().prepare_cached(
        "INSERT OR REPLACE INTO main._synddb_signers(epoch, key, through) VALUES(?1, ?2, ?3)",
    )?;
    if since.is_none()
        && let Some(LastValid { epoch, size }) = signers.unknown()
    {
        let epoch = epoch.get().to_be_bytes();
        statement.execute(params![UNKNOWN, &epoch[..], size.map_or(0, Sequence::get).cast_signed()])?;
    }
    for (epoch, signed) in signers.since(since.unwrap_or(Epoch::FIRST)) {
        let (epoch, through) = (epoch.get().cast_signed(), signed.through.get().cast_signed());
        statement.execute(params![epoch, signed.key.as_bytes(), through])?;
    }
    Ok(())
}

/// What the replica in a place has; `None` where it was kept before there was such a table.
pub(crate) fn of(place: &Place) -> Result<Option<Signers>, ReplicaError> {
    if !place.is_taken() {
        return Ok(None);
    }
    of_file(place.file())
}

/// What a replica has, also one that is kept by a running process.
pub(crate) fn of_file(file: &Path) -> Result<Option<Signers>, ReplicaError> {
    let sqlite = |source| ReplicaError::Sqlite { doing: "read", file: file.to_owned(), source };
    let connection = Connection::open_to_read(file).map_err(sqlite)?;
    read(connection.sqlite()).map_err(|error| sqlite(error.into()))
}

/// Rows that nobody could have written make it unknown, as a table that is not there.
fn read(sqlite: &rusqlite::Connection) -> rusqlite::Result<Option<Signers>> {
    if !has_table(sqlite, TABLE)? {
        return Ok(None);
    }
    let mut statement = sqlite.prepare("SELECT epoch, key, through FROM main._synddb_signers")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (mut unknown, mut epochs) = (None, Vec::new());
    for row in rows {
        let (epoch, key, through): (i64, Vec<u8>, i64) = row?;
        let through = Sequence::new(through.cast_unsigned()).ok();
        if epoch == UNKNOWN {
            let Some(epoch) = key.try_into().ok().and_then(|key| Epoch::new(u64::from_be_bytes(key)).ok())
            else {
                return Ok(None);
            };
            unknown = Some(LastValid { epoch, size: through });
            continue;
        }
        let key: Option<KeyId> = key.try_into().ok().map(Address::from_bytes);
        let (Ok(epoch), Some(key), Some(through)) = (Epoch::new(epoch.cast_unsigned()), key, through) else {
            return Ok(None);
        };
        epochs.push((epoch, Signed { key, through }));
    }
    Ok((!epochs.is_empty() || unknown.is_some()).then(|| Signers::kept(unknown, epochs)))
}
