//! Other ways to capture, inside the application's own transactions: what one would build without an agent.
//!
//! Nothing takes from their outbox tables, which flatters them: an application would also delete what it has sent.

use std::fmt::Write as _;

use super::library::{Connection, Session, Statement};
use super::{Reference, Workload};
use crate::bench::BenchError;

/// A way to capture that takes part in every transaction.
pub(super) enum Capturing<'connection> {
    /// Nothing to do: there is none, or triggers do it.
    Nothing,
    /// A session records.
    Session { connection: &'connection Connection, keep: Statement<'connection> },
}

impl<'connection> Capturing<'connection> {
    /// Makes what it needs. The workload's tables are there.
    pub(super) fn make(
        reference: Reference,
        workload: Workload,
        connection: &'connection Connection,
    ) -> Result<Self, BenchError> {
        match reference {
            Reference::None => Ok(Self::Nothing),
            Reference::Triggers => {
                connection.exec("make the triggers", &triggers(workload))?;
                Ok(Self::Nothing)
            }
            Reference::Session => {
                connection.exec(
                    "make the outbox",
                    "CREATE TABLE outbox (number INTEGER PRIMARY KEY, changeset BLOB NOT NULL)",
                )?;
                let keep =
                    connection.prepare("keep a changeset", "INSERT INTO outbox (changeset) VALUES (?1)")?;
                Ok(Self::Session { connection, keep })
            }
        }
    }

    /// Whether it needs a transaction around a single statement.
    pub(super) const fn needs_transaction(&self) -> bool {
        matches!(self, Self::Session { .. })
    }

    /// After BEGIN.
    pub(super) fn begin(&self) -> Result<Option<Session<'connection>>, BenchError> {
        match self {
            Self::Nothing => Ok(None),
            Self::Session { connection, .. } => connection.session().map(Some),
        }
    }

    /// Before COMMIT.
    pub(super) fn keep(&mut self, session: Option<Session<'connection>>) -> Result<(), BenchError> {
        let (Self::Session { keep, .. }, Some(session)) = (self, session) else { return Ok(()) };
        let changeset = session.changeset()?;
        keep.blob(1, changeset.bytes())?;
        keep.run()
    }
}

/// Triggers of every table that write what a row is now, and after a DELETE what it was, into one outbox.
fn triggers(workload: Workload) -> String {
    let tables = workload.tables();
    let widest = tables.iter().map(|(_, columns)| columns.len()).max().unwrap_or_default();
    let values: String = (1..=widest).fold(String::new(), |all, column| format!("{all}, value_{column}"));
    let mut sql = format!(
        "CREATE TABLE outbox (number INTEGER PRIMARY KEY, of TEXT NOT NULL, what TEXT NOT NULL, id INTEGER NOT NULL{values});"
    );
    for (table, columns) in tables {
        for (what, row) in [("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")] {
            let named: String =
                (1..=columns.len()).fold(String::new(), |all, at| format!("{all}, value_{at}"));
            let taken = columns.iter().fold(String::new(), |all, column| format!("{all}, {row}.{column}"));
            // Writing to a string does not fail.
            write!(
                sql,
                "CREATE TRIGGER {table}_{what} AFTER {what} ON {table} BEGIN
                   INSERT INTO outbox (of, what, id{named}) VALUES ('{table}', '{what}', {row}.id{taken}); END;"
            )
            .ok();
        }
    }
    sql
}
