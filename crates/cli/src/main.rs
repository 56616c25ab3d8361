//! The `synddb` command: reads the command line, runs what it names, and says how it ended.

use std::process::ExitCode;

use synddb_cli::{Arguments, ENVIRONMENT_IS_WHOLE, Event, Exit, Output};

fn main() -> ExitCode {
    // Before any thread is there, and before arguments take their values from the environment.
    if let Err(error) = read_environment() {
        eprintln!("error: the file `.env` is refused: {}", synddb_protocol::chain(&error));
        return Exit::Refused.into();
    }
    let arguments = Arguments::read();
    let output = Output::new(arguments.is_json());
    match synddb_cli::run(&arguments, output) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = error.exit();
            let message = synddb_protocol::chain(&error);
            output.complain(&message);
            // Who closed our standard output does not read this either.
            output.say(&Event::Failed { exit: exit.code(), message }).ok();
            exit.into()
        }
    }
}

/// Sets what the file `.env` of this folder says and the real environment does not.
fn read_environment() -> Result<(), dotenvy::Error> {
    if std::env::var_os(ENVIRONMENT_IS_WHOLE).is_some() {
        return Ok(());
    }
    match dotenvy::from_path(".env") {
        Err(dotenvy::Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        read => read,
    }
}
