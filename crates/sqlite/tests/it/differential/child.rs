//! Other processes that write: this test binary, started again, and Python with the SQLite of the system or the newest one. Each
//! lives as long as its seed's run.
//!
//! Both sides send a line with a length and then so many bytes. The child's lines begin with a mark, because the test runner
//! prints on the same output.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Once;

use super::model::{Outcome, Writer};
use super::setup::{Kind, Local, open};

/// The database that a child opens. Without it, this binary is the parent.
const DATABASE: &str = "SYNDDB_SQLITE_TEST_WRITER";
/// Begins every line of a child.
const MARK: &str = "answer ";
/// Between the values of a row, and after each row.
const VALUE_END: char = '\u{1f}';
const ROW_END: char = '\u{1e}';

/// A connection in another process.
pub(super) struct Remote {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// Names the executable that has the system's SQLite, and the one that has the newest.
const PYTHONS: [(Kind, &str, &str); 2] =
    [(Kind::System, "SYNDDB_PYTHON_SYSTEM", "sqlite3"), (Kind::Apsw, "SYNDDB_PYTHON_APSW", "apsw")];

/// Whether a writer of this kind is what it says: a process with that SQLite. Where it is not, seeds have another `child` instead, and the
/// runners of races and of scripts are this binary, which says so once on standard error; under CI it fails.
pub(super) fn is_available(kind: Kind) -> bool {
    PYTHONS.iter().all(|(python, variable, _)| *python != kind || std::env::var_os(variable).is_some())
}

/// The program that opens this database in a process of its own.
fn program(kind: Kind, database: &Path) -> Command {
    let python = PYTHONS.iter().find(|(python, ..)| *python == kind);
    let found = python.and_then(|(_, variable, module)| Some((std::env::var_os(variable)?, module)));
    if let Some((executable, module)) = found {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/differential/writer.py");
        let mut command = Command::new(executable);
        command.args(["-B", script, module]).arg(database);
        return command;
    }
    assert!(
        python.is_none() || std::env::var_os("CI").is_none(),
        "no Python with {kind}; run `cargo xtask test`"
    );
    if let Some((kind, variable, _)) = python {
        say_stand_in(*kind, variable);
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["differential::child::writes_for_its_parent", "--exact", "--nocapture", "--test-threads=1"])
        .env(DATABASE, database);
    command
}

/// Says once in a process that another SQLite is left out. Past the test runner, which shows only what failed tests print.
fn say_stand_in(kind: Kind, variable: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let mut error = std::io::stderr().lock();
        writeln!(
            error,
            "\nWARNING: {variable} is not set: no other SQLite writes, this one stands in for `{kind}`, so what only another version \
             does is not seen. `cargo xtask test` and `cargo xtask fuzz capture` provide it.\n"
        )
        .unwrap();
    });
}

/// The version of SQLite that writers of this kind have here.
pub(super) fn sqlite_version(kind: Kind) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("version.db");
    // An empty file is a database: the writers make none.
    std::fs::File::create(&path).unwrap();
    let mut writer = open(kind, &path, &[]);
    writer.query("SELECT sqlite_version()").remove(0).remove(0)
}

impl Remote {
    pub(super) fn start(kind: Kind, database: &Path, settings: &[String]) -> Self {
        let mut child = program(kind, database).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut remote = Self { child, input, output };
        for setting in settings {
            let outcome = remote.run(setting);
            assert_eq!(outcome.error, None, "{setting}");
        }
        remote
    }

    fn ask(&mut self, kind: char, sql: &str) -> String {
        let input = self.input.as_mut().unwrap();
        write!(input, "{kind}{}\n{sql}", sql.len()).unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        while !line.starts_with(MARK) {
            line.clear();
            assert_ne!(
                self.output.read_line(&mut line).unwrap(),
                0,
                "the child ended while it was asked: {sql}"
            );
        }
        read_text(&mut self.output, &line[MARK.len()..])
    }
}

impl Writer for Remote {
    fn run(&mut self, sql: &str) -> Outcome {
        let answer = self.ask('R', sql);
        let (open, error) = answer.split_at(1);
        let error = (!error.is_empty()).then(|| error.to_owned());
        Outcome { error, in_transaction: open == "1" }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn query(&mut self, sql: &str) -> Vec<Vec<String>> {
        let answer = self.ask('Q', sql);
        let rows = answer.split_terminator(ROW_END);
        rows.map(|row| row.split(VALUE_END).map(str::to_owned).collect()).collect()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // The child ends when its input does. When it has failed already, the test has too.
        drop(self.input.take());
        self.child.wait().unwrap();
    }
}

fn read_text(input: &mut impl Read, length: &str) -> String {
    let mut bytes = vec![0; length.trim().parse().unwrap()];
    input.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What a child does; in the parent, nothing.
#[test]
fn writes_for_its_parent() {
    let Ok(database) = std::env::var(DATABASE) else { return };
    let mut local = Local::open(Path::new(&database), &[]);
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    while input.read_line(&mut line).unwrap() > 0 {
        let sql = read_text(&mut input, &line[1..]);
        let answer = if line.starts_with('R') {
            let outcome = local.run(&sql);
            format!("{}{}", u8::from(outcome.in_transaction), outcome.error.unwrap_or_default())
        } else {
            let rows = local.query(&sql).into_iter();
            rows.map(|row| row.join(&VALUE_END.to_string()) + &ROW_END.to_string()).collect()
        };
        print!("\n{MARK}{}\n{answer}", answer.len());
        std::io::stdout().flush().unwrap();
        line.clear();
    }
}
