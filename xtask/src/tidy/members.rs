//! Members of the workspace: each has a README and takes the workspace's lints.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::tree::Tree;

#[derive(Deserialize)]
struct Root {
    workspace: Workspace,
}

#[derive(Deserialize)]
struct Workspace {
    members: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Manifest {
    package: Package,
    lints: Option<Lints>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

#[derive(Deserialize)]
struct Lints {
    #[serde(default)]
    workspace: bool,
}

/// One package of the workspace.
#[derive(Debug)]
pub struct Member {
    /// Its folder, named from the root.
    pub folder: PathBuf,
    /// The name of its package.
    pub package: String,
    takes_lints: bool,
}

/// The members that the root's Cargo.toml lists, one by one and without patterns.
///
/// # Errors
/// When a manifest is missing or not well formed.
pub fn members(tree: &Tree) -> Result<Vec<Member>> {
    let root: Root =
        toml::from_str(&tree.read("Cargo.toml")?).context("cannot understand. file=`Cargo.toml`")?;
    let read = |folder: PathBuf| {
        let path = folder.join("Cargo.toml");
        let manifest: Manifest = toml::from_str(&tree.read(&path)?)
            .with_context(|| format!("cannot understand. file=`{}`", path.display()))?;
        let takes_lints = manifest.lints.is_some_and(|lints| lints.workspace);
        Ok(Member { folder, package: manifest.package.name, takes_lints })
    };
    root.workspace.members.into_iter().map(read).collect()
}

/// Members without a README or without the workspace's lints.
#[must_use]
pub fn problems(tree: &Tree, members: &[Member]) -> Vec<String> {
    let mut problems = Vec::new();
    for Member { folder, takes_lints, .. } in members {
        let folder = folder.display();
        if !tree.has(format!("{folder}/README.md")) {
            problems
                .push(format!("{folder}: has no README.md; say in a page what the crate is responsible for"));
        }
        if !takes_lints {
            problems.push(format!("{folder}/Cargo.toml: add `[lints]` with `workspace = true`"));
        }
    }
    problems
}
