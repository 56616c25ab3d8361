//! `tidy`: the order of the tree that no compiler checks.
//!
//! One file per kind of rule:
//!
//! | module | holds |
//! |---|---|
//! | [`invariants`] | each invariant of ARCHITECTURE.md names tests that exist and run; a cited invariant exists |
//! | [`threats`] | each threat of SECURITY.md names tests that exist and run |
//! | [`names`] | no stray names in the root, no drawers called `utils` |
//! | [`sources`] | sizes of files, no ignored tests, no sleeps in tests, no unbounded channels, no orphans |
//! | [`lock`] | what the lock file may not contain, and how many crates are shipped |
//! | [`pages`] | links lead somewhere, commands exist |
//! | [`members`] | each crate has a README and the workspace's lints |

mod held_by;
pub mod invariants;
pub mod lock;
pub mod members;
pub mod names;
pub mod pages;
pub mod sources;
pub mod threats;

use std::path::PathBuf;

use anyhow::Result;

use crate::rust_source::RustSource;
use crate::tree::Tree;

/// One Rust file of the tree.
#[derive(Debug)]
pub struct RustFile {
    /// Where it lies, named from the root.
    pub path: PathBuf,
    /// How many lines it has, blank ones and comments included.
    pub lines: usize,
    /// Its code and its comments.
    pub source: RustSource,
}

/// Everything that is out of order, one line each; empty when nothing is. Prints questions that are no
/// faults.
///
/// # Errors
/// When a file cannot be read.
pub fn problems(tree: &Tree) -> Result<Vec<String>> {
    let files = rust_files(tree)?;
    let members = members::members(tree)?;
    for question in sources::questions(&files) {
        println!("{question}");
    }
    let mut problems = invariants::problems(tree, &files)?;
    problems.extend(threats::problems(tree, &files)?);
    problems.extend(names::problems(tree, &files, &members)?);
    problems.extend(sources::problems(&files));
    problems.extend(lock::problems(tree)?);
    problems.extend(pages::problems(tree)?);
    problems.extend(members::problems(tree, &members));
    Ok(problems)
}

/// All Rust files of the tree, read.
///
/// # Errors
/// When one cannot be read.
pub fn rust_files(tree: &Tree) -> Result<Vec<RustFile>> {
    let read = |path: PathBuf| {
        let text = tree.read(&path)?;
        Ok(RustFile { path, lines: text.lines().count(), source: RustSource::new(&text) })
    };
    tree.files("rs")?.into_iter().map(read).collect()
}
