//! Cases that are easy to get wrong, one after the other: after each line source, follower, applier and replica agree.
//!
//! `cases.txt` holds them: `== name`, then `setup:` lines that run before the follower attaches, then lines that are captured and
//! applied, one poll each. A line that begins with `@nopoll` is captured with the next one; one that begins with `@second` runs on
//! another connection.

use std::convert::Infallible;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use synddb_protocol::hash::StateHash;
use synddb_protocol::submission::Changes;
use synddb_sqlite::apply::{Applier, CommitChanges};
use synddb_sqlite::capture::{Follower, Options, Sink, WalPosition};
use synddb_sqlite::compare::first_difference;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::rusqlite::backup::Backup;
use synddb_sqlite::rusqlite::config::DbConfig;
use synddb_sqlite::state::RunningState;

const CASES: &str = include_str!("cases.txt");

/// Commits with the state after each.
#[derive(Default)]
struct Collected(Vec<(Changes, StateHash)>);

impl Sink for Collected {
    type Error = Infallible;

    fn piece(&mut self, _: Changes) -> Result<(), Infallible> {
        panic!("no case here is large enough for pieces")
    }

    fn commit(&mut self, changes: Changes, state: &RunningState) -> Result<(), Infallible> {
        self.0.push((changes, state.hash()));
        Ok(())
    }

    fn persist(&mut self, _: &WalPosition, _: &RunningState) -> Result<(), Infallible> {
        Ok(())
    }
}

struct Case {
    name: &'static str,
    setup: String,
    steps: Vec<String>,
}

fn cases() -> Vec<Case> {
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

type Outcome = Result<(), Box<dyn Error>>;

fn run(case: &Case) -> Outcome {
    let folder = tempfile::tempdir()?;
    let (path, replica) = (folder.path().join("app.db"), folder.path().join("replica.db"));
    let writer = rusqlite::Connection::open(&path)?;
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, true)?;
    writer.execute_batch(&case.setup)?;
    let mut follower = Follower::attach(&path, Options::default())?;
    let mut copy = rusqlite::Connection::open(&replica)?;
    Backup::new(follower.reader().sqlite(), &mut copy)?.run_to_completion(1000, Duration::ZERO, None)?;
    drop(copy);
    let mut applier = Applier::open(&replica)?;
    let second = rusqlite::Connection::open(&path)?;
    for step in &case.steps {
        let (sql, polled) = step.strip_prefix("@nopoll ").map_or((step.as_str(), true), |sql| (sql, false));
        let (sql, connection) = sql.strip_prefix("@second ").map_or((sql, &writer), |sql| (sql, &second));
        connection.execute_batch(sql)?;
        if polled {
            follow(&mut follower, &mut applier).map_err(|error| format!("{sql}: {error}"))?;
            agree(&path, &replica, follower.state().hash()).map_err(|error| format!("{sql}: {error}"))?;
        }
    }
    Ok(())
}

fn follow(follower: &mut Follower, applier: &mut Applier) -> Outcome {
    let mut collected = Collected::default();
    while follower.poll(&mut collected)? > 0 {}
    for (changes, state) in &collected.0 {
        applier.begin()?;
        applier.apply(CommitChanges {
            schema: &changes.schema,
            rows: changes.rows.as_slice(),
            user_version: changes.user_version,
            application_id: changes.application_id,
        })?;
        applier.commit()?;
        if applier.state().hash() != *state {
            return Err("the applier's state is not the follower's".into());
        }
    }
    Ok(())
}

fn agree(path: &Path, replica: &Path, state: StateHash) -> Outcome {
    let scan = |path| -> Result<StateHash, Box<dyn Error>> {
        Ok(RunningState::scan(&Connection::open(path)?)?.hash())
    };
    if scan(path)? != state {
        return Err("a scan of the source finds another state".into());
    }
    if scan(replica)? != state {
        return Err("a scan of the replica finds another state".into());
    }
    if let Some(difference) = first_difference(path, replica)? {
        return Err(difference.to_string().into());
    }
    // Indexes are in no hash: here it shows whether the replica's are what its rows say.
    let integrity = |path| -> Result<String, rusqlite::Error> {
        let sql = "SELECT group_concat(integrity_check, '; ') FROM pragma_integrity_check";
        rusqlite::Connection::open(path)?.query_row(sql, [], |row| row.get(0))
    };
    let (source, copy) = (integrity(path)?, integrity(replica)?);
    if source != copy {
        return Err(format!("source: {source}; replica: {copy}").into());
    }
    Ok(())
}

#[test]
fn every_case_agrees_after_every_line() {
    let failed: Vec<String> = cases()
        .iter()
        .filter_map(|case| run(case).err().map(|error| format!("{}: {error}", case.name)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(cases().len() > 40);
}
