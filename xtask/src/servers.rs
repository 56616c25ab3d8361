//! The programs of the servers that tests start: three object stores, a static host, Prometheus and an EVM chain; what checks units of
//! systemd; and what deploys contracts.
//!
//! What they are for, and how a test starts one, is written in `tests/servers`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Error, Result};

use crate::contracts;
use crate::machine;
use crate::tools::Tool;
use crate::tree::Tree;
use crate::verdict::Verdict;

/// The variables that name the programs to the tests. `tests/servers` knows them too.
const FAKE_GCS: &str = "SYNDDB_FAKE_GCS";
const MINIO: &str = "SYNDDB_MINIO";
const AZURITE: &str = "SYNDDB_AZURITE";
const NGINX: &str = "SYNDDB_NGINX";
const PROMETHEUS: &str = "SYNDDB_PROMETHEUS";
const PROMTOOL: &str = "SYNDDB_PROMTOOL";
const SYSTEMD_ANALYZE: &str = "SYNDDB_SYSTEMD_ANALYZE";
pub(crate) const ANVIL: &str = "SYNDDB_ANVIL";
pub(crate) const FORGE: &str = "SYNDDB_FORGE";

/// Installs what is missing, and prints where each is.
///
/// # Errors
/// When one cannot be had.
pub fn run(tree: &Tree) -> Result<Verdict> {
    let (provided, all) = Servers::provide(tree);
    for (variable, program) in &provided.programs {
        println!("{variable}={}", program.display());
    }
    all.map(|()| Verdict::Passed)
}

/// Those that are here.
#[derive(Debug, Default)]
pub struct Servers {
    programs: Vec<(&'static str, PathBuf)>,
}

impl Servers {
    /// Finds or installs each, and tells which ones cannot be had and why. What can be had is used all the same.
    pub fn provide(tree: &Tree) -> (Self, Result<()>) {
        let tool = |tool: Tool| move || tool.program(tree);
        let mut provided = Self::default();
        let mut missing: Option<Error> = None;
        let mut provide = |variable, found: Result<PathBuf>| match found {
            Ok(program) => provided.programs.push((variable, program)),
            Err(cause) => {
                missing = Some(match missing.take() {
                    None => cause,
                    Some(before) => Error::msg(format!("{before:#}; {cause:#}")),
                });
            }
        };
        provide(AZURITE, tool(Tool::Azurite)());
        provide(FAKE_GCS, tool(Tool::FakeGcs)());
        provide(MINIO, tool(Tool::Minio)());
        provide(NGINX, nginx(tree));
        provide(PROMETHEUS, prometheus(tree, "prometheus"));
        provide(PROMTOOL, prometheus(tree, "promtool"));
        provide(SYSTEMD_ANALYZE, systemd_analyze(tree));
        provide(ANVIL, contracts::program(tree, "anvil"));
        provide(FORGE, contracts::program(tree, "forge"));
        (provided, missing.map_or(Ok(()), Err))
    }

    /// Tells a child where they are.
    pub fn tell(&self, command: &mut Command) {
        command.envs(self.programs.iter().map(|(name, path)| (name, path)));
    }
}

/// The system's nginx, installed when there is none.
fn nginx(tree: &Tree) -> Result<PathBuf> {
    // Debian keeps it where only root's path leads.
    let find = || {
        machine::find_program("nginx")
            .or_else(|| Some("/usr/sbin/nginx".into()).filter(|path: &PathBuf| path.is_file()))
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    machine::install_debian_packages(tree.root(), &["nginx-light"])?;
    find().context("nginx was installed and is not there")
}

/// A program of the system's Prometheus, or of Debian's package, which is unpacked and not installed: a package that is installed starts its daemon.
fn prometheus(tree: &Tree, name: &str) -> Result<PathBuf> {
    if let Some(found) = machine::find_program(name) {
        return Ok(found);
    }
    let folder = tree.target().join("tools/prometheus");
    let program = folder.join("usr/bin").join(name);
    if !program.is_file() {
        machine::unpack_debian_package(tree.root(), "prometheus", &folder)?;
    }
    Some(program).filter(|program| program.is_file()).context("prometheus was unpacked and is not there")
}

/// The system's, installed when there is none. Nothing of systemd need run for it.
fn systemd_analyze(tree: &Tree) -> Result<PathBuf> {
    const NAME: &str = "systemd-analyze";
    if let Some(found) = machine::find_program(NAME) {
        return Ok(found);
    }
    machine::install_debian_packages(tree.root(), &["systemd"])?;
    machine::find_program(NAME).context("systemd was installed and its program is not there")
}
