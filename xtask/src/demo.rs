//! `demo`: the product at work, in one command.
//!
//! Knows nothing about what is shown: that is an example of a crate, so it is compiled and linted like the
//! rest. It uses the `synddb` command as anybody would, as a process.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::stage::Outcome;
use crate::tree::Tree;
use crate::verdict::Verdict;
use crate::{machine, process};

/// Runs the demo; with `keep`, what it writes stays in that folder, and with `store` the log goes there.
///
/// # Errors
/// When `keep` cannot be understood from here, or the demo fails.
pub fn run(tree: &Tree, keep: Option<&Path>, store: Option<&str>) -> Result<Verdict> {
    println!(
        "An application that knows nothing of SyndDB writes SQLite; a verified replica of it is rebuilt from storage alone."
    );
    if let Outcome::Skipped(why) = machine::need_programs(tree.root())? {
        bail!("the demo writes with programs that are not here: {why}");
    }
    let mut example = process::example(tree, "demo");
    example.arg("--synddb").arg(build(tree)?);
    if let Some(folder) = keep {
        // The example starts in the root, so a folder named from elsewhere has to be made whole.
        let folder = std::path::absolute(folder)
            .with_context(|| format!("cannot locate. folder=`{}`", folder.display()))?;
        example.arg("--keep").arg(folder);
    }
    if let Some(url) = store {
        example.args(["--store", url]);
    }
    process::run(&mut example)?;
    Ok(Verdict::Passed)
}

/// Builds the command and the demo, and says where the command is.
///
/// In one call, with the features that the tests use: everything is compiled once for the demo and the tests.
///
/// # Errors
/// When it cannot be built.
pub fn build(tree: &Tree) -> Result<PathBuf> {
    println!("building the command");
    let wanted = ["build", "--quiet", "--locked", "--workspace", "--bin", "synddb", "--example", "demo"];
    process::run(process::cargo(tree).args(wanted))?;
    Ok(tree.target().join("debug").join("synddb"))
}
