//! The command line: which commands exist and what they accept.
//!
//! This enum is the closed set that documentation is held to: `tidy` fails on a page that names another
//! command. Knows nothing about how a command does its work.

use std::path::PathBuf;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::tree::Tree;
use crate::{check, codegen, demo, fuzz, layers, test, tidy};

/// How a command that ran to its end judges the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Passed,
    /// Something is wrong, and was printed.
    Failed,
}

/// The build logic of SyndDB.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything that can be judged without running the product: format, lints, licences, layers, order.
    Check,
    /// All tests, the language-neutral vectors, and the README's quick start.
    Test {
        /// Only the Rust tests, with few property cases: the inner loop.
        #[arg(long)]
        fast: bool,
    },
    /// Shows the product at work in less than a minute.
    Demo {
        /// Keep what the demo wrote in this folder instead of a temporary one.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Compares the dependencies between crates with crates/layers.toml.
    Layers,
    /// Checks the order of the tree: invariants and their tests, names, sizes, links, the lock file.
    Tidy,
    /// Writes the generated files: spec/vectors/*.json and crates/README.md.
    Codegen {
        /// Write nothing; fail if a file on disk is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Feeds random bytes to the decoders.
    Fuzz {
        /// A fuzz target, or `all`.
        target: String,
        /// Seconds per target.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Targets run at the same time.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
}

impl Cli {
    /// Runs the command on the repository this program was built from.
    ///
    /// # Errors
    /// When the command could not come to a verdict.
    pub fn run(self) -> Result<Verdict> {
        let tree = Tree::here();
        match self.command {
            Command::Check => check::run(&tree),
            Command::Test { fast } => test::run(&tree, fast),
            Command::Demo { keep } => demo::run(&tree, keep.as_deref()),
            Command::Layers => report("layers", &layers::problems(&tree)?),
            Command::Tidy => report("tidy", &tidy::problems(&tree)?),
            Command::Codegen { check: true } => report("codegen", &codegen::problems(&tree)?),
            Command::Codegen { check: false } => codegen::write(&tree),
            Command::Fuzz { target, seconds, jobs } => fuzz::run(&tree, &target, seconds, jobs),
        }
    }
}

/// The names of all commands, as typed.
#[must_use]
pub fn command_names() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// Prints the problems found, one line each.
fn report(command: &str, problems: &[String]) -> Result<Verdict> {
    for problem in problems {
        println!("{problem}");
    }
    if problems.is_empty() {
        println!("{command}: in order");
        return Ok(Verdict::Passed);
    }
    println!("{command}: {} to put right", problems.len());
    Ok(Verdict::Failed)
}
