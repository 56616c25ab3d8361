//! The rows of one commit: a pass over its changeset that changes them in place, and another for when that cannot work.
//!
//! In place is fast and reads the changeset once. But a commit is captured as what it came to, not as what it did: two rows may
//! have swapped values that must be unique, or a key may have gone from `a` to `A` where both collate alike. Whatever order is
//! tried, some such commit is in its own way; with all old rows out before any new one goes in, none is.
//!
//! Either pass computes generated columns, or gives them as captured in every table it touches; the second is for commits of an
//! application whose SQLite computed another value.

use std::collections::VecDeque;
use std::io::BufRead;
use std::sync::MutexGuard;

use synddb_protocol::state::Value;

use super::counted::Counted;
use super::schema::SEQUENCE;
use super::sequence::Sequence;
use super::stand_in::StandIns;
use super::table::Table;
use super::tables::Tables;
use super::{ApplyError, Divergence};
use crate::changeset::{ChangesetError, Reader, RowChange, Step};
use crate::connection::{Connection, SqliteError};
use crate::rules::gathered::Inner;
use crate::rules::push;
use crate::state::hashing::{Combine, TableNumber};
use crate::state::{RunningState, element};
use crate::value::OwnedValue;

/// Why a row was not changed.
#[derive(Debug)]
pub(super) enum RowError {
    /// Another row has a value that must be unique; it may be one that the commit changes later.
    Clash(Box<Divergence>),
    /// SQLite was to compute a generated column, and came to another value than was captured, or to none.
    Computed(ApplyError),
    /// Anything else.
    Failed(ApplyError),
}

impl From<ApplyError> for RowError {
    fn from(error: ApplyError) -> Self {
        Self::Failed(error)
    }
}

impl From<Divergence> for RowError {
    fn from(divergence: Divergence) -> Self {
        Self::Failed(divergence.into())
    }
}

impl From<ChangesetError> for RowError {
    fn from(error: ChangesetError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<SqliteError> for RowError {
    fn from(error: SqliteError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<RowError> for ApplyError {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Clash(divergence) => Self::Divergence(divergence),
            RowError::Computed(error) | RowError::Failed(error) => error,
        }
    }
}

/// What the rows that follow in a changeset belong to.
#[derive(Clone, Copy)]
enum Target {
    Sequence,
    /// With its place among those that are watched.
    Table(usize, TableNumber, Option<usize>),
}

/// One pass over the rows of a commit.
pub(super) struct Pass<'p> {
    connection: &'p Connection,
    state: &'p mut RunningState,
    counted: &'p mut Counted,
    tables: &'p mut Tables,
    sequence: &'p mut Sequence,
    stand_ins: &'p mut StandIns,
    /// Whoever is shown the rows of tables that are watched.
    watched: Option<MutexGuard<'p, Inner>>,
}

impl<'p> Pass<'p> {
    pub(super) fn new(
        connection: &'p Connection,
        state: &'p mut RunningState,
        counted: &'p mut Counted,
        tables: &'p mut Tables,
        sequence: &'p mut Sequence,
        stand_ins: &'p mut StandIns,
        mut watched: Option<MutexGuard<'p, Inner>>,
    ) -> Self {
        tables.limit();
        // An earlier pass may have shown some.
        if let Some(watched) = &mut watched {
            watched.again();
        }
        Self { connection, state, counted, tables, sequence, stand_ins, watched }
    }

    /// Changes every row in place, in the order of the changeset.
    ///
    /// # Errors
    /// [`RowError::Clash`] when a row is in the way of another one; [`RowError::Computed`] when a value must be given.
    pub(super) fn in_place<R: BufRead>(&mut self, rows: R) -> Result<(), RowError> {
        self.each(rows, |pass, target, change| {
            let Target::Table(at, number, watched) = target else {
                return Ok(pass.sequence.change(change, pass.state)?);
            };
            match change {
                RowChange::Insert { new } => {
                    pass.insert(at, number, new)?;
                    pass.show(watched, None, Some(new));
                    Ok(())
                }
                RowChange::Delete { old } => {
                    pass.delete(at, number, old)?;
                    pass.show(watched, Some(old), None);
                    Ok(())
                }
                RowChange::Update { old, new } => {
                    let table = pass.tables.get(at);
                    let before = table.read(old)?;
                    let after = merged(&before, new);
                    let before: Vec<_> = before.iter().map(OwnedValue::borrow).collect();
                    table.update(&before, &after, new, pass.stand_ins)?;
                    count(pass.counted, number, table, &before, Combine::Remove)?;
                    count(pass.counted, number, table, &after, Combine::Add)?;
                    pass.show(watched, Some(&before), Some(&after));
                    Ok(())
                }
            }
        })
    }

    /// Takes all old rows out, and then puts all new ones in.
    ///
    /// # Errors
    /// [`RowError::Computed`] when a value must be given; otherwise that does not work either, or fails.
    pub(super) fn out_and_in<R: BufRead + Clone>(&mut self, rows: &R) -> Result<(), RowError> {
        let mut updated = VecDeque::new();
        self.each(rows.clone(), |pass, target, change| {
            let Target::Table(at, number, watched) = target else {
                return Ok(pass.sequence.change(change, pass.state)?);
            };
            match change {
                RowChange::Insert { .. } => Ok(()),
                RowChange::Delete { old } => {
                    pass.delete(at, number, old)?;
                    pass.show(watched, Some(old), None);
                    Ok(())
                }
                RowChange::Update { old, new } => {
                    let before = pass.tables.get(at).read(old)?;
                    let after = merged(&before, new);
                    let before: Vec<_> = before.iter().map(OwnedValue::borrow).collect();
                    pass.show(watched, Some(&before), Some(&after));
                    updated.push_back(after.into_iter().map(Into::into).collect::<Vec<OwnedValue>>());
                    pass.take_out(at, number, &before)
                }
            }
        })?;
        self.each(rows.clone(), |pass, target, change| {
            let Target::Table(at, number, watched) = target else { return Ok(()) };
            match change {
                RowChange::Delete { .. } => Ok(()),
                RowChange::Insert { new } => {
                    pass.put_in(at, number, new)?;
                    pass.show(watched, None, Some(new));
                    Ok(())
                }
                RowChange::Update { .. } => {
                    let row = updated.pop_front().unwrap_or_default();
                    pass.put_in(at, number, &row.iter().map(OwnedValue::borrow).collect::<Vec<_>>())
                }
            }
        })?;
        Ok(())
    }

    /// Shows every change to `each`, with the table it is for.
    fn each<R: BufRead>(
        &mut self,
        rows: R,
        mut each: impl FnMut(&mut Self, Target, &RowChange<'_>) -> Result<(), RowError>,
    ) -> Result<(), RowError> {
        let mut reader = Reader::new(rows);
        let mut target = None;
        while let Some(step) = reader.step()? {
            match step {
                Step::Table(table) => {
                    let at = self.tables.open(self.connection, self.state, table, self.stand_ins)?;
                    let is_sequence = table.name == SEQUENCE;
                    if is_sequence || self.tables.get(at).autoincrement {
                        self.sequence.load(self.connection, self.state)?;
                    }
                    target = Some(if is_sequence {
                        Target::Sequence
                    } else {
                        let watched = self.watched.as_ref().and_then(|watched| watched.find(&table.name));
                        Target::Table(at, self.counted.table(&table.name), watched)
                    });
                }
                Step::Row(change) => {
                    let Some(target) = target else {
                        return Err(ChangesetError::Invalid { why: "a change follows its table" }.into());
                    };
                    each(self, target, &change)?;
                }
            }
        }
        Ok(())
    }

    /// What became of a row of a table that is watched.
    fn show(&mut self, at: Option<usize>, before: Option<&[Value<'_>]>, after: Option<&[Value<'_>]>) {
        if let (Some(at), Some(watched)) = (at, &mut self.watched) {
            push(watched, at, before, after, after.is_none());
        }
    }

    fn insert(&mut self, at: usize, number: TableNumber, new: &[Value<'_>]) -> Result<(), RowError> {
        let table = self.tables.get(at);
        table.insert(new, self.stand_ins)?;
        Ok(count(self.counted, number, table, new, Combine::Add)?)
    }

    fn delete(&mut self, at: usize, number: TableNumber, old: &[Value<'_>]) -> Result<(), RowError> {
        let expected: Vec<Option<Value<'_>>> = old.iter().map(|value| Some(*value)).collect();
        self.tables.get(at).read(&expected)?;
        self.take_out(at, number, old)
    }

    fn take_out(&mut self, at: usize, number: TableNumber, row: &[Value<'_>]) -> Result<(), RowError> {
        let table = self.tables.get(at);
        table.delete(row, self.stand_ins)?;
        Ok(count(self.counted, number, table, row, Combine::Remove)?)
    }

    /// Inserts a row that no row of the commit can be in the way of any more.
    fn put_in(&mut self, at: usize, number: TableNumber, row: &[Value<'_>]) -> Result<(), RowError> {
        match self.insert(at, number, row) {
            Err(RowError::Clash(clash)) => Err(self.tables.get(at).in_the_way(row, *clash)),
            result => result,
        }
    }
}

fn count(
    counted: &mut Counted,
    number: TableNumber,
    table: &Table,
    row: &[Value<'_>],
    combine: Combine,
) -> Result<(), ApplyError> {
    let (rowid, columns) = element(&table.layout, row).ok_or_else(|| Divergence::Shape {
        table: table.layout.name.clone(),
        why: "a rowid is an integer",
    })?;
    counted.gather(number, rowid, columns.iter().copied(), combine);
    Ok(())
}

/// A row with its new values.
fn merged<'v>(before: &'v [OwnedValue], new: &[Option<Value<'v>>]) -> Vec<Value<'v>> {
    before.iter().zip(new).map(|(before, new)| new.unwrap_or_else(|| before.borrow())).collect()
}
