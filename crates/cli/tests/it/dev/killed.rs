//! Killed while they work: no acknowledged row is lost, and none comes twice.
//!
//! ```sh
//! SYNDDB_KILL_COMMITS=10000 cargo test --release -p synddb-cli --test it killed -- --nocapture
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use serde_json::Value;

use super::harness::{Dev, positions};
use crate::programs::{python, sql, start};

/// Commits, unless the environment says.
const COMMITS: usize = 2500;

/// How many times as many where an agent is killed: the writer goes on while the next one attaches.
const WHILE_ATTACHING: usize = 4;

/// Kills before the writer may end, however quick it is.
const KILLS_MIN: usize = 4;

/// Commits that are acknowledged between two kills, at least.
const BETWEEN: usize = 50;

/// Commits one row after the other, and writes down each id after its commit returned, synced by itself: what is in this file was
/// acknowledged. It goes on until there are so many, and a file says that this is enough.
const WRITER: &str = "
import itertools, os, sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
acknowledged = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in itertools.count():
    if number >= int(sys.argv[3]) and os.path.exists(sys.argv[4]):
        break
    sqlite.execute('INSERT INTO event VALUES (?, ?)', (number, bytes(number % 200)))
    os.write(acknowledged, b'%d\\n' % number)
    os.fsync(acknowledged)
";

fn commits() -> usize {
    std::env::var("SYNDDB_KILL_COMMITS").map_or(COMMITS, |commits| commits.parse().unwrap())
}

struct Writer {
    child: Child,
    acknowledged: PathBuf,
    commits: usize,
    enough: PathBuf,
}

impl Writer {
    fn start(folder: &Path, commits: usize) -> Self {
        let (acknowledged, enough) = (folder.join("acknowledged"), folder.join("enough"));
        let app = folder.join("app.db");
        let count = commits.to_string();
        let arguments =
            [app.to_str().unwrap(), acknowledged.to_str().unwrap(), &count, enough.to_str().unwrap()];
        Self { child: start(python(WRITER, arguments), ""), acknowledged, commits, enough }
    }

    /// From now on it may end.
    fn allow_end(&self) {
        fs::write(&self.enough, "").unwrap();
    }

    fn is_done(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// How many commits it acknowledged so far.
    fn acknowledged(&self) -> usize {
        fs::read(&self.acknowledged).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
    }

    /// Returns when this many more commits were acknowledged, or it is done.
    fn advance(&mut self, commits: usize) {
        let until = self.acknowledged() + commits;
        while self.acknowledged() < until && !self.is_done() {
            std::thread::yield_now();
        }
    }

    /// Waits for its end.
    fn finish(&mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    /// Every acknowledged id stands in a database exactly once.
    fn assert_all_there(&self, database: &Path) {
        let mut seen = BTreeMap::<String, u64>::new();
        for number in sql(database, "SELECT number FROM event;").lines() {
            *seen.entry(number.to_owned()).or_default() += 1;
        }
        let acknowledged = fs::read_to_string(&self.acknowledged).unwrap();
        let lost = acknowledged.lines().filter(|number| !seen.contains_key(*number)).count();
        let doubled = seen.values().filter(|count| **count > 1).count();
        println!(
            "{} acknowledged, {} in the replica, {lost} lost, {doubled} doubled",
            acknowledged.lines().count(),
            seen.len()
        );
        assert_eq!((lost, doubled), (0, 0));
        assert_eq!(acknowledged.lines().count(), seen.len());
        assert!(seen.len() >= self.commits, "{}", seen.len());
    }
}

/// Runs the writer, kills one of `processes` after every few commits, and compares at the end.
fn killed_in_turn(folder: &Path, processes: &[&str], commits: usize) -> (Dev, usize) {
    sql(&folder.join("app.db"), "CREATE TABLE event (number INTEGER, payload BLOB);");
    let dev = Dev::start(folder);
    let mut writer = Writer::start(folder, commits);
    let (mut kills, mut at_work) = (0, 0);
    for process in processes.iter().cycle() {
        writer.advance(BETWEEN);
        if writer.is_done() {
            break;
        }
        let status = dev.status();
        let at = positions(&status);
        let in_flight = at["stored"] != at["sequenced"]
            || at["applied"] != at["stored"]
            || at["pending"].as_u64().unwrap_or(0) > 0;
        at_work += usize::from(in_flight);
        kills += 1;
        if kills == KILLS_MIN {
            writer.allow_end();
        }
        println!("kill {process} after {} commits, at {at:?}", writer.acknowledged());
        dev.kill(process);
        if *process == "agent" {
            // One that is killed before it follows does not show how it goes on.
            let attached = |event: &&Value| event["event"] == "attached";
            dev.wait(|events| (events.iter().filter(attached).count() > kills).then_some(()));
        }
    }
    writer.finish();
    dev.assert_replica_equals();
    writer.assert_all_there(&dev.replica());
    println!("{kills} kills, {at_work} with work in flight");
    assert!(kills >= KILLS_MIN, "only {kills} kills");
    (dev, at_work)
}

#[test]
fn sequencer_and_validator_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, at_work) = killed_in_turn(folder.path(), &["sequencer", "validator"], commits());
    assert!(at_work > 0, "nothing was in flight at any kill, so nothing was tested");
    // The agent lived, so nothing began anew.
    let attached: Vec<_> = dev.events().into_iter().filter(|event| event["event"] == "attached").collect();
    assert_eq!(attached.len(), 1, "{attached:?}");
    dev.stop();
}

#[test]
fn an_agent_goes_on_exactly_or_begins_an_incarnation() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, _) = killed_in_turn(folder.path(), &["agent"], commits() * WHILE_ATTACHING);
    let attached: Vec<_> = dev.events().into_iter().filter(|event| event["event"] == "attached").collect();
    assert!(attached.len() > 3, "{attached:?}");
    for pair in attached.windows(2) {
        let [before, after] = [&pair[0], &pair[1]].map(|event| event["incarnation"].as_u64().unwrap());
        println!("{}", pair[1]["how"]);
        assert!(after == before || after == before + 1, "{pair:?}");
    }
    dev.stop();
}

#[test]
fn everything_killed_at_once_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE event (number INTEGER, payload BLOB);");
    let mut writer = Writer::start(folder.path(), commits());
    writer.allow_end();
    let mut dev = Dev::start(folder.path());
    for _ in 0..3 {
        writer.advance(BETWEEN);
        println!(
            "everything killed after {} commits, at {:?}",
            writer.acknowledged(),
            positions(&dev.status())
        );
        dev.kill_everything();
        dev = Dev::start(folder.path());
    }
    writer.finish();
    dev.assert_replica_equals();
    writer.assert_all_there(&dev.replica());
    dev.stop();
}
