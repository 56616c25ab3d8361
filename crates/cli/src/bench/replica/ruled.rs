//! What rules cost: a validator catches up with the log of an order book, with ten rules and without any, in turn.

use std::path::Path;

use serde::{Deserialize, Serialize};
use synddb_sqlite::compare::first_difference;
use synddb_validator::rules::violations_of;

use super::catch_up::{Process, catch_up, remove};
use super::stored::Stored;
use crate::bench::pairs::{median, number, ratio};
use crate::bench::writer::Workload;
use crate::bench::{Bench, BenchError, Ratio};
use crate::exit::CommandError;

/// The rules, as a team that runs an order book would write them. All of them hold, and each transaction touches the tables of all of them.
const RULES: &str = include_str!("rules.toml");

/// What rules cost a validator that catches up. Medians over the runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ruled {
    /// The scenario's name.
    pub scenario: String,
    /// Transactions in the log.
    pub transactions: u64,
    /// Rows that they inserted, updated or deleted.
    pub row_changes: u64,
    /// How many rules there are. Each is evaluated for each transaction.
    pub rules: u64,
    /// Row changes a second without rules.
    pub plain_per_second: f64,
    /// Row changes a second with them.
    pub ruled_per_second: f64,
    /// With them through without, of each pair.
    pub ratio: Ratio,
    /// Processor time that a rule takes for one transaction, in microseconds.
    pub cpu_us_per_rule: f64,
}

/// Measures it.
pub(super) fn run(bench: &Bench, scenario: &str) -> Result<Ruled, BenchError> {
    let stored = Stored::make(bench, scenario, Workload::Orders)?;
    let file = stored.room.path().join("rules.toml");
    std::fs::write(&file, RULES).map_err(BenchError::system("write the rules"))?;
    let (plain, ruled) = (stored.room.path().join("plain.db"), stored.room.path().join("ruled.db"));
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for pair in 0..bench.pairs {
        let mut sides = [false, true];
        if pair % 2 == 1 {
            sides.reverse();
        }
        for has_rules in sides {
            bench.go_on()?;
            let what = if has_rules { "with rules" } else { "without" };
            bench.progress.set(format!("{scenario}, pair {} of {}, {what}", pair + 1, bench.pairs));
            bench.sync()?;
            let (replica, rules) = if has_rules { (&ruled, Some(file.as_path())) } else { (&plain, None) };
            remove(replica)?;
            let run = catch_up(bench, &stored, replica, Process::Validator { rules })?;
            if has_rules { with.push(run) } else { without.push(run) }
        }
    }
    holds(scenario, &ruled)?;
    for replica in [&plain, &ruled] {
        if let Some(difference) = first_difference(replica, &stored.database).map_err(CommandError::from)? {
            let difference = difference.to_string();
            return Err(BenchError::Different { scenario: scenario.to_owned(), difference });
        }
    }
    let (rows, transactions) = (number(stored.row_changes), number(stored.transactions));
    let rules = RULES.matches("[[rule]]").count() as u64;
    let ratios = with.iter().zip(&without).map(|(with, without)| without.seconds / with.seconds);
    let cpu = |with: f64, without: f64| (with - without) * 1e6 / transactions / number(rules);
    Ok(Ruled {
        scenario: scenario.to_owned(),
        transactions: stored.transactions,
        row_changes: stored.row_changes,
        rules,
        plain_per_second: median(without.iter().map(|run| rows / run.seconds)),
        ruled_per_second: median(with.iter().map(|run| rows / run.seconds)),
        ratio: ratio(ratios.collect()),
        cpu_us_per_rule: median(
            with.iter().zip(&without).map(|(with, without)| cpu(with.cpu_seconds, without.cpu_seconds)),
        ),
    })
}

/// Every rule was evaluated, and holds: what cannot be evaluated is a violation.
fn holds(scenario: &str, replica: &Path) -> Result<(), BenchError> {
    let found = violations_of(replica).map_err(CommandError::from)?;
    match found.first() {
        None => Ok(()),
        Some(kept) => {
            let difference = format!("{}: {}", kept.violation.rule, kept.violation.detail);
            Err(BenchError::Different { scenario: scenario.to_owned(), difference })
        }
    }
}
