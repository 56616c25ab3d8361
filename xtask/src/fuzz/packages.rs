//! The fuzz packages of the tree: every `crates/*/fuzz`, each a workspace of its own with a lock file of its own.
//!
//! What a target may take stands in its package's `Cargo.toml`, under `[package.metadata.bounds]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{ALL, CAPTURE};
use crate::tree::Tree;

/// What one target may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Memory of the process, in MiB, above which it counts as a crash.
    pub rss_mib: u32,
    /// One allocation, in MiB, above which a decoder has believed a length it should have checked.
    pub malloc_mib: u32,
    /// Seconds for one input, above which it counts as a crash.
    pub seconds: u32,
    /// Longest input, in bytes; without it libFuzzer goes by the longest seed.
    pub input_bytes: Option<u32>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { rss_mib: 2048, malloc_mib: 512, seconds: 60, input_bytes: None }
    }
}

/// A fuzz target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, which no other package has.
    pub name: String,
    /// Its package, named from the root.
    pub package: PathBuf,
    /// What it may take.
    pub bounds: Bounds,
}

#[derive(Deserialize)]
struct Manifest {
    package: Package,
    #[serde(default, rename = "bin")]
    bins: Vec<Bin>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    bounds: BTreeMap<String, Bounds>,
}

#[derive(Deserialize)]
struct Bin {
    name: String,
}

/// The targets meant by a name of the command line.
///
/// # Errors
/// When there is none of that name, or two packages have one of the same name.
pub fn find(tree: &Tree, wanted: &str) -> Result<Vec<Target>> {
    let all = targets(tree)?;
    if wanted == ALL {
        return Ok(all);
    }
    let names: Vec<&str> = all.iter().map(|target| target.name.as_str()).collect();
    ensure!(
        names.contains(&wanted),
        "no such fuzz target; choose `{CAPTURE}`, `{ALL}` or one of: {}",
        names.join(", ")
    );
    Ok(all.into_iter().filter(|target| target.name == wanted).collect())
}

fn targets(tree: &Tree) -> Result<Vec<Target>> {
    let manifests = tree.files("toml")?.into_iter().filter(|path| is_fuzz_manifest(path));
    let mut targets: BTreeMap<String, Target> = BTreeMap::new();
    for path in manifests {
        let manifest: Manifest = toml::from_str(&tree.read(&path)?)
            .with_context(|| format!("cannot understand. file=`{}`", path.display()))?;
        let package = path.parent().unwrap_or(&path).to_owned();
        let bounds = manifest.package.metadata.bounds;
        let unknown = bounds.keys().find(|name| !manifest.bins.iter().any(|bin| bin.name == **name));
        ensure!(
            unknown.is_none(),
            "bounds of a target that is not there. file=`{}` target=`{}`",
            path.display(),
            unknown.map_or("", String::as_str)
        );
        for Bin { name } in manifest.bins {
            let bounds = bounds.get(&name).copied().unwrap_or_default();
            let target = Target { name: name.clone(), package: package.clone(), bounds };
            ensure!(name != ALL && name != CAPTURE, "a fuzz target may not have this name. target=`{name}`");
            let other = targets.insert(name, target);
            ensure!(
                other.is_none(),
                "two fuzz targets have one name; rename one. target=`{}`",
                other.map_or_else(String::new, |other| other.name)
            );
        }
    }
    Ok(targets.into_values().collect())
}

/// Whether it is the manifest of a crate's fuzz package.
fn is_fuzz_manifest(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    matches!(&parts[..], [crates, _, fuzz, manifest] if crates == "crates" && fuzz == "fuzz" && manifest == "Cargo.toml")
}
