//! Several programs that write at once.

use super::processes::Mirror;
use super::programs::{PATIENCE_MS, finish, program, python, sql, start};

/// How many transactions each writer commits.
const TRANSACTIONS: usize = 300;

/// Commits transactions of one to a few rows through one connection.
const PYTHON: &str = "
import sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], timeout=float(sys.argv[3]) / 1000, isolation_level=None)
for number in range(int(sys.argv[2])):
    sqlite.execute('BEGIN IMMEDIATE')
    sqlite.execute('INSERT INTO written VALUES (?, ?)', ('python', number))
    if number % 7 == 0:
        sqlite.execute('UPDATE written SET number = -number WHERE number > 0 AND rowid % 9 = 0')
    if number % 50 == 0:
        sqlite.execute('CREATE TABLE python_%d (a)' % number)
    sqlite.execute('COMMIT')
";

/// Starts a shell for each transaction, so the database is opened and closed each time.
const SHELL: &str = r#"
number=0
while [ "$number" -lt "$2" ]; do
    echo "INSERT INTO written VALUES ('shell', $number); DELETE FROM written WHERE rowid % 31 = 3;" |
        sqlite3 -init /dev/null -batch -bail -cmd ".timeout $3" "$1" || exit 1
    number=$((number + 1))
done
"#;

#[test]
fn two_programs_that_write_at_once_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE written (who TEXT, number INTEGER);");
    let mirror = Mirror::start(folder.path());
    let source = mirror.source.to_str().unwrap().to_owned();
    let (transactions, patience) = (TRANSACTIONS.to_string(), PATIENCE_MS.to_string());
    let one = start(python(PYTHON, [source.as_str(), &transactions, &patience]), "");
    // Says what to install when there is none.
    drop(program("sqlite3"));
    let mut loops = std::process::Command::new("sh");
    loops.args(["-c", SHELL, "sh", &source, &transactions, &patience]);
    let other = start(loops, "");
    finish(one);
    finish(other);
    let stopped = mirror.stop();
    // Each statement of the shell is a commit of its own, also one that finds nothing to delete; that one writes nothing.
    assert!(stopped["commits"].as_u64().unwrap() >= 2 * TRANSACTIONS as u64, "{stopped}");
}
