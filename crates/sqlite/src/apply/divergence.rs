//! How a replica can differ from what a commit says it was, or cannot become what the commit says it is.
//!
//! Each kind names what a report needs. Values and what identifies rows are written out for people as a comparison
//! of two files does, cut short when they are long.

use synddb_protocol::state::Value;
use synddb_protocol::submission::TextEncoding;

use crate::compare::Shown;
use crate::connection::SqliteError;

/// The replica is not, or cannot become, what the application's database was. It must not go on from here.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Divergence {
    /// A row that the commit updates or deletes is not there.
    #[error("the replica lacks a row that the commit changes. table=`{table}` row=`{identity}`")]
    Missing {
        /// The table.
        table: String,
        /// What identifies the row.
        identity: String,
    },
    /// A row that the commit inserts is there already.
    #[error("the replica has a row that the commit inserts. table=`{table}` row=`{identity}`")]
    Exists {
        /// The table.
        table: String,
        /// What identifies the row.
        identity: String,
    },
    /// A row that the commit updates or deletes holds something else.
    #[error(
        "the replica's row is not what the commit found. table=`{table}` row=`{identity}` column=`{column}` \
         expected=`{expected}` found=`{found}`"
    )]
    Value {
        /// The table.
        table: String,
        /// What identifies the row.
        identity: String,
        /// The first column that differs.
        column: String,
        /// What the commit found there.
        expected: String,
        /// What the replica has there.
        found: String,
    },
    /// SQLite stored something else than it was given, or computed something else than was captured in a table that it takes no
    /// stand-in text for.
    #[error(
        "sqlite makes another value of what the commit wrote. table=`{table}` row=`{identity}` column=`{column}` \
         expected=`{expected}` found=`{found}`"
    )]
    Altered {
        /// The table.
        table: String,
        /// What identifies the row.
        identity: String,
        /// The first column that differs.
        column: String,
        /// What the commit wrote.
        expected: String,
        /// What SQLite made of it.
        found: String,
    },
    /// The row breaks a constraint: it is in the way of another row, or not allowed in the table.
    #[error("sqlite does not take a row of the commit. table=`{table}` row=`{identity}`")]
    Refused {
        /// The table.
        table: String,
        /// What identifies the row.
        identity: String,
        /// What SQLite said.
        source: SqliteError,
    },
    /// Rows that do not fit the table.
    #[error("rows of the commit do not fit the replica's schema: {why}. table=`{table}`")]
    Shape {
        /// The table that the rows name.
        table: String,
        /// What does not fit.
        why: &'static str,
    },
    /// A schema change that does not fit the schema, or a schema that is not what the changes make of it.
    #[error("the replica's schema cannot follow the commit: {why}. kind=`{kind}` name=`{name}`")]
    Schema {
        /// `table`, `index`, `view` or `trigger`.
        kind: &'static str,
        /// The object.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// SQLite does not take the schema that the commit says there is.
    #[error("sqlite does not take a schema change of the commit. name=`{name}`")]
    Unreadable {
        /// The object that was worked on.
        name: String,
        /// What SQLite said.
        source: SqliteError,
    },
}

/// A value for people, as a comparison of two files shows it.
pub(super) fn shown(value: Value<'_>, encoding: TextEncoding) -> String {
    Shown { value, encoding }.to_string()
}
