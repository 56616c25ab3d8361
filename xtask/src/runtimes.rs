//! Go and Node.js, which some of the pinned programs are built or run with: the system's own, or one of a pinned version.
//!
//! Systems have them in all ages or not at all. Where the system's is missing or too old, one comes as a Python package into an
//! environment under the target folder, which takes no rights and leaves the system as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::tree::Tree;
use crate::{machine, process, python};

/// What one comes from: `package==version` as everywhere in Python.
const GO: &str = "xtask/runtimes/go.txt";
const NODE: &str = "xtask/runtimes/node.txt";

/// The oldest Node.js that the packages of programs here run on.
const NODE_MIN: Version = Version(20, 0);

/// Where Debian keeps the certificates that Go looks for.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The part of a version that counts here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

/// A Go that is at least of this version, as a command that never fetches another Go.
///
/// # Errors
/// When there is none and none can be installed.
pub fn go(tree: &Tree, min: Version) -> Result<Command> {
    let has_certificates = Path::new(CERTIFICATES).is_file() || !machine::has_program("apt-get");
    if !has_certificates {
        machine::install_debian_packages(tree.root(), &["ca-certificates"])?;
    }
    let system = machine::find_program("go").filter(|program| {
        let told = said(Command::new(program).arg("version").env("GOTOOLCHAIN", "local"));
        told.as_deref().and_then(version).is_some_and(|found| found >= min)
    });
    let program = match system {
        Some(program) => program,
        None => python::environment(tree, "tools/go", Path::new(GO))?.with_file_name("go"),
    };
    let mut go = process::command(program, tree.root());
    // Otherwise it would fetch another one where a module asks for that.
    go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=mod");
    Ok(go)
}

/// A Node.js and its installer of packages.
#[derive(Debug)]
pub struct Node {
    /// The program itself.
    pub node: PathBuf,
    /// Its npm.
    pub npm: PathBuf,
}

/// One that the packages of programs here run on.
///
/// # Errors
/// When there is none and none can be installed.
pub fn node(tree: &Tree) -> Result<Node> {
    let system = machine::find_program("node").zip(machine::find_program("npm"));
    if let Some((node, npm)) = system {
        let told = said(Command::new(&node).arg("--version"));
        if told.as_deref().and_then(version).is_some_and(|found| found >= NODE_MIN) {
            return Ok(Node { node, npm });
        }
    }
    let python = python::environment(tree, "tools/node", Path::new(NODE))?;
    // What lies beside Python is a script that starts the program. Who kills the script has not killed the program.
    let mut ask = process::command(python.with_file_name("node"), tree.root());
    let node = process::read(ask.args(["-p", "process.execPath"]))?;
    Ok(Node { node: PathBuf::from(node.trim()), npm: python.with_file_name("npm") })
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// The first version in a text such as `go version go1.26.6 linux/amd64` or `v24.19.0`.
#[must_use]
pub fn version(text: &str) -> Option<Version> {
    text.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches(|c: char| c.is_ascii_alphabetic()).split('.');
        let mut next = || -> Option<u32> {
            let digits: String = numbers.next()?.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        Some(Version(next()?, next()?))
    })
}
