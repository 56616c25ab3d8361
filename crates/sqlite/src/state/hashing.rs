//! Hashing rows: what batches of them add to their tables, on a thread of its own.
//!
//! What BLAKE3 takes for a small row is a third of what capturing it takes, or applying it. It needs nothing but the row's bytes, and sums do not mind in which
//! order they are made.
//!
//! What must stay true: of every batch that was handed over, all rows are in what [`Hashing::collect`] gives next, or a fault of the thread goes
//! on in the caller.
//!
//! Knows nothing of commits: which rows may be counted together is its caller's to know.

use synddb_protocol::state::{TableHash, Value, write_row};

use crate::beside::Beside;

/// How many batches wait for the thread at most, for it to be at work while its owner is at something else. Whoever hands over one more waits.
const BATCHES_WAITING_MAX: usize = 4;

/// Most bytes of rows in a batch that is handed over: so a few times as much is in memory at most. A batch that is larger because of one large row
/// is hashed by its caller.
pub(crate) const BATCH_BYTES_MAX: usize = 2 << 20;

/// What BLAKE3 gives for a row, in bytes: most of what it costs.
const ELEMENT_BYTES: usize = 2048;

/// What to do with a row of a hash.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Combine {
    Add,
    Remove,
}

/// So much is worth waking a thread, as [`Batch::weight`]: about 500 rows, a fifth of a millisecond. Smaller batches cost more in waking than
/// they spare.
pub(crate) const HAND_OVER_WEIGHT: usize = 1 << 20;

/// Names a table in batches and sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableNumber(pub(crate) usize);

/// Rows that came and went, in the form in which they are hashed.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    rows: Vec<Row>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    table: TableNumber,
    combine: Combine,
    length: usize,
}

/// How far into a batch something reaches.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extent {
    rows: usize,
    bytes: usize,
}

impl Batch {
    pub(crate) fn push<'v>(
        &mut self,
        table: TableNumber,
        rowid: Option<i64>,
        columns: impl IntoIterator<Item = Value<'v>>,
        combine: Combine,
    ) {
        let before = self.bytes.len();
        write_row(&mut self.bytes, rowid, columns);
        self.rows.push(Row { table, combine, length: self.bytes.len() - before });
    }

    /// An empty one with room for as much, save what one large row took.
    pub(crate) fn like(other: &Self) -> Self {
        let bytes = other.bytes.len().min(BATCH_BYTES_MAX);
        Self { rows: Vec::with_capacity(other.rows.len()), bytes: Vec::with_capacity(bytes) }
    }

    /// All of it.
    pub(crate) fn extent(&self) -> Extent {
        Extent { rows: self.rows.len(), bytes: self.bytes.len() }
    }

    /// The bytes of the rows behind `extent`.
    pub(crate) fn bytes_behind(&self, extent: Extent) -> usize {
        self.bytes.len() - extent.bytes
    }

    /// What it costs to hash it, as bytes that BLAKE3 reads and gives.
    pub(crate) fn weight(&self) -> usize {
        self.weight_behind(Extent::default())
    }

    /// What it costs to hash the rows behind `extent`.
    pub(crate) fn weight_behind(&self, extent: Extent) -> usize {
        self.bytes_behind(extent) + (self.rows.len() - extent.rows) * ELEMENT_BYTES
    }

    /// Drops the rows behind `extent`.
    pub(crate) fn truncate(&mut self, extent: Extent) {
        self.rows.truncate(extent.rows);
        self.bytes.truncate(extent.bytes);
        self.bytes.shrink_to(BATCH_BYTES_MAX);
    }

    /// Drops the rows up to `extent`, and does not keep the memory that a large one took.
    pub(crate) fn drop_through(&mut self, extent: Extent) {
        self.rows.drain(..extent.rows);
        self.bytes.drain(..extent.bytes);
        self.bytes.shrink_to(BATCH_BYTES_MAX);
    }
}

/// What rows add to their tables.
#[derive(Debug, Default)]
pub(crate) struct Sums(Vec<Option<TableHash>>);

impl Sums {
    /// Adds the rows of a batch up to `extent`.
    pub(crate) fn add(&mut self, batch: &Batch, extent: Extent) {
        let mut bytes = &batch.bytes[..];
        for row in &batch.rows[..extent.rows] {
            let (here, rest) = bytes.split_at(row.length);
            bytes = rest;
            let TableNumber(table) = row.table;
            if self.0.len() <= table {
                self.0.resize(table + 1, None);
            }
            let sum = self.0[table].get_or_insert_with(TableHash::default);
            match row.combine {
                Combine::Add => sum.add_written(here),
                Combine::Remove => sum.remove_written(here),
            }
        }
    }

    /// Adds what others add.
    pub(crate) fn merge(&mut self, others: &Self) {
        for (table, other) in others.0.iter().enumerate() {
            let Some(other) = other else { continue };
            if self.0.len() <= table {
                self.0.resize(table + 1, None);
            }
            self.0[table].get_or_insert_with(TableHash::default).merge(other);
        }
    }

    /// What rows of this table add to it, if there were any.
    pub(crate) fn get(&self, TableNumber(table): TableNumber) -> Option<&TableHash> {
        self.0.get(table)?.as_ref()
    }
}

/// Hashes rows, on a thread of its own where there is one. It ends with this.
#[derive(Debug, Default)]
pub(crate) struct Hashing {
    /// What was hashed here.
    here: Sums,
    worker: Worker,
}

#[derive(Debug, Default)]
enum Worker {
    /// Nothing was worth a thread yet.
    #[default]
    NotYet,
    Thread {
        thread: Beside<Work, Sums>,
        /// Whether something was handed over whose sums were not collected.
        owes: bool,
    },
    /// No thread could be started.
    Never,
}

#[derive(Debug)]
enum Work {
    Hash(Batch),
    /// Send what the batches so far add.
    Collect,
}

impl Hashing {
    /// Hashes rows of a batch here and now, up to `extent`.
    pub(crate) fn hash(&mut self, batch: &Batch, extent: Extent) {
        self.here.add(batch, extent);
    }

    /// Has a batch hashed beside the caller.
    pub(crate) fn hand_over(&mut self, batch: Batch) {
        if matches!(self.worker, Worker::NotYet) {
            self.worker = Worker::start();
        }
        match &mut self.worker {
            Worker::Thread { thread, owes } if batch.bytes.len() <= BATCH_BYTES_MAX => {
                *owes = true;
                thread.give(Work::Hash(batch));
            }
            Worker::Thread { .. } | Worker::NotYet | Worker::Never => self.here.add(&batch, batch.extent()),
        }
    }

    /// What all rows so far add that were not collected before, once they are hashed: from here, and from beside.
    pub(crate) fn collect(&mut self) -> [Sums; 2] {
        let beside = match &mut self.worker {
            Worker::Thread { thread, owes } if *owes => {
                thread.give(Work::Collect);
                *owes = false;
                thread.take()
            }
            Worker::Thread { .. } | Worker::NotYet | Worker::Never => Sums::default(),
        };
        [std::mem::take(&mut self.here), beside]
    }
}

impl Worker {
    fn start() -> Self {
        let mut sums = Sums::default();
        let thread = Beside::start("synddb-rows", BATCHES_WAITING_MAX, move |work| match work {
            Work::Hash(batch) => {
                sums.add(&batch, batch.extent());
                None
            }
            Work::Collect => Some(std::mem::take(&mut sums)),
        });
        thread.map_or(Self::Never, |thread| Self::Thread { thread, owes: false })
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn batch(rows: std::ops::Range<i64>) -> Batch {
        let mut batch = Batch::default();
        for row in rows {
            let table = TableNumber(usize::try_from(row % 3).unwrap());
            let combine = if row % 2 == 0 { Combine::Add } else { Combine::Remove };
            batch.push(table, Some(row), [Value::Integer(row), Value::Text(b"text")], combine);
        }
        batch
    }

    fn merged(sums: &[Sums]) -> Vec<TableHash> {
        (0..3)
            .map(|table| {
                let mut hash = TableHash::default();
                sums.iter().filter_map(|sums| sums.get(TableNumber(table))).for_each(|sum| hash.merge(sum));
                hash
            })
            .collect()
    }

    #[test]
    fn every_row_counts_once_wherever_it_is_hashed() {
        let mut expected = Sums::default();
        expected.add(&batch(0..300), batch(0..300).extent());
        let expected = merged(&[expected]);
        for mut hashing in [Hashing::default(), Hashing { here: Sums::default(), worker: Worker::Never }] {
            for round in 0..3 {
                (0..20).for_each(|part| hashing.hand_over(batch(part * 10..part * 10 + 10)));
                hashing.hash(&batch(200..300), batch(200..300).extent());
                assert_eq!(merged(&hashing.collect()), expected, "round {round}");
            }
            assert_eq!(merged(&hashing.collect()), merged(&[]), "nothing is collected twice");
        }
    }

    #[test]
    fn a_part_of_a_batch_counts_without_the_rest() {
        let mut whole = batch(0..10);
        let extent = whole.extent();
        (10..20).for_each(|row| whole.push(TableNumber(0), Some(row), [], Combine::Add));
        let (mut part, mut rest, mut all) = (Sums::default(), Sums::default(), Sums::default());
        part.add(&whole, extent);
        all.add(&whole, whole.extent());
        whole.drop_through(extent);
        rest.add(&whole, whole.extent());
        let mut expected = Sums::default();
        expected.add(&batch(0..10), extent);
        assert_eq!(merged(&[part]), merged(&[expected]));
        let mut part = Sums::default();
        part.add(&batch(0..10), extent);
        assert_eq!(merged(&[part, rest]), merged(&[all]));
    }

    #[test]
    fn a_fault_of_the_thread_goes_on_in_the_caller() {
        let mut hashing = Hashing::default();
        // A row that is longer than all bytes there are.
        let row = Row { table: TableNumber(0), combine: Combine::Add, length: 1 };
        hashing.hand_over(Batch { rows: vec![row], bytes: Vec::new() });
        assert!(catch_unwind(AssertUnwindSafe(|| hashing.collect())).is_err());
    }
}
