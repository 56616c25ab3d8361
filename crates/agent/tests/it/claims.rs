//! What leaves claims the state at exactly the commit that it names: a full scan of the application after each commit is the judge.
//!
//! Rows count in the state only when somebody asks for it, so each way in which a submission can end is another moment at which the wrong one
//! could be asked for.

use std::path::PathBuf;

use synddb_agent::outbox::{Beginning, Options, Outbox, OutboxError};
use synddb_protocol::hash::StateHash;
use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::{self, CommittedState, Follower, Left, PIECE_BYTES, Sink, WalPosition};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::state::RunningState;

use super::reader::Reader;
use super::{beginning, file};

/// Nobody copies anything back, so that a follower can always go on where another one was left.
const ENDLESS: capture::Options =
    capture::Options { swap_bytes: u64::MAX, recycle_bytes: u64::MAX, bytes_max: u64::MAX };

/// An application that is scanned after each commit, and what is captured of it.
struct Scanned {
    path: PathBuf,
    writer: rusqlite::Connection,
    scanner: Connection,
    /// The state after each commit since the follower attached.
    states: Vec<StateHash>,
    follower: Option<Follower>,
    outbox: Outbox,
    _folder: tempfile::TempDir,
}

impl Scanned {
    fn new(setup: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let writer = rusqlite::Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = OFF").unwrap();
        writer.execute_batch(setup).unwrap();
        let follower = Follower::attach(&path, ENDLESS).unwrap();
        let (state, position) = (follower.state().hash(), follower.position());
        let begins = Beginning { state, position, ..beginning() };
        let outbox = Outbox::create(&file(folder.path()), &begins, Options::default()).unwrap();
        let scanner = Connection::open(&path).unwrap();
        let follower = Some(follower);
        Self { path, writer, scanner, states: Vec::new(), follower, outbox, _folder: folder }
    }

    /// Commits once.
    fn commit(&mut self, sql: &str) {
        self.writer.execute_batch(sql).unwrap();
        self.states.push(RunningState::scan(&self.scanner).unwrap().hash());
    }

    fn commit_each<'s>(&mut self, all: impl IntoIterator<Item = &'s str>) {
        all.into_iter().for_each(|sql| self.commit(sql));
    }

    fn follow(&mut self) {
        let follower = self.follower.as_mut().unwrap();
        while follower.poll(&mut self.outbox.admitted().unwrap()).unwrap() > 0 {}
    }

    /// The commits at which something is claimed, counted from 0, once all of it was found right.
    fn claims(&mut self) -> Vec<usize> {
        self.follow();
        let reader = Reader::of(&self.outbox);
        assert_eq!(reader.commits.len(), self.states.len());
        let mut claims = Vec::new();
        for (number, (read, scanned)) in reader.commits.iter().zip(&self.states).enumerate() {
            if let Some(claim) = read.claim {
                assert_eq!(claim.state, *scanned, "behind commit {number}");
                claims.push(number);
            }
        }
        assert_eq!(Some(self.outbox.state()), self.states.last().copied());
        assert_eq!(self.follower.as_ref().unwrap().state().hash(), self.outbox.state());
        claims
    }

    /// Has another follower go on where the outbox was left.
    fn attach_again(&mut self) {
        drop(self.follower.take());
        self.outbox.give_up().unwrap();
        let left = Left { position: self.outbox.position(), state: self.outbox.state() };
        let resumed = Follower::resume(&self.path, ENDLESS, &left, None).unwrap();
        self.follower = Some(resumed.map_err(|lost| format!("{lost:?}")).unwrap());
    }
}

const SETUP: &str = "CREATE TABLE t(a, b); CREATE TABLE w(n INTEGER, b)";
const SMALL: [&str; 3] =
    ["INSERT INTO t VALUES(1, 'one')", "UPDATE t SET b = b || 'x' WHERE a = 1", "PRAGMA user_version = 7"];

#[test]
fn before_a_commit_in_pieces() {
    let mut scanned = Scanned::new(SETUP);
    scanned.commit_each(SMALL);
    scanned.commit("INSERT INTO t VALUES(2, randomblob(9000000))");
    scanned.commit_each(SMALL);
    // Many rows, of which the first are handed on while the rest is captured.
    let many = "INSERT INTO t SELECT value, printf('%.*c', 300, 'x') FROM generate";
    scanned.commit(&many.replace("generate", &series(20_000)));
    scanned.commit_each(SMALL);
    assert_eq!(scanned.claims(), [2, 3, 6, 7, 10]);
}

#[test]
fn before_a_row_that_leaves_few_frames_and_large_changes() {
    let setup = format!("{SETUP}; INSERT INTO w VALUES(1, randomblob(10000000))");
    let mut scanned = Scanned::new(&setup);
    scanned.commit_each(SMALL);
    scanned.commit("DELETE FROM w");
    scanned.commit_each(SMALL);
    assert_eq!(scanned.claims(), [2, 3, 6]);
}

#[test]
fn before_a_commit_that_is_too_large_for_a_submission_and_too_small_for_pieces() {
    let mut scanned = Scanned::new(SETUP);
    let mut expected = Vec::new();
    for less in [60, 100, 150] {
        scanned.commit_each(SMALL);
        expected.push(scanned.states.len() - 1);
        scanned.commit(&format!("INSERT INTO t VALUES(3, randomblob({}))", PIECE_BYTES - less));
        expected.push(scanned.states.len() - 1);
    }
    assert_eq!(scanned.claims(), expected);
}

#[test]
fn around_rows_that_are_large_and_changes_that_are_small() {
    let wide = "INSERT INTO w SELECT value, randomblob(10000) FROM generate";
    let setup = format!("{SETUP}; {}", wide.replace("generate", &series(200)));
    let mut scanned = Scanned::new(&setup);
    scanned.commit_each(SMALL);
    scanned.commit("UPDATE w SET n = n + 1");
    scanned.commit_each(SMALL);
    scanned.commit("UPDATE w SET n = n + 1; ");
    // What is large in the state alone does not end a submission.
    assert_eq!(scanned.claims(), [7]);
}

#[test]
fn before_a_schema_change_too_many() {
    let mut scanned = Scanned::new(SETUP);
    for number in 0..150 {
        scanned.commit(&format!(
            "BEGIN; CREATE TABLE s{number}(a); CREATE INDEX i{number} ON s{number}(a);
             INSERT INTO s{number} VALUES({number}); INSERT INTO t VALUES({number}, 's'); COMMIT"
        ));
    }
    scanned.commit("BEGIN; ALTER TABLE s1 RENAME TO r1; INSERT INTO r1 VALUES(5); DROP TABLE s2; COMMIT");
    assert_eq!(scanned.claims(), [127, 150]);
}

#[test]
fn where_a_submission_is_full() {
    let mut scanned = Scanned::new(SETUP);
    for _ in 0..25 {
        scanned.commit("INSERT INTO t VALUES(4, randomblob(100000))");
    }
    assert_eq!(scanned.claims(), [10, 21, 24]);
}

#[test]
fn where_a_submission_has_as_many_commits_as_it_may() {
    let mut scanned =
        Scanned::new(&format!("PRAGMA page_size = 512; {SETUP}; INSERT INTO w VALUES(0, NULL)"));
    for _ in 0..4100 {
        scanned.commit("UPDATE w SET n = n + 1");
    }
    assert_eq!(scanned.claims(), [4095, 4099]);
}

#[test]
fn where_a_poll_ends() {
    let mut scanned = Scanned::new(SETUP);
    let rows = format!("INSERT INTO t SELECT value, 'x' FROM {}", series(100));
    for _ in 0..3 {
        scanned.commit_each(SMALL);
        // Enough that it is counted beside, and not large.
        scanned.commit_each([rows.as_str(), rows.as_str()]);
        scanned.follow();
    }
    assert_eq!(scanned.claims(), [4, 9, 14]);
}

/// Hands everything to an outbox, until it fails.
struct Failing<'o> {
    outbox: &'o mut Outbox,
    commits: usize,
}

#[derive(Debug)]
enum Failure {
    Planned,
    Outbox,
}

impl From<OutboxError> for Failure {
    fn from(_: OutboxError) -> Self {
        Self::Outbox
    }
}

impl Sink for Failing<'_> {
    type Error = Failure;

    fn apart(&mut self, state: &mut CommittedState<'_>) -> Result<(), Failure> {
        Ok(Sink::apart(self.outbox, state)?)
    }

    fn piece(&mut self, changes: Changes) -> Result<(), Failure> {
        Ok(Sink::piece(self.outbox, changes)?)
    }

    fn commit(&mut self, changes: Changes, state: &mut CommittedState<'_>) -> Result<(), Failure> {
        self.commits = self.commits.checked_sub(1).ok_or(Failure::Planned)?;
        Ok(Sink::commit(self.outbox, changes, state)?)
    }

    fn persist(&mut self, position: &WalPosition, state: &RunningState) -> Result<(), Failure> {
        Ok(Sink::persist(self.outbox, position, state)?)
    }
}

#[test]
fn after_a_poll_that_failed() {
    let rows = format!("INSERT INTO t SELECT value, 'x' FROM {}", series(100));
    let mut scanned = Scanned::new(SETUP);
    for fails_at in [0, 2, 5, 6] {
        scanned.commit_each(SMALL);
        scanned.follow();
        scanned.commit_each(SMALL);
        scanned.commit_each([rows.as_str(), rows.as_str()]);
        scanned.commit("INSERT INTO t VALUES(2, randomblob(6000000))");
        scanned.commit(&rows);
        let mut failing = Failing { outbox: &mut scanned.outbox, commits: fails_at };
        let failed = scanned.follower.as_mut().unwrap().poll(&mut failing).unwrap_err();
        assert!(format!("{failed:?}").contains("Planned"), "{failed:?}");
        scanned.attach_again();
    }
    // What a poll that failed had taken comes with the small commits behind it.
    assert_eq!(scanned.claims(), [2, 7, 8, 12, 17, 18, 22, 27, 28, 32, 37, 38, 39]);
}

fn series(count: u32) -> String {
    format!(
        "(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {count}) SELECT value FROM n)"
    )
}
