//! Frames that SQLite committed and did not sum up: versions up to 3.50.1 leave them after a `ROLLBACK TO` behind a spilled page.
//!
//! The SQLite here has the repair, so the header of a committed frame is put to zeros by hand, as the old ones leave it. What the old ones
//! do by themselves is kept in `differential/found`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::{
    CaptureError, Follower, Options, PollError, Sink, WalPosition, committed_position,
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

    fn commit(&mut self, _: Changes, _: &RunningState) -> Result<(), Self::Error> {
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
