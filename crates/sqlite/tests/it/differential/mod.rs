//! The seeded differential test: random applications on real database files, written by several processes with several versions of
//! SQLite, and a replica that must equal each of them after every few transactions.
//!
//! A seed decides the file, the schema, the transactions, who runs them and when is compared. A seed without a race repeats: what it
//! chooses depends neither on time nor on which other versions of SQLite are here, as long as these do the same with a statement. In a race
//! several processes write at once, and nobody decides who comes first; what is kept of it is the script, which says all that was done.
//!
//! Three witnesses answer: the application's database itself, by a full scan of both sides; SQLite's session extension, which records the
//! changes of single transactions in its own way; and the recorder of the embedded source, which works from inside of a transaction.
//!
//! ```text
//! harness -- events --> script (kept, as text)
//!    ^                     |
//! grammar                stage: connections, mirror, witnesses --> report
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `harness`, `script`, `stage` | chance makes events; events as text; doing them, and comparing |
//! | `hunt`, `minimise`, `found` | the fuzzer; making a find smaller; finds of the past, done again |
//! | `planted` | faults on purpose, each of which must be found |
//! | `steps` and what it names: `rows`, `changes`, `search`, `upkeep`, `race` | the grammar: row changes, DDL, FTS and R-Tree, VACUUM and the like, writers at the same time |
//! | `schemas`, `values`, `setup`, `random` | kinds of tables, values, files and connections; chance |
//! | `child`, `writer.py` | connections in other processes: this SQLite, the system's, the newest |
//! | `mirror`, `oracle`, `witness` | follows and applies; compares with the witnesses |
//! | `model`, `tables`, `report` | what the grammar knows of the database; what tables exercise; what was done |
//!
//! `cargo xtask fuzz capture --seconds 600` hunts. A mismatch is made smaller and written down as a script, with the versions of SQLite
//! that wrote: `target/fuzz-capture/<seed>.script`. `cargo xtask fuzz capture --script FILE` does one again; one with a race may need
//! several tries. To keep it, put it into `found/` with the repair, under a name that says what was wrong; every test run does it again.
//!
//! | variable | does |
//! |---|---|
//! | `SYNDDB_SEEDS=first..end`, `SYNDDB_TRANSACTIONS=count` | these seeds, so many transactions each |
//! | `SYNDDB_KEEP=folder` | copies both databases there when they differ |
//! | `SYNDDB_BUG=name` | plants only that fault |
//! | `SYNDDB_SCRIPT=file` | `found` does only that script |
//! | `SYNDDB_PYTHON_SYSTEM`, `SYNDDB_PYTHON_APSW` | Pythons with other versions of SQLite; xtask provides both |

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks for one case among many"
)]

mod changes;
mod child;
mod found;
mod harness;
mod hunt;
mod minimise;
mod mirror;
mod model;
mod oracle;
#[cfg(feature = "probes")]
mod planted;
mod race;
mod random;
mod report;
mod rows;
mod schemas;
mod script;
mod search;
mod setup;
mod stage;
mod steps;
mod tables;
mod upkeep;
mod values;
mod witness;

use std::ops::Range;

use harness::Subject;
use report::Report;

/// Features of the grammar that the default seeds together take at least three times, with or without another SQLite: they take 116 of 119.
/// One less, since what comes after a race varies a little. A new feature raises it.
const FEATURES_MIN: usize = 115;
/// Transactions of a seed, in tests and in the hunt.
const TRANSACTIONS: u64 = 50;

/// The transactions of each seed: what the environment says, or the usual.
fn transactions() -> u64 {
    std::env::var("SYNDDB_TRANSACTIONS").map_or(TRANSACTIONS, |count| count.parse().unwrap())
}

/// The seeds of one share of the usual ones, or the same share of those that the environment says.
fn seeds(share: u64, shares: u64) -> impl Iterator<Item = u64> {
    let all: Range<u64> = match std::env::var("SYNDDB_SEEDS") {
        Err(_) => 1..41,
        Ok(text) => {
            let (first, end) = text.split_once("..").unwrap();
            first.parse().unwrap()..end.parse().unwrap()
        }
    };
    all.filter(move |seed| seed % shares == share)
}

/// Runs seeds, prints what they did, and fails on the first that differs.
fn run(seeds: impl Iterator<Item = u64>, subject: Subject) -> Report {
    let mut total = Report::default();
    let mut count = 0;
    for seed in seeds {
        count += 1;
        match harness::run(seed, transactions(), subject) {
            Ok(report) => total.add(report),
            Err(mismatch) => panic!("{mismatch}"),
        }
    }
    total.print(count);
    total
}

#[test]
fn the_replica_equals_the_application_in_the_first_quarter_of_seeds() {
    run(seeds(0, 4), Subject::Replicated);
}

#[test]
fn the_replica_equals_the_application_in_the_second_quarter_of_seeds() {
    run(seeds(1, 4), Subject::Replicated);
}

#[test]
fn the_replica_equals_the_application_in_the_third_quarter_of_seeds() {
    run(seeds(2, 4), Subject::Replicated);
}

#[test]
fn the_replica_equals_the_application_in_the_last_quarter_of_seeds() {
    run(seeds(3, 4), Subject::Replicated);
}

/// A grammar whose statements fail, or that has lost a feature, would find nothing.
#[test]
fn the_grammar_exercises_what_it_says() {
    let report = run(seeds(0, 1), Subject::Bare);
    for (feature, (taken, worked)) in &report.steps {
        println!("{feature:36} {taken:6} taken {worked:6} worked");
    }
    let mut errors: Vec<_> = report.errors.iter().collect();
    errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (error, count) in errors.iter().take(40) {
        println!("{count:6} {error}");
    }
    let statements = report.statements_ok + report.statements_failed;
    assert!(
        report.statements_ok * 100 > statements * 70,
        "{} of {statements} failed",
        report.statements_failed
    );
    let taken_often = report.steps.values().filter(|(taken, _)| *taken >= 3).count();
    assert!(taken_often >= FEATURES_MIN, "only {taken_often} features were taken");
    for (feature, (taken, worked)) in &report.steps {
        let meant_to_fail = feature.starts_with("conflict") || feature.ends_with("refused");
        assert!(
            meant_to_fail || *taken < 10 || *worked * 3 > *taken,
            "{feature} worked {worked} of {taken} times"
        );
    }
}
