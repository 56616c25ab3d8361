//! The closing lines of test runners, read for their counts.
//!
//! Knows three runners: Rust's libtest, pytest and forge. A line that is no closing line is `None`, never zero, so
//! that a runner that dies without one cannot pass for a runner that found nothing to do.

use std::fmt;
use std::ops::AddAssign;
use std::sync::LazyLock;

use regex::Regex;

/// Tests by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ran and held.
    pub passed: u64,
    /// Ran and did not hold, or could not be run.
    pub failed: u64,
    /// Known to the runner but not run.
    pub skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

static LIBTEST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored; \d+ measured; (\d+) filtered out",
    )
    .expect("the pattern is well formed")
});

static PYTEST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(no tests ran|\d+ [a-z]+(?: [a-z]+)?(?:, \d+ [a-z]+(?: [a-z]+)?)*) in \d+(?:\.\d+)?s")
        .expect("the pattern is well formed")
});

static FORGE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^Ran \d+ test suites? in .+: (\d+) tests? passed, (\d+) failed, (\d+) skipped \(\d+ total tests?\)",
    )
    .expect("the pattern is well formed")
});

/// Reads `Ran 2 test suites in 1.2s (2.0s CPU time): 3 tests passed, 0 failed, 0 skipped (3 total tests)`, which forge prints once.
#[must_use]
pub fn forge(line: &str) -> Option<Counts> {
    let found = FORGE.captures(line)?;
    let number = |index: usize| found.get(index).and_then(|text| text.as_str().parse::<u64>().ok());
    Some(Counts { passed: number(1)?, failed: number(2)?, skipped: number(3)? })
}

/// Reads `test result: ok. 3 passed; 0 failed; ...`, which libtest prints once per test binary.
#[must_use]
pub fn libtest(line: &str) -> Option<Counts> {
    let found = LIBTEST.captures(line)?;
    let number = |index: usize| found.get(index).and_then(|text| text.as_str().parse::<u64>().ok());
    Some(Counts { passed: number(1)?, failed: number(2)?, skipped: number(3)? + number(4)? })
}

/// Reads `3 passed, 1 skipped in 0.12s`, with or without the rule of `=` that pytest draws around it.
///
/// An expected failure (`xfailed`) counts as skipped: it says nothing about what works.
#[must_use]
pub fn pytest(line: &str) -> Option<Counts> {
    let line = line.trim_matches(|character: char| character == '=' || character.is_whitespace());
    let found = PYTEST.captures(line)?;
    let mut counts = Counts::default();
    for part in found.get(1)?.as_str().split(", ") {
        let Some((number, word)) = part.split_once(' ') else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match word {
            "passed" | "xpassed" => counts.passed += number,
            "failed" | "error" | "errors" => counts.failed += number,
            "skipped" | "xfailed" | "deselected" => counts.skipped += number,
            // Warnings and subtests are not tests of their own.
            _ => {}
        }
    }
    Some(counts)
}
