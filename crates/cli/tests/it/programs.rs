//! The programs of the system that the tests write and read with. A missing one fails the test, so that nothing passes unseen.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// How long a program waits for another one's transaction, in milliseconds.
pub(crate) const PATIENCE_MS: u32 = 60_000;

/// Shows a database to compare it: every row of every table with rowid, storage classes and values, and the header values.
const SHOW: &str = r#"
import sqlite3, sys
sqlite = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True)
sqlite.text_factory = bytes
for pragma in ("encoding", "user_version", "application_id"):
    print(pragma, sqlite.execute("PRAGMA " + pragma).fetchone())
for kind, name, table, sql in sqlite.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid"):
    print(kind, name, table, sql)
tables = [row[0].decode() for row in sqlite.execute(
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage != 0 ORDER BY name")]
for table in tables:
    quoted = '"' + table.replace('"', '""') + '"'
    columns = [row[1].decode() for row in sqlite.execute("PRAGMA table_xinfo(" + quoted + ")")]
    shown = ", ".join('typeof("%s"), quote("%s")' % (column, column) for column in columns)
    try:
        rows = sqlite.execute("SELECT rowid, " + shown + " FROM " + quoted + " ORDER BY rowid").fetchall()
    except sqlite3.OperationalError:
        rows = sqlite.execute("SELECT " + shown + " FROM " + quoted + " ORDER BY 1, 2, 3, 4").fetchall()
    print(table, len(rows))
    for row in rows:
        print(row)
"#;

/// A program of the system.
pub(crate) fn program(name: &str) -> Command {
    let found = Command::new(name).arg("--version").output();
    assert!(
        found.is_ok_and(|answer| answer.status.success()),
        "this test needs `{name}`; on Debian: apt-get install sqlite3 python3; or run `cargo xtask test` as root"
    );
    Command::new(name)
}

/// The `sqlite3` shell on a database. It stops at the first error.
pub(crate) fn shell(database: &Path) -> Command {
    let mut shell = program("sqlite3");
    // The file in the home folder of whoever runs this is of no concern.
    shell.args(["-init", "/dev/null", "-batch", "-bail", "-cmd", &format!(".timeout {PATIENCE_MS}")]);
    shell.arg(database);
    shell
}

/// Python with a program text; `arguments` are its `sys.argv[1:]`.
pub(crate) fn python<'a>(text: &str, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut python = program("python3");
    python.args(["-c", text]).args(arguments);
    python
}

/// Starts a program with a text on its standard input.
pub(crate) fn start(mut command: Command, input: &str) -> Child {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let written = child.stdin.take().unwrap().write_all(input.as_bytes());
    // A program that fails at once reads no further; its own words say more than this error.
    written.ok();
    child
}

/// Waits for a program, and makes sure that it succeeded. Returns what it printed.
pub(crate) fn finish(child: Child) -> String {
    succeeded(child.wait_with_output().unwrap())
}

fn succeeded(output: Output) -> String {
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{errors}\n{told}", output.status);
    // The shell says `Runtime error` and the like on standard error, and nothing else.
    assert!(errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs SQL in the shell.
pub(crate) fn sql(database: &Path, statements: &str) -> String {
    finish(start(shell(database), statements))
}

/// Everything that the shell and Python can see of a database.
pub(crate) fn shown(database: &Path) -> String {
    let dump = sql(database, ".dump\nPRAGMA integrity_check;\n");
    assert!(dump.trim_end().ends_with("ok"), "integrity_check: {}", dump.lines().last().unwrap_or_default());
    let rows = finish(start(python(SHOW, [database.to_str().unwrap()]), ""));
    dump + &rows
}

/// Fails with the first line in which two texts differ.
pub(crate) fn assert_same(one: &str, other: &str) {
    if one == other {
        return;
    }
    let cut = |line: Option<&str>| line.map(|line| line.chars().take(300).collect::<String>());
    let (mut lines, mut others) = (one.lines(), other.lines());
    for number in 1.. {
        let (line, against) = (lines.next(), others.next());
        if line != against {
            panic!("line {number}:\n  {:?}\n  {:?}", cut(line), cut(against));
        }
        assert!(line.is_some(), "they differ in line ends only");
    }
}
