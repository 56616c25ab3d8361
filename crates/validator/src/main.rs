//! `synddb-validator [CONFIG]`: a validator or read replica as a process of its own.

use std::process::ExitCode;

use synddb_validator::program::{self, NoOwnRules};

fn main() -> ExitCode {
    program::main::<NoOwnRules>()
}
