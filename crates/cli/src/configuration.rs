//! `synddb config` and what is generated: what the processes can be told and asked, and what a configuration comes to.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use synddb_service::config::{self, Setting};
use synddb_service::process::ProcessError;
use synddb_service::telemetry;

use crate::arguments::Arguments;
use crate::exit::{CommandError, Exit};
use crate::follow::{self, Settings};
use crate::output::{Event, Output, Process};
use crate::process;
use crate::refusal::{Refusal, check_database};
use crate::relayer;
use crate::services::{SEQUENCER, VALIDATOR};

#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    asked: Asked,
}

#[derive(Debug, Subcommand)]
enum Asked {
    /// Prints the configuration file in which every key has its default and says what it means.
    Default {
        /// Whose.
        of: Role,
    },
    /// Says what a configuration comes to, where each value is from, and whether the process could begin as it says. Exit code 2 when not.
    ///
    /// Nothing is made, locked or sent, so a process that runs is not disturbed. Whether the store and the sequencers answer is not asked.
    Check {
        /// Whose.
        of: Role,
        /// The file, in TOML; without one, the environment alone.
        file: Option<PathBuf>,
    },
}

/// A process that has a configuration.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// `synddb follow`.
    Agent,
    /// `synddb sequencer`.
    Sequencer,
    /// `synddb validator`, also as a read replica.
    Validator,
    /// `synddb relayer`.
    Relayer,
}

impl From<Role> for Process {
    fn from(role: Role) -> Self {
        match role {
            Role::Agent => Self::Agent,
            Role::Sequencer => Self::Sequencer,
            Role::Validator => Self::Validator,
            Role::Relayer => Self::Relayer,
        }
    }
}

impl Role {
    const ALL: [Self; 4] = [Self::Agent, Self::Sequencer, Self::Validator, Self::Relayer];

    const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Sequencer => "sequencer",
            Self::Validator => "validator",
            Self::Relayer => "relayer",
        }
    }

    fn default_file(self) -> String {
        match self {
            Self::Agent => config::default_file::<Settings>("an agent", follow::PREFIX),
            Self::Sequencer => config::default_file::<synddb_sequencer::Config>("a sequencer", SEQUENCER),
            Self::Validator => config::default_file::<synddb_validator::Config>("a validator", VALIDATOR),
            Self::Relayer => config::default_file::<synddb_relayer::Config>("a relayer", relayer::PREFIX),
        }
    }

    fn reference_page(self) -> String {
        match self {
            Self::Agent => config::reference_page::<Settings>("an agent", follow::PREFIX),
            Self::Sequencer => config::reference_page::<synddb_sequencer::Config>("a sequencer", SEQUENCER),
            Self::Validator => config::reference_page::<synddb_validator::Config>("a validator", VALIDATOR),
            Self::Relayer => config::reference_page::<synddb_relayer::Config>("a relayer", relayer::PREFIX),
        }
    }

    fn openapi(self) -> Vec<u8> {
        match self {
            Self::Agent => follow::openapi(),
            Self::Sequencer => synddb_sequencer::openapi(),
            Self::Validator => synddb_validator::openapi(),
            Self::Relayer => synddb_relayer::openapi(),
        }
    }
}

pub(crate) fn run(arguments: &ConfigArguments, output: Output) -> Result<Exit, CommandError> {
    match &arguments.asked {
        Asked::Default { of } => {
            output.tell(&Event::Configuration { process: (*of).into(), text: of.default_file() })?;
        }
        Asked::Check { of, file } => {
            check(*of, file.as_deref(), output)?;
            output.tell(&Event::Configured { process: (*of).into() })?;
        }
    }
    Ok(Exit::Done)
}

fn check(of: Role, file: Option<&Path>, output: Output) -> Result<(), CommandError> {
    let say = |settings: Vec<Setting>| {
        settings.into_iter().try_for_each(|setting| output.tell(&Event::Setting(setting)))
    };
    match of {
        Role::Agent => {
            let (agent, settings) = config::settings::<Settings>(file, follow::PREFIX)?;
            say(settings)?;
            check_telemetry(&agent.telemetry())?;
            agent.config()?;
            check_database(agent.database()?)?;
        }
        Role::Sequencer => {
            let (sequencer, settings) = config::settings::<synddb_sequencer::Config>(file, SEQUENCER)?;
            say(settings)?;
            check_telemetry(&sequencer.telemetry)?;
            synddb_sequencer::check(&sequencer)?;
        }
        Role::Validator => {
            let (validator, settings) = config::settings::<synddb_validator::Config>(file, VALIDATOR)?;
            say(settings)?;
            check_telemetry(&validator.telemetry)?;
            process::ask(async { Ok(synddb_validator::check(&validator).await?) })?;
        }
        Role::Relayer => {
            let (told, settings) = config::settings::<synddb_relayer::Config>(file, relayer::PREFIX)?;
            say(settings)?;
            check_telemetry(&told.telemetry)?;
            synddb_relayer::check(&told)?;
        }
    }
    Ok(())
}

fn check_telemetry(told: &telemetry::Settings) -> Result<(), CommandError> {
    Ok(telemetry::check(told, process::DEFAULTS).map_err(ProcessError::from)?)
}

/// What every command says of itself when it is asked with `--help`.
fn command_line() -> String {
    let mut page = "# Command line\n\nWritten by `synddb reference`; do not edit.\n".to_owned();
    let mut command = Arguments::command_line();
    command.build();
    add_help(&mut command, &mut page);
    page
}

fn add_help(command: &mut clap::Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or_default().to_owned();
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim()).ok();
    let shown = command.get_subcommands_mut().filter(|inner| !inner.is_hide_set());
    shown.filter(|inner| inner.get_name() != "help").for_each(|inner| add_help(inner, page));
}

/// What stands above the tables of the reference.
const HEAD: &str = "# Configuration\n\nWritten by `synddb reference`; do not edit.\n\nEach process has one configuration: defaults, a file in TOML, the environment and the command line, of \
    which the later go before the earlier. A key that nobody knows is refused. `synddb config default ROLE` prints the file of the defaults, and `synddb config check ROLE \
    FILE` says what a configuration comes to, where each value is from, and whether the process could begin as it says. Secrets are names of files, and never values.\n";

/// Writes everything that is generated from what the processes can be told.
pub(crate) fn write_reference(folder: &Path) -> Result<Exit, CommandError> {
    let pages: Vec<String> = Role::ALL.iter().map(|role| role.reference_page()).collect();
    write(folder, "configuration.md", format!("{HEAD}\n{}", pages.join("\n")))?;
    write(folder, "command-line.md", command_line())?;
    for role in Role::ALL {
        write(folder, &format!("{}.toml", role.name()), role.default_file())?;
    }
    Ok(Exit::Done)
}

/// Writes what the processes say of their paths, as each serves it.
pub(crate) fn write_openapi(folder: &Path) -> Result<Exit, CommandError> {
    for role in Role::ALL {
        write(folder, &format!("{}.json", role.name()), role.openapi())?;
    }
    Ok(Exit::Done)
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> Result<(), Refusal> {
    let file = folder.join(name);
    fs::write(&file, content).map_err(|source| Refusal::NoRoom { folder: file, source })
}
