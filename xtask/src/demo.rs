//! `demo`: the product at work, in one command.
//!
//! Knows nothing about what is shown: that is an example of a crate, so it is compiled and linted like the
//! rest.

use std::path::Path;

use anyhow::{Context, Result};

use crate::process;
use crate::tree::Tree;
use crate::verdict::Verdict;

/// Runs the demo; with `keep`, what it writes stays in that folder.
///
/// # Errors
/// When `keep` cannot be understood from here, or the demo fails.
pub fn run(tree: &Tree, keep: Option<&Path>) -> Result<Verdict> {
    println!(
        "Writes a first log: submissions become signed messages, messages a batch, the batch a stored object;"
    );
    println!("then reads the object back, verifies it, and shows that a changed byte is refused.");
    let mut example = process::example(tree, "synddb-storage", "first_log");
    if let Some(folder) = keep {
        // The example starts in the root, so a folder named from elsewhere has to be made whole.
        let folder = std::path::absolute(folder)
            .with_context(|| format!("cannot locate. folder=`{}`", folder.display()))?;
        example.arg("--keep").arg(folder);
    }
    process::run(&mut example)?;
    Ok(Verdict::Passed)
}
