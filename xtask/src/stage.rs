//! A run made of stages: a line before each, its seconds after, and a table at the end.
//!
//! All stages run even when one fails, so that one run tells everything that is wrong.
//! Timings are printed and never judged: a slow machine is not a broken tree.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::verdict::Verdict;

/// How one stage ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and found nothing wrong.
    Passed,
    /// It ran and found something wrong, or could not come to its end.
    Failed,
    /// It could not run here; the text says why.
    Skipped(String),
}

impl Outcome {
    /// Passed when there are no problems; otherwise prints them and fails.
    #[must_use]
    pub fn of_problems(problems: &[String]) -> Self {
        for problem in problems {
            println!("{problem}");
        }
        if problems.is_empty() { Self::Passed } else { Self::Failed }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped(_) => "SKIPPED",
        }
    }
}

struct Done {
    name: String,
    outcome: Outcome,
    elapsed: Duration,
}

/// The stages run so far.
#[derive(Default)]
pub struct Stages {
    done: Vec<Done>,
}

impl Stages {
    /// Runs one stage. An error of `body` is printed and counts as a failure of the stage.
    pub fn run(&mut self, name: &str, what: &str, body: impl FnOnce() -> Result<Outcome>) -> Outcome {
        println!("\n== {name}: {what}");
        flush();
        let started = Instant::now();
        let outcome = body().unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            Outcome::Failed
        });
        let elapsed = started.elapsed();
        if let Outcome::Skipped(why) = &outcome {
            println!("!! SKIPPED {name}: {why}");
        }
        println!("== {name}: {}, {:.1} s", outcome.word(), elapsed.as_secs_f64());
        flush();
        self.done.push(Done { name: name.to_owned(), outcome: outcome.clone(), elapsed });
        outcome
    }

    /// The time all stages took together.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.done.iter().map(|done| done.elapsed).sum()
    }

    /// Prints the table of seconds per stage and judges the run.
    #[must_use]
    pub fn finish(&self) -> Verdict {
        let width = self.done.iter().map(|done| done.name.len()).max().unwrap_or(0);
        println!("\n{:<width$}  {:>8}  outcome", "stage", "seconds");
        for Done { name, outcome, elapsed } in &self.done {
            println!("{name:<width$}  {:>8.1}  {}", elapsed.as_secs_f64(), outcome.word());
        }
        println!("{:<width$}  {:>8.1}", "total", self.total().as_secs_f64());
        flush();
        let failed = self.done.iter().any(|done| done.outcome == Outcome::Failed);
        if failed { Verdict::Failed } else { Verdict::Passed }
    }
}

/// Our lines and those of children share one stream, so ours must be out before a child writes.
fn flush() {
    // A closed stdout shows itself at the next println; there is nothing better to do about it here.
    std::io::stdout().flush().ok();
}
