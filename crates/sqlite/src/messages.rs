//! The message tables of an application: what it asks of the bridge, and what it has done with what the bridge delivered.
//!
//! They are ordinary tables of the application's database. Their checks and triggers tell the application early what validators refuse later; a validator
//! believes none of them.

mod row;

use crate::connection::{Connection, SqliteError};

pub use row::{DEADLINE_NEVER, GAS_LIMIT_MAX, NotOutbound, OutboundColumns, OutboundRow, PAYLOAD_BYTES_MAX};

/// Messages that ask the bridge to act. The id is the nonce: dense from 1 over all incarnations.
pub const OUTBOUND: &str = "outbound_messages";
/// Messages of the bridge that the application has done with, one row for each, in their order.
pub const INBOUND: &str = "inbound_messages";

/// What makes both tables.
pub const SCHEMA: &str = include_str!("messages.sql");

/// Why the tables are not made.
#[derive(Debug, thiserror::Error)]
pub enum MessagesError {
    /// There is something of the name that was made otherwise.
    #[error(
        "the database has something of the name `{name}` that was made otherwise: {difference}; rename it, or make it as `synddb init-messages --print` shows"
    )]
    Other {
        /// The name.
        name: String,
        /// What is other about it.
        difference: String,
    },
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
}

/// Makes both tables and their triggers, in one transaction, where they are missing. Says whether anything was made.
///
/// # Errors
/// [`MessagesError`]; then nothing was made.
pub fn create(connection: &Connection) -> Result<bool, MessagesError> {
    let model = Connection::over(rusqlite::Connection::open_in_memory().map_err(SqliteError::from)?)?;
    model.execute(SCHEMA)?;
    connection.execute("BEGIN IMMEDIATE")?;
    let made = create_missing(connection, &model);
    connection.execute(if made.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    made
}

fn create_missing(connection: &Connection, model: &Connection) -> Result<bool, MessagesError> {
    let found = objects(connection)?;
    let mut missing = false;
    for wanted in objects(model)? {
        match found.iter().find(|found| found.name.eq_ignore_ascii_case(&wanted.name)) {
            None => missing = true,
            Some(found) if *found == wanted => {}
            Some(found) => {
                let difference = difference(found, &wanted, connection, model)?;
                return Err(MessagesError::Other { name: wanted.name, difference });
            }
        }
    }
    if missing {
        connection.execute(SCHEMA)?;
    }
    Ok(missing)
}

/// What a schema holds, as it was made.
#[derive(PartialEq, Eq)]
struct Object {
    kind: String,
    name: String,
    sql: String,
}

fn objects(connection: &Connection) -> Result<Vec<Object>, SqliteError> {
    let sql = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL";
    let mut statement = connection.sqlite().prepare(sql)?;
    let rows = statement
        .query_map([], |row| Ok(Object { kind: row.get(0)?, name: row.get(1)?, sql: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// What is other about `found`, in the words that help most.
fn difference(
    found: &Object,
    wanted: &Object,
    connection: &Connection,
    model: &Connection,
) -> Result<String, SqliteError> {
    if found.kind != wanted.kind {
        return Ok(format!("it is a {}, not a {}", found.kind, wanted.kind));
    }
    if wanted.kind == "table" {
        let (there, here) = (columns(connection, &found.name)?, columns(model, &wanted.name)?);
        if let Some(lacking) = here.iter().find(|column| !there.contains(column)) {
            return Ok(format!("it has no column `{lacking}`"));
        }
        if let Some(further) = there.iter().find(|column| !here.contains(column)) {
            return Ok(format!("it has a column `{further}`"));
        }
        return Ok("its columns are declared otherwise".to_owned());
    }
    Ok(format!("the {} does something else", wanted.kind))
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<String>, SqliteError> {
    let mut statement = connection.sqlite().prepare("SELECT name FROM pragma_table_xinfo(?1)")?;
    let rows = statement.query_map([table], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Connection {
        Connection::over(rusqlite::Connection::open_in_memory().unwrap()).unwrap()
    }

    #[test]
    fn they_are_made_once_and_never_over_something_else() {
        let database = open();
        assert!(create(&database).unwrap());
        assert!(!create(&database).unwrap(), "they are there");
        database.execute("DROP TRIGGER outbound_messages_kept").unwrap();
        assert!(create(&database).unwrap(), "one is missing");
        for (made, at, expected) in [
            ("CREATE TABLE Inbound_Messages(a)", INBOUND, "it has no column `message_id`"),
            ("CREATE VIEW outbound_messages AS SELECT 1", OUTBOUND, "it is a view, not a table"),
            (
                "CREATE TABLE inbound_messages(message_id, outcome, reason, processed_at, note)",
                INBOUND,
                "it has a column `note`",
            ),
            (
                "CREATE TABLE inbound_messages(message_id, outcome, reason, processed_at)",
                INBOUND,
                "its columns are declared otherwise",
            ),
            (
                "CREATE TABLE t(a); CREATE TRIGGER outbound_messages_kept BEFORE UPDATE ON t BEGIN SELECT 1; END",
                "outbound_messages_kept",
                "the trigger does something else",
            ),
        ] {
            let other = open();
            other.execute(made).unwrap();
            let before = objects(&other).unwrap().len();
            let error = create(&other).unwrap_err();
            assert!(
                matches!(&error, MessagesError::Other { name, difference } if name == at && difference == expected),
                "{error}"
            );
            assert_eq!(objects(&other).unwrap().len(), before, "nothing was made");
        }
    }

    #[test]
    fn what_validators_refuse_is_refused_at_once() {
        let database = open();
        create(&database).unwrap();
        let target = "0x00000000000000000000000000000000000000aa";
        let insert = format!(
            "INSERT INTO outbound_messages(target, token, amount) VALUES('{target}', '{target}', '115792089237316195423570985008687907853269984665640564039457584007913129639935')"
        );
        database.execute(&insert).unwrap();
        database.execute(&insert).unwrap();
        let key = "INSERT INTO outbound_messages(target, idempotency_key) SELECT target, 'one' FROM outbound_messages WHERE id = 1 ON CONFLICT DO NOTHING";
        database.execute(key).unwrap();
        database.execute(key).unwrap();
        for (refused, why) in [
            ("UPDATE outbound_messages SET amount = '5'".to_owned(), "never change"),
            ("DELETE FROM outbound_messages".to_owned(), "never change"),
            (format!("INSERT INTO outbound_messages(id, target) VALUES(7, '{target}')"), "without a gap"),
            (
                format!("INSERT OR REPLACE INTO outbound_messages(id, target) VALUES(1, '{target}')"),
                "without a gap",
            ),
            (format!("INSERT INTO outbound_messages(id, target) VALUES(-1, '{target}')"), "CHECK"),
            ("INSERT INTO outbound_messages(target) VALUES('0xAB')".to_owned(), "CHECK"),
            (format!("INSERT INTO outbound_messages(target, amount) VALUES('{target}', '1')"), "CHECK"),
            (format!("INSERT INTO outbound_messages(target) VALUES('{target}' || char(0))"), "CHECK"),
            (
                format!(
                    "INSERT INTO outbound_messages(target, token) VALUES('{target}', '{target}' || char(0))"
                ),
                "CHECK",
            ),
            (
                format!("INSERT INTO outbound_messages(target, value) VALUES('{target}', '5' || char(0))"),
                "CHECK",
            ),
            (
                // One more than a uint256 holds.
                format!(
                    "INSERT INTO outbound_messages(target, value) VALUES('{target}', '115792089237316195423570985008687907853269984665640564039457584007913129639936')"
                ),
                "CHECK",
            ),
            (format!("INSERT INTO outbound_messages(target, created_at) VALUES('{target}', 'now')"), "CHECK"),
            (format!("INSERT INTO outbound_messages(target, value) VALUES('{target}', '-1')"), "CHECK"),
            (format!("INSERT INTO outbound_messages(target, value) VALUES('{target}', '01')"), "CHECK"),
            (
                "INSERT INTO inbound_messages(message_id, outcome) VALUES(2, 'done')".to_owned(),
                "in their order",
            ),
            ("INSERT INTO inbound_messages(message_id, outcome) VALUES(1, 'maybe')".to_owned(), "CHECK"),
        ] {
            let error = database.execute(&refused).unwrap_err();
            assert!(error.message().contains(why), "{refused}: {error:?}");
        }
        database.execute("INSERT INTO inbound_messages(message_id, outcome) VALUES(1, 'done')").unwrap();
        let error = database.execute("UPDATE inbound_messages SET outcome = 'rejected'").unwrap_err();
        assert!(error.message().contains("never change"));
        let ids: Vec<i64> = {
            let mut statement =
                database.sqlite().prepare("SELECT id FROM outbound_messages ORDER BY id").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(ids, [1, 2, 3]);
    }
}
