//! Random applications against the whole capture: a test of the crate that captures, told how long to hunt. Or one script that such a hunt
//! wrote down, done again by another test.
//!
//! What they do, and what a mismatch is, is the tests' business.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::python::Pythons;
use crate::summary;
use crate::tree::Tree;
use crate::verdict::Verdict;

/// The program of tests that holds the test.
pub(super) const PROGRAM: [&str; 7] =
    ["--locked", "--package", "synddb-sqlite", "--features", "probes", "--test", "it"];
/// The test that hunts, as the program is told of it.
pub(super) const TEST: [&str; 3] =
    ["differential::hunt::hunts_as_long_as_it_is_told", "--exact", "--nocapture"];

/// The test that does a script again.
const REPLAY: [&str; 3] =
    ["differential::found::what_was_found_once_is_not_found_again", "--exact", "--nocapture"];

/// One hunt.
#[derive(Debug, Clone)]
pub(super) struct Hunt {
    /// How long.
    pub(super) seconds: u64,
    /// Where chance begins; by itself when nothing is said.
    pub(super) seed: Option<u64>,
}

impl Hunt {
    /// Tells the test what to do.
    pub(super) fn tell(&self, tree: &Tree, pythons: &Pythons, command: &mut Command) {
        command.env("SYNDDB_HUNT_SECONDS", self.seconds.to_string());
        if let Some(seed) = self.seed {
            command.env("SYNDDB_HUNT_SEED", seed.to_string());
        }
        command.env("SYNDDB_HUNT_KEEP", tree.target().join("fuzz-capture"));
        pythons.tell(command);
    }
}

/// Hunts.
///
/// # Errors
/// When the test cannot be built or started.
pub(super) fn run(tree: &Tree, hunt: &Hunt) -> Result<Verdict> {
    let pythons = Pythons::provide(tree)?;
    let mut cargo = process::cargo(tree);
    cargo.args(["test", "--release"]).args(PROGRAM).arg("--").args(TEST);
    hunt.tell(tree, &pythons, &mut cargo);
    watch(&mut cargo)
}

/// Does a script again: passed when nothing differs any more.
///
/// # Errors
/// When there is no such file, or the test cannot be built or started.
pub(super) fn replay(tree: &Tree, script: &Path) -> Result<Verdict> {
    // The test runs in the folder of its crate.
    let script = std::path::absolute(script).context("cannot tell where the script lies")?;
    ensure!(script.is_file(), "there is no such script. path=`{}`", script.display());
    let pythons = Pythons::provide(tree)?;
    let mut cargo = process::cargo(tree);
    cargo.args(["test", "--release"]).args(PROGRAM).arg("--").args(REPLAY).env("SYNDDB_SCRIPT", script);
    pythons.tell(&mut cargo);
    watch(&mut cargo)
}

/// Runs the test and judges it. A name that no test has would run nothing and pass, so at least one must have run.
pub(super) fn watch(test: &mut Command) -> Result<Verdict> {
    println!("{}", process::typed(test));
    let mut passed = 0;
    let status = process::stream(test, |line| {
        passed += summary::libtest(line).map_or(0, |counts| counts.passed);
    })?;
    if status.success() && passed == 0 {
        println!("no test ran: there is none of this name");
    }
    Ok(if status.success() && passed > 0 { Verdict::Passed } else { Verdict::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are only names here: whoever moves a test learns of it from this one.
    #[test]
    fn the_tests_that_are_named_are_there() {
        let tree = Tree::here();
        for [name, ..] in [TEST, REPLAY] {
            let (module, function) = name.rsplit_once("::").expect("a test lies in a module");
            let file = format!("crates/sqlite/tests/it/{}.rs", module.replace("::", "/"));
            let text = tree.read(&file).expect("the module is a file of its own");
            assert!(text.contains(&format!("#[test]\nfn {function}() {{")), "{name} is not in {file}");
        }
    }
}
