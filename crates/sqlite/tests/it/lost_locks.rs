//! A process that closes any descriptor of a file loses every lock that it holds on it (POSIX). Whoever opens the `-shm` beside the
//! follower, in the follower's process, so takes its hold away: the WAL may begin anew as often as it likes. The follower must notice.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use synddb_sqlite::capture::{CaptureError, Options};
use synddb_sqlite::rusqlite;

use super::mirrored::Mirrored;

/// The database that a child writes. Without it, this binary is the parent.
const DATABASE: &str = "SYNDDB_SQLITE_TEST_LOST_LOCKS";
const DONE: &str = "done";

/// A connection in another process, which has had the database open all the time.
struct Application {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Application {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["lost_locks::writes_for_its_parent", "--exact", "--nocapture"])
            .env(DATABASE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn run(&mut self, sql: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{sql}").unwrap();
        let mut line = String::new();
        while line.trim_end() != DONE {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the child ended: {sql}");
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// What a child does; in the parent, nothing.
#[test]
fn writes_for_its_parent() {
    let Ok(path) = std::env::var(DATABASE) else { return };
    let connection = rusqlite::Connection::open(path).unwrap();
    // A checkpoint that the follower is in the way of is not to wait for it.
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    for sql in std::io::stdin().lines() {
        connection.execute_batch(&sql.unwrap()).unwrap();
        println!("\n{DONE}");
    }
}

#[test]
fn a_generation_that_nobody_saw_ends_the_follower() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
    let mut mirrored = Mirrored::attach(&path, Options::default()).unwrap();
    let mut application = Application::start(&path);
    application.run("INSERT INTO t VALUES('seen')");
    assert_eq!(mirrored.catch_up("with its locks"), 1);
    // With them, this does nothing.
    application.run(
        "PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES('seen too'); PRAGMA wal_checkpoint(TRUNCATE)",
    );
    assert_eq!(mirrored.catch_up("with its locks"), 1);
    drop(File::open(folder.path().join("app.db-shm")).unwrap());
    application.run(
        "PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES('not seen'); PRAGMA wal_checkpoint(TRUNCATE)",
    );
    application.run("INSERT INTO t VALUES('seen, after something that was not')");
    let error = mirrored.fails();
    assert!(matches!(error, CaptureError::Gap { .. }), "{error:?}");
    assert!(error.to_string().contains("attach again"), "{error}");
    drop(mirrored);
    let mut mirrored = Mirrored::attach(&path, Options::default()).unwrap();
    application.run("INSERT INTO t VALUES('attached again')");
    assert_eq!(mirrored.catch_up("attached again"), 1);
}

/// Counts how often it had to keep something.
struct Keeps(u64);

impl synddb_sqlite::capture::Sink for Keeps {
    type Error = std::convert::Infallible;

    fn piece(&mut self, _: synddb_protocol::submission::Changes) -> Result<(), Self::Error> {
        Ok(())
    }

    fn commit(
        &mut self,
        _: synddb_protocol::submission::Changes,
        _: &mut synddb_sqlite::capture::CommittedState<'_>,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn persist(
        &mut self,
        _: &synddb_sqlite::capture::WalPosition,
        _: &synddb_sqlite::state::RunningState,
    ) -> Result<(), Self::Error> {
        self.0 += 1;
        Ok(())
    }
}

#[test]
fn nothing_is_kept_that_follows_a_generation_that_nobody_saw() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
    // A poll takes one commit, so that the end of the WAL is many polls away.
    let options = Options { bytes_max: 4096, swap_bytes: 1 << 30, recycle_bytes: 1 << 30 };
    let mut mirrored = Mirrored::attach(&path, options).unwrap();
    let mut application = Application::start(&path);
    application.run("INSERT INTO t VALUES('seen')");
    assert_eq!(mirrored.catch_up("with its locks"), 1);
    drop(File::open(folder.path().join("app.db-shm")).unwrap());
    application.run(
        "PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES('not seen'); PRAGMA wal_checkpoint(TRUNCATE)",
    );
    for _ in 0..300 {
        application.run("INSERT INTO t VALUES(1)");
    }
    let mut keeps = Keeps(0);
    let error = loop {
        match mirrored.follower.poll(&mut keeps) {
            Ok(0) => panic!("a commit was never captured, and nobody says so"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("gone before they were captured"), "{error}");
    assert_eq!(keeps.0, 0);
}
