//! The `synddb` command: reads the command line, runs what it names, and says how it ended.

use std::process::ExitCode;

use clap::Parser as _;
use synddb_cli::{Arguments, Event, Output};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut output = Output::new(arguments.is_json());
    match arguments.run(&mut output) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = error.exit();
            let message = synddb_cli::chain(&error);
            eprintln!("error: {message}");
            // Who closed our standard output does not read this either.
            output.say(&Event::Failed { exit: exit.code(), message }).ok();
            exit.into()
        }
    }
}
