//! The seeded differential test: random applications on real database files, and a replica that must equal each of them after every
//! few transactions.
//!
//! A seed decides everything: the file, the schema, the transactions, who runs them and when is compared. Two oracles answer: the
//! application's database itself, by a full scan of both sides, and SQLite's session extension, which records the changes of
//! single transactions in its own way.
//!
//! A new operation is a maker in `rows` (what changes rows), `changes` (DDL), `search` (FTS, R-Tree) or `upkeep` (VACUUM, checkpoints, header
//! values), and its weight in `steps`. New kinds of tables and indexes are in `schemas`, values in `values`, files and connections in
//! `setup`. `harness` runs a seed, `child` is the second process, `mirror` follows and applies, `oracle` is the session extension.
//!
//! `SYNDDB_SEEDS=first..end` and `SYNDDB_TRANSACTIONS=count` let it hunt longer:
//! `SYNDDB_SEEDS=1000..2000 SYNDDB_TRANSACTIONS=200 cargo test -p synddb-sqlite differential -- --nocapture`.
//! `SYNDDB_KEEP=folder` copies both databases there when they differ; `SYNDDB_BUG=name` plants only that fault.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks for one case among many"
)]

mod changes;
mod child;
mod harness;
mod mirror;
mod model;
mod oracle;
#[cfg(feature = "planted-bugs")]
mod planted;
mod random;
mod rows;
mod schemas;
mod search;
mod setup;
mod steps;
mod upkeep;
mod values;

use std::ops::Range;

use harness::{Report, Subject};

/// Features that every run of the default seeds takes at least three times. A new one raises it.
const FEATURES_MIN: usize = 90;
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
    print(count, &total);
    total
}

fn print(seeds: u64, report: &Report) {
    let statements = report.statements_ok + report.statements_failed;
    println!(
        "{seeds} seeds, {} transactions ({} by another process, {} with schema changes, {} rolled back), {} commits, \
         {statements} statements ({} failed), {} row changes captured, {} pieces, {} polls inside transactions, \
         {} commits with {} row changes confirmed by a session",
        report.transactions,
        report.by_other_process,
        report.with_ddl,
        report.rolled_back,
        report.commits,
        report.statements_failed,
        report.rows_captured,
        report.pieces,
        report.polls_inside_transactions,
        report.session_commits,
        report.session_rows,
    );
    for (reason, count) in &report.session_skipped {
        println!("  no session oracle {count} times: {reason}");
    }
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
    for (feature, (taken, worked)) in &report.features {
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
    let taken_often = report.features.values().filter(|(taken, _)| *taken >= 3).count();
    assert!(taken_often >= FEATURES_MIN, "only {taken_often} features were taken");
    for (feature, (taken, worked)) in &report.features {
        let meant_to_fail = feature.starts_with("conflict");
        assert!(
            meant_to_fail || *taken < 10 || *worked * 3 > *taken,
            "{feature} worked {worked} of {taken} times"
        );
    }
}
