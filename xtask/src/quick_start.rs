//! The quick start of README.md: found, and run as a newcomer would.
//!
//! The commands that a newcomer copies are the ones tested, because both are the same text.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::process;
use crate::stage::Outcome;
use crate::tree::Tree;

/// The line of README.md after which the quick start's fenced `sh` block follows.
pub const MARKER: &str = "<!-- quick-start -->";

/// The variable that tells the quick start where it may write.
pub const SCRATCH_VARIABLE: &str = "TMPDIR";

/// Finds the commands: the fenced `sh` block that follows the marker, with nothing but blank lines between.
///
/// # Errors
/// When the marker or the block is missing, the block is empty or has no end, or it would call the tests
/// again.
pub fn extract(readme: &str) -> Result<String> {
    let mut lines = readme.lines().skip_while(|line| line.trim() != MARKER);
    lines
        .next()
        .with_context(|| format!("README.md has no quick start; put this line before it: `{MARKER}`"))?;
    let fence = lines.find(|line| !line.trim().is_empty()).unwrap_or_default();
    ensure!(fence.trim() == "```sh", "a block that starts with ```sh must follow `{MARKER}` in README.md");
    let mut script = String::new();
    for line in lines {
        if line.trim() == "```" {
            ensure!(!script.trim().is_empty(), "the quick start of README.md is empty");
            ensure!(
                !script.contains("xtask test"),
                "the quick start is run by the tests; it cannot run them itself"
            );
            return Ok(script);
        }
        script.push_str(line);
        script.push('\n');
    }
    bail!("the quick start of README.md has no closing ```")
}

/// Runs the commands in the repository's root with bash, stopping at the first that fails.
///
/// # Errors
/// When there is no quick start, or its scratch folder cannot be made.
pub fn run(tree: &Tree) -> Result<Outcome> {
    let script = extract(&tree.read("README.md")?)?;
    let scratch: PathBuf = tree.scratch("quick-start")?;
    let mut bash = process::command("bash", tree.root());
    bash.args(["-euo", "pipefail", "-c", &script]).env(SCRATCH_VARIABLE, &scratch);
    let status = process::stream(&mut bash, |_| {})?;
    std::fs::remove_dir_all(&scratch)
        .with_context(|| format!("cannot remove. folder=`{}`", scratch.display()))?;
    if !status.success() {
        println!("a command of README.md's quick start failed. {status}");
        return Ok(Outcome::Failed);
    }
    Ok(Outcome::Passed)
}
