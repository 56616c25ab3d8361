//! A database that existed before: its snapshot, and what the application notices of it.
//!
//! ```sh
//! SYNDDB_LARGE_MIB=300 cargo test --release -p synddb-cli --test it large -- --nocapture
//! ```

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use super::harness::Dev;
use crate::programs::{finish, python, sql, start};

/// How large the database is, unless the environment says.
const MIB: &str = "12";

const FILL: &str = "
import os, sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], isolation_level=None)
sqlite.executescript('PRAGMA journal_mode = WAL; CREATE TABLE file (id INTEGER PRIMARY KEY, name TEXT, content BLOB); CREATE INDEX by_name ON file (name); CREATE TABLE tick (number INTEGER PRIMARY KEY, at REAL)')
sqlite.execute('BEGIN')
for number in range(int(sys.argv[2]) * 1024):
    sqlite.execute('INSERT INTO file VALUES (?, ?, ?)', (number, 'file %d' % number, os.urandom(500) + bytes(360)))
sqlite.execute('COMMIT')
sqlite.execute('PRAGMA wal_checkpoint(TRUNCATE)')
";

/// Commits one row about every two milliseconds until its standard input ends; says how long its commits took, in milliseconds: number, median,
/// longest.
const TICKS: &str = "
import select, sqlite3, sys, time
sqlite = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
took = []
print('ticking', flush=True)
while not select.select([sys.stdin], [], [], 0.002)[0]:
    begun = time.perf_counter()
    sqlite.execute('INSERT INTO tick (at) VALUES (?)', (begun,))
    took.append((time.perf_counter() - begun) * 1000)
took.sort()
print(len(took), took[len(took) // 2], took[-1])
";

/// A program that commits all the while.
struct Ticking(Child, BufReader<std::process::ChildStdout>);

impl Ticking {
    fn start(app: &Path) -> Self {
        let mut child = python(TICKS, [app.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ticking\n");
        Self(child, output)
    }

    /// Ends it: how many commits, their median and the longest, in milliseconds.
    fn stop(mut self) -> (u64, f64, f64) {
        drop(self.0.stdin.take());
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        assert!(self.0.wait().unwrap().success());
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[0].parse().unwrap(), words[1].parse().unwrap(), words[2].parse().unwrap())
    }
}

#[test]
fn a_database_that_existed_before_is_copied_while_it_is_written() {
    let mib = std::env::var("SYNDDB_LARGE_MIB").unwrap_or_else(|_| MIB.to_owned());
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    finish(start(python(FILL, [app.to_str().unwrap(), &mib]), ""));
    println!("app.db: {} bytes", app.metadata().unwrap().len());

    // Bare: nothing but the application, for as long as the snapshot will take about.
    let bare = Ticking::start(&app);
    finish(start(python("import sys; list(range(50_000_000))", []), ""));
    let (commits, median, longest) = bare.stop();
    println!("bare: {commits} commits, median {median:.2} ms, longest {longest:.1} ms");

    let ticking = Ticking::start(&app);
    let dev = Dev::start(folder.path());
    let begun = std::time::Instant::now();
    dev.event("restored", |_| true);
    let seconds = begun.elapsed().as_secs_f64();
    let (commits, median, with) = ticking.stop();
    println!(
        "snapshot taken, stored and restored in {seconds:.1} s: {commits} commits, median {median:.2} ms, longest {with:.1} ms"
    );
    println!("longest commit above bare: {:.1} ms", with - longest);
    assert!(commits > 0);
    sql(&app, "DELETE FROM file WHERE id % 2;");
    dev.assert_replica_equals();
    dev.stop();
}
