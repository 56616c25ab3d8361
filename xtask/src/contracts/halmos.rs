//! Symbolic execution: the proofs of `test/symbolic`, by halmos with Yices.
//!
//! A proof counts when every path through it came to its end and the solver answered each question. So a time-out fails, as does a loop that goes
//! on beyond its bound, a path that halmos could not follow, and a proof of which no path ends well.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Forge;
use super::scratch::Scratch;
use crate::process;
use crate::stage::Outcome;
use crate::tree::Tree;

/// What it is installed from.
pub(super) const REQUIREMENTS: &str = "contracts/tools/halmos.txt";
/// Where it is installed, in the target folder.
pub(super) const ENVIRONMENT: &str = "tools/halmos";

const PROOFS: &str = "contracts/test/symbolic";
/// What starts it, from the folder of the contracts.
const START: &str = "tools/start_halmos.py";
/// The profile of forge that compiles the proofs.
const PROFILE: (&str, &str) = ("FOUNDRY_PROFILE", "symbolic");
/// The solver, and how halmos wants it to speak.
const SOLVER: &str = "yices-smt2";
const SOLVER_ARGUMENTS: &str = "--smt2-model-format --bvconst-in-decimal";

/// How often a loop is followed. What goes on beyond fails the stage.
const LOOPS_MAX: u32 = 6;
/// How long the solver may take over one question. The slowest takes less than a second.
const QUESTION_SECONDS_MAX: u32 = 60;
/// How long it may take to tell that a branch cannot be taken. Without an answer the branch is followed, which proves the same: more time means
/// fewer paths. Below this, most of the paths are of no use, and their number is another one in each run; above it, some answers take longer
/// than the paths that they spare.
const BRANCH_MS_MAX: u32 = 100;

#[derive(Deserialize)]
struct Report {
    test_results: BTreeMap<String, Vec<Proof>>,
}

#[derive(Deserialize)]
struct Proof {
    name: String,
    exitcode: u32,
    /// All, those that ended well, and those that could not be followed.
    num_paths: Option<[u64; 3]>,
    num_bounded_loops: Option<u64>,
}

impl Proof {
    /// Why it does not count. The numbers are those of halmos.
    fn problem(&self) -> Option<&'static str> {
        match self.exitcode {
            0 => {}
            1 => return Some("there is a counterexample"),
            2 => return Some("the solver did not answer in time"),
            3 => return Some("a path could not be followed"),
            4 => return Some("no path ends well, so nothing is proved"),
            _ => return Some("halmos failed"),
        }
        match (self.num_paths, self.num_bounded_loops) {
            (Some([_, well, 0]), Some(0)) if well > 0 => None,
            (_, Some(1..)) => Some("a loop goes on beyond the bound"),
            _ => Some("a path could not be followed"),
        }
    }
}

/// Tries all proofs, or those of one contract.
pub(super) fn run(
    tree: &Tree,
    forge: &Forge,
    python: &Path,
    scratch: &Scratch,
    contract: Option<&str>,
) -> Result<Outcome> {
    // With the arguments that halmos will give, so that it finds everything compiled: it would go on with what is there when this fails.
    let mut build = forge.tool(&forge.program, scratch);
    build.args(["build", "--ast", "--extra-output", "storageLayout", "metadata"]).env(PROFILE.0, PROFILE.1);
    println!("{}", process::typed(&build));
    process::run(&mut build)?;

    let report = scratch.folder.join("halmos.json");
    let mut halmos = forge.tool(python, scratch);
    halmos.arg(START).arg("--no-status").arg("--forge-build-out").arg(scratch.out());
    halmos.arg("--json-output").arg(&report).args(["--loop", &LOOPS_MAX.to_string()]);
    halmos.args(["--solver-timeout-assertion", &format!("{QUESTION_SECONDS_MAX}s")]);
    halmos.args(["--solver-timeout-branching", &format!("{BRANCH_MS_MAX}ms")]);
    let solver = python.with_file_name(SOLVER);
    halmos.args(["--solver-command", &format!("{} {SOLVER_ARGUMENTS}", solver.display())]);
    if let Some(contract) = contract {
        halmos.args(["--contract", contract]);
    }
    halmos.env(PROFILE.0, PROFILE.1);
    // It makes a folder for solvers at home, and leaves questions without an answer among temporary files.
    halmos.env("HOME", &scratch.folder).env("TMPDIR", &scratch.folder);
    println!("{}", process::typed(&halmos));
    let status = halmos.status().context("cannot start halmos")?;
    let report = fs::read_to_string(&report).with_context(|| format!("halmos wrote no report. {status}"))?;
    let report: Report = serde_json::from_str(&report).context("the report of halmos is not of the form")?;

    let (wanted, proofs) = (proofs_of(tree, contract)?, report.test_results.into_values().flatten());
    let proofs: Vec<Proof> = proofs.collect();
    let [paths, incomplete] = [
        proofs.iter().filter_map(|proof| proof.num_paths).map(|[all, ..]| all).sum::<u64>(),
        proofs.iter().filter_map(|proof| proof.num_bounded_loops).sum(),
    ];
    let timeouts = proofs.iter().filter(|proof| proof.exitcode == 2).count();
    println!(
        "{} proofs, {paths} paths, {timeouts} time-outs of {QUESTION_SECONDS_MAX} s; loops of up to {LOOPS_MAX}, {incomplete} beyond",
        proofs.len()
    );
    Ok(Outcome::of_problems(&problems(&wanted, &proofs)))
}

fn problems(wanted: &[String], proofs: &[Proof]) -> Vec<String> {
    let failed = proofs.iter().filter_map(|proof| Some(format!("{}: {}", proof.name, proof.problem()?)));
    let name_of = |proof: &Proof| proof.name.split('(').next().unwrap_or_default().to_owned();
    let tried: Vec<String> = proofs.iter().map(name_of).collect();
    let missing = wanted.iter().filter(|name| !tried.contains(name));
    failed.chain(missing.map(|name| format!("{name}: halmos did not try it"))).collect()
}

/// The names of all proofs. What halmos cannot read it leaves out, and says so in passing.
fn proofs_of(tree: &Tree, contract: Option<&str>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in tree.files_under(PROOFS, "sol")? {
        let text = tree.read(&file)?;
        if contract.is_some_and(|contract| !text.contains(&format!("contract {contract} "))) {
            continue;
        }
        let functions = text.lines().filter_map(|line| line.trim().strip_prefix("function check_"));
        let ends = functions.filter_map(|rest| rest.split('(').next());
        names.extend(ends.map(|rest| format!("check_{rest}")));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(exitcode: u32, paths: [u64; 3], loops: u64) -> Proof {
        let name = "check_it(uint256)".to_owned();
        Proof { name, exitcode, num_paths: Some(paths), num_bounded_loops: Some(loops) }
    }

    #[test]
    fn only_a_proof_whose_every_path_ended_counts() {
        assert_eq!(proof(0, [3, 1, 0], 0).problem(), None);
        let others = [
            proof(1, [3, 1, 0], 0),
            proof(2, [3, 1, 0], 0),
            proof(3, [3, 1, 1], 0),
            proof(4, [3, 0, 0], 0),
            proof(5, [3, 1, 0], 0),
            proof(0, [3, 1, 0], 1),
            proof(0, [3, 1, 1], 0),
            proof(0, [3, 0, 0], 0),
        ];
        assert!(others.iter().all(|proof| proof.problem().is_some()));
        let without_numbers = Proof { num_paths: None, num_bounded_loops: None, ..proof(0, [0; 3], 0) };
        assert!(without_numbers.problem().is_some());
    }

    #[test]
    fn a_proof_that_was_not_tried_is_told() {
        let wanted = ["check_it".to_owned(), "check_that".to_owned()];
        assert_eq!(problems(&wanted, &[proof(0, [1, 1, 0], 0)]), ["check_that: halmos did not try it"]);
    }
}
