//! Rules over a database, or over what makes it of an earlier one.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use synddb_sqlite::apply::ApplyError;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::query::Cell;
use synddb_sqlite::rules::{Bounds, CommitView, Finding, Judge, Rules, Why, difference, open};
use synddb_validator::rules::{Offending, RulesFile, written};

use super::{TestArguments, present};
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};

struct Trying {
    rules: Rules,
    found: Vec<Finding>,
}

impl Judge for Trying {
    fn commit(&mut self, commit: &CommitView<'_>, _: &Connection) -> Result<(), ApplyError> {
        self.found = self.rules.check(commit)?;
        Ok(())
    }
}

pub(super) fn run(arguments: &TestArguments, output: Output) -> Result<Exit, CommandError> {
    let texts = RulesFile::read(&arguments.rules)?.rules;
    let after = open(&present(&arguments.database)?)?;
    let before = arguments.before.as_ref().map(|before| present(before)).transpose()?;
    let before = before.as_deref().map(open).transpose()?;
    let scratch = tempfile::tempdir().map_err(CommandError::system("make a scratch folder"))?;
    let bounds = Bounds { time: arguments.time_max.into(), ..Bounds::default() };
    let mut violated = 0;
    for text in &texts {
        let began = Instant::now();
        let mut trying = Trying { rules: Rules::new(vec![text.clone()], bounds), found: Vec::new() };
        let watched = trying.rules.tables();
        let never = AtomicBool::new(false);
        let folder: &Path = scratch.path();
        difference(before.as_ref(), &after, watched, folder, &never, &mut trying)?;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rule = text.name.clone();
        let Some(finding) = trying.found.pop() else {
            output.tell(&Event::RuleHolds { rule, elapsed_ms })?;
            continue;
        };
        violated += 1;
        let (detail, offending) = told(finding);
        output.tell(&Event::RuleViolated { rule, detail, offending, elapsed_ms })?;
    }
    output.tell(&Event::RulesTested { rules: texts.len() as u64, violated })?;
    Ok(if violated == 0 { Exit::Done } else { Exit::Different })
}

fn told(finding: Finding) -> (String, Offending) {
    let Finding { why, columns, rows, more, .. } = finding;
    let detail = match why {
        Why::Rows => "it names these rows".to_owned(),
        Why::Unevaluated(why) => format!("it cannot be evaluated: {why}"),
        Why::TooManySteps => "it takes more instructions than it may".to_owned(),
        Why::TookTooLong => "it takes longer than it may".to_owned(),
    };
    let row = |row: Vec<Cell>| row.into_iter().map(written).collect();
    (detail, Offending { columns, rows: rows.into_iter().map(row).collect(), more })
}
