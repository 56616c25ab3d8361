//! Hashing rows: what batches of them add to their tables, on a thread of its own.
//!
//! What BLAKE3 takes for a small row is a third of what capturing it takes. It needs nothing but the row's bytes, and sums do not mind in which
//! order they are made.
//!
//! What must stay true: of every batch that was handed over, all rows are in what [`Hashing::collect`] gives next, or a fault of the thread goes
//! on in the caller.
//!
//! Knows nothing of commits: which rows may be counted together is its caller's to know.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use synddb_protocol::state::{TableHash, Value, write_row};

use super::table::Combine;

/// How many batches wait for the thread at most. Whoever hands over one more waits.
const BATCHES_WAITING_MAX: usize = 2;

/// Most bytes of rows in a batch that is handed over: so a few times as much is in memory at most. A batch that is larger because of one large row
/// is hashed by its caller.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What BLAKE3 gives for a row, in bytes: most of what it costs.
const ELEMENT_BYTES: usize = 2048;

/// Names a table in batches and sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableNumber(pub(super) usize);

/// Rows that came and went, in the form in which they are hashed.
#[derive(Debug, Default)]
pub(super) struct Batch {
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
pub(super) struct Extent {
    rows: usize,
    bytes: usize,
}

impl Batch {
    pub(super) fn push<'v>(
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

    /// All of it.
    pub(super) fn extent(&self) -> Extent {
        Extent { rows: self.rows.len(), bytes: self.bytes.len() }
    }

    /// The bytes of the rows behind `extent`.
    pub(super) fn bytes_behind(&self, extent: Extent) -> usize {
        self.bytes.len() - extent.bytes
    }

    /// What it costs to hash it, as bytes that BLAKE3 reads and gives.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + self.rows.len() * ELEMENT_BYTES
    }

    /// Drops the rows up to `extent`, and does not keep the memory that a large one took.
    pub(super) fn drop_through(&mut self, extent: Extent) {
        self.rows.drain(..extent.rows);
        self.bytes.drain(..extent.bytes);
        self.bytes.shrink_to(BATCH_BYTES_MAX);
    }
}

/// What rows add to their tables.
#[derive(Debug, Default)]
pub(super) struct Sums(Vec<Option<TableHash>>);

impl Sums {
    /// Adds the rows of a batch up to `extent`.
    pub(super) fn add(&mut self, batch: &Batch, extent: Extent) {
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

    /// What rows of this table add to it, if there were any.
    pub(super) fn get(&self, TableNumber(table): TableNumber) -> Option<&TableHash> {
        self.0.get(table)?.as_ref()
    }
}

/// Hashes rows, on a thread of its own where there is one. It ends with this.
#[derive(Debug, Default)]
pub(super) struct Hashing {
    /// What was hashed here.
    here: Sums,
    beside: Beside,
}

#[derive(Debug, Default)]
enum Beside {
    /// Nothing was worth a thread yet.
    #[default]
    NotYet,
    Thread(Worker),
    /// No thread could be started.
    Never,
}

#[derive(Debug)]
struct Worker {
    /// `None` once it is to end.
    work: Option<SyncSender<Work>>,
    sums: Receiver<Sums>,
    thread: Option<JoinHandle<()>>,
    /// Whether something was handed over whose sums were not collected.
    owes: bool,
}

enum Work {
    Hash(Batch),
    /// Send what the batches so far add.
    Collect,
}

impl Hashing {
    /// Hashes rows of a batch here and now, up to `extent`.
    pub(super) fn hash(&mut self, batch: &Batch, extent: Extent) {
        self.here.add(batch, extent);
    }

    /// Has a batch hashed beside the caller.
    pub(super) fn hand_over(&mut self, batch: Batch) {
        if matches!(self.beside, Beside::NotYet) {
            self.beside = Worker::start().map_or(Beside::Never, Beside::Thread);
        }
        match &mut self.beside {
            Beside::Thread(worker) if batch.bytes.len() <= BATCH_BYTES_MAX => {
                worker.owes = true;
                worker.give(Work::Hash(batch));
            }
            Beside::Thread(_) | Beside::NotYet | Beside::Never => self.here.add(&batch, batch.extent()),
        }
    }

    /// What all rows so far add that were not collected before, once they are hashed: from here, and from beside.
    pub(super) fn collect(&mut self) -> [Sums; 2] {
        let beside = match &mut self.beside {
            Beside::Thread(worker) if worker.owes => worker.collect(),
            Beside::Thread(_) | Beside::NotYet | Beside::Never => Sums::default(),
        };
        [std::mem::take(&mut self.here), beside]
    }
}

impl Worker {
    fn start() -> Option<Self> {
        let (work, taken) = sync_channel(BATCHES_WAITING_MAX);
        let (given, sums) = sync_channel(1);
        let thread = std::thread::Builder::new().name("synddb-rows".to_owned());
        let thread = thread.spawn(move || work_off(&taken, &given)).ok()?;
        Some(Self { work: Some(work), sums, thread: Some(thread), owes: false })
    }

    fn give(&mut self, work: Work) {
        let is_given = self.work.as_ref().is_some_and(|sender| sender.send(work).is_ok());
        if !is_given {
            self.fault();
        }
    }

    fn collect(&mut self) -> Sums {
        self.give(Work::Collect);
        match self.sums.recv() {
            Ok(sums) => {
                self.owes = false;
                sums
            }
            Err(_) => self.fault(),
        }
    }

    /// The thread is gone although nobody told it to end: what ended it goes on here.
    fn fault(&mut self) -> ! {
        self.work = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(fault)) => resume_unwind(fault),
            Some(Ok(())) | None => resume_unwind(Box::new("the thread that hashes rows is gone")),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // Where it failed, nobody asked for what it owes.
            thread.join().ok();
        }
    }
}

fn work_off(work: &Receiver<Work>, given: &SyncSender<Sums>) {
    let mut sums = Sums::default();
    for work in work {
        match work {
            Work::Hash(batch) => sums.add(&batch, batch.extent()),
            Work::Collect => {
                if given.send(std::mem::take(&mut sums)).is_err() {
                    return;
                }
            }
        }
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
        for mut hashing in [Hashing::default(), Hashing { here: Sums::default(), beside: Beside::Never }] {
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
