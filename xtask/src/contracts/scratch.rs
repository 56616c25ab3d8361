//! Where the artifacts of one tool go, so that those of the other stages stay, and how a tool is started.
//!
//! Tools read what was compiled without the IR pipeline: it takes seconds instead of minutes, and they judge the sources, not the code of the
//! optimiser.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Forge;
use crate::process;
use crate::tree::Tree;

/// A folder for one tool.
#[derive(Debug, Clone)]
pub(super) struct Scratch {
    pub(super) folder: PathBuf,
}

impl Scratch {
    /// An empty one under the target folder: what an older build left there would be read by some tools beside the new.
    pub(super) fn new(tree: &Tree, tool: &str) -> Result<Self> {
        Ok(Self { folder: tree.scratch(&format!("contracts-{tool}"))? })
    }

    /// Where forge puts artifacts.
    pub(super) fn out(&self) -> PathBuf {
        self.folder.join("out")
    }
}

impl Forge {
    /// A program that works on the contracts, and finds forge on its path and the artifacts of `scratch` where forge says.
    pub(super) fn tool(&self, program: &Path, scratch: &Scratch) -> Command {
        let mut command = process::command(program, &self.folder);
        let beside = self.program.parent().map(Path::to_owned);
        let folders = beside.into_iter().chain(std::env::split_paths(&self.path));
        // What was a path before is one again; the folder of forge has no separator, or npm could not start it either.
        command.env("PATH", std::env::join_paths(folders).unwrap_or_else(|_| self.path.clone()));
        command.env("FOUNDRY_VIA_IR", "false").env("FOUNDRY_OUT", scratch.out());
        // Tests deploy what is compiled here, not what another stage left.
        command.env("CONTRACTS_BY_NAME", "true");
        command.env("FOUNDRY_CACHE_PATH", scratch.folder.join("cache"));
        command
    }

    /// Compiles for a tool.
    pub(super) fn build_for_tools(&self, scratch: &Scratch, arguments: &[&str]) -> Result<()> {
        let mut build = self.tool(&self.program, scratch);
        build.arg("build").args(arguments);
        println!("{}", process::typed(&build));
        process::run(&mut build)
    }
}
