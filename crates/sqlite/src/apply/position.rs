//! Where the contents of a replica stand: one row in the same file, written in the transaction that changes the contents (I8). Beside it, the
//! states that were committed before, as far back as [`STATES_KEPT`] messages: what two replicas of one log say of their past.
//!
//! The tables' names keep them outside of the state hash and of every comparison with the application's database.

use rusqlite::{OptionalExtension as _, params};
use synddb_protocol::DecodeError;
use synddb_protocol::contents::{STATES_KEPT, STATES_MAX, State};
use synddb_protocol::hash::StateHash;
use synddb_protocol::id::Sequence;
use synddb_protocol::log::{SignedCheckpoint, TrustedCheckpoint};

use crate::connection::{Connection, SqliteError, has_table};

/// Makes the tables in a file that has none.
///
/// # Errors
/// [`SqliteError`] when there is one already, or SQLite fails.
pub fn create(connection: &Connection) -> Result<(), SqliteError> {
    connection.execute(
        "CREATE TABLE _synddb_position(
             one INTEGER PRIMARY KEY CHECK (one = 1),
             stream BLOB NOT NULL,
             sequence INTEGER NOT NULL,
             checkpoint BLOB NOT NULL
         )",
    )?;
    keep_states(connection)
}

/// Makes the table of states in a replica that was made before there was one.
///
/// # Errors
/// [`SqliteError`] when SQLite fails.
pub fn keep_states(connection: &Connection) -> Result<(), SqliteError> {
    connection.execute(
        "CREATE TABLE IF NOT EXISTS main._synddb_states(sequence INTEGER PRIMARY KEY, state BLOB NOT NULL)",
    )
}

/// Writes the position, in the transaction that is open.
///
/// # Errors
/// [`SqliteError`] when it cannot be written.
pub fn write(connection: &Connection, checkpoint: &TrustedCheckpoint) -> Result<(), SqliteError> {
    let claim = checkpoint.claim();
    let mut statement = connection.sqlite().prepare_cached(
        "INSERT OR REPLACE INTO main._synddb_position(one, stream, sequence, checkpoint) VALUES(1, ?1, ?2, ?3)",
    )?;
    statement.execute(params![
        claim.stream.as_bytes(),
        claim.size.get().cast_signed(),
        checkpoint.to_bytes()
    ])?;
    if let Some(client) = &claim.client {
        write_state(connection, claim.size, client.state)?;
    }
    Ok(())
}

/// Writes what the state is here, and forgets what is too far behind.
fn write_state(connection: &Connection, sequence: Sequence, state: StateHash) -> Result<(), SqliteError> {
    let at = sequence.get().cast_signed();
    let mut statement = connection
        .sqlite()
        .prepare_cached("INSERT OR REPLACE INTO main._synddb_states(sequence, state) VALUES(?1, ?2)")?;
    statement.execute(params![at, state.as_bytes()])?;
    let mut statement =
        connection.sqlite().prepare_cached("DELETE FROM main._synddb_states WHERE sequence <= ?1")?;
    statement.execute(params![at.saturating_sub(STATES_KEPT.cast_signed())])?;
    Ok(())
}

/// The states that a replica was committed in up to a message, newest first, and at most [`STATES_MAX`]. None of a file that keeps none.
///
/// # Errors
/// [`SqliteError`] when they cannot be read. A row that is no state is left out.
pub fn states(sqlite: &rusqlite::Connection, through: Sequence) -> Result<Vec<State>, SqliteError> {
    if !has_table(sqlite, "_synddb_states")? {
        return Ok(Vec::new());
    }
    let mut statement = sqlite.prepare(
        "SELECT sequence, state FROM main._synddb_states WHERE sequence <= ?1 ORDER BY sequence DESC LIMIT ?2",
    )?;
    let most = i64::try_from(STATES_MAX).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![through.get().cast_signed(), most])?;
    let mut states = Vec::new();
    while let Some(row) = rows.next()? {
        let sequence = u64::try_from(row.get::<_, i64>(0)?).ok().and_then(|at| Sequence::new(at).ok());
        let state = row.get::<_, [u8; 32]>(1).ok().map(StateHash::from_bytes);
        states.extend(sequence.zip(state).map(|(sequence, state)| State { sequence, state }));
    }
    Ok(states)
}

/// Why there is no position.
#[derive(Debug, thiserror::Error)]
pub enum NoPosition {
    /// The file was not made by a validator.
    #[error("the file holds no position")]
    None,
    /// The row holds no checkpoint.
    #[error("the position in the file is damaged")]
    Damaged(#[from] DecodeError),
    /// SQLite failed.
    #[error("the position cannot be read")]
    Sqlite(#[from] rusqlite::Error),
}

/// The checkpoint that the contents stand at, as the row has it: signed, and not verified by reading it.
///
/// # Errors
/// [`NoPosition`] when it says none.
pub fn read(sqlite: &rusqlite::Connection) -> Result<SignedCheckpoint, NoPosition> {
    if !has_table(sqlite, "_synddb_position")? {
        return Err(NoPosition::None);
    }
    let sql = "SELECT stream, sequence, checkpoint FROM main._synddb_position WHERE one = 1";
    let row: Option<(Vec<u8>, i64, Vec<u8>)> =
        sqlite.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let (stream, sequence, bytes) = row.ok_or(NoPosition::None)?;
    let checkpoint = SignedCheckpoint::from_bytes(&bytes)?;
    let claim = checkpoint.claim();
    if stream != claim.stream.as_bytes() || sequence != claim.size.get().cast_signed() {
        let why = "stream and sequence are those of the checkpoint";
        return Err(DecodeError::Invalid { what: "position", why }.into());
    }
    Ok(checkpoint)
}
