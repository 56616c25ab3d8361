//! The application of the kills: a Python that writes all the time.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

use synddb_sqlite::rusqlite;

use crate::programs::program;
use crate::roles::PATIENCE;

/// Rows older than so many numbers are deleted by the writer.
const KEPT: i64 = 4000;

pub(super) struct Writer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    app: PathBuf,
    acknowledged: PathBuf,
}

impl Writer {
    /// Makes the tables.
    pub(super) fn prepare(app: &Path) {
        let sqlite = rusqlite::Connection::open(app).unwrap();
        let tables = "
            -- Without a key, so that a row that came twice is there twice.
            CREATE TABLE event (number INTEGER, payload BLOB);
            CREATE TABLE account (id INTEGER PRIMARY KEY, cents INTEGER, note TEXT);
            CREATE INDEX by_cents ON account (cents);
            CREATE TABLE seen (cents INTEGER PRIMARY KEY, times INTEGER) WITHOUT ROWID;
            CREATE TRIGGER counted AFTER UPDATE ON account BEGIN
                INSERT INTO seen VALUES (new.cents, 1) ON CONFLICT (cents) DO UPDATE SET times = times + 1;
            END;
            WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 49)
                INSERT INTO account SELECT i, 0, '' FROM n;";
        sqlite.execute_batch(tables).unwrap();
    }

    /// Starts it at the first number that was not committed.
    pub(super) fn start(app: &Path) -> Self {
        let acknowledged = app.with_file_name("acknowledged");
        let sqlite = rusqlite::Connection::open(app).unwrap();
        let sql = "SELECT ifnull(max(number), 0) + 1 FROM event";
        let first: i64 = sqlite.query_row(sql, [], |row| row.get(0)).unwrap();
        drop(sqlite);
        let mut command = program("python3");
        command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/kills/writer.py"));
        command.arg(app).arg(&acknowledged).arg(first.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut writer = Self { child, input, output, app: app.to_owned(), acknowledged };
        writer.answers("writing");
        writer
    }

    /// `kill -9`, and another one in its place.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        *self = Self::start(&self.app.clone());
    }

    fn answers(&mut self, word: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), word, "the writer failed");
    }

    /// Returns when the transaction under way is over; nothing is written then.
    pub(super) fn pause(&mut self) {
        self.input.write_all(b"pause\n").unwrap();
        self.answers("paused");
    }

    pub(super) fn go_on(&mut self) {
        self.input.write_all(b"go on\n").unwrap();
    }

    /// How many commits were acknowledged so far.
    pub(super) fn acknowledged(&self) -> usize {
        fs::read(&self.acknowledged).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
    }

    /// Returns when so many more commits were acknowledged.
    pub(super) fn advance(&mut self, commits: usize) {
        let (until, deadline) = (self.acknowledged() + commits, Instant::now() + PATIENCE);
        while self.acknowledged() < until {
            assert!(self.child.try_wait().unwrap().is_none(), "the writer failed");
            assert!(Instant::now() < deadline, "the writer does not come on");
            std::thread::yield_now();
        }
    }

    /// What was acknowledged and not deleted since stands in the application's database, each once.
    pub(super) fn assert_acknowledged(&self) {
        let sqlite = rusqlite::Connection::open(&self.app).unwrap();
        let mut statement = sqlite.prepare("SELECT number FROM event WHERE number NOT NULL").unwrap();
        let rows: Vec<i64> =
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let there: BTreeSet<i64> = rows.iter().copied().collect();
        assert_eq!(rows.len(), there.len(), "a number is there twice");
        let told = fs::read_to_string(&self.acknowledged).unwrap();
        let told: Vec<i64> = told.lines().map(|line| line.parse().unwrap()).collect();
        let newest = told.last().copied().unwrap_or(0);
        let lost: Vec<i64> =
            told.into_iter().filter(|number| number + KEPT > newest && !there.contains(number)).collect();
        assert!(lost.is_empty(), "SQLite itself lost what it had acknowledged: {lost:?}");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
