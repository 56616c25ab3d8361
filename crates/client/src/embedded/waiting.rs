//! The table in the application's own database where commits wait until the agent's outbox has them: `_synddb_outbox`.
//!
//! ```text
//! number  that of the commit in its incarnation    schema  { length:u32 BE, SchemaChange as canonical CBOR }
//! counter, nonce  the incarnation                  rows    a changeset
//! state   the state hash after the commit          user_version, application_id  where they changed
//! ```
//!
//! It is outside of what is replicated: no hash, changeset or snapshot has its rows.

use synddb_protocol::Canonical as _;
use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce};
use synddb_protocol::state::Value;
use synddb_protocol::submission::{Changes, SchemaChange};
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::rusqlite::OptionalExtension as _;
use synddb_sqlite::statement::{Row, Statement};

use super::error::Error;

/// Statements on the table.
pub(super) struct Waiting {
    insert: Statement,
    delete: Statement,
    /// The first number that may still be there.
    from: u64,
}

/// A commit that waits.
pub(super) struct Waits {
    pub(super) number: u64,
    pub(super) incarnation: Incarnation,
    pub(super) changes: Changes,
    pub(super) state: StateHash,
}

/// Makes the table where it is missing.
pub(super) fn create(connection: &Connection) -> Result<(), Error> {
    connection.execute(
        "BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS _synddb_outbox (
             number INTEGER PRIMARY KEY,
             counter INTEGER NOT NULL,
             nonce BLOB NOT NULL,
             schema BLOB NOT NULL,
             rows BLOB NOT NULL,
             user_version INTEGER,
             application_id INTEGER,
             state BLOB NOT NULL
         );
         COMMIT",
    )?;
    // A trigger or a constraint there would change or refuse what waits.
    let others = "SELECT name FROM main.sqlite_schema WHERE tbl_name = '_synddb_outbox' COLLATE NOCASE
                  AND (type <> 'table' OR name <> '_synddb_outbox' COLLATE NOCASE)";
    let name = connection.sqlite().query_row(others, [], |row| row.get::<_, String>(0)).optional()?;
    name.map_or(Ok(()), |name| Err(Error::Crowded { name }))
}

impl Waiting {
    /// For a table whose first commit has this number, or a later one.
    pub(super) fn new(connection: &Connection, from: u64) -> Result<Self, SqliteError> {
        Ok(Self {
            insert: connection
                .prepare("INSERT INTO main._synddb_outbox VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?,
            delete: connection.prepare("DELETE FROM main._synddb_outbox WHERE number < ?1")?,
            from,
        })
    }

    /// Adds a commit, in its own transaction.
    pub(super) fn add(
        &mut self,
        number: CommitNumber,
        incarnation: Incarnation,
        changes: &Changes,
        state: StateHash,
    ) -> Result<(), Error> {
        let mut schema = Vec::new();
        for change in &changes.schema {
            let bytes = change.to_bytes();
            // What no reader takes must not be committed: nobody could send it.
            SchemaChange::from_bytes(&bytes).map_err(Error::Refused)?;
            schema.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            schema.extend_from_slice(&bytes);
        }
        let header = |value: Option<i32>| value.map_or(Value::Null, |value| Value::Integer(value.into()));
        self.insert.execute(&[
            Value::Integer(stored(number.get())),
            Value::Integer(stored(incarnation.counter.get())),
            Value::Blob(incarnation.nonce.as_bytes()),
            Value::Blob(&schema),
            Value::Blob(&changes.rows),
            header(changes.user_version),
            header(changes.application_id),
            Value::Blob(state.as_bytes()),
        ])?;
        Ok(())
    }

    /// Whether there may be a commit before this number.
    pub(super) fn has_before(&self, number: u64) -> bool {
        self.from < number
    }

    /// Forgets the commits before this number.
    pub(super) fn forget_before(&mut self, number: u64) -> Result<(), SqliteError> {
        self.delete.execute(&[Value::Integer(stored(number))])?;
        Ok(())
    }

    /// They are forgotten for good.
    pub(super) fn forgot_before(&mut self, number: u64) {
        self.from = self.from.max(number);
    }
}

/// Whether every commit from `kept` up to before `end` waits.
pub(super) fn is_dense(connection: &Connection, kept: u64, end: u64) -> Result<bool, Error> {
    let sql = "SELECT count(*) FROM main._synddb_outbox WHERE number >= ?1 AND number < ?2";
    let found: i64 = connection.sqlite().query_row(sql, [stored(kept), stored(end)], |row| row.get(0))?;
    Ok(found == stored(end.saturating_sub(kept)))
}

/// Every commit that waits, in order.
pub(super) fn read(connection: &Connection) -> Result<Vec<Waits>, Error> {
    let mut found = Vec::new();
    let sql = "SELECT number, counter, nonce, schema, rows, user_version, application_id, state
               FROM main._synddb_outbox ORDER BY number";
    connection.prepare(sql)?.query::<Error>(&[], |row| {
        found.push(waits(row)?);
        Ok(())
    })?;
    Ok(found)
}

fn waits(row: &Row<'_>) -> Result<Waits, Error> {
    let number = |column| match row.value(column) {
        Value::Integer(value) => u64::try_from(value).map_err(|_| Error::Damaged { what: "a number" }),
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => {
            Err(Error::Damaged { what: "a number" })
        }
    };
    let blob = |column| match row.value(column) {
        Value::Blob(bytes) => Ok(bytes),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_) => {
            Err(Error::Damaged { what: "bytes" })
        }
    };
    let header = |column| match row.value(column) {
        Value::Null => Ok(None),
        Value::Integer(value) => {
            i32::try_from(value).map(Some).map_err(|_| Error::Damaged { what: "a header value" })
        }
        Value::Real(_) | Value::Text(_) | Value::Blob(_) => Err(Error::Damaged { what: "a header value" }),
    };
    let counter =
        IncarnationCounter::new(number(1)?).map_err(|_| Error::Damaged { what: "an incarnation" })?;
    let nonce = blob(2)?.try_into().map_err(|_| Error::Damaged { what: "an incarnation" })?;
    let state = blob(7)?.try_into().map_err(|_| Error::Damaged { what: "a state hash" })?;
    Ok(Waits {
        number: number(0)?,
        incarnation: Incarnation { counter, nonce: IncarnationNonce::from_bytes(nonce) },
        changes: Changes {
            schema: schema_changes(blob(3)?)?,
            rows: blob(4)?.to_vec(),
            user_version: header(5)?,
            application_id: header(6)?,
        },
        state: StateHash::from_bytes(state),
    })
}

fn schema_changes(mut bytes: &[u8]) -> Result<Vec<SchemaChange>, Error> {
    const DAMAGED: Error = Error::Damaged { what: "a schema change" };
    let mut changes = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or(DAMAGED)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (change, rest) = rest.split_at_checked(length).ok_or(DAMAGED)?;
        changes.push(SchemaChange::from_bytes(change).map_err(|_| DAMAGED)?);
        bytes = rest;
    }
    Ok(changes)
}

/// A counter as SQLite stores it. All of ours end below 2^63.
fn stored(counter: u64) -> i64 {
    i64::try_from(counter).unwrap_or(i64::MAX)
}
