//! The command line: which commands exist and what they accept.
//!
//! This enum is the closed set that documentation is held to: `tidy` fails on a page that names another
//! command. Knows nothing about what runs a command.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::contracts::Analysis;
use crate::e2e::Way;

/// The build logic of SyndDB.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything that can be judged without running the product: format, lints, licences, layers, order.
    Check,
    /// All tests, the language-neutral vectors, and the README's quick start.
    Test {
        /// Only the Rust tests, with few property cases: the inner loop.
        #[arg(long)]
        fast: bool,
    },
    /// Installs the servers that tests of remote stores start, so that plain `cargo test` finds them too.
    Servers,
    /// Builds, tests, analyses and deploys the contracts, and compares gas, interfaces, storage and code with the snapshots.
    Contracts {
        /// Write the snapshots instead of comparing them.
        #[arg(long)]
        write: bool,
        /// Run one analysis alone: it compiles what it needs for itself, in seconds.
        #[arg(long, value_name = "ANALYSIS", conflicts_with = "write")]
        only: Option<Analysis>,
        /// Plant known faults into a copy, one after the other, and fail when a stage does not notice the one that is meant for it.
        #[arg(long, conflicts_with_all = ["write", "only"])]
        planted: bool,
    },
    /// Goes one way through the whole: real processes and a real chain.
    #[command(name = "e2e")]
    E2e {
        /// Which way.
        way: Way,
    },
    /// Shows the product at work in less than a minute.
    Demo {
        /// Keep what the demo wrote in this folder instead of a temporary one.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
        /// Put the log into this store instead of a folder: `gs://bucket/prefix` and the like. What it needs to be reached is in the environment.
        #[arg(long, value_name = "URL")]
        store: Option<String>,
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
    /// Feeds random bytes to the decoders, or random applications to the capture.
    Fuzz {
        /// A decoder's fuzz target, `all` of them, or `capture`.
        target: String,
        /// Seconds per target.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Decoders run at the same time [default: 1].
        #[arg(long)]
        jobs: Option<usize>,
        /// With `capture`: where chance begins. A seed without a race repeats; where there was one, the script of what was found does.
        #[arg(long)]
        seed: Option<u64>,
        /// With `capture`: tell which branches of the capture were taken, and which never.
        #[arg(long)]
        coverage: bool,
        /// With `capture`: hunt for nothing, but do this script again that a hunt wrote down.
        #[arg(long, value_name = "FILE", conflicts_with = "seconds")]
        script: Option<PathBuf>,
    },
}

/// The names of all commands, as typed.
#[must_use]
pub fn command_names() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}
