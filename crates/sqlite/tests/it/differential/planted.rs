//! A test that finds nothing may be a test that cannot find anything. So faults are put into capture on purpose, one at a time, and
//! each must be found.
//!
//! A child process plants the fault, because it is global and may end in a panic, and runs seed after seed until one differs. Then
//! the same seed must pass without the fault.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use synddb_sqlite::capture::probes::planted::{Bug, plant};

use super::harness::{self, Subject};
use super::{TRANSACTIONS, transactions};

/// The fault that a child plants. Without it, this binary is the parent.
const BUG: &str = "SYNDDB_SQLITE_TEST_BUG";
/// Begins what a child prints before each seed.
const BEGIN: &str = "begin ";
/// Begins what a child prints when a seed differs.
const FOUND: &str = "found ";
/// How long one fault may stay hidden.
const PATIENCE: Duration = Duration::from_secs(60);
/// The seeds of this test begin here.
const FIRST_SEED: u64 = 1;

/// How a child found a fault.
struct Find {
    seed: u64,
    transactions: u64,
    how: String,
}

#[test]
fn every_planted_bug_is_found() {
    if std::env::var(BUG).is_ok() {
        return;
    }
    let mut hidden = Vec::new();
    let chosen = std::env::var("SYNDDB_BUG").unwrap_or_default();
    for bug in Bug::ALL.into_iter().filter(|bug| format!("{bug:?}").contains(&chosen)) {
        let start = Instant::now();
        let find = hunt(bug);
        let seconds = start.elapsed().as_secs_f64();
        match find {
            None => hidden.push(bug),
            Some(find) => {
                println!(
                    "{bug:?}: found by seed {} after {} transactions, {seconds:.1} s: {}",
                    find.seed, find.transactions, find.how
                );
                let clean = harness::run(find.seed, transactions(), Subject::Replicated);
                assert!(
                    clean.is_ok(),
                    "seed {} fails without {bug:?} too: {}",
                    find.seed,
                    clean.unwrap_err()
                );
            }
        }
    }
    assert!(hidden.is_empty(), "not found within {PATIENCE:?}: {hidden:?}");
}

fn hunt(bug: Bug) -> Option<Find> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["differential::planted::plants_its_bug", "--exact", "--nocapture", "--test-threads=1"])
        .env(BUG, format!("{bug:?}"))
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = told.lines().find_map(|line| line.strip_prefix(FOUND)) {
        let mut words = line.splitn(3, ' ');
        let mut next = || words.next().unwrap_or_default().to_owned();
        return Some(Find {
            seed: next().parse().unwrap(),
            transactions: next().parse().unwrap(),
            how: next(),
        });
    }
    if output.status.success() {
        return None;
    }
    // A panic inside the run: of the seed that had just begun.
    let begun: Vec<u64> =
        told.lines().filter_map(|line| line.strip_prefix(BEGIN)).map(|seed| seed.parse().unwrap()).collect();
    let seed = *begun.last().expect("the child ended before it began");
    let transactions = (seed - FIRST_SEED) * TRANSACTIONS;
    Some(Find { seed, transactions, how: "a panic".to_owned() })
}

/// What a child does; in the parent, nothing.
#[test]
fn plants_its_bug() {
    let Ok(name) = std::env::var(BUG) else { return };
    let bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name).unwrap();
    plant(Some(bug));
    let start = Instant::now();
    let mut total = 0;
    let mut seed = FIRST_SEED;
    while start.elapsed() < PATIENCE {
        println!("\n{BEGIN}{seed}");
        std::io::stdout().flush().unwrap();
        match harness::run(seed, transactions(), Subject::Replicated) {
            Ok(report) => total += report.transactions,
            Err(mismatch) => {
                // What differs without the fault too was not found because of it.
                plant(None);
                let fails_anyway = harness::run(seed, transactions(), Subject::Replicated).is_err();
                plant(Some(bug));
                if fails_anyway {
                    println!("seed {seed} differs without {bug:?} too");
                    total += mismatch.transaction;
                    seed += 1;
                    continue;
                }
                let what: String = mismatch.what.chars().take(160).collect();
                println!("\n{FOUND}{seed} {} {}", total + mismatch.transaction, what.replace('\n', " "));
                return;
            }
        }
        seed += 1;
    }
}
