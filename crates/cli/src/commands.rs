//! Which command does what.

use crate::arguments::{Arguments, Command};
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::{
    bench, bridge, configuration, detach, dev, diff, doctor, endorsements, follow, gc, inspect, messages,
    mirror, relayer, restore, rules, services, status, token, verify, wait,
};

/// Runs what the command line asks for.
///
/// # Errors
/// [`CommandError`] when it does not come to its end.
pub fn run(arguments: &Arguments, output: Output) -> Result<Exit, CommandError> {
    match arguments.command() {
        Command::Dev(arguments) => dev::run(arguments, output),
        Command::Follow(arguments) => follow::run(arguments, output),
        Command::Pin(arguments) => follow::pin(arguments),
        Command::Sequencer(arguments) => services::sequencer(arguments, output),
        Command::Validator(arguments) => services::validator(arguments, output),
        Command::Replica(arguments) => services::replica(arguments, output),
        Command::Relayer(arguments) => relayer::run(arguments, output),
        Command::Bridge(command) => bridge::run(command, output),
        Command::Wait(arguments) => wait::wait(arguments, output),
        Command::Push(arguments) => wait::push(arguments, output),
        Command::Audit(arguments) => wait::audit(arguments, output),
        Command::Status(arguments) => status::run(arguments, output),
        Command::Detach(arguments) => detach::run(arguments, output),
        Command::Mirror(arguments) => mirror::run(arguments, output),
        Command::Diff(arguments) => diff::run(arguments, output),
        Command::Verify(arguments) => verify::run(arguments, output),
        Command::Gc(arguments) => gc::run(arguments, output),
        Command::Rules(command) => rules::run(command, output),
        Command::Endorsements(arguments) => endorsements::run(arguments, output),
        Command::InitMessages(arguments) => messages::run(arguments, output),
        Command::Restore(arguments) => restore::run(arguments, output),
        Command::Inspect(arguments) => inspect::run(arguments, output),
        Command::Token(command) => token::run(command, output),
        Command::Doctor(arguments) => doctor::run(arguments, output),
        Command::Bench(arguments) => bench::run(arguments, output),
        Command::Config(arguments) => configuration::run(arguments, output),
        Command::Reference { folder } => configuration::write_reference(folder),
        Command::Openapi { folder } => configuration::write_openapi(folder),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Arguments::command_line(), "synddb", &mut std::io::stdout());
            Ok(Exit::Done)
        }
    }
}
