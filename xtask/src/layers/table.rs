//! The table of crates: `crates/layers.toml`, in data order.
//!
//! One row per crate that exists or is planned. What can be judged from the table alone is judged here; it
//! knows nothing about what cargo says.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::tree::Tree;

/// Where the table lies.
pub const PATH: &str = "crates/layers.toml";

/// How far from the ground a crate is. A crate imports from lower layers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Layer {
    /// The vocabulary.
    L0,
    /// One capability each.
    L1,
    /// A capability made of others; it stands on the same height as them, so its arrows are marked sideways.
    L1b,
    /// The roles.
    L2,
    /// What puts roles together.
    L3,
}

impl Layer {
    fn height(self) -> u8 {
        match self {
            Self::L0 => 0,
            Self::L1 | Self::L1b => 1,
            Self::L2 => 2,
            Self::L3 => 3,
        }
    }

    /// The layer as the documentation writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::L0 => "L0",
            Self::L1 => "L1",
            Self::L1b => "L1b",
            Self::L2 => "L2",
            Self::L3 => "L3",
        }
    }
}

/// One crate. Lists of third-party crates hold names; a name that ends in `*` stands for all that begin so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The name without the `synddb-` prefix.
    pub name: String,
    /// Its layer.
    pub layer: Layer,
    /// What it alone is responsible for, in one line.
    pub responsibility: String,
    /// Crates of ours it may depend on, by short name.
    pub may_import: Vec<String>,
    /// Those of `may_import` that stand on the same height: exceptions from "arrows point down".
    #[serde(default)]
    pub sideways: Vec<String>,
    /// Those of `may_import` that must be optional dependencies, so that only a feature brings them in.
    #[serde(default)]
    pub only_with_feature: Vec<String>,
    /// Third-party crates that only this crate may depend on directly.
    #[serde(default)]
    pub fence: Vec<String>,
    /// Third-party crates that may not occur anywhere among its normal dependencies, whatever its features.
    #[serde(default)]
    pub forbid: Vec<String>,
    /// Regular expressions that may not match the code in its `src/`; comments and literals are not code.
    #[serde(default)]
    pub forbid_source: Vec<String>,
    /// Its folder, when that is not `crates/<name>`.
    #[serde(default)]
    folder: Option<PathBuf>,
}

impl Row {
    /// The name cargo knows it by.
    #[must_use]
    pub fn package(&self) -> String {
        format!("synddb-{}", self.name)
    }

    /// Its folder, named from the repository's root.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| PathBuf::from("crates").join(&self.name))
    }

    /// Whether it exists already, as opposed to planned.
    #[must_use]
    pub fn exists(&self, tree: &Tree) -> bool {
        tree.has(self.folder().join("Cargo.toml"))
    }
}

/// The whole table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Packages of the workspace that are no part of the product: they import nothing of ours, and no fence
    /// binds them.
    pub outside: Vec<String>,
    /// Those of them that crates of ours may name among their dev-dependencies, and nowhere else.
    #[serde(default)]
    pub for_tests: Vec<String>,
    /// The rows, in data order.
    #[serde(rename = "crate")]
    pub rows: Vec<Row>,
}

impl Table {
    /// Reads the table of a repository.
    ///
    /// # Errors
    /// When it is missing or not well formed.
    pub fn read(tree: &Tree) -> Result<Self> {
        toml::from_str(&tree.read(PATH)?).with_context(|| format!("cannot understand. file=`{PATH}`"))
    }

    /// The row of a crate, by short name.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The row of a crate, by the name cargo knows.
    #[must_use]
    pub fn row_of_package(&self, package: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.package() == package)
    }

    /// Whether `package` is ours: a row of the table or one of `outside`.
    #[must_use]
    pub fn is_ours(&self, package: &str) -> bool {
        self.row_of_package(package).is_some() || self.outside.iter().any(|name| name == package)
    }

    /// What the table contradicts in itself: unknown names, double rows, arrows that do not point down.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let inside = self.for_tests.iter().filter(|name| !self.outside.contains(name));
        let mut problems: Vec<String> = inside
            .map(|name| format!("{PATH}: `{name}` is for tests, but not in `outside`; add it there"))
            .collect();
        for (index, row) in self.rows.iter().enumerate() {
            if self.rows[..index].iter().any(|other| other.name == row.name) {
                problems.push(format!("{PATH}: `{}` has two rows; keep one", row.name));
            }
            for name in row.sideways.iter().chain(&row.only_with_feature) {
                if !row.may_import.contains(name) {
                    problems.push(format!(
                        "{PATH}: `{}` makes an exception for `{name}`, which is not in its may_import",
                        row.name
                    ));
                }
            }
            problems.extend(row.may_import.iter().filter_map(|name| self.direction_problem(row, name)));
        }
        problems
    }

    fn direction_problem(&self, row: &Row, name: &str) -> Option<String> {
        let from = &row.name;
        let Some(target) = self.row(name) else {
            return Some(format!(
                "{PATH}: `{from}` may import `{name}`, which has no row; add the row or remove the name"
            ));
        };
        let (above, below) = (row.layer.height(), target.layer.height());
        let sideways = row.sideways.iter().any(|marked| marked == name);
        if above > below {
            return sideways.then(|| {
                format!("{PATH}: `{from}` marks `{name}` as sideways, but it lies below; remove the mark")
            });
        }
        if above == below && sideways && from != name {
            return None;
        }
        let (row_layer, target_layer) = (row.layer.name(), target.layer.name());
        Some(format!("{PATH}: the arrow {from} ({row_layer}) -> {name} ({target_layer}) does not point down"))
    }
}

/// Whether a third-party crate is meant by an entry of `fence` or `forbid`.
#[must_use]
pub fn is_named_by(entry: &str, package: &str) -> bool {
    entry.strip_suffix('*').map_or(entry == package, |prefix| package.starts_with(prefix))
}
