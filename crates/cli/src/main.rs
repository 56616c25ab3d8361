//! The `synddb` command: reads the command line, runs what it names, and says how it ended.

use std::process::ExitCode;

use clap::Parser as _;
use synddb_cli::{Arguments, Event, Output};

fn main() -> ExitCode {
    // Before any thread is there. A missing file is no error, and one that cannot be read shows in what it does not set.
    dotenvy::dotenv().ok();
    let arguments = Arguments::parse();
    let output = Output::new(arguments.is_json());
    match arguments.run(output) {
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
