//! How long after its COMMIT a row is in a live replica: agent, sequencer, store and validator on this machine, under `synddb dev`.
//!
//! The writer, a process of its own, notes when each COMMIT returned. A connection of this process looks into the replica's file again and again, and
//! notes which row is the last. One clock serves both.
//!
//! What must stay true: every commit was seen, or the measure fails.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use synddb_sqlite::rusqlite::{self, OpenFlags};

use crate::bench::latency::{EVERY_MS, spread};
use crate::bench::listener::monotonic_ns;
use crate::bench::scenario::{APPLIED_MAX, RUNNING_MAX, said, synddb};
use crate::bench::writer::{Latency, Order, Synchronous, Writer};
use crate::bench::{Bench, BenchError};
use crate::folder::Folder;
use crate::output::Event;

/// Between two looks into the replica.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// How far behind a live replica is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lags {
    /// One for each pace.
    pub runs: Vec<Lag>,
}

/// How far behind it is at one pace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// From the beginning of one commit to that of the next.
    pub every_ms: u64,
    /// How many there were.
    pub commits: u64,
    /// From the return of COMMIT until the row was seen in the replica.
    pub applied: Latency,
}

/// Measures it.
pub(super) fn run(bench: &Bench) -> Result<Lags, BenchError> {
    let runs = EVERY_MS.into_iter().map(|every_ms| paced(bench, every_ms)).collect::<Result<_, _>>()?;
    Ok(Lags { runs })
}

fn paced(bench: &Bench, every_ms: u64) -> Result<Lag, BenchError> {
    bench.progress.set(format!("lag, a commit every {every_ms} ms"));
    let room = bench.room()?;
    let database = room.path().join("app.db");
    let every = Duration::from_millis(every_ms);
    let order = Order::paced(bench, &database, Synchronous::Normal, every);
    let mut writer = Writer::start(bench, &order)?;
    let dev = ["--port", "0", "--validator-port", "0", "--stop-on-eof"];
    let mut dev = synddb(bench, "`dev`", "dev", &[&database], &dev)?;
    while !matches!(said(&mut dev, "begin", RUNNING_MAX)?, Event::Running { .. }) {}
    let wait = || {
        let mut wait = synddb(bench, "`wait`", "wait", &[&database], &["--timeout", "10m"])?;
        said(&mut wait, "see everything in the replica", APPLIED_MAX)?;
        wait.end()
    };
    wait()?;
    let watching = Watching::begin(&Folder::of(&database, None).replica())?;
    writer.go()?;
    let wrote = writer.wrote()?;
    wait()?;
    let seen = watching.end()?;
    dev.end()?;
    writer.end()?;
    let delays = delays(&wrote.committed_ns, &seen);
    let Some(delays) = delays else {
        let (commits, kept) = (wrote.transactions, seen.last().map_or(0, |(row, _)| *row));
        return Err(BenchError::NotSeen { commits, seen: kept });
    };
    Ok(Lag { every_ms, commits: wrote.transactions, applied: spread(delays) })
}

/// How long after the return of its COMMIT each row was seen, in nanoseconds. Rows are numbered from 1. `None` when one was not.
fn delays(committed_ns: &[u64], seen: &[(u64, u64)]) -> Option<Vec<u64>> {
    let mut seen = seen.iter().peekable();
    (1..)
        .zip(committed_ns)
        .map(|(row, committed)| {
            while seen.next_if(|(last, _)| *last < row).is_some() {}
            seen.peek().map(|(_, at)| at.saturating_sub(*committed))
        })
        .collect()
}

/// The last row of each look that found another one, and when that was, in nanoseconds.
type Seen = Vec<(u64, u64)>;

/// Somebody who looks into the replica.
struct Watching {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<rusqlite::Result<Seen>>>,
}

impl Watching {
    fn begin(replica: &Path) -> Result<Self, BenchError> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (replica, over) = (replica.to_owned(), Arc::clone(&is_over));
        let watch = move || watch(&replica, &over);
        let thread = std::thread::Builder::new().name("watching".to_owned()).spawn(watch);
        Ok(Self { is_over, thread: Some(thread.map_err(BenchError::system("start a thread"))?) })
    }

    /// What it saw.
    fn end(mut self) -> Result<Seen, BenchError> {
        self.is_over.store(true, Ordering::Relaxed);
        let failed = |error: rusqlite::Error| {
            BenchError::system("look into the replica")(std::io::Error::other(error))
        };
        let seen = self.thread.take().map(JoinHandle::join);
        match seen {
            Some(Ok(seen)) => seen.map_err(failed),
            Some(Err(_)) | None => Err(failed(rusqlite::Error::InvalidQuery)),
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // What it saw concerns nobody any more.
        self.thread.take().map(JoinHandle::join);
    }
}

fn watch(replica: &Path, is_over: &AtomicBool) -> rusqlite::Result<Seen> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(replica, flags)?;
    let mut last = connection.prepare("SELECT ifnull(max(id), 0) FROM entries")?;
    let mut seen = Seen::new();
    loop {
        // Looked at before the file is, so that what was committed before the end is seen.
        let ends = is_over.load(Ordering::Relaxed);
        let row = last.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs();
        if seen.last().map_or(0, |(row, _)| *row) < row {
            seen.push((row, monotonic_ns()));
        }
        if ends {
            return Ok(seen);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_late_by_the_look_that_found_it() {
        let seen = [(2, 30), (3, 50)];
        assert_eq!(delays(&[10, 20, 40], &seen), Some(vec![20, 10, 10]));
        assert_eq!(delays(&[10, 20, 40, 60], &seen), None, "the fourth was not seen");
        assert_eq!(delays(&[], &[]), Some(Vec::new()));
    }
}
