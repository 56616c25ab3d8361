//! What captured rows add to the state: gathered commit by commit, and counted when somebody asks for the state.
//!
//! ```text
//! rows of the commit under way --end_commit--> of commits that ended --much--> hashing.rs --settle--> RunningState
//!                              --let_go------>                                 --little-------------^
//! ```
//!
//! What must stay true:
//!
//! - Until a commit ends or its rows are let go, settling gives the state before it. Once they are let go, nobody may ask until it has ended.
//! - A row counts once.
//! - Little is kept: rows of commits that ended are handed over once there are enough, and those of a commit that is large are let go.
//!
//! Knows nothing of what else the state covers. Whoever changes schema, header or the rows of a table by hand settles first.

use std::collections::BTreeMap;

use synddb_protocol::hash::StateHash;
use synddb_protocol::state::Value;

use super::probes::planted::{Bug, planted};
use super::{APART_BYTES, PollError, Sink};
use crate::schema::Layout;
use crate::state::RunningState;
use crate::state::hashing::{
    BATCH_BYTES_MAX, Batch, Combine, Extent, HAND_OVER_WEIGHT, Hashing, TableNumber,
};

/// So only a batch with one large row is hashed by who gathered it.
const _: () = assert!(HAND_OVER_WEIGHT + APART_BYTES <= BATCH_BYTES_MAX);

/// The state of a database behind the commits that a sink was given. To be told costs what is not counted yet, so whoever does not need to know does
/// not ask.
#[derive(Debug)]
pub struct CommittedState<'s>(Behind<'s>);

#[derive(Debug)]
enum Behind<'s> {
    Settled(&'s RunningState),
    Open { tally: &'s mut Tally, state: &'s mut RunningState },
}

impl<'s> CommittedState<'s> {
    pub(super) fn open(tally: &'s mut Tally, state: &'s mut RunningState) -> Self {
        Self(Behind::Open { tally, state })
    }

    /// What it hashes to.
    pub fn hash(&mut self) -> StateHash {
        self.running().hash()
    }

    /// All of it.
    pub fn running(&mut self) -> &RunningState {
        match &mut self.0 {
            Behind::Settled(state) => state,
            Behind::Open { tally, state } => {
                tally.settle(state);
                state
            }
        }
    }
}

/// A state that is known already.
impl<'s> From<&'s RunningState> for CommittedState<'s> {
    fn from(state: &'s RunningState) -> Self {
        Self(Behind::Settled(state))
    }
}

/// Rows that came and went, and do not count in the state yet.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The numbers of tables. Given anew when the state was settled between two commits.
    tables: BTreeMap<String, TableNumber>,
    gathered: Batch,
    /// How much of it settling may count: what belongs to commits that ended, and what was let go.
    complete: Extent,
    /// Whether a commit is under way whose tables have numbers.
    is_under_way: bool,
    /// Whether the rows of the commit under way are let go.
    is_let_go: bool,
    hashing: Hashing,
}

impl Tally {
    /// The number of a table until the commit under way ends.
    pub(super) fn table(&mut self, name: &str) -> TableNumber {
        self.is_under_way = true;
        if let Some(number) = self.tables.get(name) {
            return *number;
        }
        let number = TableNumber(self.tables.len());
        self.tables.insert(name.to_owned(), number);
        number
    }

    /// A row of the commit under way came or went.
    pub(super) fn gather(
        &mut self,
        table: TableNumber,
        layout: &Layout,
        rowid: i64,
        columns: &[Value<'_>],
        combine: Combine,
    ) {
        let rowid = layout.is_rowid_table().then_some(rowid);
        self.gathered.push(table, rowid, columns.iter().copied(), combine);
        if self.is_let_go {
            self.complete_all();
        }
    }

    /// The bytes of rows that are held back, because the state before them may still be asked for.
    pub(super) fn held_bytes(&self) -> usize {
        self.gathered.bytes_behind(self.complete)
    }

    /// From here to the end of the commit under way nobody asks for the state before it any more.
    pub(super) fn let_go(&mut self) {
        self.is_let_go = true;
        self.complete_all();
    }

    /// The commit under way is complete: its rows count from here on.
    pub(super) fn end_commit(&mut self) {
        (self.is_under_way, self.is_let_go) = (false, false);
        self.complete_all();
    }

    /// Has everything counted that may be.
    pub(super) fn settle(&mut self, state: &mut RunningState) {
        let complete = if planted(Bug::CountUnderWay) { self.gathered.extent() } else { self.complete };
        // Little is left here, and a thread that is at work is so meanwhile.
        self.hashing.hash(&self.gathered, complete);
        self.gathered.drop_through(complete);
        self.complete = Extent::default();
        for sums in self.hashing.collect() {
            for (name, number) in &self.tables {
                if let Some(sum) = sums.get(*number) {
                    state.table(name).merge(sum);
                }
            }
        }
        if !self.is_under_way {
            self.tables.clear();
        }
    }

    fn complete_all(&mut self) {
        if self.gathered.weight() >= HAND_OVER_WEIGHT {
            let next = Batch::like(&self.gathered);
            self.hashing.hand_over(std::mem::replace(&mut self.gathered, next));
        }
        self.complete = self.gathered.extent();
    }
}

/// Tells the sink that something comes after which the state up to here cannot be asked for any more. Once for each commit: behind
/// that the state is none that was ever committed.
pub(super) fn apart<S: Sink>(
    sink: &mut S,
    tally: &mut Tally,
    state: &mut RunningState,
) -> Result<(), PollError<S::Error>> {
    if tally.is_let_go {
        return Ok(());
    }
    sink.apart(&mut CommittedState::open(tally, state)).map_err(PollError::Sink)?;
    tally.let_go();
    Ok(())
}

/// Counts the rows of one table of the commit under way.
pub(crate) struct Counting<'w> {
    tally: &'w mut Tally,
    state: &'w mut RunningState,
    table: TableNumber,
}

impl<'w> Counting<'w> {
    pub(super) fn new(tally: &'w mut Tally, state: &'w mut RunningState, table: &str) -> Self {
        let table = tally.table(table);
        Self { tally, state, table }
    }

    pub(super) fn gather(&mut self, layout: &Layout, rowid: i64, columns: &[Value<'_>], combine: Combine) {
        self.tally.gather(self.table, layout, rowid, columns, combine);
    }

    /// Tells the sink once it is known that the commit is large: that it may come in pieces, or that much would be held back. `changes` is how
    /// many bytes of changes wait to be handed over.
    pub(super) fn row_written<S: Sink>(
        &mut self,
        sink: &mut S,
        changes: usize,
    ) -> Result<(), PollError<S::Error>> {
        if changes > APART_BYTES || self.tally.held_bytes() > APART_BYTES {
            return apart(sink, self.tally, self.state);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use synddb_protocol::submission::TextEncoding;

    use super::*;
    use crate::connection::Connection;

    fn pair() -> (Tally, RunningState, Layout) {
        let connection = Connection::in_memory(TextEncoding::Utf8).unwrap();
        connection.execute("CREATE TABLE t(a)").unwrap();
        let state = RunningState::scan(&connection).unwrap();
        let layout = state.layout("t").unwrap().clone();
        (Tally::default(), state, layout)
    }

    /// What the state is when these rows are there.
    fn expected(rows: impl Iterator<Item = i64>) -> StateHash {
        let (_, mut state, _) = pair();
        rows.for_each(|row| state.table("t").add(Some(row), [Value::Integer(row)]));
        state.hash()
    }

    fn gather(tally: &mut Tally, layout: &Layout, rows: impl Iterator<Item = i64>) {
        let table = tally.table("t");
        for row in rows {
            tally.gather(table, layout, row, &[Value::Integer(row)], Combine::Add);
        }
    }

    fn asked(tally: &mut Tally, state: &mut RunningState) -> StateHash {
        CommittedState::open(tally, state).hash()
    }

    #[test]
    fn inside_a_commit_the_state_is_the_one_before_it() {
        // Few rows are counted here, many beside; and what is asked for twice is the same.
        for rows in [3, 1000] {
            let (mut tally, mut state, layout) = pair();
            gather(&mut tally, &layout, 0..rows);
            assert_eq!(asked(&mut tally, &mut state), expected(0..0), "of {rows} rows");
            tally.end_commit();
            gather(&mut tally, &layout, rows..2 * rows);
            for _ in 0..2 {
                assert_eq!(asked(&mut tally, &mut state), expected(0..rows), "of {rows} rows");
            }
            tally.let_go();
            gather(&mut tally, &layout, 2 * rows..3 * rows);
            tally.end_commit();
            for _ in 0..2 {
                assert_eq!(asked(&mut tally, &mut state), expected(0..3 * rows), "of {rows} rows");
            }
            gather(&mut tally, &layout, 3 * rows..4 * rows);
            assert_eq!(
                asked(&mut tally, &mut state),
                expected(0..3 * rows),
                "the next commit holds back again"
            );
        }
    }

    #[test]
    fn what_is_held_back_is_bounded_by_letting_go() {
        let (mut tally, mut state, layout) = pair();
        gather(&mut tally, &layout, 0..1000);
        assert!(tally.held_bytes() > 1000);
        tally.let_go();
        assert_eq!(tally.held_bytes(), 0);
        for part in 1..10 {
            gather(&mut tally, &layout, part * 1000..(part + 1) * 1000);
            assert_eq!(tally.held_bytes(), 0);
            assert!(tally.gathered.weight() < HAND_OVER_WEIGHT);
        }
        tally.end_commit();
        assert_eq!(asked(&mut tally, &mut state), expected(0..10_000));
    }
}
