//! Third-party programs, each pinned to one version and kept under the target folder.
//!
//! A developer installs nothing by hand, and two machines judge a tree by the same versions. Removing the
//! target folder removes them all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::runtimes::{self, Version};
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
    /// Stands in for Google Cloud Storage in tests. A Go program.
    FakeGcs,
    /// Stands in for S3 in tests. A Go program, whose releases are commits.
    Minio,
    /// Stands in for Azure Blob Storage in tests. A package of Node.js, with everything below it pinned too.
    Azurite,
}

/// A program that `go install` builds.
struct GoProgram {
    package: &'static str,
    go_min: Version,
}

/// What Azurite is installed from: a package that depends on it, and the lock file.
const AZURITE: &str = "tests/servers/azurite";

impl Tool {
    /// The name of its program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CargoMachete => "cargo-machete",
            Self::CargoDeny => "cargo-deny",
            Self::CargoFuzz => "cargo-fuzz",
            Self::Actionlint => "actionlint",
            Self::FakeGcs => "fake-gcs-server",
            Self::Minio => "minio",
            Self::Azurite => "azurite-blob",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::CargoMachete => "0.9.2",
            Self::CargoDeny => "0.20.2",
            Self::CargoFuzz => "0.13.2",
            Self::Actionlint => "1.7.1",
            Self::FakeGcs => "1.56.1",
            Self::Minio => "0.0.0-20260212201848-7aac2a2c5b7c",
            // The lock file says it again, and its package is asked.
            Self::Azurite => "3.35.0",
        }
    }

    fn go_program(self) -> Option<GoProgram> {
        let (package, go_min) = match self {
            Self::Actionlint => ("github.com/rhysd/actionlint/cmd/actionlint", Version(1, 18)),
            Self::FakeGcs => ("github.com/fsouza/fake-gcs-server", Version(1, 26)),
            Self::Minio => ("github.com/minio/minio", Version(1, 24)),
            Self::CargoMachete | Self::CargoDeny | Self::CargoFuzz | Self::Azurite => return None,
        };
        Some(GoProgram { package, go_min })
    }

    /// A child that runs this tool, installed first when it is missing or of another version.
    ///
    /// # Errors
    /// When it cannot be installed.
    pub fn command(self, tree: &Tree) -> Result<Command> {
        Ok(process::command(self.program(tree)?, tree.root()))
    }

    /// Where its program is, installed first when it is missing or of another version.
    ///
    /// # Errors
    /// When it cannot be installed.
    pub fn program(self, tree: &Tree) -> Result<PathBuf> {
        let program = folder(tree).join("bin").join(self.name());
        if program.is_file() && self.is_current(tree) {
            return Ok(program);
        }
        println!("installing {} {}", self.name(), self.version());
        let started = Instant::now();
        let install = match (self, self.go_program()) {
            (_, Some(go)) => self.install_with_go(tree, &go),
            (Self::Azurite, None) => self.install_with_npm(tree, &program),
            (_, None) => self.install_with_cargo(tree),
        };
        install.with_context(|| format!("cannot install {} {}", self.name(), self.version()))?;
        println!("installed {} in {:.1} s", self.name(), started.elapsed().as_secs_f64());
        Ok(program)
    }

    /// Whether what is installed is the pinned version. Each is asked in the way it answers without network.
    fn is_current(self, tree: &Tree) -> bool {
        match self {
            Self::CargoMachete | Self::CargoDeny | Self::CargoFuzz => {
                let entry = format!("\"{} {} (", self.name(), self.version());
                fs::read_to_string(folder(tree).join(".crates.toml")).is_ok_and(|text| text.contains(&entry))
            }
            // Go programs carry their version, but do not all tell it.
            Self::Actionlint | Self::FakeGcs | Self::Minio => {
                fs::read_to_string(self.mark(tree)).is_ok_and(|text| text == self.version())
            }
            Self::Azurite => {
                let installed = folder(tree).join("azurite/package-lock.json");
                let wanted = tree.read(Path::new(AZURITE).join("package-lock.json"));
                let is_same =
                    wanted.is_ok_and(|wanted| fs::read_to_string(installed).is_ok_and(|text| text == wanted));
                // Starting it shows that its Node.js is still where it was.
                let mut ask = Command::new(folder(tree).join("bin").join(self.name()));
                is_same
                    && ask
                        .arg("--version")
                        .output()
                        .is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).trim() == self.version())
            }
        }
    }

    /// The file that says which version was built.
    fn mark(self, tree: &Tree) -> PathBuf {
        folder(tree).join("bin").join(format!("{}.version", self.name()))
    }

    fn install_with_cargo(self, tree: &Tree) -> Result<()> {
        let mut install = process::cargo(tree);
        install.args(["install", "--quiet", "--locked", "--force", "--version", self.version(), "--root"]);
        // Its build folder is thrown away, so our own target folder does not fill up with the tools'
        // dependencies.
        install.arg(folder(tree)).arg(self.name()).env_remove("CARGO_TARGET_DIR");
        process::run(&mut install)
    }

    fn install_with_go(self, tree: &Tree, program: &GoProgram) -> Result<()> {
        let bin = folder(tree).join("bin");
        let Some(bin) = bin.to_str() else { bail!("go needs a target folder with a UTF-8 name") };
        let mut install = runtimes::go(tree, program.go_min)?;
        let package = format!("{}@v{}", program.package, self.version());
        process::run(install.args(["install", &package]).env("GOBIN", bin))?;
        // Written last, so an interrupted installation is made again.
        write(&self.mark(tree), self.version())
    }

    /// Installs what the lock file names, and a script that starts it with the Node.js it was installed for.
    fn install_with_npm(self, tree: &Tree, program: &Path) -> Result<()> {
        let runtimes::Node { node, npm } = runtimes::node(tree)?;
        let packages = folder(tree).join("azurite");
        if packages.exists() {
            fs::remove_dir_all(&packages).context("cannot remove what was installed before")?;
        }
        write(&packages.join("package.json"), &tree.read(Path::new(AZURITE).join("package.json"))?)?;
        let lock = tree.read(Path::new(AZURITE).join("package-lock.json"))?;
        write(&packages.join("package-lock.json"), &lock)?;
        let mut install = process::command(npm, &packages);
        // Of its packages, none needs a script to be installed.
        process::run(install.args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel",
            "error",
        ]))?;
        let main = packages.join("node_modules/azurite/dist/src/blob/main.js");
        let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        write(program, &format!("#!/bin/sh\nexec {} {} \"$@\"\n", quoted(&node), quoted(&main)))?;
        process::run(process::command("chmod", tree.root()).arg("755").arg(program))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    written.with_context(|| format!("cannot write. file=`{}`", path.display()))
}

fn folder(tree: &Tree) -> PathBuf {
    tree.target().join("tools")
}
