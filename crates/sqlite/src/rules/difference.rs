//! One state that takes the place of another, as rules see it: the rows in which they differ.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use synddb_protocol::chain;
use synddb_protocol::state::Value;
use synddb_protocol::submission::ObjectKind;

use super::gathered::{Gathered, Inner, Set};
use super::judge::{CommitView, Judge, What};
use crate::apply::ApplyError;
use crate::capture::CaptureError;
use crate::connection::{Connection, SqliteError};
use crate::reconcile::{ReconcileError, Side, all_rows, changed_rows};
use crate::schema::{Identity, Layout, TableFate, difference as schema_difference, from_text};
use crate::state::RunningState;

/// Shows `judge` what makes `after` of `before`, of the tables that are watched: all rows are new where there is nothing before. What is many lies in files without
/// a name in `folder`. Each connection sees one state meanwhile. `stopping` is asked before each row; who is told to stop has judged nothing.
///
/// # Errors
/// [`ApplyError`] when one of them cannot be read.
pub fn difference(
    before: Option<&Connection>,
    after: &Connection,
    watched: BTreeSet<String>,
    folder: &Path,
    stopping: &AtomicBool,
    judge: &mut dyn Judge,
) -> Result<(), ApplyError> {
    let gathered = Gathered::new(watched, folder);
    let state = RunningState::of_schema(after)?;
    match before {
        None => everything_changed((after, &state), &gathered, stopping)?,
        Some(before) => compare(before, (after, &state), &gathered, stopping)?,
    }
    if let Some(error) = gathered.lock().take_failure() {
        return Err(spool(&error).into());
    }
    let view = CommitView::new(after, &state, &gathered, What::Difference);
    judge.commit(&view, after)?;
    match view.take_failure() {
        None => Ok(()),
        Some(error) => Err(spool(&error).into()),
    }
}

fn compare(
    before: &Connection,
    (after, state): (&Connection, &RunningState),
    gathered: &Gathered,
    stopping: &AtomicBool,
) -> Result<(), ApplyError> {
    let was = RunningState::of_schema(before)?;
    if before.encoding() != after.encoding() {
        // Text is other bytes then, and a rule reads both in one encoding: nothing is what it was, and what looks back knows nothing.
        everything_changed((after, state), gathered, stopping)?;
        note_replaced(was.layouts().values(), gathered);
        return Ok(());
    }
    let fates = schema_difference((was.objects(), was.layouts()), (state.objects(), state.layouts())).tables;
    let mut kept = BTreeSet::new();
    for fate in &fates {
        let (name, old) = match fate {
            TableFate::New { name } => (name, None),
            TableFate::Kept { before, after, .. } => (after, Some(before)),
        };
        // A table that took the place of another one, under its name, keeps nothing of it.
        let is_renamed = old.is_some_and(|old| !old.eq_ignore_ascii_case(name));
        if let Some(old) = old.filter(|_| !is_renamed) {
            kept.insert(old.clone());
        }
        let Some(layout) = state.layout(name) else { continue };
        let Some(at) = gathered.lock().find(name) else { continue };
        let side = Side { connection: after, layout };
        let (Some(old), false) = (old.and_then(|old| was.layout(old)), is_renamed) else {
            all_changed(side, at, gathered, stopping)?;
            gathered.lock().table_mut(at).replaced |= is_renamed;
            continue;
        };
        let base = Side { connection: before, layout: old };
        let is_rowid = matches!(layout.identity, Identity::Rowid { .. });
        // A column may be another one now, or new. Then every row is looked at again, as where a commit alters a table.
        let altered = text(&was, before, &old.name) != text(state, after, name);
        if altered {
            all_changed(side, at, gathered, stopping)?;
            gathered.lock().table_mut(at).altered = true;
        }
        changed_rows(base, side, stopping, |rowid, before, after| {
            let rowid = is_rowid.then_some(rowid);
            let is_gone = after.is_none();
            let before = before.map(|row| whole(rowid, row));
            let after = after.filter(|_| !altered).map(|row| whole(rowid, row));
            push(&mut gathered.lock(), at, before.as_deref(), after.as_deref(), is_gone);
        })
        .map_err(failed)?;
    }
    // A watched table that was there and is not any more, or is another one.
    note_replaced(was.layouts().values().filter(|layout| !kept.contains(&layout.name)), gathered);
    Ok(())
}

/// These tables were there before, and are not any more, or are others.
fn note_replaced<'l>(layouts: impl Iterator<Item = &'l Layout>, gathered: &Gathered) {
    let mut inner = gathered.lock();
    for layout in layouts {
        if let Some(at) = inner.find(&layout.name) {
            let table = inner.table_mut(at);
            (table.touched, table.replaced) = (true, true);
        }
    }
}

/// Every row of every table that is watched counts as changed.
fn everything_changed(
    (after, state): (&Connection, &RunningState),
    gathered: &Gathered,
    stopping: &AtomicBool,
) -> Result<(), ApplyError> {
    for layout in state.layouts().values() {
        let Some(at) = gathered.lock().find(&layout.name) else { continue };
        all_changed(Side { connection: after, layout }, at, gathered, stopping)?;
    }
    Ok(())
}

/// Of a table that is new, or another one, every row counts as changed.
fn all_changed(
    side: Side<'_>,
    at: usize,
    gathered: &Gathered,
    stopping: &AtomicBool,
) -> Result<(), ApplyError> {
    gathered.lock().table_mut(at).touched = true;
    all_rows(side, stopping, |row| gathered.lock().push(at, Set::Changed, row)).map_err(failed)
}

/// What a table was made by.
fn text<'s>(state: &'s RunningState, connection: &Connection, name: &str) -> Option<&'s [u8]> {
    let table = state.objects().get(ObjectKind::Table, &from_text(name, connection.encoding()))?;
    table.row.sql.as_deref()
}

/// A row with the rowid before its columns, where that is no column.
fn whole(rowid: Option<i64>, row: Vec<Value<'_>>) -> Vec<Value<'_>> {
    rowid.map(Value::Integer).into_iter().chain(row).collect()
}

/// What became of one row.
pub(crate) fn push(
    inner: &mut Inner,
    at: usize,
    before: Option<&[Value<'_>]>,
    after: Option<&[Value<'_>]>,
    is_gone: bool,
) {
    if let Some(before) = before {
        inner.push(at, Set::Before, before);
        if is_gone {
            inner.push(at, Set::Removed, before);
        }
    }
    if let Some(after) = after {
        inner.push(at, Set::Changed, after);
        if let (None, Some(Value::Integer(first))) = (before, after.first()) {
            let last = &mut inner.table_mut(at).last_inserted;
            *last = (*last).max(Some(*first));
        }
    }
}

pub(crate) fn failed(error: ReconcileError<std::convert::Infallible>) -> ApplyError {
    match error {
        ReconcileError::Compare(CaptureError::Sqlite(error)) => error.into(),
        ReconcileError::Compare(CaptureError::Schema(error)) => error.into(),
        ReconcileError::Compare(CaptureError::State(error)) => error.into(),
        ReconcileError::Compare(error) => {
            SqliteError::new(&chain(&error), rusqlite::ffi::SQLITE_CORRUPT).into()
        }
        ReconcileError::Encoding { .. } => {
            SqliteError::new("the databases have different text encodings", rusqlite::ffi::SQLITE_MISMATCH)
                .into()
        }
        ReconcileError::Stopped => SqliteError::new("asked to end", rusqlite::ffi::SQLITE_INTERRUPT).into(),
        ReconcileError::Sink(never) => match never {},
    }
}

/// Rows that cannot be kept beside the replica.
pub(crate) fn spool(error: &std::io::Error) -> SqliteError {
    SqliteError::new(
        &format!("rows that rules look at cannot be kept beside the replica: {error}"),
        rusqlite::ffi::SQLITE_IOERR,
    )
}
