//! `check`: all that can be judged about the tree without running the product.
//!
//! Every stage runs, whatever the ones before it found.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::stage::{Outcome, Stages};
use crate::tools::Tool;
use crate::tree::Tree;
use crate::verdict::Verdict;
use crate::{codegen, layers, machine, process, tidy};

/// Where GitHub looks for workflows.
const WORKFLOWS: &str = ".github/workflows";

/// Runs every check.
///
/// # Errors
/// Never because of what a stage finds; that is the verdict.
pub fn run(tree: &Tree) -> Result<Verdict> {
    let mut stages = Stages::default();
    cargo_stage(tree, &mut stages, "format", &["fmt", "--all", "--check"]);
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
    cargo_stage(tree, &mut stages, "lints", &clippy);
    tool_stage(tree, &mut stages, "unused dependencies", Tool::CargoMachete, &["--skip-target-dir"]);
    let licences = ["--locked", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"];
    tool_stage(tree, &mut stages, "licences", Tool::CargoDeny, &licences);
    stages.run("advisories", "cargo-deny check advisories", || advisories(tree));
    stages.run("layers", "the crates against crates/layers.toml", || {
        Ok(Outcome::of_problems(&layers::problems(tree)?))
    });
    stages.run("tidy", "invariants, names, sizes, links, lock file", || {
        Ok(Outcome::of_problems(&tidy::problems(tree)?))
    });
    stages.run("codegen", "generated files against what would be generated", || {
        Ok(Outcome::of_problems(&codegen::problems(tree)?))
    });
    workflows_stage(tree, &mut stages)?;
    Ok(stages.finish())
}

fn cargo_stage(tree: &Tree, stages: &mut Stages, name: &str, arguments: &[&str]) {
    let what = format!("cargo {}", arguments.join(" "));
    stages.run(name, &what, || {
        process::run(process::cargo(tree).args(arguments))?;
        Ok(Outcome::Passed)
    });
}

fn tool_stage(tree: &Tree, stages: &mut Stages, name: &str, tool: Tool, arguments: &[&str]) {
    let what = format!("{} {}", tool.name(), arguments.join(" "));
    stages.run(name, &what, || match tool.command(tree) {
        Ok(mut command) => {
            process::run(command.args(arguments))?;
            Ok(Outcome::Passed)
        }
        Err(cause) => machine::without(cause),
    });
}

/// Checks for known vulnerabilities. Their database is another site's, so a run without it is no fault of the
/// tree; it is said in so many words, so that nobody takes it for a check that passed.
fn advisories(tree: &Tree) -> Result<Outcome> {
    let mut deny = match Tool::CargoDeny.command(tree) {
        Ok(command) => command,
        Err(cause) => return machine::without(cause),
    };
    let mut fetch = Tool::CargoDeny.command(tree)?;
    // Git gives up when nothing arrives for this long, instead of waiting for ever or for a password.
    fetch
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_HTTP_LOW_SPEED_LIMIT", "1")
        .env("GIT_HTTP_LOW_SPEED_TIME", "30");
    let fetched =
        fetch.args(["--log-level", "error", "fetch", "db"]).output().context("cannot start cargo-deny")?;
    if !fetched.status.success() {
        return Ok(Outcome::Skipped("not checked, database not reachable".to_owned()));
    }
    process::run(deny.args(["--locked", "--log-level", "error", "check", "--disable-fetch", "advisories"]))?;
    Ok(Outcome::Passed)
}

fn workflows_stage(tree: &Tree, stages: &mut Stages) -> Result<()> {
    let files: Vec<PathBuf> =
        tree.files("yml")?.into_iter().filter(|path| path.starts_with(WORKFLOWS)).collect();
    let names: Vec<&str> = files.iter().filter_map(|path| path.to_str()).collect();
    // Shell and Python inside of workflows are checked only where those checkers happen to be installed, so
    // never.
    let mut arguments = vec!["-no-color", "-shellcheck=", "-pyflakes="];
    arguments.extend(names);
    tool_stage(tree, stages, "workflows", Tool::Actionlint, &arguments);
    Ok(())
}
