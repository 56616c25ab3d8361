//! `synddb restore`: databases as they were, from logs that real processes stored.
//!
//! | file | holds |
//! |---|---|
//! | `states.rs` | every state equals a copy that SQLite made of the application's database at that commit |
//! | `application.rs` | the application that is copied: statements, and the copies of its database |
//! | `refused.rs` | what is refused, and that nothing is left of it |
//! | `large.rs` | a large log, in bounded memory |

mod application;
mod large;
mod refused;
mod states;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::processes::{run, synddb};
use crate::programs::sql;

/// A log that is restored from, and a folder for what comes of it.
pub(super) struct Restoring {
    pub(super) store: String,
    pub(super) stream: String,
    pub(super) key: String,
    folder: tempfile::TempDir,
}

impl Restoring {
    pub(super) fn from(store: &str, stream: &str, key: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: store.to_owned(), stream: stream.to_owned(), key: key.to_owned(), folder }
    }

    /// Where a database is restored to.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("restored.db")
    }

    /// The command, with these arguments besides the log's.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = synddb(["restore", &self.store, "--json", "--stream", &self.stream]);
        command.args(["--sequencer-key", &self.key]).args(arguments).arg(self.file());
        command
    }

    /// Restores; the file is the caller's to remove.
    pub(super) fn restore(&self, arguments: &[&str]) -> Value {
        let (exit, told, errors) = run(self.command(arguments));
        assert_eq!((exit, errors.as_str()), (0, ""), "{arguments:?}: {told}");
        assert_eq!(self.names(), ["restored.db"], "{arguments:?}");
        let mode = sql(
            &self.file(),
            "PRAGMA journal_mode; SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_synddb%' ESCAPE '\\';",
        );
        assert_eq!(mode, "delete\n0\n", "{arguments:?}");
        let last: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        assert_eq!((&last["event"], &last["damage"]), (&"rebuilt".into(), &Value::Null), "{last}");
        last
    }

    /// Makes sure that it is refused with this exit code and these texts, and that nothing is left of it.
    pub(super) fn refused(&self, arguments: &[&str], expected: i32, texts: &[&str]) {
        let before = self.names();
        let (exit, told, errors) = run(self.command(arguments));
        assert_eq!(exit, expected, "{arguments:?}: {told}{errors}");
        for text in texts {
            assert!(errors.contains(text), "{arguments:?}: `{text}` is not in: {errors}");
        }
        assert_eq!(self.names(), before, "{arguments:?}");
    }

    /// What lies in the folder.
    pub(super) fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A number from the environment.
fn asked(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}
