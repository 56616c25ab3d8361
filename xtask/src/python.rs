//! Pythons: the system's own, and virtual environments under the target folder, each with exactly what a `requirements.txt` pins.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tree::Tree;
use crate::{machine, process};

/// What the Rust tests that run Python programs need.
const RUST_TESTS: &str = "crates/sqlite/tests/requirements.txt";

/// What the tests need that hold a service against its OpenAPI document.
const SCHEMATHESIS: &str = "tests/servers/schemathesis/requirements.txt";

/// The Pythons that the Rust tests run as an application's user would.
#[derive(Debug, Clone)]
pub struct Pythons {
    /// One with APSW, which brings an SQLite of its own.
    apsw: PathBuf,
    /// One with schemathesis.
    schemathesis: PathBuf,
    /// The system's, whose `sqlite3` uses the system's SQLite.
    system: PathBuf,
}

impl Pythons {
    /// Finds or makes them.
    ///
    /// # Errors
    /// When there is no Python, or the packages cannot be installed.
    pub fn provide(tree: &Tree) -> Result<Self> {
        let apsw = environment(tree, "venv-apsw", Path::new(RUST_TESTS))?;
        let schemathesis = environment(tree, "venv-schemathesis", Path::new(SCHEMATHESIS))?;
        let system = machine::find_program("python3").context("there is no python3 on the path")?;
        Ok(Self { apsw, schemathesis, system })
    }

    /// Tells a child where they are.
    pub fn tell(&self, command: &mut Command) {
        command.env("SYNDDB_PYTHON_APSW", &self.apsw).env("SYNDDB_PYTHON_SYSTEM", &self.system);
        command.env("SYNDDB_SCHEMATHESIS", &self.schemathesis);
    }
}

/// The Python of a virtual environment that holds exactly what the requirements, a file named from the root, ask for.
///
/// # Errors
/// When there is no Python, or the packages cannot be installed.
pub fn environment(tree: &Tree, name: &str, requirements: &Path) -> Result<PathBuf> {
    let wanted = tree.read(requirements)?;
    let folder = tree.target().join(name);
    let python = folder.join("bin").join("python");
    let installed = folder.join("requirements.txt");
    let starts = Command::new(&python).arg("--version").output().is_ok_and(|answer| answer.status.success());
    if starts && std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    make_environment(tree, &folder)?;
    let mut pip = process::command(&python, tree.root());
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    process::run(pip.arg(tree.root().join(requirements)))?;
    // Written last, so an interrupted installation is made again.
    std::fs::write(&installed, wanted)
        .with_context(|| format!("cannot write. file=`{}`", installed.display()))?;
    Ok(python)
}

/// Makes an empty environment. Debian ships Python without the part that can do this, so it may have to be
/// installed.
fn make_environment(tree: &Tree, folder: &Path) -> Result<()> {
    let make = || {
        let mut command = process::command("python3", tree.root());
        process::run(command.args(["-m", "venv", "--clear"]).arg(folder))
    };
    if machine::has_program("python3") && make().is_ok() {
        return Ok(());
    }
    machine::install_debian_packages(tree.root(), &["python3", "python3-venv"])?;
    make()
}
