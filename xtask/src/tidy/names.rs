//! Names: a closed list for the root, and no drawers that anything fits in.

use std::path::Path;

use anyhow::Result;

use super::RustFile;
use super::members::Member;
use crate::tree::Tree;

/// What may lie in the root. A new name is a decision about the layout, so it is made here.
const ROOT: [&str; 30] = [
    ".cargo",
    ".ci",
    ".git",
    ".gitattributes",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "bindings",
    "clippy.toml",
    "contracts",
    "crates",
    "deny.toml",
    "deploy",
    "docs",
    "examples",
    "justfile",
    "rustfmt.toml",
    "spec",
    "target",
    "tests",
    "xtask",
];

/// Names that say nothing about what is inside.
const DRAWERS: [&str; 7] = ["utils", "util", "common", "shared", "helpers", "helper", "misc"];

/// Stray names in the root, and files, folders and crates named like drawers.
///
/// # Errors
/// When the root cannot be read.
pub fn problems(tree: &Tree, files: &[RustFile], members: &[Member]) -> Result<Vec<String>> {
    let names = tree.root_names()?.into_iter();
    let mut problems: Vec<String> = names
        .filter(|name| !ROOT.contains(&name.as_str()))
        .map(|name| format!("{name}: does not belong in the root; move it, or change the list in xtask"))
        .collect();
    let mut drawers: Vec<&Path> = files.iter().filter_map(|file| drawer(&file.path)).collect();
    drawers.dedup();
    problems.extend(drawers.into_iter().map(|path| drawer_problem(&path.display().to_string())));
    let packages = members.iter().map(|member| member.package.as_str());
    let unnamed = packages.filter(|package| is_drawer(package.strip_prefix("synddb-").unwrap_or(package)));
    problems.extend(unnamed.map(drawer_problem));
    Ok(problems)
}

/// The part of a file's path that is named like a drawer: the file itself, or a folder it lies in.
fn drawer(path: &Path) -> Option<&Path> {
    path.ancestors().find(|part| part.file_stem().is_some_and(|stem| is_drawer(&stem.to_string_lossy())))
}

fn is_drawer(name: &str) -> bool {
    DRAWERS.contains(&name)
}

fn drawer_problem(name: &str) -> String {
    format!("{name}: the name says nothing about what is inside; name it after what it does")
}
