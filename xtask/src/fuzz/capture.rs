//! Random applications against the whole capture: a test of the crate that captures, told how long to hunt.
//!
//! What it does, and what a mismatch is, is the test's business.

use std::process::Command;

use anyhow::Result;

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

/// Runs the test and judges it. A name that no test has would run nothing and pass, so at least one must have run.
pub(super) fn watch(test: &mut Command) -> Result<Verdict> {
    println!("{}", process::typed(test));
    let mut passed = 0;
    let status = process::stream(test, |line| {
        passed += summary::libtest(line).map_or(0, |counts| counts.passed);
    })?;
    if status.success() && passed == 0 {
        println!("no test hunts: there is none of this name");
    }
    Ok(if status.success() && passed > 0 { Verdict::Passed } else { Verdict::Failed })
}
