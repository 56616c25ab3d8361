//! What makes one database of another: all that changed between two states, as one commit.
//!
//! For when nobody saw the transactions in between: `base` is the last state that was captured, `live` what the application has now. What
//! goes to the sink is in the form of a captured commit, by the code that captures: the same schema changes, the same rows under the same
//! identities, in the same pieces.
//!
//! ```text
//! schemas of both --schema::difference--> schema changes, and what became of each table
//!                                              new:  every row of it         (rows.rs)
//!                                              kept: both side by side, in the order of their identity
//! ```
//!
//! What must stay true:
//!
//! - Applied to `base`, the result gives `live`: schema, rows, `user_version`, `application_id`, and so the state hash.
//! - Nothing is said of what is equal.
//! - Memory is bounded by the schemas, a row of each side and one piece, whatever the tables hold.
//!
//! Knows nothing of who made `base`, and of how long ago. Compares two states only, so that a row that changed and changed back is no change.

mod rows;

use std::sync::atomic::AtomicBool;

use synddb_protocol::submission::TextEncoding;

use crate::capture::out::Out;
use crate::capture::{CaptureError, CommittedState, PollError, Sink};
use crate::connection::{Connection, SqliteError};
use crate::file::Damaged;
use crate::schema::{
    SchemaDifference, SchemaError, TableFate, check_indexes, difference as schema_difference,
};
use crate::state::{RunningState, StateError};
pub(crate) use rows::{Side, all_rows, changed_rows};

/// Why two states were not compared to the end. What was handed to the sink until then is no commit.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError<E> {
    /// The databases store text in different encodings, which no commit changes.
    #[error(
        "the databases have different text encodings; begin a new incarnation. base=`{base:?}` live=`{live:?}`"
    )]
    Encoding {
        /// Of the last captured state.
        base: TextEncoding,
        /// Of the live one.
        live: TextEncoding,
    },
    /// One of them could not be read, or its schema cannot be replicated.
    #[error("cannot compare the last captured state with the live one")]
    Compare(#[source] CaptureError),
    /// Somebody asked to end.
    #[error("the comparison was asked to end")]
    Stopped,
    /// The sink failed.
    #[error("the difference cannot be kept")]
    Sink(#[source] E),
}

impl<E> From<PollError<E>> for ReconcileError<E> {
    fn from(error: PollError<E>) -> Self {
        match error {
            PollError::Capture(error) => Self::Compare(error),
            PollError::Sink(error) => Self::Sink(error),
        }
    }
}

impl<E> From<SqliteError> for ReconcileError<E> {
    fn from(error: SqliteError) -> Self {
        Self::Compare(error.into())
    }
}

impl<E> From<SchemaError> for ReconcileError<E> {
    fn from(error: SchemaError) -> Self {
        Self::Compare(error.into())
    }
}

impl<E> From<StateError> for ReconcileError<E> {
    fn from(error: StateError) -> Self {
        Self::Compare(error.into())
    }
}

impl<E> From<Damaged> for ReconcileError<E> {
    fn from(error: Damaged) -> Self {
        Self::Compare(error.into())
    }
}

/// Hands what makes `live` of `base` to `sink`, as one commit that is not persisted and of which [`Sink::apart`] tells nothing, and returns how many rows differ.
///
/// Each connection has a transaction open, so that it sees one state; `state` is that of `live`, by a scan in the same transaction.
/// Asks `stopping` before each row.
///
/// # Errors
/// [`ReconcileError`]; then the sink has got part of a commit at most.
pub fn difference<S: Sink>(
    base: &Connection,
    live: &Connection,
    state: &RunningState,
    stopping: &AtomicBool,
    sink: &mut S,
) -> Result<u64, ReconcileError<S::Error>> {
    if base.encoding() != live.encoding() {
        return Err(ReconcileError::Encoding { base: base.encoding(), live: live.encoding() });
    }
    let before = RunningState::of_schema(base)?;
    check_indexes(state.objects(), Some(before.objects()), live.encoding())?;
    let old = (before.objects(), before.layouts());
    let SchemaDifference { changes, tables } = schema_difference(old, (state.objects(), state.layouts()));
    let mut rows = Vec::new();
    let mut out = Out::new(sink, changes, &mut rows);
    for fate in tables {
        let (name, kept) = match &fate {
            TableFate::New { name } => (name, None),
            TableFate::Kept { before: name, after, .. } => (after, Some(before.layout(name).ok_or(LOST)?)),
        };
        let live = Side { connection: live, layout: state.layout(name).ok_or(LOST)? };
        match kept {
            None => rows::all_new(live, stopping, &mut out)?,
            Some(layout) => rows::changed(Side { connection: base, layout }, live, stopping, &mut out)?,
        }
    }
    let (user_version, application_id) = (state.user_version(), state.application_id());
    out.set_header(
        (user_version != before.user_version()).then_some(user_version),
        (application_id != before.application_id()).then_some(application_id),
    );
    Ok(out.finish(&mut CommittedState::from(state))?)
}

const LOST: SchemaError = SchemaError::Damaged { what: "a table is not in its own schema" };
