//! `layers`: the dependencies between crates are those that `crates/layers.toml` allows, and no others.
//!
//! The table is read from [`table`], compared with what cargo knows in [`arrows`], with what a crate's code
//! says in [`code`], and written out for readers in [`readme`]. Holds the second half of invariant I13 (roles
//! do not import roles) and what of the first half a text can show.

pub mod arrows;
pub mod code;
pub mod readme;
pub mod table;

use anyhow::Result;

use crate::tree::Tree;
use table::Table;

/// Everything that contradicts the table, one line each; empty when the tree is as it says.
///
/// # Errors
/// When the table or the workspace cannot be read.
pub fn problems(tree: &Tree) -> Result<Vec<String>> {
    let table = Table::read(tree)?;
    let mut problems = table.problems();
    problems.extend(arrows::problems(tree, &table)?);
    problems.extend(code::problems(tree, &table)?);
    Ok(problems)
}
