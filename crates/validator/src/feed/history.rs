//! How the columns of each table were called, commit by commit: a log names tables, and not their columns. Pure.
//!
//! What must stay true: of every message behind the first mark the names are known, or there is no such mark. Who reads a commit asks for its own place,
//! so that a column that was renamed since has the name that it had.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use synddb_protocol::id::{CommitNumber, Incarnation, Sequence};
use synddb_protocol::submission::TextEncoding;
use synddb_sqlite::schema::{Identity, Layout};

/// Most changes of tables that are kept, beside one for each table that there is.
const CHANGES_MAX: usize = 1 << 14;

/// The name under which is kept how text stands in the schema itself: no table of an application may have it.
const SCHEMA: &str = "sqlite_schema";

/// A place among the commits of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) incarnation: u64,
    /// 0 for the snapshot that begins the incarnation.
    pub(crate) commit: u64,
}

impl At {
    pub(crate) const fn commit(incarnation: Incarnation, commit: CommitNumber) -> Self {
        Self { incarnation: incarnation.counter.get(), commit: commit.get() }
    }

    pub(crate) const fn beginning(incarnation: Incarnation) -> Self {
        Self { incarnation: incarnation.counter.get(), commit: 0 }
    }
}

/// The columns of one table, as its rows have them in a changeset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Columns {
    /// Their names; that of the rowid first, where it is the identity and no column.
    pub(crate) names: Vec<String>,
    /// Those whose values SQLite computes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) generated: Vec<String>,
    /// How text stands in the rows.
    pub(crate) encoding: TextEncoding,
}

impl Columns {
    pub(crate) fn of(layout: &Layout, encoding: TextEncoding) -> Self {
        let rowid = match &layout.identity {
            Identity::Rowid { name } => Some((*name).to_owned()),
            Identity::IntegerKey { .. } | Identity::Key { .. } => None,
        };
        let names = rowid.into_iter().chain(layout.columns.iter().map(|column| column.name.clone()));
        let generated = layout.columns.iter().filter(|column| column.generated);
        Self {
            names: names.collect(),
            generated: generated.map(|column| column.name.clone()).collect(),
            encoding,
        }
    }
}

/// From here on a table has these columns, or is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) at: At,
    /// The message that it came with.
    pub(crate) sequence: Sequence,
    pub(crate) table: String,
    pub(crate) columns: Option<Arc<Columns>>,
}

/// All that is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Of each table, oldest first.
    tables: BTreeMap<String, Vec<Change>>,
    changes: usize,
}

impl History {
    /// The columns of a table after a commit.
    pub(crate) fn columns(&self, table: &str, at: At) -> Option<&Arc<Columns>> {
        let changes = self.tables.get(table)?;
        let through = changes.partition_point(|change| change.at <= at);
        changes.get(through.checked_sub(1)?)?.columns.as_ref()
    }

    /// The names of the tables that there are at a place.
    pub(crate) fn names(&self, at: At) -> impl Iterator<Item = &str> {
        let names = self.tables.keys().map(String::as_str).filter(|table| *table != SCHEMA);
        names.filter(move |table| self.columns(table, at).is_some())
    }

    /// How text stands in the schema at a place.
    pub(crate) fn encoding(&self, at: At) -> TextEncoding {
        self.columns(SCHEMA, at).map_or(TextEncoding::Utf8, |columns| columns.encoding)
    }

    /// What is new where these are the tables from `at` on.
    pub(crate) fn difference(
        &self,
        at: At,
        sequence: Sequence,
        layouts: &BTreeMap<String, Layout>,
        encoding: TextEncoding,
    ) -> Vec<Change> {
        let of_schema = Columns { names: Vec::new(), generated: Vec::new(), encoding };
        let tables = layouts.iter().map(|(table, layout)| (table.as_str(), Columns::of(layout, encoding)));
        let changed = tables.chain([(SCHEMA, of_schema)]).filter_map(|(table, columns)| {
            let is_known = self.last(table).is_some_and(|known| **known == columns);
            (!is_known).then(|| Change {
                at,
                sequence,
                table: table.to_owned(),
                columns: Some(Arc::new(columns)),
            })
        });
        let is_gone =
            |table: &&String| self.last(table).is_some() && !layouts.contains_key(*table) && *table != SCHEMA;
        let gone = self.tables.keys().filter(is_gone);
        let gone = gone.map(|table| Change { at, sequence, table: table.clone(), columns: None });
        changed.chain(gone).collect()
    }

    fn last(&self, table: &str) -> Option<&Arc<Columns>> {
        self.tables.get(table)?.last()?.columns.as_ref()
    }

    /// Takes a change in that comes behind all of its table.
    pub(crate) fn add(&mut self, change: Change) {
        self.tables.entry(change.table.clone()).or_default().push(change);
        self.changes += 1;
    }

    /// Whether there are too many.
    pub(crate) fn is_large(&self) -> bool {
        self.changes > CHANGES_MAX + self.tables.len()
    }

    /// Forgets the older half where there are too many. From behind the message that is returned on, everything is known still.
    pub(crate) fn shrink(&mut self) -> Option<Sequence> {
        self.shrink_to(CHANGES_MAX)
    }

    fn shrink_to(&mut self, most: usize) -> Option<Sequence> {
        if self.changes <= most + self.tables.len() {
            return None;
        }
        let mut sequences: Vec<Sequence> = self.changes().map(|change| change.sequence).collect();
        sequences.sort_unstable();
        let floor = *sequences.get(sequences.len().saturating_sub(most / 2))?;
        for changes in self.tables.values_mut() {
            // The last one that is not behind the floor says what there is from there on.
            let before = changes.partition_point(|change| change.sequence <= floor);
            changes.drain(..before.saturating_sub(1));
        }
        self.tables
            .retain(|_, changes| changes.len() > 1 || changes.iter().any(|change| change.columns.is_some()));
        self.changes = self.tables.values().map(Vec::len).sum();
        Some(floor)
    }

    /// All of them, of each table oldest first.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.tables.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(commit: u64) -> At {
        At { incarnation: 1, commit }
    }

    fn change(commit: u64, table: &str, names: Option<&[&str]>) -> Change {
        let columns = names.map(|names| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Arc::new(Columns { names, generated: Vec::new(), encoding: TextEncoding::Utf8 })
        });
        Change {
            at: at(commit),
            sequence: Sequence::new(commit + 1).unwrap(),
            table: table.to_owned(),
            columns,
        }
    }

    fn names(history: &History, table: &str, commit: u64) -> Option<Vec<String>> {
        history.columns(table, at(commit)).map(|columns| columns.names.clone())
    }

    #[test]
    fn a_commit_has_the_names_of_its_own_time() {
        let mut history = History::default();
        history.add(change(0, "t", Some(&["a"])));
        history.add(change(5, "t", Some(&["b"])));
        history.add(change(7, "t", None));
        assert_eq!(names(&history, "t", 4), Some(vec!["a".to_owned()]));
        assert_eq!(names(&history, "t", 5), Some(vec!["b".to_owned()]));
        assert_eq!(names(&history, "t", 7), None);
        assert_eq!(history.columns("t", At { incarnation: 2, commit: 0 }), None);
        assert_eq!(history.names(at(6)).collect::<Vec<_>>(), ["t"]);
    }

    #[test]
    fn what_is_forgotten_is_what_is_oldest_and_what_goes_on_stays() {
        let mut history = History::default();
        history.add(change(0, "stays", Some(&["a"])));
        for commit in 1..=20 {
            history.add(change(commit, "t", (commit % 2 == 1).then_some(&["c"])));
        }
        assert_eq!(history.shrink_to(40), None);
        let floor = history.shrink_to(10).unwrap();
        assert_eq!(floor.get(), 17);
        assert_eq!(names(&history, "stays", 17), Some(vec!["a".to_owned()]));
        assert_eq!((names(&history, "t", 17).is_some(), names(&history, "t", 18)), (true, None));
        assert_eq!(history.changes().count(), 1 + 5);
        assert_eq!(history.shrink_to(10), None);
    }
}
