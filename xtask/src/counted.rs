//! A run of stages in which test runners count: their outcomes, and what the runners said at their ends, summed.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::failed::Failures;
use crate::process;
use crate::stage::{Outcome, Stages};
use crate::summary::Counts;
use crate::verdict::Verdict;

/// The stages run so far, and what the runners in them said.
#[derive(Default)]
pub struct Counted {
    stages: Stages,
    tally: Tally,
}

/// What runners say: how many tests ended how, and of those that failed why.
#[derive(Default)]
pub struct Tally {
    counts: Counts,
    failures: Failures,
}

impl Counted {
    /// Runs a stage so that its outcome shows in the counts even when no runner counted anything: what does not compile runs no test, and
    /// must not end in `0 failed`.
    pub fn stage(
        &mut self,
        name: &str,
        what: &str,
        body: impl FnOnce(&mut Tally) -> Result<Outcome>,
    ) -> Outcome {
        let failed_before = self.tally.counts.failed;
        let outcome = self.stages.run(name, what, || body(&mut self.tally));
        let counts = &mut self.tally.counts;
        match &outcome {
            Outcome::Failed if counts.failed == failed_before => counts.failed += 1,
            Outcome::Passed | Outcome::Failed => {}
            Outcome::Skipped(_) => counts.skipped += 1,
        }
        outcome
    }

    /// Prints what failed, the table of the stages, then the counts as the last line. A run that took longer than was asked for says so.
    pub fn finish(self, asked: Option<Duration>) -> Verdict {
        print!("{}", self.tally.failures);
        let verdict = self.stages.finish();
        if let Some(asked) = asked.filter(|asked| self.stages.total() > *asked) {
            println!("warning: this took more than {} minutes", asked.as_secs() / 60);
        }
        println!("{}", self.tally.counts);
        verdict
    }
}

/// Runs a test runner, shows its output as it comes, and adds up its closing lines and what it says of failures.
///
/// # Errors
/// When it cannot be started, or succeeds without a closing line.
pub fn runner(
    command: &mut Command,
    closing_line: fn(&str) -> Option<Counts>,
    tally: &mut Tally,
) -> Result<Outcome> {
    let mut closing_lines = 0_u32;
    let status = process::stream(command, |line| {
        tally.failures.read(line);
        if let Some(found) = closing_line(line) {
            tally.counts += found;
            closing_lines += 1;
        }
    })?;
    if !status.success() {
        return Ok(Outcome::Failed);
    }
    ensure!(closing_lines > 0, "the runner succeeded without a closing line; was any test run?");
    Ok(Outcome::Passed)
}
