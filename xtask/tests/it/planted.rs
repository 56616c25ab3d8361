//! A small workspace in a temporary folder that is in order, until a test plants a fault in it.
//!
//! It has two crates of ours, `protocol` and above it `storage`, the table that says so, and the pages `tidy`
//! asks for. Third-party crates lie beside the tree, not in it: cargo takes everything in a workspace's
//! folder for a member.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use xtask::process;
use xtask::tidy::invariants::INVARIANTS;
use xtask::tree::Tree;

const TABLE: &str = r#"
outside = ["xtask"]

[[crate]]
name = "protocol"
layer = "L0"
responsibility = "the vocabulary"
may_import = []
forbid = ["tokio"]
forbid_source = ['\bstd\s*::\s*(time|fs)\b', '\bInstant\b']

[[crate]]
name = "sqlite"
layer = "L1"
responsibility = "planned"
may_import = ["protocol"]
fence = ["rusqlite", "alloy-*"]

[[crate]]
name = "storage"
layer = "L1"
responsibility = "where batches rest"
may_import = ["protocol"]
"#;

/// The planted tree; it goes away with this value.
pub(crate) struct Planted {
    folder: TempDir,
}

impl Planted {
    /// A tree in order.
    pub(crate) fn new() -> Result<Self> {
        let planted = Self { folder: tempfile::tempdir()? };
        planted.members(&["protocol", "storage"])?;
        planted.write("crates/layers.toml", TABLE)?;
        planted.write(
            "README.md",
            "# A tree\n\nSee [the crates](crates/protocol/README.md#top) and `cargo xtask check`.\n",
        )?;
        planted.architecture("not yet")?;
        planted.security("| T1 | a threat | what stands against it | not yet |")?;
        planted.member("protocol", "")?;
        planted.member("storage", "synddb-protocol = { path = \"../protocol\" }")?;
        Ok(planted)
    }

    /// Writes the root's manifest with these crates as members.
    pub(crate) fn members(&self, names: &[&str]) -> Result<()> {
        let folders: Vec<String> = names.iter().map(|name| format!("\"crates/{name}\"")).collect();
        let lints = "[workspace.lints.rust]\nunsafe_code = \"deny\"";
        self.write(
            "Cargo.toml",
            &format!("[workspace]\nresolver = \"3\"\nmembers = [{}]\n\n{lints}\n", folders.join(", ")),
        )
    }

    /// Writes a crate of ours with these lines after `[dependencies]`.
    pub(crate) fn member(&self, name: &str, dependencies: &str) -> Result<()> {
        let manifest = format!(
            "{}

[lints]
workspace = true

[dependencies]
{dependencies}
",
            package(&format!("synddb-{name}"))
        );
        self.write(&format!("crates/{name}/Cargo.toml"), &manifest)?;
        self.write(&format!("crates/{name}/README.md"), "# A crate\n")?;
        if !self.tree().has(format!("crates/{name}/src/lib.rs")) {
            self.write(&format!("crates/{name}/src/lib.rs"), "//! A crate.\n")?;
        }
        Ok(())
    }

    /// Writes a third-party crate beside the tree, with these lines after `[dependencies]`, and returns the
    /// line that depends on it from a crate of ours.
    pub(crate) fn third_party(&self, name: &str, dependencies: &str) -> Result<String> {
        let folder = format!("../third-party/{name}");
        let manifest = format!(
            "{}

[dependencies]
{dependencies}
",
            package(name)
        );
        self.write(&format!("{folder}/Cargo.toml"), &manifest)?;
        self.write(&format!("{folder}/src/lib.rs"), "//! Not ours.\n")?;
        Ok(format!("{name} = {{ path = \"../../{folder}\" }}"))
    }

    /// Writes ARCHITECTURE.md with all invariants, the seventh held by `held_by` and the others by nothing
    /// yet.
    pub(crate) fn architecture(&self, held_by: &str) -> Result<()> {
        let rows = (1..=INVARIANTS).map(|number| {
            let held_by = if number == 7 { held_by } else { "not yet" };
            format!(r"| I{number} | what is true \| and stays so | {held_by} |")
        });
        let rows: Vec<String> = rows.collect();
        let page =
            format!("# Architecture\n\n| invariant | text | held by |\n|---|---|---|\n{}\n", rows.join("\n"));
        self.write("ARCHITECTURE.md", &page)
    }

    /// Writes SECURITY.md with this row of threats.
    pub(crate) fn security(&self, row: &str) -> Result<()> {
        let table = "| | threat | what stands against it | shown by |\n|---|---|---|---|";
        self.write("SECURITY.md", &format!("# Security\n\n{table}\n{row}\n"))
    }

    /// Writes a file, named from the tree's root.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        fs::write(&path, text).with_context(|| format!("cannot write. file=`{}`", path.display()))
    }

    /// The tree as the commands see it.
    pub(crate) fn tree(&self) -> Tree {
        Tree::at(&self.root())
    }

    /// What `layers` finds, after cargo has written the lock file.
    pub(crate) fn layers(&self) -> Result<Vec<String>> {
        self.lock()?;
        xtask::layers::problems(&self.tree())
    }

    /// What `tidy` finds, after cargo has written the lock file.
    pub(crate) fn tidy(&self) -> Result<Vec<String>> {
        self.lock()?;
        xtask::tidy::problems(&self.tree())
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn lock(&self) -> Result<()> {
        let mut lock = process::cargo(&self.tree());
        let status =
            lock.args(["generate-lockfile", "--offline", "--quiet"]).stderr(Stdio::inherit()).status()?;
        ensure!(status.success(), "cargo cannot resolve the planted tree");
        Ok(())
    }
}

/// The first section of a manifest.
fn package(name: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2024\"")
}

/// Asserts that there is one problem, and that it says all of `needles`.
pub(crate) fn assert_only(problems: &[String], needles: &[&str]) {
    assert_eq!(problems.len(), 1, "{problems:#?}");
    for needle in needles {
        assert!(problems[0].contains(needle), "`{needle}` is not said in {problems:#?}");
    }
}
