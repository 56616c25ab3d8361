//! Programs in other processes, with another SQLite each, write at once, while the application also checkpoints in every mode.
//!
//! Each notes durably what it was told is committed. At the end the application's own file is asked first: what is missing there,
//! SQLite itself has lost (versions before 3.51.3 can, around a WAL that begins anew), and nobody can replicate it. Whatever is there
//! must be in the replica, once and the same.
//!
//! `SYNDDB_PYTHON_SYSTEM` names a Python with an old SQLite, `SYNDDB_PYTHON_APSW` one whose `apsw` module has a new one.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use synddb_sqlite::capture::Options;
use synddb_sqlite::rusqlite;

use super::mirrored::Mirrored;

const SCRIPT: &str = include_str!("racing_writer.py");
const TABLES: &str = "
    CREATE TABLE done(who TEXT, n INTEGER, PRIMARY KEY(who, n)) WITHOUT ROWID;
    CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT, n INTEGER, body);
    CREATE TABLE w(a, who, b, PRIMARY KEY(who, a)) WITHOUT ROWID;
    CREATE INDEX tn ON t(n);
    PRAGMA journal_mode = WAL";
/// Transactions of each writer.
const TRANSACTIONS: usize = 300;
/// Between two checkpoints of the application.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(7);

/// Which SQLite a writer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sqlite {
    /// The system's, through Python's own module.
    System,
    /// That of the `apsw` package.
    Apsw,
}

impl Sqlite {
    fn variable(self) -> &'static str {
        match self {
            Self::System => "SYNDDB_PYTHON_SYSTEM",
            Self::Apsw => "SYNDDB_PYTHON_APSW",
        }
    }

    fn module(self) -> &'static str {
        match self {
            Self::System => "sqlite3",
            Self::Apsw => "apsw",
        }
    }
}

struct Writer {
    name: String,
    log: PathBuf,
    child: Child,
    version: String,
}

impl Writer {
    fn start(folder: &Path, database: &Path, sqlite: Sqlite, name: String) -> Self {
        let (script, log) = (folder.join("writer.py"), folder.join(format!("{name}.log")));
        std::fs::write(&script, SCRIPT).unwrap();
        let mut child = Command::new(std::env::var_os(sqlite.variable()).unwrap())
            .args([script.as_os_str(), sqlite.module().as_ref(), database.as_os_str(), log.as_os_str()])
            .args([name.clone(), TRANSACTIONS.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut version = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut version).unwrap();
        Self { name, log, child, version: version.trim().to_owned() }
    }

    /// What it was told is committed.
    fn told(&self) -> BTreeSet<(String, i64)> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines().map(|line| (self.name.clone(), line.parse().unwrap())).collect()
    }
}

/// What a file says was committed.
fn done(path: &Path) -> BTreeSet<(String, i64)> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT who, n FROM done").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Checkpoints in every mode until it is told that the writers have ended.
fn checkpoints(path: &Path, ended: &Receiver<()>) -> u64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_millis(5)).unwrap();
    let mut complete = 0;
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"].iter().cycle() {
        let pragma = format!("PRAGMA wal_checkpoint({mode})");
        let busy = connection.query_row(&pragma, [], |row| row.get::<_, i64>(0));
        complete += u64::from(busy.is_ok_and(|busy| busy == 0));
        if ended.recv_timeout(CHECKPOINT_EVERY) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    complete
}

/// Has writers race, and fails where the replica is not what the application's file is. Returns what SQLite itself lost; `None` where
/// there is no Python for it.
fn race(writers: &[Sqlite]) -> Option<BTreeSet<(String, i64)>> {
    for sqlite in writers {
        if std::env::var_os(sqlite.variable()).is_none() {
            let what = format!("{} names no Python, so {sqlite:?} writes nothing", sqlite.variable());
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{what}");
            println!("left out: {what}; `cargo xtask test` sets it");
            return None;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(TABLES).unwrap();
    let options = Options { swap_bytes: 80_000, recycle_bytes: 250_000, ..Options::default() };
    let mut mirrored = Mirrored::attach(&path, options).unwrap();
    let names = (0..).map(|at| format!("writer{at}"));
    let mut writers: Vec<Writer> = writers
        .iter()
        .zip(names)
        .map(|(sqlite, name)| Writer::start(folder.path(), &path, *sqlite, name))
        .collect();
    let (end, ended) = sync_channel(1);
    let (followed, checkpoints) = std::thread::scope(|scope| {
        let checkpoints = scope.spawn({
            let path = &path;
            move || checkpoints(path, &ended)
        });
        let mut followed: Result<usize, Box<dyn Error>> = Ok(0);
        while writers.iter_mut().any(|writer| writer.child.try_wait().unwrap().is_none()) {
            followed = followed.and_then(|commits| Ok(commits + mirrored.follow()?));
            if followed.is_ok() {
                mirrored.follower.wait(Duration::from_millis(50)).unwrap();
            }
        }
        end.send(()).unwrap();
        (followed, checkpoints.join().unwrap())
    });
    let followed = followed.and_then(|commits| Ok(commits + mirrored.follow()?));
    for writer in &mut writers {
        assert!(writer.child.wait().unwrap().success(), "{} failed", writer.name);
    }
    let told: BTreeSet<_> = writers.iter().flat_map(Writer::told).collect();
    let (source, replica) = (done(&path), done(&mirrored.replica));
    let versions: Vec<&str> = writers.iter().map(|writer| writer.version.as_str()).collect();
    let resets = mirrored.follower.statistics().wal_resets;
    println!(
        "SQLite {versions:?}: {} transactions acknowledged, {} in the file, {} in the replica, {resets} resets of the WAL, \
         {checkpoints} complete checkpoints of the application",
        told.len(),
        source.len(),
        replica.len()
    );
    let lost: BTreeSet<_> = told.difference(&source).cloned().collect();
    if lost.is_empty() {
        // Nothing else can have made a difference.
        followed.unwrap();
        mirrored.agrees().unwrap();
        assert_eq!(source, replica);
        assert!(told.len() > writers.len() * TRANSACTIONS / 2, "{}", told.len());
        assert!(resets > 2, "the WAL began anew only {resets} times");
        assert!(checkpoints > 0, "no checkpoint of the application was complete");
    } else {
        println!("SQLite itself lost what it had acknowledged: {lost:?}");
    }
    Some(lost)
}

#[test]
fn an_old_and_a_new_sqlite_write_at_once() {
    race(&[Sqlite::System, Sqlite::Apsw]);
}

#[test]
fn two_of_an_old_sqlite_write_at_once() {
    race(&[Sqlite::System, Sqlite::System]);
}

#[test]
fn two_of_a_new_sqlite_write_at_once_and_none_loses_anything() {
    if let Some(lost) = race(&[Sqlite::Apsw, Sqlite::Apsw]) {
        assert!(lost.is_empty(), "{lost:?}");
    }
}
