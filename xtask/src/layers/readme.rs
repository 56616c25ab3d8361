//! The table as a page: `crates/README.md`.
//!
//! The page is generated so that the rule that is checked and the rule that is read are one.

use std::fmt::Write;

use super::table::{Row, Table};
use crate::tree::Tree;

/// Where the page lies.
pub const PATH: &str = "crates/README.md";

const HEAD: &str = "\
<!-- Written by `cargo xtask codegen` from layers.toml. Change that file, not this one. -->

# Crates, in data order

Read from the top and you follow a commit on its way: from the vocabulary, through what captures and stores it, to the
roles that order, check and settle it. Folder names drop the prefix that package names keep: `crates/protocol` is the
package `synddb-protocol`.

Arrows point down: a crate imports from lower layers only. `cargo xtask layers` reads the table this page is written from
and fails on an arrow it does not allow, and on a third-party crate outside its fence.

| crate | layer | single responsibility | may import | third-party crates only here | never below it |
|---|---|---|---|---|---|
";

/// The page that belongs to a table.
#[must_use]
pub fn render(tree: &Tree, table: &Table) -> String {
    let mut page = HEAD.to_owned();
    for row in &table.rows {
        let cells = [
            crate_cell(tree, row),
            row.layer.name().to_owned(),
            row.responsibility.clone(),
            imports_cell(row),
            names_cell(&row.fence),
            names_cell(&row.forbid),
        ];
        // Writing to a string cannot fail.
        writeln!(page, "| {} |", cells.join(" | ")).ok();
    }
    let outside = names_cell(&table.outside);
    write!(page, "\nOutside of the product, and importing nothing of it: {outside}.\n").ok();
    if !table.for_tests.is_empty() {
        let for_tests = names_cell(&table.for_tests);
        writeln!(page, "Of these, tests of every crate may use {for_tests}, as a dev-dependency.").ok();
    }
    page
}

fn crate_cell(tree: &Tree, row: &Row) -> String {
    if !row.exists(tree) {
        return format!("{} (planned)", row.name);
    }
    let folder = row.folder();
    let link = folder
        .strip_prefix("crates")
        .map_or_else(|_| format!("../{}", folder.display()), |inside| inside.display().to_string());
    format!("[{}]({link}/)", row.name)
}

fn imports_cell(row: &Row) -> String {
    if row.may_import.is_empty() {
        return "none".to_owned();
    }
    let with_notes = row.may_import.iter().map(|name| {
        let mut notes = Vec::new();
        if row.sideways.contains(name) {
            notes.push("sideways");
        }
        if row.only_with_feature.contains(name) {
            notes.push("behind a feature");
        }
        if notes.is_empty() { name.clone() } else { format!("{name} ({})", notes.join(", ")) }
    });
    with_notes.collect::<Vec<_>>().join(", ")
}

fn names_cell(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
