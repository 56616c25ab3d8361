//! An application that outruns the follower is made to wait, and never for longer than it is patient: "database is locked" is an error that it
//! would not have without us.

use std::convert::Infallible;
use std::path::Path;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::{CommittedState, Follower, Options, Sink, Statistics, WalPosition};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::state::RunningState;

const WAL_BYTES_MAX: u64 = 24 << 20;

/// Takes so long for each commit that any application outruns it.
struct Slow(Duration);

impl Sink for Slow {
    type Error = Infallible;

    fn piece(&mut self, _: Changes) -> Result<(), Infallible> {
        Ok(())
    }

    fn commit(&mut self, _: Changes, _: &mut CommittedState<'_>) -> Result<(), Infallible> {
        park_timeout(self.0);
        Ok(())
    }

    fn persist(&mut self, _: &WalPosition, _: &RunningState) -> Result<(), Infallible> {
        Ok(())
    }
}

/// One writer of the application.
struct Writer {
    sqlite: rusqlite::Connection,
    commits: u32,
    row_bytes: u32,
    pause: Duration,
}

impl Writer {
    fn open(path: &Path, commits: u32, row_bytes: u32, pause: Duration) -> Self {
        let sqlite = rusqlite::Connection::open(path).unwrap();
        let sql = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE IF NOT EXISTS t(a)";
        sqlite.execute_batch(sql).unwrap();
        Self { sqlite, commits, row_bytes, pause }
    }

    /// Has it ask so many times for a lock that somebody else has, asleep for so long before each.
    fn ask_every(&mut self, sleep: Duration, times: i32) {
        let patience = move |asked: i32| {
            park_timeout(sleep);
            asked < times
        };
        self.sqlite.busy_handler(Some(patience)).unwrap();
    }

    /// Writes, and says how long it waited at most.
    fn run(self) -> Duration {
        let mut longest = Duration::ZERO;
        for commit in 0..self.commits {
            let began = Instant::now();
            let done = self.sqlite.execute("INSERT INTO t VALUES(randomblob(?1))", [self.row_bytes]);
            let took = began.elapsed();
            done.unwrap_or_else(|error| panic!("commit {commit} after {took:?}: {error}"));
            longest = longest.max(took);
            if !self.pause.is_zero() {
                park_timeout(self.pause);
            }
        }
        longest
    }
}

/// Follows until all have written, and everything is captured.
fn follow(path: &Path, wal_bytes_max: u64, writers: Vec<Writer>, sink: Duration) -> Statistics {
    let mut follower = Follower::attach(path, Options::for_wal(wal_bytes_max)).unwrap();
    let all: u64 = writers.iter().map(|writer| u64::from(writer.commits)).sum();
    let writing: Vec<_> =
        writers.into_iter().map(|writer| std::thread::spawn(move || writer.run())).collect();
    let mut commits = 0;
    while writing.iter().any(|writer| !writer.is_finished()) {
        commits += follower.poll(&mut Slow(sink)).unwrap();
    }
    let statistics = follower.statistics();
    let waits: Vec<Duration> = writing.into_iter().map(|writer| writer.join().unwrap()).collect();
    println!("longest waits {waits:.0?}, {statistics:?}");
    while commits < all {
        commits += follower.poll(&mut Slow(Duration::ZERO)).unwrap();
    }
    assert!(statistics.write_locks > 3, "nobody was made to wait: {statistics:?}");
    let scanned = RunningState::scan(&Connection::open(path).unwrap()).unwrap();
    assert_eq!(follower.state().hash(), scanned.hash());
    statistics
}

/// What the WAL holds when the application is first made to wait takes the follower longer than this application is patient, which waits as
/// SQLite does by itself in the end: asleep for a tenth of a second at a time.
#[test]
fn who_waits_asleep_for_the_write_lock_has_a_turn_before_all_is_captured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let mut writer = Writer::open(&path, 600, 65_536, Duration::from_millis(3));
    writer.ask_every(Duration::from_millis(100), 8);
    follow(&path, WAL_BYTES_MAX, vec![writer], Duration::from_millis(10));
}

/// The one that asks again and again, and so first, does not take the turns of those that sleep in between. These have one at least each second,
/// and sometimes find another writer at it just then.
#[test]
fn several_writers_have_turns_within_two_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let pauses = [(900, 5), (70, 30), (70, 40), (70, 50), (70, 60)]
        .map(|(commits, ms)| (commits, Duration::from_millis(ms)));
    let mut writers = pauses.map(|(commits, pause)| Writer::open(&path, commits, 65_536, pause));
    let [first, sleepers @ ..] = &mut writers;
    first.ask_every(Duration::from_millis(1), 1000);
    for sleeper in sleepers {
        sleeper.ask_every(Duration::from_millis(100), 19);
    }
    let statistics = follow(&path, WAL_BYTES_MAX, writers.into(), Duration::from_millis(8));
    assert!(statistics.wal_bytes_max < WAL_BYTES_MAX * 3, "{statistics:?}");
}

/// Ten times as fast as the follower. How far the WAL grows at first depends on how long the disk takes to sync what it writes.
#[test]
fn a_writer_that_is_far_faster_neither_fails_nor_fills_its_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let writer = Writer::open(&path, 3600, 16_384, Duration::from_micros(200));
    writer.sqlite.busy_timeout(Duration::from_secs(1)).unwrap();
    let statistics = follow(&path, 8 << 20, vec![writer], Duration::from_millis(4));
    assert!(statistics.wal_bytes_max < 48 << 20, "{statistics:?}");
}
