//! The command as a process.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

use super::programs::{assert_same, shown};

/// The command with arguments.
pub(crate) fn synddb<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synddb"));
    command.args(arguments);
    command
}

/// What the command said, and its exit code.
pub(crate) fn run(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// `synddb diff` of two files.
pub(crate) fn diff(one: &Path, other: &Path) -> (i32, String, String) {
    run(synddb(["diff", one.to_str().unwrap(), other.to_str().unwrap()]))
}

/// Starts a process that is asked by its input and answers in lines: both are the test's.
pub(crate) fn spoken_to(mut command: Command) -> (Child, Option<ChildStdin>, Lines<BufReader<ChildStdout>>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let input = child.stdin.take();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, input, lines)
}

/// A mirror that runs.
pub(crate) struct Mirror {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Mirror {
    /// Mirrors `app.db` of a folder to `copy.db`, and returns when it follows.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// The same, in place of what an earlier one left.
    pub(crate) fn start_replacing(folder: &Path) -> Self {
        Self::start_with(folder, &["--replace"])
    }

    /// The same, with the application's WAL kept to about so many MiB.
    pub(crate) fn start_limited(folder: &Path, wal_mib: &str) -> Self {
        Self::start_with(folder, &["--wal-limit", wal_mib])
    }

    fn start_with(folder: &Path, more: &[&str]) -> Self {
        let (source, target) = (folder.join("app.db"), folder.join("copy.db"));
        let arguments = ["mirror", source.to_str().unwrap(), target.to_str().unwrap()];
        let options = ["--json", "--verify", "--stop-on-eof"];
        let (child, input, lines) =
            spoken_to(synddb(arguments.into_iter().chain(options).chain(more.iter().copied())));
        let mut mirror = Self { source, target, child, input, lines };
        let ready = mirror.next().expect("the mirror ended before it was ready");
        assert_eq!(ready["event"], "ready", "{ready}");
        mirror
    }

    /// The next thing it says, or `None` when it ended.
    pub(crate) fn next(&mut self) -> Option<Value> {
        self.lines.next().map(|line| serde_json::from_str(&line.unwrap()).unwrap())
    }

    /// Asks it to end.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// Has it end, and makes sure that both databases are equal: to the mirror, to `diff`, to the shell and to Python.
    pub(crate) fn stop(mut self) -> Value {
        self.end_input();
        let stopped = self.stopped();
        let (exit, told, errors) = diff(&self.source, &self.target);
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
        assert_eq!(told.trim_end(), format!("equal, at state {}", stopped["state"].as_str().unwrap()));
        assert_same(&shown(&self.source), &shown(&self.target));
        stopped
    }

    /// Waits for its end after something asked for it.
    pub(crate) fn stopped(&mut self) -> Value {
        let last = std::iter::from_fn(|| self.next()).last().expect("the mirror said nothing at its end");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {last}");
        assert_eq!((&last["event"], &last["verified"]), (&"stopped".into(), &true.into()), "{last}");
        last
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // After a failed test. One that ended already cannot be killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
