//! Third-party programs, each pinned to one version and kept under the target folder.
//!
//! A developer installs nothing by hand, and two machines judge a tree by the same versions. Removing the
//! target folder removes them all.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::machine;
use crate::process;
use crate::tree::Tree;

/// A program we call and do not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Finds dependencies that no code uses.
    CargoMachete,
    /// Judges licences, banned crates, sources and advisories.
    CargoDeny,
    /// Builds and runs fuzz targets.
    CargoFuzz,
    /// Checks GitHub workflows. A Go program; this version builds with Go 1.18, so with Debian bookworm's.
    Actionlint,
}

impl Tool {
    /// The name of its program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CargoMachete => "cargo-machete",
            Self::CargoDeny => "cargo-deny",
            Self::CargoFuzz => "cargo-fuzz",
            Self::Actionlint => "actionlint",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::CargoMachete => "0.9.2",
            Self::CargoDeny => "0.20.2",
            Self::CargoFuzz => "0.13.2",
            Self::Actionlint => "1.7.1",
        }
    }

    /// A child that runs this tool, installed first when it is missing or of another version.
    ///
    /// # Errors
    /// When it cannot be installed.
    pub fn command(self, tree: &Tree) -> Result<Command> {
        let program = folder(tree).join("bin").join(self.name());
        if !program.is_file() || !self.is_current(tree) {
            println!("installing {} {}", self.name(), self.version());
            let install = match self {
                Self::CargoMachete | Self::CargoDeny | Self::CargoFuzz => self.install_with_cargo(tree),
                Self::Actionlint => self.install_with_go(tree),
            };
            install.with_context(|| format!("cannot install {} {}", self.name(), self.version()))?;
        }
        Ok(process::command(program, tree.root()))
    }

    /// Whether what is installed is the pinned version. Each installer is asked in the way it answers without
    /// network.
    fn is_current(self, tree: &Tree) -> bool {
        match self {
            Self::CargoMachete | Self::CargoDeny | Self::CargoFuzz => {
                let entry = format!("\"{} {} (", self.name(), self.version());
                std::fs::read_to_string(folder(tree).join(".crates.toml"))
                    .is_ok_and(|text| text.contains(&entry))
            }
            Self::Actionlint => {
                let mut ask = Command::new(folder(tree).join("bin").join(self.name()));
                let version = format!("v{}", self.version());
                ask.arg("-version").output().is_ok_and(|answer| {
                    String::from_utf8_lossy(&answer.stdout)
                        .lines()
                        .next()
                        .is_some_and(|line| line.trim() == version)
                })
            }
        }
    }

    fn install_with_cargo(self, tree: &Tree) -> Result<()> {
        let mut install = process::cargo(tree);
        install.args(["install", "--quiet", "--locked", "--force", "--version", self.version(), "--root"]);
        // Its build folder is thrown away, so our own target folder does not fill up with the tools'
        // dependencies.
        install.arg(folder(tree)).arg(self.name()).env_remove("CARGO_TARGET_DIR");
        process::run(&mut install)
    }

    fn install_with_go(self, tree: &Tree) -> Result<()> {
        if !machine::has_program("go") {
            machine::install_debian_packages(tree.root(), &["golang-go", "ca-certificates"])?;
        }
        let bin = folder(tree).join("bin");
        let Some(bin) = bin.to_str() else { bail!("go needs a target folder with a UTF-8 name") };
        let package = format!("github.com/rhysd/actionlint/cmd/actionlint@v{}", self.version());
        let mut install = process::command("go", tree.root());
        // Without GOTOOLCHAIN=local, go would download another go when it thinks itself too old.
        install
            .args(["install", &package])
            .env("GOBIN", bin)
            .env("GOFLAGS", "-mod=mod")
            .env("GOTOOLCHAIN", "local");
        process::run(&mut install)
    }
}

fn folder(tree: &Tree) -> PathBuf {
    tree.target().join("tools")
}
