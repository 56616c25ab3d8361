//! The programs of the demo: the command, the sqlite3 shell, Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// The command.
pub(crate) struct Synddb(PathBuf);

impl Synddb {
    pub(crate) const fn new(program: PathBuf) -> Self {
        Self(program)
    }

    pub(crate) fn command(&self) -> Command {
        Command::new(&self.0)
    }

    /// Runs it, and returns what it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String> {
        run(self.command().args(arguments))
    }

    /// Waits until the replica holds everything that is committed now.
    pub(crate) fn wait(&self, app: &Path) -> Result<()> {
        self.wait_for(app, "60s").map(|told| print!("  synddb wait: {told}"))
    }

    pub(crate) fn wait_for(&self, app: &Path, timeout: &str) -> Result<String> {
        let mut wait = self.command();
        wait.arg("wait").arg(app).args(["--applied", "--timeout", timeout]);
        run(wait.stderr(Stdio::null()))
    }
}

/// Runs SQL in the sqlite3 shell, which stops at the first error.
pub(crate) fn shell(database: &Path, sql: &str) -> Result<String> {
    let mut shell = Command::new("sqlite3");
    shell.args(["-init", "/dev/null", "-batch", "-bail", "-cmd", ".timeout 30000"]).arg(database).arg(sql);
    run(shell.stderr(Stdio::inherit()))
}

/// Runs a Python program.
pub(crate) fn python(program: &str, arguments: &[&str]) -> Result<String> {
    run(Command::new("python3").args(["-c", program]).args(arguments))
}

fn run(command: &mut Command) -> Result<String> {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| {
        format!("cannot start `{name}`; on Debian: apt-get install sqlite3 python3; or run `cargo xtask demo` as root")
    })?;
    ensure!(
        output.status.success(),
        "`{name}` failed. {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Copies a folder of plain files.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
