//! The follower beside one writer: after every commit, what it made of the changes is what a full scan finds.

use std::path::{Path, PathBuf};

use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::{CaptureError, CommittedState, Follower, Options, Sink, WalPosition};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::state::RunningState;

/// Keeps what it is given, one entry for each commit.
#[derive(Default)]
struct Kept {
    pieces: u64,
    commits: Vec<Changes>,
    position: Option<WalPosition>,
}

impl Sink for Kept {
    type Error = std::convert::Infallible;

    fn piece(&mut self, _: Changes) -> Result<(), Self::Error> {
        self.pieces += 1;
        Ok(())
    }

    fn commit(&mut self, changes: Changes, _: &mut CommittedState<'_>) -> Result<(), Self::Error> {
        self.commits.push(changes);
        Ok(())
    }

    fn persist(&mut self, position: &WalPosition, _: &RunningState) -> Result<(), Self::Error> {
        self.position = Some(*position);
        Ok(())
    }
}

struct Beside {
    path: PathBuf,
    writer: rusqlite::Connection,
    follower: Follower,
    sink: Kept,
    _folder: tempfile::TempDir,
}

impl Beside {
    fn new(setup: &str, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let writer = rusqlite::Connection::open(&path).unwrap();
        writer.execute_batch(setup).unwrap();
        let follower = Follower::attach(&path, options).unwrap();
        let beside = Self { path, writer, follower, sink: Kept::default(), _folder: folder };
        beside.agrees("after attaching");
        beside
    }

    /// Runs statements, each a transaction unless it says otherwise, and compares.
    fn run(&mut self, sql: &str) -> u64 {
        self.writer.execute_batch(sql).unwrap();
        let commits = self.follow();
        self.agrees(sql);
        commits
    }

    /// Captures all there is.
    fn follow(&mut self) -> u64 {
        let mut commits = 0;
        loop {
            match self.follower.poll(&mut self.sink).unwrap() {
                0 => return commits,
                more => commits += more,
            }
        }
    }

    fn agrees(&self, when: &str) {
        assert_eq!(self.follower.state().hash(), scan(&self.path).hash(), "{when}");
    }
}

fn scan(path: &Path) -> RunningState {
    let connection = Connection::open(path).unwrap();
    RunningState::scan(&connection).unwrap()
}

#[test]
fn rows_of_every_kind_of_table_are_captured() {
    for setup in [
        "CREATE TABLE t(a, b)",
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b)",
        "CREATE TABLE t(a PRIMARY KEY, b) WITHOUT ROWID",
        "PRAGMA page_size = 512; PRAGMA auto_vacuum = FULL; CREATE TABLE t(a REAL, b, UNIQUE(a, b))",
        "PRAGMA page_size = 512; CREATE TABLE t(b, a, PRIMARY KEY(a)) WITHOUT ROWID",
        "PRAGMA page_size = 65536; PRAGMA encoding = 'UTF-16be'; CREATE TABLE t(a, b)",
    ] {
        let mut beside = Beside::new(setup, Options::default());
        assert_eq!(beside.run("INSERT INTO t(a, b) VALUES(1, 'one')"), 1);
        let many =
            format!("INSERT INTO t(a, b) SELECT value * 10, printf('%.*c', value % 997, 'x') FROM {SERIES}");
        assert_eq!(beside.run(&many), 1);
        beside.run("UPDATE t SET b = zeroblob(5000) WHERE a % 7 = 0");
        beside.run("UPDATE t SET b = b || 'y' WHERE a % 70 = 0");
        beside.run("UPDATE t SET a = a + 1000000 WHERE a % 3 = 0");
        beside.run("DELETE FROM t WHERE a % 5 = 0");
        beside.run("DELETE FROM t WHERE a > 500");
        beside.run("DELETE FROM t");
        assert_eq!(beside.run(&many), 1);
        beside.run("VACUUM");
        beside.run("DROP TABLE t");
    }
}

const SERIES: &str = "(WITH RECURSIVE n(value) AS (SELECT 2 UNION ALL SELECT value + 1 FROM n WHERE value < 2000) SELECT value FROM n)";

#[test]
fn schema_changes_are_captured() {
    let mut beside = Beside::new("PRAGMA page_size = 1024", Options::default());
    for sql in [
        "CREATE TABLE t(a PRIMARY KEY, b REAL)",
        "INSERT INTO t VALUES(1, 1), (2, 2.5), ('x', NULL)",
        "ALTER TABLE t ADD COLUMN c REAL DEFAULT 7",
        "UPDATE t SET a = 3 WHERE a = 1",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE u RENAME COLUMN b TO bb",
        "INSERT INTO u VALUES(9, 9, 9)",
        "ALTER TABLE u DROP COLUMN bb",
        "CREATE INDEX i ON u(c)",
        "CREATE TABLE s(k INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "INSERT INTO s(v) VALUES('a'), ('b')",
        "DELETE FROM sqlite_sequence",
        "BEGIN; ALTER TABLE u RENAME TO tmp; ALTER TABLE s RENAME TO u; ALTER TABLE tmp RENAME TO s; COMMIT",
        "BEGIN; CREATE TABLE n(c, a); INSERT INTO n SELECT c, a FROM s; DROP TABLE s; ALTER TABLE n RENAME TO s; COMMIT",
        "BEGIN; DROP TABLE s; CREATE TABLE s(z PRIMARY KEY) WITHOUT ROWID; INSERT INTO s VALUES(1), (2); COMMIT",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "INSERT INTO f VALUES('one two'), ('three')",
        "UPDATE f SET x = 'four' WHERE rowid = 1",
        "PRAGMA user_version = 5",
        "PRAGMA application_id = -7",
        "CREATE VIEW w AS SELECT * FROM s",
        "CREATE TRIGGER r AFTER INSERT ON s BEGIN INSERT INTO u(v) VALUES(new.z); END",
        "INSERT INTO s VALUES(77)",
        "ANALYZE",
        "DROP TABLE f",
        "VACUUM",
    ] {
        beside.run(sql);
    }
}

#[test]
fn the_wal_begins_anew_and_nothing_is_lost() {
    let options = Options { swap_bytes: 80_000, recycle_bytes: 250_000, ..Options::default() };
    let mut beside = Beside::new("CREATE TABLE t(a INTEGER PRIMARY KEY, b)", options);
    let mut commits = 0;
    for at in 0..2000 {
        beside.writer.execute("INSERT INTO t(b) VALUES(?1)", [at]).unwrap();
        if at % 3 == 0 {
            commits += beside.follow();
        }
    }
    commits += beside.follow();
    beside.agrees("at the end");
    assert_eq!(commits, 2000);
    let statistics = beside.follower.statistics();
    assert!(statistics.wal_resets >= 20, "{statistics:?}");
}

#[test]
fn attaching_beside_a_writer_that_checkpoints_begins_at_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let setup =
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE n(v); INSERT INTO n VALUES(0);
        CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t WITH RECURSIVE n(v) AS
        (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 20000) SELECT v, zeroblob(50) FROM n";
    rusqlite::Connection::open(&path).unwrap().execute_batch(setup).unwrap();
    for _ in 0..5 {
        let ended = std::sync::atomic::AtomicBool::new(false);
        let mut kept = Kept::default();
        let mut follower = std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                let writer = rusqlite::Connection::open(&path).unwrap();
                writer.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
                writer.execute_batch("PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 50").unwrap();
                while !ended.load(std::sync::atomic::Ordering::SeqCst) {
                    writer
                        .execute_batch(
                            "UPDATE n SET v = v + 1; UPDATE t SET b = a + random() WHERE a % 997 = 5",
                        )
                        .unwrap();
                }
            });
            let attached = Follower::attach(&path, Options::default());
            let mut follower = attached.unwrap_or_else(|error| panic!("{error:?}"));
            for _ in 0..5 {
                follower.poll(&mut kept).unwrap();
            }
            ended.store(true, std::sync::atomic::Ordering::SeqCst);
            writing.join().unwrap();
            follower
        });
        while follower.poll(&mut kept).unwrap() > 0 {}
        assert_eq!(follower.state().hash(), scan(&path).hash());
    }
}

#[test]
fn an_idle_database_is_left_in_peace() {
    let options = Options { swap_bytes: 80_000, recycle_bytes: 250_000, ..Options::default() };
    let mut beside = Beside::new("CREATE TABLE t(a, b)", options);
    beside.writer.execute_batch("INSERT INTO t VALUES(1, zeroblob(2000000))").unwrap();
    beside.follow();
    for _ in 0..100 {
        assert_eq!(beside.follower.poll(&mut beside.sink).unwrap(), 0);
    }
    assert_eq!(beside.follower.statistics().write_locks, 1);
    // A reader that stays makes taking the lock vain.
    let reader = rusqlite::Connection::open(&beside.path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    beside.writer.execute_batch("UPDATE t SET b = zeroblob(2000001)").unwrap();
    for _ in 0..100 {
        beside.follower.poll(&mut beside.sink).unwrap();
    }
    assert!(beside.follower.statistics().write_locks <= 3, "{:?}", beside.follower.statistics());
    beside.agrees("at the end");
}

/// Numbers without pattern, the same in every run.
fn noise(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let setup = "PRAGMA page_size = 512; CREATE TABLE t(a PRIMARY KEY, b); CREATE TABLE k(a PRIMARY KEY, b) WITHOUT ROWID;
        INSERT INTO t WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 60) SELECT v, zeroblob(v * 30) FROM n;
        INSERT INTO k SELECT * FROM t";
    rusqlite::Connection::open(&path).unwrap().execute_batch(setup).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let (mut seed, mut errors) = (7, 0);
    for _ in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..=noise(&mut seed) % 4 {
            let at = usize::try_from(noise(&mut seed)).unwrap() % bytes.len();
            bytes[at] = u8::try_from(noise(&mut seed) & 0xff).unwrap();
        }
        bytes.truncate(bytes.len() - usize::try_from(noise(&mut seed) % 2 * 512).unwrap());
        for end in ["", "-wal", "-shm"] {
            std::fs::remove_file(folder.path().join(format!("app.db{end}"))).ok();
        }
        std::fs::write(&path, bytes).unwrap();
        let Ok(mut follower) = Follower::attach(&path, Options::default()) else {
            errors += 1;
            continue;
        };
        let writer = rusqlite::Connection::open(&path).unwrap();
        for sql in ["DELETE FROM t WHERE rowid % 3 = 0", "UPDATE k SET b = 'x'", "DELETE FROM t", "VACUUM"] {
            writer.execute_batch(sql).ok();
            if follower.poll(&mut Kept::default()).is_err() {
                errors += 1;
                break;
            }
        }
    }
    assert!(errors > 50, "only {errors} of 400 were noticed");
}

#[test]
fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    assert!(matches!(Follower::attach(&path, Options::default()), Err(CaptureError::Missing { .. })));
    assert!(!path.exists(), "nothing is created");
    assert!(matches!(Follower::attach(folder.path(), Options::default()), Err(CaptureError::Missing { .. })));
    std::fs::write(&path, "this is no database, but it is long enough to be looked at as one".repeat(20))
        .unwrap();
    assert!(matches!(Follower::attach(&path, Options::default()), Err(CaptureError::Sqlite(_))));
}

#[test]
fn a_database_that_is_exchanged_ends_the_follower_and_its_wait() {
    for exchange in ["removed", "replaced", "wal removed"] {
        let beside = Beside::new("CREATE TABLE t(a)", Options::default());
        let Beside { path, writer, mut follower, mut sink, .. } = beside;
        assert_eq!(follower.poll(&mut sink).unwrap(), 0, "{exchange}");
        let wal = PathBuf::from(format!("{}-wal", path.display()));
        let away = path.with_extension("away");
        match exchange {
            "removed" => std::fs::remove_file(&path).unwrap(),
            "replaced" => {
                std::fs::copy(&path, &away).unwrap();
                std::fs::rename(&away, &path).unwrap();
            }
            _ => std::fs::remove_file(&wal).unwrap(),
        }
        // Nobody writes to the files that are open, so only the loss of the name ends this wait.
        let begun = std::time::Instant::now();
        follower.wait(std::time::Duration::from_secs(300)).unwrap();
        assert!(begun.elapsed() < std::time::Duration::from_secs(100), "{exchange}");
        assert!(matches!(follower.committed(), Err(CaptureError::Replaced { .. })), "{exchange}");
        let ended = follower.poll(&mut sink);
        assert!(
            matches!(ended, Err(synddb_sqlite::capture::PollError::Capture(CaptureError::Replaced { .. }))),
            "{exchange}"
        );
        drop(writer);
    }
}

#[test]
fn a_database_has_one_follower() {
    let beside = Beside::new("CREATE TABLE t(a)", Options::default());
    let Beside { path, follower, writer, .. } = beside;
    assert!(matches!(Follower::attach(&path, Options::default()), Err(CaptureError::Followed { .. })));
    // Refusing takes nothing from the application.
    writer.execute_batch("INSERT INTO t VALUES(1)").unwrap();
    drop(follower);
    Follower::attach(&path, Options::default()).unwrap();
}
