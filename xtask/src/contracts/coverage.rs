//! Branch coverage of `src` by the tests, as forge counts it, without the optimiser.
//!
//! Invariants are left out: what they reach by chance must not stand in for a test. What forge says in LCOV is read, not its table.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::Forge;
use super::scratch::Scratch;
use crate::process;
use crate::stage::Outcome;

/// How many of a hundred branches must be taken, in all sources together.
const BRANCHES_PERCENT_MIN: u64 = 95;

/// Tests that do not count.
const NOT_COUNTED: &str = "test/{invariants,gas,digests}/*";
/// What is covered.
const SOURCES: &str = "src/";

/// Taken ones, and all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    taken: u64,
    all: u64,
}

impl Share {
    fn count(&mut self, is_taken: bool) {
        self.all += 1;
        self.taken += u64::from(is_taken);
    }

    fn is_below(self, percent: u64) -> bool {
        self.taken * 100 < self.all * percent
    }

    fn text(self) -> String {
        if self.all == 0 {
            return "none".to_owned();
        }
        // Hundredths of a percent, rounded down: 100.00 means all.
        let hundredths = self.taken * 10_000 / self.all;
        format!("{}/{} = {}.{:02} %", self.taken, self.all, hundredths / 100, hundredths % 100)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Covered {
    lines: Share,
    branches: Share,
    /// The lines of branches that were not taken.
    missed: Vec<u64>,
}

pub(super) fn run(forge: &Forge, scratch: &Scratch) -> Result<Outcome> {
    let report = scratch.folder.join("lcov.info");
    let mut coverage = forge.tool(&forge.program, scratch);
    coverage.args(["coverage", "--no-match-path", NOT_COUNTED]);
    coverage.args(["--report", "lcov", "--report-file"]).arg(&report);
    println!("{}", process::typed(&coverage));
    // It prints each test with its gas, which says nothing here, unless one fails.
    let output = coverage.output().context("cannot start forge")?;
    if !output.status.success() {
        println!("{}", String::from_utf8_lossy(&output.stdout));
        println!("{}", String::from_utf8_lossy(&output.stderr));
        anyhow::bail!("a test failed, or the tests did not compile. {}", output.status);
    }
    let report = fs::read_to_string(&report).context("forge wrote no report")?;
    let files = covered(&report)?;
    print(&files);
    Ok(Outcome::of_problems(&problems(&files)))
}

fn covered(report: &str) -> Result<BTreeMap<String, Covered>> {
    let mut files: BTreeMap<String, Covered> = BTreeMap::new();
    let mut file = None;
    for line in report.lines() {
        if let Some(name) = line.strip_prefix("SF:") {
            // Libraries that are linked into the folder are told too, by where they really are.
            file = name.starts_with(SOURCES).then(|| files.entry(name.to_owned()).or_default());
        }
        let Some(file) = file.as_mut() else { continue };
        let numbers = |text: &str| -> Result<(u64, bool)> {
            let mut fields = text.split(',');
            let at = fields.next().and_then(|at| at.parse().ok());
            let times = fields.next_back().context("a line of the report has one field")?;
            // Of a branch whose condition was never reached there is a dash.
            Ok((at.context("a line of the report has no number")?, times != "0" && times != "-"))
        };
        if let Some(text) = line.strip_prefix("DA:") {
            file.lines.count(numbers(text)?.1);
        } else if let Some(text) = line.strip_prefix("BRDA:") {
            let (at, is_taken) = numbers(text)?;
            file.branches.count(is_taken);
            if !is_taken {
                file.missed.push(at);
            }
        }
    }
    Ok(files)
}

fn whole(files: &BTreeMap<String, Covered>) -> (Share, Share) {
    let mut whole = (Share::default(), Share::default());
    for covered in files.values() {
        for (sum, share) in [(&mut whole.0, covered.lines), (&mut whole.1, covered.branches)] {
            sum.taken += share.taken;
            sum.all += share.all;
        }
    }
    whole
}

fn print(files: &BTreeMap<String, Covered>) {
    let width = files.keys().map(String::len).max().unwrap_or(0);
    println!("{:<width$}  {:>20}  {:>20}", "file", "lines", "branches");
    for (name, covered) in files {
        println!("{name:<width$}  {:>20}  {:>20}", covered.lines.text(), covered.branches.text());
        for line in &covered.missed {
            println!("  not taken: {name}:{line}");
        }
    }
    let (lines, branches) = whole(files);
    println!("{:<width$}  {:>20}  {:>20}", "all", lines.text(), branches.text());
}

fn problems(files: &BTreeMap<String, Covered>) -> Vec<String> {
    let (_, branches) = whole(files);
    if branches.all == 0 {
        return vec!["forge counted no branch".to_owned()];
    }
    if branches.is_below(BRANCHES_PERCENT_MIN) {
        let taken = branches.text();
        return vec![format!(
            "of the branches of src, {taken} were taken; at least {BRANCHES_PERCENT_MIN} % must be"
        )];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "TN:\nSF:src/A.sol\nDA:1,5\nDA:2,0\nBRDA:2,0,0,3\nBRDA:3,1,0,-\nend_of_record\n\
        SF:src/B.sol\nDA:1,1\nFNDA:0,B.f\nBRDA:9,0,0,0\nend_of_record\n";

    #[test]
    fn a_report_is_read_by_file() {
        let files = covered(REPORT).unwrap();
        let (a, b) = (&files["src/A.sol"], &files["src/B.sol"]);
        assert_eq!((a.lines, a.branches), (Share { taken: 1, all: 2 }, Share { taken: 1, all: 2 }));
        assert_eq!((&a.missed, &b.missed), (&vec![3], &vec![9]));
        assert_eq!(whole(&files), (Share { taken: 2, all: 3 }, Share { taken: 1, all: 3 }));
        assert!(covered("SF:test/A.t.sol\nDA:1,1\nSF:/elsewhere/B.sol\nDA:1,1\n").unwrap().is_empty());
    }

    #[test]
    fn too_few_branches_and_none_at_all_are_told() {
        let of = |taken, all| {
            let covered = Covered { branches: Share { taken, all }, ..Covered::default() };
            problems(&[("src/A.sol".to_owned(), covered)].into())
        };
        assert_eq!(of(95, 100), Vec::<String>::new());
        assert_eq!(of(949, 1000).len(), 1);
        assert_eq!(of(0, 0), ["forge counted no branch"]);
    }

    #[test]
    fn a_share_is_never_rounded_up() {
        assert_eq!(Share { taken: 99_999, all: 100_000 }.text(), "99999/100000 = 99.99 %");
        assert_eq!(Share { taken: 3, all: 3 }.text(), "3/3 = 100.00 %");
    }
}
