//! Children: how they are started, shown and judged.
//!
//! Every child has its stdin closed, so nothing can wait for an answer, and starts in the repository's root.
//! Knows nothing about which programs exist.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tree::Tree;

/// A child in `folder`, with stdin closed and free of what `cargo run` told us about ourselves.
///
/// `cargo run` exports `CARGO_PKG_*`, `CARGO_MANIFEST_*` and others of ours. Build scripts that watch those
/// would be rerun each time a developer alternates between `cargo test` and `cargo xtask test`.
#[must_use]
pub fn command(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if ours.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// The cargo that runs us, or the one on the path, building into the tree's own target folder.
#[must_use]
pub fn cargo(tree: &Tree) -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), tree.root());
    cargo.env("CARGO_TARGET_DIR", tree.target());
    cargo
}

/// An example of one of our crates; the caller adds its arguments.
///
/// No package is named: cargo then takes the features of the whole workspace, as the tests do, and what one of
/// both built the other need not build again.
pub fn example(tree: &Tree, name: &str) -> Command {
    let mut example = cargo(tree);
    example.args(["run", "--quiet", "--locked", "--example", name, "--"]);
    example
}

/// A subcommand of a program of a package, with `cargo run`.
#[must_use]
pub fn command_of(tree: &Tree, package: &str, program: &str, subcommand: &str) -> Command {
    let mut command = cargo(tree);
    command.args(["run", "--quiet", "--locked", "--package", package, "--bin", program, "--", subcommand]);
    command
}

/// The command as a reader would type it: program and arguments, without folders of this machine before the
/// program.
#[must_use]
pub fn typed(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs a child whose output goes straight to ours.
///
/// # Errors
/// When it cannot be started or does not exit with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let line = typed(command);
    let status = command.status().with_context(|| format!("cannot start. command=`{line}`"))?;
    ensure!(status.success(), "the command failed. command=`{line}` {status}");
    Ok(())
}

/// Runs a child and returns its stdout; its stderr goes to ours.
///
/// # Errors
/// When it cannot be started, does not exit with 0, or writes something else than UTF-8.
pub fn read(command: &mut Command) -> Result<String> {
    let line = typed(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start. command=`{line}`"))?;
    ensure!(output.status.success(), "the command failed. command=`{line}` {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("the output is not UTF-8. command=`{line}`"))
}

/// Runs a child, passes its stdout through as it comes, and shows each finished line to `on_line`.
///
/// Bytes are passed on as they are read, not line by line, because runners print progress without line ends.
///
/// # Errors
/// When it cannot be started or its output cannot be read. A non-zero exit is the caller's to judge.
pub fn stream(command: &mut Command, on_line: impl FnMut(&str)) -> Result<ExitStatus> {
    stream_to(command, &mut std::io::stdout().lock(), on_line)
}

/// Like [`stream`], with another place for what comes through.
///
/// # Errors
/// Those of [`stream`].
pub fn stream_to(
    command: &mut Command,
    through: &mut impl Write,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus> {
    let line = typed(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start. command=`{line}`"))?;
    let mut output = child.stdout.take().context("the child has no stdout although one was asked for")?;
    let mut pending = Vec::new();
    let mut chunk = [0_u8; 8192];
    loop {
        let size = output.read(&mut chunk).with_context(|| format!("cannot read. command=`{line}`"))?;
        if size == 0 {
            break;
        }
        let bytes = &chunk[..size];
        through.write_all(bytes)?;
        through.flush()?;
        pending.extend_from_slice(bytes);
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            let rest = pending.split_off(end + 1);
            on_line(String::from_utf8_lossy(&pending).trim_end());
            pending = rest;
        }
    }
    if !pending.is_empty() {
        on_line(String::from_utf8_lossy(&pending).trim_end());
    }
    child.wait().with_context(|| format!("cannot wait. command=`{line}`"))
}
