//! The message tables of an application: what it asks of the bridge, and what it has done with what the bridge delivered.
//!
//! They are ordinary tables of the application's database. Their checks and triggers tell the application early what validators refuse later; a validator
//! believes none of them.

use crate::connection::{Connection, SqliteError};

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
        "the database has a table or view `{name}` that was not made by this; rename it, or make it as `synddb init-messages --print` shows"
    )]
    Other {
        /// The name.
        name: String,
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
    let wanted = objects(
        &Connection::over(rusqlite::Connection::open_in_memory().map_err(SqliteError::from)?)?,
        true,
    )?;
    connection.execute("BEGIN IMMEDIATE")?;
    let made = create_missing(connection, &wanted);
    connection.execute(if made.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    made
}

fn create_missing(connection: &Connection, wanted: &[(String, String)]) -> Result<bool, MessagesError> {
    let found = objects(connection, false)?;
    let mut missing = false;
    for (name, sql) in wanted {
        match found.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)) {
            None => missing = true,
            Some((_, found)) if found == sql => {}
            Some(_) => return Err(MessagesError::Other { name: name.clone() }),
        }
    }
    if missing {
        connection.execute(SCHEMA)?;
    }
    Ok(missing)
}

/// Tables, views and triggers by name, as they were made; of a database that is `empty`, after they were.
fn objects(connection: &Connection, empty: bool) -> Result<Vec<(String, String)>, SqliteError> {
    if empty {
        connection.execute(SCHEMA)?;
    }
    let sql = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL";
    let mut statement = connection.sqlite().prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
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
        let other = open();
        other.execute("CREATE TABLE Inbound_Messages(a)").unwrap();
        assert!(matches!(create(&other), Err(MessagesError::Other { name }) if name == INBOUND));
        let count: i64 =
            other.sqlite().query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1, "nothing was made");
    }

    #[test]
    fn what_validators_refuse_is_refused_at_once() {
        let database = open();
        create(&database).unwrap();
        let target = "0x00000000000000000000000000000000000000aa";
        let insert = format!(
            "INSERT INTO outbound_messages(target, amount) VALUES('{target}', '115792089237316195423570985008687907853269984665640564039457584007913129639935')"
        );
        database.execute(&insert).unwrap();
        database.execute(&insert).unwrap();
        for (refused, why) in [
            ("UPDATE outbound_messages SET amount = '5'".to_owned(), "never change"),
            ("DELETE FROM outbound_messages".to_owned(), "never change"),
            (format!("INSERT INTO outbound_messages(id, target) VALUES(7, '{target}')"), "without a gap"),
            (
                format!("INSERT OR REPLACE INTO outbound_messages(id, target) VALUES(1, '{target}')"),
                "without a gap",
            ),
            ("INSERT INTO outbound_messages(target) VALUES('0xAB')".to_owned(), "CHECK"),
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
        assert_eq!(ids, [1, 2]);
    }
}
