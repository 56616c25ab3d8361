//! `synddb doctor`: each finding with the real thing, and nothing changed by any look.

mod beside;
mod found;
mod refused;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

use super::processes::{run, synddb};

/// What a look found.
pub(crate) struct Found {
    pub(crate) exit: i32,
    findings: Vec<Value>,
    pub(crate) count: Value,
}

impl Found {
    /// The findings with a code.
    pub(crate) fn all(&self, code: &str) -> Vec<Value> {
        self.findings.iter().filter(|finding| finding["code"] == code).cloned().collect()
    }

    /// Makes sure that a finding is there, this bad, and says something; returns what it says.
    pub(crate) fn says(&self, code: &str, severity: &str, text: &str) -> String {
        let all = self.all(code);
        let fits = |finding: &&Value| {
            let seen = finding["seen"].as_str().unwrap();
            finding["severity"] == severity && seen.contains(text)
        };
        let found = all.iter().find(fits);
        let found =
            found.unwrap_or_else(|| panic!("no {severity} {code} with `{text}`: {:#?}", self.findings));
        assert_eq!(found["fix"].is_string(), severity != "ok", "{found}");
        found["seen"].as_str().unwrap().to_owned()
    }
}

/// `synddb doctor` of a database.
pub(crate) fn command(database: &Path) -> Command {
    synddb(["doctor", "--json", database.to_str().unwrap()])
}

/// Looks at a database while something may change it.
pub(crate) fn look(command: Command) -> Found {
    let (exit, told, errors) = run(command);
    assert_eq!(errors, "");
    let mut events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = events.pop().unwrap();
    assert_eq!(count["event"], "examined", "{told}");
    assert!(events.iter().all(|event| event["event"] == "finding"), "{told}");
    for (severity, field) in [("ok", "ok"), ("warning", "warnings"), ("refused", "refused")] {
        let counted = events.iter().filter(|event| event["severity"] == severity).count();
        assert_eq!(count[field], counted, "{told}");
    }
    assert_eq!(exit, if count["refused"] == 0 { 0 } else { 2 }, "{told}");
    Found { exit, findings: events, count }
}

/// Looks at a database that nobody changes, and makes sure that neither does this.
pub(crate) fn examine(database: &Path) -> Found {
    examine_with(database, command(database))
}

pub(crate) fn examine_with(database: &Path, command: Command) -> Found {
    let folder = database.parent().unwrap();
    let before = contents(folder);
    let found = look(command);
    assert!(contents(folder) == before, "something was changed; before: {:?}", before.keys());
    found
}

/// Everything in a folder: bytes, mode, and when it was changed.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (path, metadata) = (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap());
        if metadata.is_dir() {
            found.extend(contents(&path));
        }
        let bytes = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        found.insert(path, (bytes, metadata.mode(), metadata.mtime(), metadata.mtime_nsec()));
    }
    found
}

/// An application that has a database open until it is told to end.
pub(crate) struct Application {
    pub(crate) child: Child,
    /// What it calls its SQLite.
    pub(crate) sqlite: String,
    input: Option<ChildStdin>,
}

/// Runs statements, says which SQLite it has, and keeps its connection.
const APPLICATION: &str = "
import sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for statement in sys.argv[2].split(';'):
    sqlite.execute(statement).fetchall()
print(sqlite3.sqlite_version, flush=True)
sys.stdin.read()
";

impl Application {
    pub(crate) fn start(database: &Path, statements: &str) -> Self {
        Self::of(super::programs::python(APPLICATION, [database.to_str().unwrap(), statements]))
    }

    pub(crate) fn of(mut program: Command) -> Self {
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut sqlite = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut sqlite).unwrap();
        assert!(!sqlite.is_empty(), "the application failed");
        let input = child.stdin.take();
        Self { child, sqlite: sqlite.trim().to_owned(), input }
    }

    /// It closes its connection and ends.
    pub(crate) fn end(mut self) {
        self.input = None;
        assert!(self.child.wait().unwrap().success());
    }

    /// It is killed, and leaves what it leaves.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
