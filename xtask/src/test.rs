//! `test`: the programs that tests need, the Rust tests, the language-neutral vectors read in Python, the contracts, and the README's quick start.
//!
//! The last line is always `N passed, N failed, N skipped`, summed from what the runners themselves said at
//! their end.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::counted::{Counted, Tally, runner};
use crate::servers::Servers;
use crate::stage::Outcome;
use crate::summary::{self, Counts};
use crate::tree::Tree;
use crate::verdict::Verdict;
use crate::{contracts, demo, machine, process, python, quick_start};

/// The folder of the tests that read the vectors in Python.
const CONFORMANCE: &str = "spec/conformance";

/// Above this a run is too long to wait for; it is said, never judged.
const TOTAL_ASKED: Duration = Duration::from_secs(25 * 60);

/// Property cases in the inner loop. The full run takes the number each test asks for.
const FAST_PROPTEST_CASES: &str = "32";

/// The modules of tests that do more, or anything at all, with the feature `probes`.
const PROBES: [&str; 4] = ["differential::planted", "footprints", "lock_byte", "capture_files"];

/// Runs the tests; with `fast` only the Rust ones, without documentation tests and with few property cases.
///
/// # Errors
/// Never because of what a stage finds; that is the verdict.
pub fn run(tree: &Tree, fast: bool) -> Result<Verdict> {
    let mut run = Counted::default();
    let what = format!("{} for the tests that use them", machine::PROGRAMS.join(", "));
    run.stage("system programs", &what, |_| machine::need_programs(tree.root()));
    let mut pythons = None;
    let what = "an interpreter and packages for the tests that write with them";
    run.stage("python", what, |_| {
        Ok(match python::Pythons::provide(tree) {
            Ok(provided) => {
                pythons = Some(provided);
                Outcome::Passed
            }
            Err(cause) => machine::without(cause.context("tests leave out writers in Python"))?,
        })
    });
    let mut servers = Servers::default();
    let what = "object stores, a static host and Prometheus for the tests that start them";
    run.stage("servers", what, |_| {
        let (provided, all) = Servers::provide(tree);
        servers = provided;
        match all {
            Ok(()) => Ok(Outcome::Passed),
            Err(cause) => machine::without(cause.context("tests leave out remote stores and Prometheus")),
        }
    });
    let mut rust = process::cargo(tree);
    servers.tell(&mut rust);
    if let Some(pythons) = &pythons {
        pythons.tell(&mut rust);
    }
    rust.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    if fast {
        rust.args(["--lib", "--bins", "--tests"]).env("PROPTEST_CASES", FAST_PROPTEST_CASES);
    }
    let what = process::typed(&rust);
    run.stage("rust tests", &what, |tally| runner(&mut rust, summary::libtest, tally));
    if !fast {
        let mut probes = process::cargo(tree);
        if let Some(pythons) = &pythons {
            pythons.tell(&mut probes);
        }
        probes.args(["test", "--locked", "--package", "synddb-sqlite", "--features", "probes"]);
        probes.args(["--test", "it", "--"]).args(PROBES);
        let what = process::typed(&probes);
        run.stage("probes", &what, |tally| {
            // The tests that are filtered out here ran in the stage before.
            let closing_line = |line: &str| Some(Counts { skipped: 0, ..summary::libtest(line)? });
            runner(&mut probes, closing_line, tally)
        });
        let what = format!("python -m pytest {CONFORMANCE} -q");
        run.stage("spec vectors in Python", &what, |tally| conformance(tree, tally));
        contracts::stages(tree, false, &mut run);
        run.stage("quick start", "the commands of README.md", |_| {
            // Who has read so far has run the demo, which leaves the command behind.
            demo::build(tree)?;
            quick_start::run(tree)
        });
    }
    Ok(run.finish(Some(TOTAL_ASKED)))
}

/// Reads the vectors with an independent implementation, in an environment of its own under the target
/// folder.
fn conformance(tree: &Tree, tally: &mut Tally) -> Result<Outcome> {
    let requirements = Path::new(CONFORMANCE).join("requirements.txt");
    let python = match python::environment(tree, "venv", &requirements) {
        Ok(python) => python,
        Err(cause) => return machine::without(cause),
    };
    let mut pytest = process::command(python, tree.root());
    // The cache and the byte code would be stray files in the tree.
    pytest
        .args(["-m", "pytest", CONFORMANCE, "-q", "-p", "no:cacheprovider"])
        .env("PYTHONDONTWRITEBYTECODE", "1");
    runner(&mut pytest, summary::pytest, tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are only names here: whoever moves a module learns of it from this test.
    #[test]
    fn the_modules_that_need_probes_are_there() {
        let tree = Tree::here();
        let file = |module: &str| format!("crates/sqlite/tests/it/{}.rs", module.replace("::", "/"));
        let missing = PROBES.into_iter().filter(|module| !tree.has(file(module)));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}
