//! `synddb rules`: rules are checked and tried before a validator has them, and violations are listed and resolved.

mod resolve;
mod test;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use synddb_sqlite::rules::{Bounds, Rules, open};
use synddb_validator::rules::{Resolution, RulesFile, violations_of};

use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};
use crate::refusal::Refusal;

/// What is done with rules.
#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Says whether a file of rules can be used: all that is wrong with it, also over the tables of a database. Exit code 2 when something is.
    Check(CheckArguments),
    /// Evaluates rules over a database, and changes nothing. Exit code 1 when one does not hold.
    ///
    /// Without --before every row counts as new, as for a validator that has a rule for the first time. With it, only the rows in which the two differ count,
    /// as in a commit that made one of the other.
    Test(TestArguments),
    /// Lists what rules found in a validator's replica, the open ones first.
    List(ListArguments),
    /// Resolves a violation, so that a validator endorses again what lies behind it.
    ///
    /// Leaves what was decided beside the replica, for a validator that runs to take in within seconds, and for any other one when it starts. Who may write
    /// there needs no other credential. It stays listed, with the reason.
    Resolve(ResolveArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The file of rules.
    rules: PathBuf,
    /// A database whose tables the rules are to be evaluated over: a replica, or the application's.
    database: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// The file of rules.
    rules: PathBuf,
    /// The database: a replica, or the application's.
    database: PathBuf,
    /// An earlier state of the database, in a file of its own.
    #[arg(long, value_name = "DATABASE")]
    before: Option<PathBuf>,
    /// How long one rule may take.
    #[arg(long, default_value = "60s")]
    time_max: humantime::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// The replica.
    replica: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveArguments {
    /// The replica.
    replica: PathBuf,
    /// The number of the violation, as `rules list` and `GET /refusals` tell it.
    id: u64,
    /// Why it is resolved. It is kept, served and signed.
    #[arg(long, value_name = "REASON")]
    because: String,
    /// How long a running validator is waited for.
    #[arg(long, default_value = "60s")]
    timeout: humantime::Duration,
}

pub(crate) fn run(command: &RulesCommand, output: Output) -> Result<Exit, CommandError> {
    match command {
        RulesCommand::Check(arguments) => check(arguments, output),
        RulesCommand::Test(arguments) => test::run(arguments, output),
        RulesCommand::List(arguments) => list(arguments, output),
        RulesCommand::Resolve(arguments) => resolve::run(arguments, output),
    }
}

fn check(arguments: &CheckArguments, output: Output) -> Result<Exit, CommandError> {
    let texts = RulesFile::read(&arguments.rules)?.rules;
    let count = texts.len() as u64;
    let mut problems = Vec::new();
    if let Some(database) = &arguments.database {
        let connection = open(&present(database)?)?;
        problems = Rules::new(texts, Bounds::default()).problems(&connection)?;
    }
    for problem in &problems {
        output.tell(&Event::RuleProblem { rule: problem.rule.clone(), problem: problem.what.clone() })?;
    }
    let over_tables = arguments.database.is_some();
    output.tell(&Event::RulesChecked { rules: count, problems: problems.len() as u64, over_tables })?;
    Ok(if problems.is_empty() { Exit::Done } else { Exit::Refused })
}

fn list(arguments: &ListArguments, output: Output) -> Result<Exit, CommandError> {
    let kept = violations_of(&present(&arguments.replica)?)?;
    let open = kept.iter().filter(|kept| kept.resolved.is_none()).count() as u64;
    for kept in kept {
        let (id, rule) = (kept.id, kept.violation.rule.clone());
        let waits = kept.resolved.is_none().then(|| Resolution::waiting(&arguments.replica, id)).flatten();
        output.tell(&Event::Violation(Box::new(kept.into())))?;
        if let Some(file) = waits {
            output.tell(&Event::ResolutionLeft { id, rule, file: file.display().to_string() })?;
        }
    }
    output.tell(&Event::ViolationsOpen { open })?;
    Ok(Exit::Done)
}

/// A file that is there.
fn present(file: &std::path::Path) -> Result<PathBuf, Refusal> {
    if file.is_file() { Ok(file.to_owned()) } else { Err(Refusal::Missing { file: file.to_owned() }) }
}
