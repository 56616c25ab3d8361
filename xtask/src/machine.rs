//! The machine we run on: whether a person watches, and what may be installed.
//!
//! On a developer's machine a missing program is reported and its stage skipped; in CI it is an error,
//! because a skipped stage there would pass for a checked one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::stage::Outcome;

/// Programs that the tests and the demo run as any application's user would. On Debian each is the package of that name.
pub const PROGRAMS: [&str; 3] = ["sqlite3", "python3", "curl"];

/// Installs what of [`PROGRAMS`] is missing, where that may be done.
///
/// # Errors
/// In CI, when one cannot be had.
pub fn need_programs(root: &Path) -> Result<Outcome> {
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(|name| !has_program(name)).collect();
    if missing.is_empty() {
        return Ok(Outcome::Passed);
    }
    match install_debian_packages(root, &missing) {
        Ok(()) => Ok(Outcome::Passed),
        Err(cause) => without(cause),
    }
}

/// Whether this run is a CI run, by the convention all CI systems follow: `CI=true`.
#[must_use]
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Whether a program can be started from the path.
#[must_use]
pub fn has_program(name: &str) -> bool {
    find_program(name).is_some()
}

/// The program of this name that the path leads to.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Installs Debian packages, when this is root on a Debian machine.
///
/// # Errors
/// When we are not root, there is no apt-get, or apt-get fails; the text names the packages to install by
/// hand.
pub fn install_debian_packages(root: &Path, packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if !is_root() || !has_program("apt-get") {
        bail!("please install these packages, then run this again. packages=`{names}`");
    }
    println!("installing Debian packages: {names}");
    process::run(apt_get(root).arg("update"))?;
    process::run(apt_get(root).args(["install", "-y", "--no-install-recommends"]).args(packages))
        .with_context(|| format!("apt-get cannot install packages. packages=`{names}`"))
}

/// Unpacks a Debian package into a folder, without installing it: nothing of it is started, and nobody need be root where the lists of
/// packages are there.
///
/// # Errors
/// When it cannot be fetched or unpacked; the text names the package to install by hand.
pub fn unpack_debian_package(root: &Path, package: &str, folder: &Path) -> Result<()> {
    if !has_program("apt-get") || !has_program("dpkg-deb") {
        bail!("please install this package, then run this again. package=`{package}`");
    }
    println!("unpacking Debian package: {package}");
    let fetched = folder.join("fetched");
    if fetched.exists() {
        // What an interrupted run left.
        fs::remove_dir_all(&fetched).context("cannot remove what was fetched before")?;
    }
    fs::create_dir_all(&fetched).context("cannot make a folder for a package")?;
    let fetch = || process::run(apt_get(&fetched).args(["download", package]));
    if fetch().is_err() {
        process::run(apt_get(root).arg("update"))
            .context("cannot read the lists of packages; be root, or install it by hand")?;
        fetch().with_context(|| format!("apt-get cannot fetch a package. package=`{package}`"))?;
    }
    let files = fs::read_dir(&fetched)?.filter_map(|entry| Some(entry.ok()?.path()));
    let file = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb"));
    let file = file.context("apt-get fetched no package")?;
    process::run(process::command("dpkg-deb", root).arg("--extract").arg(&file).arg(folder))?;
    fs::remove_dir_all(&fetched).context("cannot remove what was fetched")
}

/// What a stage is when what it needs could not be provided: skipped for a developer, an error in CI.
///
/// # Errors
/// In CI, with the cause.
pub fn without(cause: anyhow::Error) -> Result<Outcome> {
    if is_ci() {
        return Err(cause.context("nothing may be skipped in CI"));
    }
    Ok(Outcome::Skipped(format!("{cause:#}")))
}

fn apt_get(root: &Path) -> Command {
    let mut command = process::command("apt-get", root);
    // The packages themselves matter here, not a page of unpacking messages.
    command.arg("-qq").env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    command
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
