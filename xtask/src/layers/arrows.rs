//! The table against what cargo knows: members, direct dependencies, and the whole closure below a crate.
//!
//! Arrows are read from the manifests as declared, so one behind a feature, a platform or `dev-dependencies`
//! counts like any other. Knows nothing about the code.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand, Package};

use super::table::{PATH, Row, Table, is_named_by};
use crate::process;
use crate::tree::Tree;

/// Everything in the workspace that contradicts the table.
///
/// # Errors
/// When cargo cannot describe the workspace.
pub fn problems(tree: &Tree, table: &Table) -> Result<Vec<String>> {
    let metadata = metadata(tree)?;
    let mut problems = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        if table.outside.iter().any(|outside| outside == name) {
            let ours = package.dependencies.iter().filter(|dependency| table.is_ours(&dependency.name));
            problems.extend(ours.map(|dependency| {
                format!(
                    "{name} -> {}: `{name}` is outside of the product and imports nothing of ours",
                    dependency.name
                )
            }));
            continue;
        }
        let Some(row) = table.row_of_package(name) else {
            problems.push(format!(
                "{name}: a member of the workspace without a row in {PATH}; add a [[crate]] there"
            ));
            continue;
        };
        problems.extend(place_problem(tree, row, package));
        problems.extend(
            package.dependencies.iter().filter_map(|dependency| arrow_problem(table, row, dependency)),
        );
        problems.extend(closure_problems(tree, row)?);
    }
    Ok(problems)
}

/// The workspace as cargo describes it, without resolving anything newly.
fn metadata(tree: &Tree) -> Result<Metadata> {
    let text = process::read(process::cargo(tree).args([
        "metadata",
        "--format-version=1",
        "--no-deps",
        "--locked",
    ]))?;
    MetadataCommand::parse(text).context("cannot understand the output of cargo metadata")
}

fn place_problem(tree: &Tree, row: &Row, package: &Package) -> Option<String> {
    let expected = tree.root().join(row.folder()).join("Cargo.toml");
    let found = package.manifest_path.as_std_path();
    // The root may be reached through a link, so folders are compared as the file system knows them.
    let same = expected
        .canonicalize()
        .ok()
        .is_some_and(|expected| found.canonicalize().is_ok_and(|found| found == expected));
    (!same).then(|| {
        format!(
            "{}: lies in `{found}`, but {PATH} says `{}`",
            row.package(),
            row.folder().display(),
            found = found.display()
        )
    })
}

/// What is wrong with one declared dependency of a crate of ours.
fn arrow_problem(table: &Table, row: &Row, dependency: &Dependency) -> Option<String> {
    let (from, to) = (row.package(), dependency.name.as_str());
    let kind = kind_name(dependency.kind);
    if let Some(target) = table.row_of_package(to) {
        // A crate may name itself among its dev-dependencies, to switch on a feature for its own tests.
        if target.name == row.name && dependency.kind == DependencyKind::Development {
            return None;
        }
        if !row.may_import.contains(&target.name) {
            let allowed = if row.may_import.is_empty() {
                "nothing of ours".to_owned()
            } else {
                row.may_import.join(", ")
            };
            return Some(format!(
                "{from} -> {to} ({kind}): {PATH} does not allow this arrow; `{}` may import {allowed}",
                row.name
            ));
        }
        let must_be_optional =
            row.only_with_feature.contains(&target.name) && dependency.kind == DependencyKind::Normal;
        if must_be_optional && !dependency.optional {
            return Some(format!(
                "{from} -> {to} ({kind}): {PATH} allows this arrow behind a feature only; make it optional"
            ));
        }
        return None;
    }
    if table.is_ours(to) {
        if !table.for_tests.iter().any(|name| name == to) {
            return Some(format!(
                "{from} -> {to} ({kind}): `{to}` is outside of the product; nothing imports it"
            ));
        }
        return (dependency.kind != DependencyKind::Development)
            .then(|| format!("{from} -> {to} ({kind}): `{to}` is for tests; make it a dev-dependency"));
    }
    let owner = table.rows.iter().find(|other| other.fence.iter().any(|entry| is_named_by(entry, to)))?;
    (owner.name != row.name).then(|| {
        format!(
            "{from} -> {to} ({kind}): only {} may depend on `{to}`; go through it ({PATH}, fence)",
            owner.package()
        )
    })
}

/// The forbidden crates that the closure of normal dependencies contains, with every feature on and on every
/// platform.
fn closure_problems(tree: &Tree, row: &Row) -> Result<Vec<String>> {
    if row.forbid.is_empty() {
        return Ok(Vec::new());
    }
    let package = row.package();
    let closure = closure(tree, &["--package", &package, "--all-features", "--target", "all"])?;
    let forbidden = closure.iter().filter_map(|line| {
        let name = line.split(' ').next()?;
        row.forbid.iter().any(|entry| is_named_by(entry, name)).then_some(name)
    });
    Ok(forbidden
        .map(|name| {
            let why = format!("cargo tree --all-features -e normal -p {package} -i {name}");
            format!("{package}: contains `{name}`, which {PATH} forbids there; see how it comes in: {why}")
        })
        .collect())
}

/// The packages, as `name version`, in the closure of normal dependencies of what `selection` selects, itself
/// included.
///
/// # Errors
/// When cargo cannot resolve it.
pub fn closure(tree: &Tree, selection: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = process::cargo(tree);
    command.args([
        "tree",
        "--quiet",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        "{p}",
    ]);
    let text = process::read(command.args(selection))?;
    let names = text.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "));
    Ok(names.filter(|name| !name.is_empty()).collect())
}

fn kind_name(kind: DependencyKind) -> &'static str {
    match kind {
        DependencyKind::Normal => "normal",
        DependencyKind::Development => "dev",
        DependencyKind::Build => "build",
        DependencyKind::Unknown => "unknown kind",
    }
}
