//! Frames that SQLite committed and did not sum up: versions up to 3.50.1 leave them after a `ROLLBACK TO` behind a spilled page.
//!
//! The SQLite here has the repair, so the header of a committed frame is put to zeros by hand, as the old ones leave it. What the old ones
//! do by themselves is kept in `differential/found`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::{
    CaptureError, CommittedState, Follower, Options, PollError, Sink, WalPosition, committed_position,
};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::state::RunningState;

const PAGE_BYTES: u64 = 4096;

struct Nowhere;

impl Sink for Nowhere {
    type Error = std::convert::Infallible;

    fn piece(&mut self, _: Changes) -> Result<(), Self::Error> {
        Ok(())
    }

    fn commit(&mut self, _: Changes, _: &mut CommittedState<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    fn persist(&mut self, _: &WalPosition, _: &RunningState) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Writes zeros over so many bytes of a frame's header, from an offset on.
fn blank(database: &Path, frame: u32, offset: u64, bytes: usize) {
    let wal = database.with_extension("db-wal");
    let at = 32 + u64::from(frame - 1) * (24 + PAGE_BYTES) + offset;
    File::options().write(true).open(wal).unwrap().write_all_at(&vec![0; bytes], at).unwrap();
}

fn committed(database: &Path) -> WalPosition {
    committed_position(database).unwrap().unwrap()
}

fn agrees(database: &Path, follower: &Follower) {
    let scanned = RunningState::scan(&Connection::open(database).unwrap()).unwrap();
    assert_eq!(follower.state().hash(), scanned.hash());
}

fn application(folder: &Path) -> (std::path::PathBuf, rusqlite::Connection) {
    let path = folder.join("app.db");
    let writer = rusqlite::Connection::open(&path).unwrap();
    let setup = "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; \
                 CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE TABLE u(a)";
    writer.execute_batch(setup).unwrap();
    (path, writer)
}

#[test]
fn unsummed_frames_of_a_commit_are_captured_and_the_wal_is_begun_anew_soon() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = application(folder.path());
    let mut follower = Follower::attach(&path, Options::default()).unwrap();
    for unsummed in [0, 1, 2] {
        // The first frame of a commit, one inside, and its last one, behind which nothing can be checked.
        let before = committed(&path).frame;
        writer
            .execute_batch("BEGIN; INSERT INTO t(b) VALUES(zeroblob(9000)); INSERT INTO u VALUES(1); COMMIT")
            .unwrap();
        let last = committed(&path).frame;
        assert!(last > before + 2);
        let frame = [before + 1, before + 2, last][unsummed];
        blank(&path, frame, 8, 16);
        if unsummed == 1 {
            // More commits come before it is captured.
            writer.execute_batch("INSERT INTO u VALUES(2); DELETE FROM u WHERE a = 1").unwrap();
        }
        while follower.poll(&mut Nowhere).unwrap() > 0 {}
        agrees(&path, &follower);
        let statistics = follower.statistics();
        assert_eq!(statistics.unsummed_frames, unsummed as u64 + 1);
        assert_eq!(
            statistics.write_locks,
            unsummed as u64 + 1,
            "copied back at once, far below the usual size"
        );
        // And cut off at once: a recovery that stopped at that frame would lay older ones over what was copied back.
        assert_eq!(std::fs::metadata(path.with_extension("db-wal")).unwrap().len(), 0);
        writer.execute_batch("INSERT INTO u VALUES(3)").unwrap();
        assert!(committed(&path).frame < last);
        assert!(follower.poll(&mut Nowhere).unwrap() > 0);
        agrees(&path, &follower);
    }
}

#[test]
fn a_follower_attaches_beside_unsummed_frames() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = application(folder.path());
    writer.execute_batch("INSERT INTO t(b) VALUES(1)").unwrap();
    blank(&path, committed(&path).frame, 8, 16);
    let mut follower = Follower::attach(&path, Options::default()).unwrap();
    agrees(&path, &follower);
    writer.execute_batch("INSERT INTO t(b) VALUES(2)").unwrap();
    assert_eq!(follower.poll(&mut Nowhere).unwrap(), 1);
    agrees(&path, &follower);
}

#[test]
fn frames_that_are_wrong_in_another_way_are_refused() {
    // Salts alone, and checksum alone: no SQLite leaves that.
    for (offset, gap) in [(8, true), (16, false)] {
        let folder = tempfile::tempdir().unwrap();
        let (path, writer) = application(folder.path());
        let mut follower = Follower::attach(&path, Options::default()).unwrap();
        writer.execute_batch("INSERT INTO t(b) VALUES(1)").unwrap();
        blank(&path, committed(&path).frame, offset, 8);
        let error = follower.poll(&mut Nowhere).unwrap_err();
        match error {
            PollError::Capture(CaptureError::Gap { .. }) => assert!(gap),
            PollError::Capture(CaptureError::Damaged(_)) => assert!(!gap),
            other => panic!("{other}"),
        }
    }
}

/// What a power cut leaves: database and WAL as they are in the files, without the wal-index. What a check of it says, and its rows.
fn after_power_cut(path: &Path) -> (String, i64) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("app.db");
    for end in ["db", "db-wal"] {
        // By another process: to close a descriptor of these here would drop locks.
        let (from, to) = (path.with_extension(end), copy.with_extension(end));
        assert!(std::process::Command::new("cp").arg(from).arg(to).status().unwrap().success());
    }
    let copy = rusqlite::Connection::open(&copy).unwrap();
    let check = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    let rows = copy.query_row("SELECT count(*) FROM t", [], |row| row.get(0));
    (check.unwrap_or_else(|error| error.to_string()), rows.unwrap_or(-1))
}

/// An application whose WAL has a summed commit, an unsummed one, and one that splits pages: copied back and recovered from its WAL as it
/// is, it would be damaged.
fn perilous(folder: &Path) -> (std::path::PathBuf, rusqlite::Connection) {
    let (path, writer) = application(folder);
    let rows = |count, text| {
        format!(
            "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT {count}) \
             INSERT INTO t(b) SELECT '{text}' || (i * 7919 % 1000) FROM s"
        )
    };
    writer.execute_batch("CREATE INDEX one ON t(b); CREATE INDEX two ON t(b DESC, a)").unwrap();
    writer.execute_batch(&rows(400, "row ")).unwrap();
    writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    writer.execute_batch("UPDATE t SET b = b || ' a' WHERE a % 3 = 0").unwrap();
    writer.execute_batch("UPDATE t SET b = b || ' b' WHERE a % 5 = 0").unwrap();
    blank(&path, committed(&path).frame, 8, 16);
    writer.execute_batch(&rows(900, "new ")).unwrap();
    (path, writer)
}

fn wal_bytes(path: &Path) -> u64 {
    std::fs::metadata(path.with_extension("db-wal")).unwrap().len()
}

#[test]
fn while_the_lock_is_not_had_nothing_of_an_unsummed_wal_is_copied_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = perilous(folder.path());
    let mut follower = Follower::attach(&path, Options::default()).unwrap();
    let before = after_power_cut(&path);
    assert_eq!(before, ("ok".to_owned(), 400), "a recovery stops at the unsummed frame");
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    follower.poll(&mut Nowhere).unwrap();
    assert_eq!(follower.statistics().write_locks, 0);
    assert_eq!(after_power_cut(&path), before, "older frames over newer pages would be damage");
    writer.execute_batch("COMMIT").unwrap();
}

#[test]
fn a_wal_that_a_reader_stood_in_is_cut_off_when_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _writer) = perilous(folder.path());
    let mut follower = Follower::attach(&path, Options::default()).unwrap();
    assert_eq!(follower.statistics().unsummed_frames, 1, "they are seen when it attaches");
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    follower.poll(&mut Nowhere).unwrap();
    assert!(wal_bytes(&path) > 0);
    reader.execute_batch("COMMIT").unwrap();
    // Nobody writes any more, so nothing wakes it.
    let started = std::time::Instant::now();
    while wal_bytes(&path) > 0 {
        assert!(started.elapsed() < std::time::Duration::from_secs(60));
        follower.wait(std::time::Duration::from_secs(600)).unwrap();
        follower.poll(&mut Nowhere).unwrap();
    }
    assert_eq!(after_power_cut(&path), ("ok".to_owned(), 1300));
    agrees(&path, &follower);
}

/// Reads or writes the wal-index from another process: to close it in this one would drop the follower's locks.
fn wal_index(path: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let side = if input.is_empty() { "if" } else { "of" };
    let mut child = Command::new("dd")
        .arg(format!("{side}={}", path.with_extension("db-shm").display()))
        .args(arguments)
        .args(["bs=1", "status=none"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_recovery_that_took_back_a_captured_commit_ends_the_follower() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = application(folder.path());
    let mut follower = Follower::attach(&path, Options::default()).unwrap();
    writer.execute_batch("INSERT INTO t(b) VALUES('X')").unwrap();
    blank(&path, committed(&path).frame, 8, 16);
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    while follower.poll(&mut Nowhere).unwrap() > 0 {}
    // As a writer leaves it that is killed while it writes the header: the next one recovers, and stops before X.
    let changes = wal_index(&path, &["skip=56", "count=1"], &[]);
    wal_index(&path, &["seek=56", "conv=notrunc"], &[changes[0] ^ 0xff]);
    writer.execute_batch("INSERT INTO u VALUES('Y')").unwrap();
    writer.execute_batch("INSERT INTO u VALUES('Z')").unwrap();
    let error = loop {
        match follower.poll(&mut Nowhere) {
            Ok(0) => panic!("Y was never captured, and nobody says so"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, PollError::Capture(CaptureError::Gap { .. } | CaptureError::Damaged(_))),
        "{error}"
    );
}
