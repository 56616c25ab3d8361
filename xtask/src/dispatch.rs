//! From a command line to the command that does its work.

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::tree::Tree;
use crate::verdict::Verdict;
use crate::{check, codegen, contracts, demo, e2e, fuzz, layers, servers, test, tidy};

impl Cli {
    /// Runs the command on the repository this program was built from.
    ///
    /// # Errors
    /// When the command could not come to a verdict.
    pub fn run(self) -> Result<Verdict> {
        let tree = Tree::here();
        match self.command {
            Command::Check => check::run(&tree),
            Command::Test { fast } => test::run(&tree, fast),
            Command::Servers => servers::run(&tree),
            Command::Contracts { write, only, planted } => contracts::run(&tree, write, only, planted),
            Command::E2e { way } => e2e::run(&tree, way),
            Command::Demo { keep, store } => demo::run(&tree, keep.as_deref(), store.as_deref()),
            Command::Layers => report("layers", &layers::problems(&tree)?),
            Command::Tidy => report("tidy", &tidy::problems(&tree)?),
            Command::Codegen { check: true } => report("codegen", &codegen::problems(&tree)?),
            Command::Codegen { check: false } => codegen::write(&tree),
            Command::Fuzz { target, seconds, jobs, seed, coverage, script } => {
                fuzz::run(&tree, &fuzz::Request { target, seconds, jobs, seed, coverage, script })
            }
        }
    }
}

/// Prints the problems found, one line each.
fn report(command: &str, problems: &[String]) -> Result<Verdict> {
    for problem in problems {
        println!("{problem}");
    }
    if problems.is_empty() {
        println!("{command}: in order");
        return Ok(Verdict::Passed);
    }
    println!("{command}: {} to put right", problems.len());
    Ok(Verdict::Failed)
}
