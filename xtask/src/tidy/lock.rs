//! The lock file: what it may not contain, and how much is shipped.
//!
//! Each bound keeps something small that grows unseen: the tools a fresh machine needs, the copies of one
//! library, the time a cold build takes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::layers::arrows;
use crate::layers::table::{Row, Table};
use crate::tree::Tree;

/// Where the lock file lies.
pub const PATH: &str = "Cargo.lock";

/// Crates that may not occur, each with the reason and the way out.
const FORBIDDEN: [(&str, &str); 3] = [
    ("aws-lc-sys", "needs cmake and minutes; choose ring as the only TLS provider"),
    ("openssl-sys", "needs a system library; choose rustls"),
    ("bindgen", "needs clang; declare the functions, or use pre-generated bindings"),
];

/// Crates of which one major version is enough.
const ONE_MAJOR: [&str; 2] = ["reqwest", "hyper"];

/// Packages, ours included, that all shipped crates together may consist of.
pub const SHIPPED_MAX: usize = 450;

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
}

/// Bounds that the lock file breaks.
///
/// # Errors
/// When there is no lock file, it is not well formed, or cargo cannot resolve the workspace.
pub fn problems(tree: &Tree) -> Result<Vec<String>> {
    let mut problems = content_problems(&tree.read(PATH)?)?;
    problems.extend(shipped_problem(tree)?);
    Ok(problems)
}

/// Forbidden crates and second majors in the text of a lock file.
///
/// # Errors
/// When it is not well formed.
pub fn content_problems(text: &str) -> Result<Vec<String>> {
    let lock: Lock = toml::from_str(text).with_context(|| format!("cannot understand. file=`{PATH}`"))?;
    let mut majors = BTreeMap::<&str, BTreeSet<&str>>::new();
    for locked in &lock.package {
        majors.entry(&locked.name).or_default().insert(major(&locked.version));
    }
    let mut problems = Vec::new();
    for (name, why) in FORBIDDEN {
        if majors.contains_key(name) {
            problems.push(format!("{PATH}: contains `{name}`, which {why} (cargo tree -i {name})"));
        }
    }
    for name in ONE_MAJOR {
        let found: Vec<&str> = majors.get(name).into_iter().flatten().copied().collect();
        if found.len() > 1 {
            problems.push(format!(
                "{PATH}: two majors of `{name}` ({}); update what asks for the older one",
                found.join(", ")
            ));
        }
    }
    Ok(problems)
}

/// The part of a version that promises compatibility: `1` of `1.2.3`, `0.11` of `0.11.4`.
fn major(version: &str) -> &str {
    let parts = if version.starts_with("0.") { 2 } else { 1 };
    let end = version.match_indices('.').nth(parts - 1).map_or(version.len(), |(index, _)| index);
    &version[..end]
}

/// Counts what ships: the normal dependencies of every crate of the product, with its default features, on
/// Linux.
fn shipped_problem(tree: &Tree) -> Result<Option<String>> {
    let table = Table::read(tree)?;
    let packages: Vec<String> = table.rows.iter().filter(|row| row.exists(tree)).map(Row::package).collect();
    if packages.is_empty() {
        return Ok(None);
    }
    let mut selection = vec!["--target", "x86_64-unknown-linux-gnu"];
    selection.extend(packages.iter().flat_map(|package| ["--package", package.as_str()]));
    let count = arrows::closure(tree, &selection)?.len();
    Ok((count > SHIPPED_MAX)
        .then(|| format!("{PATH}: {count} packages are shipped; {SHIPPED_MAX} is the bound, so drop one")))
}
