//! `demo`: the product at work, in one command.
//!
//! Knows nothing about what is shown: that is an example of a crate, so it is compiled and linted like the
//! rest. It uses the `synddb` command as anybody would, as a process.

use std::path::Path;

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
    println!("building the command");
    process::run(process::cargo(tree).args(["build", "--quiet", "--locked", "--package", "synddb-cli"]))?;
    let mut example = process::example(tree, "synddb-cli", "demo");
    example.arg("--synddb").arg(tree.target().join("debug").join("synddb"));
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
