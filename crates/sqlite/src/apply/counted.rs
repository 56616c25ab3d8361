//! What applied rows add to the state: gathered while SQLite writes them, hashed on a thread beside, counted when somebody asks for the state.
//!
//! ```text
//! rows of the commit under way --end_commit--> of commits that ended --much--> state/hashing.rs --settle--> RunningState
//!                              --much: spill-------------------------------^
//! ```
//!
//! What must stay true:
//!
//! - A row counts once, and not at all when its commit was taken back: what a commit spilled is never hashed together with rows of those before it.
//! - Little is kept: rows are handed over once there are enough, of one commit or of many.
//!
//! Knows nothing of save points. Whoever changes schema or rows of a state by hand settles first, also before it saves.

use std::collections::BTreeMap;

use synddb_protocol::state::Value;

use crate::state::RunningState;
use crate::state::hashing::{Batch, Combine, Extent, HAND_OVER_WEIGHT, Hashing, Sums, TableNumber};

/// Rows that came and went, and do not count in the state yet.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// The numbers of tables, since it was settled.
    tables: BTreeMap<String, TableNumber>,
    gathered: Batch,
    /// How much of it belongs to commits before the one under way.
    ended: Extent,
    /// Whether rows of the commit under way were handed over. Nothing else was since then.
    is_spilled: bool,
    /// What commits before it add, since it spilled.
    before: Sums,
    hashing: Hashing,
}

impl Counted {
    /// The number of a table until the state is settled.
    pub(super) fn table(&mut self, name: &str) -> TableNumber {
        if let Some(number) = self.tables.get(name) {
            return *number;
        }
        let number = TableNumber(self.tables.len());
        self.tables.insert(name.to_owned(), number);
        number
    }

    /// From here on, rows are of another commit.
    pub(super) fn begin_commit(&mut self) {
        self.ended = self.gathered.extent();
        self.is_spilled = false;
    }

    /// A row of the commit under way came or went.
    pub(super) fn gather<'v>(
        &mut self,
        table: TableNumber,
        rowid: Option<i64>,
        columns: impl IntoIterator<Item = Value<'v>>,
        combine: Combine,
    ) {
        self.gathered.push(table, rowid, columns, combine);
        if self.gathered.weight_behind(self.ended) >= HAND_OVER_WEIGHT {
            self.spill();
        }
    }

    /// The commit under way is complete.
    pub(super) fn end_commit(&mut self) {
        if self.gathered.weight() >= HAND_OVER_WEIGHT {
            self.hand_over();
        }
        self.begin_commit();
    }

    /// The rows of the commit under way so far do not count.
    pub(super) fn take_back(&mut self) {
        if std::mem::take(&mut self.is_spilled) {
            // Nothing of others is among it.
            self.hashing.collect();
        }
        self.gathered.truncate(self.ended);
    }

    /// Has everything counted that was gathered.
    pub(super) fn settle(&mut self, state: &mut RunningState) {
        // Little is left here, and a thread that is at work is so meanwhile.
        let all = self.gathered.extent();
        self.hashing.hash(&self.gathered, all);
        let before = std::mem::take(&mut self.before);
        for sums in self.hashing.collect().into_iter().chain([before]) {
            for (name, number) in &self.tables {
                if let Some(sum) = sums.get(*number) {
                    state.table(name).merge(sum);
                }
            }
        }
        self.clear();
    }

    /// The transaction was given up: nothing of what was gathered counts.
    pub(super) fn forget(&mut self) {
        self.hashing.collect();
        self.before = Sums::default();
        self.clear();
    }

    fn clear(&mut self) {
        let all = self.gathered.extent();
        self.gathered.drop_through(all);
        self.tables.clear();
        self.begin_commit();
    }

    /// Hands over rows of the commit under way, apart from those of commits before it.
    fn spill(&mut self) {
        if !self.is_spilled {
            self.hashing.hash(&self.gathered, self.ended);
            self.gathered.drop_through(self.ended);
            self.ended = Extent::default();
            for sums in self.hashing.collect() {
                self.before.merge(&sums);
            }
            self.is_spilled = true;
        }
        self.hand_over();
    }

    fn hand_over(&mut self) {
        let next = Batch::like(&self.gathered);
        self.hashing.hand_over(std::mem::replace(&mut self.gathered, next));
    }
}

#[cfg(test)]
mod tests {
    use synddb_protocol::submission::TextEncoding;

    use super::*;
    use crate::connection::Connection;

    /// So many rows weigh enough to be handed over.
    const MANY: i64 = 600;

    fn empty() -> RunningState {
        let connection = Connection::in_memory(TextEncoding::Utf8).unwrap();
        connection.execute("CREATE TABLE t(a); CREATE TABLE u(a)").unwrap();
        RunningState::scan(&connection).unwrap()
    }

    fn gather(counted: &mut Counted, table: &str, rows: std::ops::Range<i64>, combine: Combine) {
        let number = counted.table(table);
        for row in rows {
            counted.gather(number, Some(row), [Value::Integer(row)], combine);
        }
    }

    fn expected<'t>(rows: impl IntoIterator<Item = (&'t str, std::ops::Range<i64>)>) -> RunningState {
        let mut state = empty();
        for (table, rows) in rows {
            rows.for_each(|row| state.table(table).add(Some(row), [Value::Integer(row)]));
        }
        state
    }

    #[test]
    fn what_is_taken_back_does_not_count_and_everything_else_does_once() {
        // Rows of the commit before, of the one that is taken back, and of the one after it: few, and so many that they are handed over.
        for before in [0, 3, MANY] {
            for failed in [1, 2 * MANY, 5 * MANY] {
                for after in [2, 3 * MANY] {
                    let (mut counted, mut state) = (Counted::default(), empty());
                    counted.begin_commit();
                    gather(&mut counted, "t", 0..before, Combine::Add);
                    counted.end_commit();
                    counted.begin_commit();
                    gather(&mut counted, "u", 0..failed, Combine::Add);
                    counted.take_back();
                    // The same commit, tried another way.
                    gather(&mut counted, "u", 0..after, Combine::Add);
                    gather(&mut counted, "t", 0..before.min(1), Combine::Remove);
                    counted.end_commit();
                    counted.settle(&mut state);
                    let expected = expected([("t", before.min(1)..before), ("u", 0..after)]);
                    assert_eq!(state.hash(), expected.hash(), "{before}, {failed}, {after}");
                    counted.settle(&mut state);
                    assert_eq!(state.hash(), expected.hash(), "nothing counts twice");
                }
            }
        }
    }

    #[test]
    fn what_was_given_up_is_forgotten() {
        for rows in [1, MANY, 5 * MANY] {
            let (mut counted, mut state) = (Counted::default(), empty());
            counted.begin_commit();
            gather(&mut counted, "t", 0..rows, Combine::Add);
            counted.end_commit();
            counted.begin_commit();
            gather(&mut counted, "t", rows..2 * rows, Combine::Add);
            counted.forget();
            counted.begin_commit();
            gather(&mut counted, "u", 0..1, Combine::Add);
            counted.end_commit();
            counted.settle(&mut state);
            assert_eq!(state.hash(), expected([("u", 0..1)]).hash(), "{rows}");
        }
    }
}
