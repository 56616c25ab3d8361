//! The `cargo xtask` program: reads the command line, runs one command, turns its end into an exit code.
//!
//! Knows nothing about what a command does; see the library for that.

use std::process::ExitCode;

use clap::Parser;
use xtask::cli::Cli;
use xtask::verdict::Verdict;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
