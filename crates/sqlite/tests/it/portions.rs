//! How much is captured before it is kept: what bounds the memory of a sink, and how long an application waits for the write lock.

use std::convert::Infallible;
use std::path::Path;

use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::{CommittedState, Follower, Options, Sink, WalPosition, committed_position};
use synddb_sqlite::rusqlite;
use synddb_sqlite::state::RunningState;

/// Bytes of a frame.
const FRAME_BYTES: u64 = 24 + 4096;

/// Notes up to where each portion was kept.
#[derive(Default)]
struct Portions(Vec<u32>);

impl Sink for Portions {
    type Error = Infallible;

    fn piece(&mut self, _: Changes) -> Result<(), Infallible> {
        Ok(())
    }

    fn commit(&mut self, _: Changes, _: &mut CommittedState<'_>) -> Result<(), Infallible> {
        Ok(())
    }

    fn persist(&mut self, position: &WalPosition, _: &RunningState) -> Result<(), Infallible> {
        self.0.push(position.frame);
        Ok(())
    }
}

fn last_frame(path: &Path) -> u32 {
    committed_position(path).unwrap().unwrap().frame
}

#[test]
fn commits_of_many_frames_are_kept_in_portions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let writer = rusqlite::Connection::open(&path).unwrap();
    writer
        .execute_batch(
            "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0;
             CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE TABLE u(a INTEGER PRIMARY KEY, b)",
        )
        .unwrap();
    let mut follower = Follower::attach(&path, Options::default()).unwrap();
    // So many frames that hardly any commit ends where a read of the WAL does.
    let many = "BEGIN; WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 1500)
        INSERT INTO t(b) SELECT 'some text of a row, number ' || i FROM s;
        INSERT INTO u(b) VALUES(zeroblob(3000)); COMMIT";
    let from = last_frame(&path);
    while u64::from(last_frame(&path) - from) * FRAME_BYTES < 30 << 20 {
        writer.execute_batch(many).unwrap();
    }
    let mut kept = Portions(vec![from]);
    while follower.poll(&mut kept).unwrap() > 0 {}
    let portions = kept.0.windows(2).map(|pair| u64::from(pair[1].saturating_sub(pair[0])) * FRAME_BYTES);
    let portions: Vec<u64> = portions.collect();
    assert!(portions.len() >= 3 && portions.iter().all(|bytes| *bytes < 10 << 20), "{portions:?}");
    let scanned = RunningState::scan(&synddb_sqlite::connection::Connection::open(&path).unwrap()).unwrap();
    assert_eq!(follower.state().hash(), scanned.hash());
}
