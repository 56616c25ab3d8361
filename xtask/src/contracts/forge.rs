//! The installed forge, and what was installed with it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::CONTRACTS;
use crate::counted::Tally;
use crate::runtimes::{self, Node};
use crate::stage::Outcome;
use crate::summary;
use crate::tree::Tree;
use crate::{counted, process};

/// What is installed.
const LOCK: &str = "contracts/package-lock.json";

/// What was installed: a copy of the lock file, inside the folder that is installed.
const INSTALLED: &str = "contracts/node_modules/.installed.json";

/// The installed forge.
pub(super) struct Forge {
    /// That of the contracts, where it works.
    pub(super) folder: PathBuf,
    /// Forge itself.
    pub(super) program: PathBuf,
    /// The search path, with the Node.js that forge and solc are started by at its head.
    pub(super) path: OsString,
}

impl Forge {
    /// Installs what the lock file names, unless that is what is installed.
    pub(super) fn provide(tree: &Tree) -> Result<Self> {
        let folder = tree.root().join(CONTRACTS);
        let Node { node, npm } = runtimes::node(tree)?;
        let beside = node.parent().context("the program of Node.js lies in no folder")?.to_owned();
        let before = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(beside).chain(std::env::split_paths(&before)))?;
        let wanted = tree.read(LOCK)?;
        let known = program(&folder, "forge")
            .filter(|_| tree.read(INSTALLED).is_ok_and(|installed| installed == wanted));
        if let Some(program) = known {
            println!("installed as {LOCK} says");
            return Self { program, folder, path }.that_fails();
        }
        println!("npm ci, because node_modules is not what {LOCK} says");
        let mut install = process::command(npm, &folder);
        // Programs come as packages of their platform, so none needs a script to be installed.
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]);
        process::run(install.env("PATH", &path))?;
        let program = program(&folder, "forge")
            .with_context(|| format!("npm installed no forge. folder=`{}`", folder.display()))?;
        // Written last, so an interrupted installation is made again.
        fs::write(tree.root().join(INSTALLED), wanted).context("cannot write what was installed")?;
        Self { program, folder, path }.that_fails()
    }

    /// The same, once it has shown that it does not end with 0 whatever happens: every stage is judged by that.
    fn that_fails(self) -> Result<Self> {
        let mut wrong = process::command(&self.program, &self.folder);
        let ended = wrong.arg("no-such-command").output().context("cannot start forge")?.status;
        ensure!(!ended.success(), "forge ends with 0 where it fails. program=`{}`", self.program.display());
        Ok(self)
    }

    /// Another program of the same installation.
    pub(super) fn other(&self, name: &str) -> Result<PathBuf> {
        program(&self.folder, name)
            .with_context(|| format!("npm installed no {name}. folder=`{}`", self.folder.display()))
    }

    /// Itself with arguments, shown before it runs.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = process::command(&self.program, &self.folder);
        command.args(arguments).env("PATH", &self.path);
        println!("{}", process::typed(&command));
        command
    }

    /// Runs it, and passes where it ends with 0.
    pub(super) fn judge(&self, arguments: &[&str]) -> Result<Outcome> {
        process::run(&mut self.command(arguments))?;
        Ok(Outcome::Passed)
    }

    /// Runs tests of its, and counts them.
    pub(super) fn test(&self, which: &[&str], tally: &mut Tally) -> Result<Outcome> {
        counted::runner(&mut self.command(&[&["test"], which].concat()), summary::forge, tally)
    }
}

/// The program that the package of this platform holds. What npm puts under `.bin` is a script that starts it and ends with 0 whatever it says.
fn program(folder: &Path, name: &str) -> Option<PathBuf> {
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let packages = fs::read_dir(folder.join("node_modules/@foundry-rs")).ok()?;
    packages.flatten().map(|package| package.path().join("bin").join(&name)).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forge_is_the_program_of_a_platform_and_never_the_script_that_starts_it() {
        let folder = tempfile::tempdir().unwrap();
        let installed = folder.path().join("node_modules");
        assert_eq!(program(folder.path(), "forge"), None);
        let name = format!("forge{}", std::env::consts::EXE_SUFFIX);
        for place in [".bin", "@foundry-rs/forge", "@foundry-rs/anvil-linux-amd64/bin"] {
            fs::create_dir_all(installed.join(place)).unwrap();
        }
        fs::write(installed.join(".bin").join(&name), "").unwrap();
        assert_eq!(program(folder.path(), "forge"), None);
        let real = installed.join("@foundry-rs/forge-linux-amd64/bin");
        fs::create_dir_all(&real).unwrap();
        fs::write(real.join(&name), "").unwrap();
        assert_eq!(program(folder.path(), "forge"), Some(real.join(&name)));
    }
}
