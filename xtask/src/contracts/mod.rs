//! `contracts`: the Solidity of `contracts/`: its toolchain from npm, format, build, tests, invariants, digests as the protocol has them, the snapshots of gas, interfaces, storage and code, and deployments.
//!
//! Everything that runs is what `contracts/package-lock.json` names; forge downloads nothing. Knows nothing about what a contract does.

mod analysis;
mod coverage;
mod deployment;
mod digests;
mod findings;
mod forge;
mod halmos;
mod planted;
mod scratch;
mod slither;
mod snapshots;

use std::path::PathBuf;

use anyhow::Result;

pub use self::analysis::Analysis;
use self::forge::Forge;
use self::snapshots::Snapshots;
use crate::counted::{self, Counted};
use crate::stage::Outcome;
use crate::tree::Tree;
use crate::verdict::Verdict;
use crate::{machine, summary};

/// The folder of the contracts.
const CONTRACTS: &str = "contracts";

/// What is deployed.
const SOURCES: &str = "contracts/src";

/// What to do where a snapshot differs.
const FIX: &str = "`cargo xtask contracts --write` writes it anew";

/// A program that is installed with the contracts, such as `anvil`.
///
/// # Errors
/// When it cannot be installed.
pub fn program(tree: &Tree, name: &str) -> Result<PathBuf> {
    Forge::provide(tree)?.other(name)
}

/// Checks and tests the contracts; with `write` it writes the snapshots instead of comparing them, with `only` it runs one analysis alone, and
/// with `planted` it plants faults into a copy and sees each of them caught.
///
/// # Errors
/// Never because of what a stage finds; that is the verdict.
pub fn run(tree: &Tree, write: bool, only: Option<Analysis>, planted: bool) -> Result<Verdict> {
    let mut run = Counted::default();
    match only {
        _ if planted => {
            if let Some(forge) = provided(tree, &mut run) {
                planted::run(tree, &forge, &mut run);
            }
        }
        Some(analysis) => {
            if let Some(forge) = provided(tree, &mut run) {
                analysis.run(tree, &forge, &mut run);
            }
        }
        None => stages(tree, write, &mut run),
    }
    Ok(run.finish(None))
}

/// The toolchain, which is a stage of its own.
fn provided(tree: &Tree, run: &mut Counted) -> Option<Forge> {
    let mut forge = None;
    let what = "forge, solc and libraries, as the lock file names them";
    run.stage("contracts toolchain", what, |_| match Forge::provide(tree) {
        Ok(provided) => {
            forge = Some(provided);
            Ok(Outcome::Passed)
        }
        Err(cause) => machine::without(cause.context("the contracts are left out")),
    });
    forge
}

/// The same as stages of another run.
pub fn stages(tree: &Tree, write: bool, run: &mut Counted) {
    let Some(forge) = provided(tree, run) else { return };
    run.stage("contracts format", "forge fmt --check; `forge fmt` puts it right", |_| {
        forge.judge(&["fmt", "--check"])
    });
    let built = run.stage("contracts build", "forge build, warnings denied", |_| forge.judge(&["build"]));
    if built != Outcome::Passed {
        return;
    }
    let what = "what others call, what lies in which slot, and what is deployed";
    run.stage("contracts interfaces, storage and code", what, |_| {
        let generated = Snapshots::of_artifacts(tree)?;
        if write {
            generated.write(tree)?;
            return Ok(Outcome::Passed);
        }
        Ok(Outcome::of_problems(&generated.problems(tree)?))
    });
    run.stage("contracts tests", "unit, fuzz and attacks", |tally| {
        forge.test(&["--no-match-path", "test/{invariants,gas,digests}/*"], tally)
    });
    run.stage("contracts invariants", "one sentence per file, under any order of calls", |tally| {
        forge.test(&["--match-path", "test/invariants/*"], tally)
    });
    run.stage("contracts digests", "random messages: Rust, the contracts and viem agree", |tally| {
        digests::compare(tree, &forge, tally)
    });
    let what = format!("whole transactions, each slot cold; where a figure differs, {FIX}");
    run.stage("contracts gas", &what, |tally| {
        let mut measured = forge.command(&["test", "--isolate", "--match-path", "test/gas/*"]);
        measured.env("FORGE_SNAPSHOT_EMIT", "true");
        measured.env("FORGE_SNAPSHOT_CHECK", if write { "false" } else { "true" });
        counted::runner(&mut measured, summary::forge, tally)
    });
    let what = "both scripts on chains of this machine, and what was changed is found";
    run.stage("contracts deployment", what, |_| deployment::try_both(tree, &forge));
    for analysis in Analysis::ALL {
        analysis.run(tree, &forge, run);
    }
}
