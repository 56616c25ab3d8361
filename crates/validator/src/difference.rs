//! What of a replica differs, in the words of a halt: what the cause knows of it, and what a comparison found.

use synddb_protocol::http::{Difference, Naming};
use synddb_protocol::id::Sequence;
use synddb_sqlite::apply::{self, ApplyError, SubmissionError};
use synddb_sqlite::compare::Told;

use crate::error::{Divergence, HaltCause};

/// What the cause of a halt knows. `None` when the log was refused, and not applied.
pub(crate) fn of(cause: &HaltCause) -> Option<Difference> {
    let HaltCause::Diverged { sequence, source } = cause else { return None };
    let nothing = nothing(*sequence);
    Some(match source {
        Divergence::Submission(SubmissionError::State { commit, claimed, found }) => Difference {
            commit: Some(*commit),
            expected_state: Some(*claimed),
            found_state: Some(*found),
            ..nothing
        },
        Divergence::Submission(SubmissionError::NotApplicable { commit, source }) => {
            let nothing = Difference { commit: Some(*commit), ..nothing };
            match source {
                ApplyError::Divergence(divergence) => applied(divergence, nothing),
                ApplyError::Sqlite(_)
                | ApplyError::Schema(_)
                | ApplyError::State(_)
                | ApplyError::Changeset(_)
                | ApplyError::NotBegun => nothing,
            }
        }
        Divergence::Submission(
            SubmissionError::Failed { commit, .. } | SubmissionError::Spool { commit, .. },
        ) => Difference { commit: Some(*commit), ..nothing },
        Divergence::Snapshot(_) | Divergence::Unreadable(_) | Divergence::Replaced => nothing,
        Divergence::State { expected, found, tables } => Difference {
            expected_state: Some(*expected),
            found_state: Some(*found),
            tables: tables.clone(),
            ..nothing
        },
        Divergence::Rebuilt { expected, found } => {
            Difference { expected_state: Some(*expected), found_state: Some(*found), ..nothing }
        }
        Divergence::Position { table, expected, found } => Difference {
            object: Some(format!("table {table}")),
            table: Some((*table).to_owned()),
            expected: Some(expected.clone()),
            found: Some(found.clone()),
            ..nothing
        },
    })
}

/// What an applier found.
fn applied(divergence: &apply::Divergence, nothing: Difference) -> Difference {
    use apply::Divergence as Found;
    let in_table = |table: &str| Difference {
        object: Some(format!("table {table}")),
        table: Some(table.to_owned()),
        tables: vec![table.to_owned()],
        ..nothing.clone()
    };
    let of_row = |table: &str, row: &str, expected: &str, found: &str| Difference {
        row: Some(row.to_owned()),
        expected: Some(expected.to_owned()),
        found: Some(found.to_owned()),
        ..in_table(table)
    };
    match divergence {
        Found::Missing { table, identity } => of_row(table, identity, "a row", "no row"),
        Found::Exists { table, identity } => of_row(table, identity, "no row", "a row"),
        Found::Value { table, identity, column, expected, found }
        | Found::Altered { table, identity, column, expected, found } => {
            Difference { column: Some(column.clone()), ..of_row(table, identity, expected, found) }
        }
        Found::Refused { table, identity, .. } => {
            Difference { row: Some(identity.clone()), ..in_table(table) }
        }
        Found::Shape { table, .. } => in_table(table),
        Found::Schema { kind, name, .. } => Difference { object: Some(format!("{kind} {name}")), ..nothing },
        Found::Unreadable { name, .. } => Difference { object: Some(name.clone()), ..nothing },
    }
}

/// The same with what a comparison with what the log makes of it found.
pub(crate) fn named(difference: &mut Difference, told: Option<Told>, tables: Vec<String>) {
    difference.naming = Naming::Done;
    difference.tables = tables;
    // Where rows and schema are what they should be, what was known before is all there is.
    let Some(Told { object, table, row, column, expected, found }) = told else { return };
    difference.object = Some(object);
    (difference.table, difference.row, difference.column) = (table, row, column);
    (difference.expected, difference.found) = (Some(expected), Some(found));
}

const fn nothing(sequence: Sequence) -> Difference {
    Difference {
        sequence,
        commit: None,
        expected_state: None,
        found_state: None,
        tables: Vec::new(),
        naming: Naming::Known,
        object: None,
        table: None,
        row: None,
        column: None,
        expected: None,
        found: None,
    }
}
