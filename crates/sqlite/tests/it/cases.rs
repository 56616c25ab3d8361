//! Cases that are easy to get wrong, one after the other: after each line source, follower, applier and replica agree.
//!
//! `cases.txt` holds them: `== name`, then `setup:` lines that run before the follower attaches, then lines that are captured and
//! applied, one poll each. A line that begins with `@nopoll` is captured with the next one; one that begins with `@second` runs on
//! another connection.

use std::error::Error;

use synddb_sqlite::capture::Options;
use synddb_sqlite::rusqlite;
use synddb_sqlite::rusqlite::config::DbConfig;

use super::mirrored::{Mirrored, Outcome};

const CASES: &str = include_str!("cases.txt");

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) setup: String,
    pub(crate) steps: Vec<String>,
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in CASES.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case { name, setup: String::new(), steps: Vec::new() });
            continue;
        }
        let case = cases.last_mut().expect("a case begins with its name");
        match line.strip_prefix("setup: ") {
            Some(setup) => case.setup.push_str(setup),
            None => case.steps.push(line.replace("\\n", "\n")),
        }
    }
    cases
}

fn run(case: &Case) -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("app.db");
    let writer = rusqlite::Connection::open(&path)?;
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, true)?;
    writer.execute_batch(&case.setup)?;
    let mut mirrored = Mirrored::attach(&path, Options::default())?;
    let second = rusqlite::Connection::open(&path)?;
    for step in &case.steps {
        let (sql, polled) = step.strip_prefix("@nopoll ").map_or((step.as_str(), true), |sql| (sql, false));
        let (sql, connection) = sql.strip_prefix("@second ").map_or((sql, &writer), |sql| (sql, &second));
        connection.execute_batch(sql)?;
        if polled {
            let followed: Result<_, Box<dyn Error>> = mirrored.follow();
            followed.and_then(|_| mirrored.agrees()).map_err(|error| format!("{sql}: {error}"))?;
        }
    }
    Ok(())
}

/// Runs something on every case, and names those that fail.
pub(crate) fn assert_every_case(run: impl Fn(&Case) -> Outcome) {
    let cases = cases();
    assert!(cases.len() > 40);
    let failed =
        cases.iter().filter_map(|case| run(case).err().map(|error| format!("{}: {error}", case.name)));
    let failed: Vec<String> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_case_agrees_after_every_line() {
    assert_every_case(run);
}
