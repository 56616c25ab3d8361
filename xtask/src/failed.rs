//! What tests that failed said, for the end of a run: in its middle, among what thousands of others say, nobody finds it.

use std::fmt;

/// So many lines are kept behind the place of a panic.
const LINES_MAX: usize = 3;

/// Longer lines are cut, in characters.
const LINE_MAX: usize = 600;

/// A test that failed, and the first panic in what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    test: String,
    said: Vec<String>,
}

/// Reads it from the lines of libtest, between `---- name stdout ----` and the names at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    all: Vec<Failed>,
    /// Whether the lines that come are of the last of them.
    is_within: bool,
}

impl Failures {
    /// Takes the next line.
    pub fn read(&mut self, line: &str) {
        if let Some(test) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.all.push(Failed { test: test.to_owned(), said: Vec::new() });
            self.is_within = true;
            return;
        }
        if line == "failures:" {
            self.is_within = false;
        }
        let Some(last) = self.all.last_mut().filter(|_| self.is_within) else { return };
        let is_wanted = match last.said.len() {
            0 => line.contains(" panicked at "),
            said => said <= LINES_MAX && line != "stack backtrace:" && !line.starts_with("note: "),
        };
        if is_wanted {
            last.said.push(line.chars().take(LINE_MAX).collect());
        } else if !last.said.is_empty() {
            self.is_within = false;
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Failed { test, said } in &self.all {
            writeln!(f, "\nfailed: {test}")?;
            for line in said {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}
