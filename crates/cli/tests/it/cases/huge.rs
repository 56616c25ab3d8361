//! One transaction that travels in parts, interrupted between two of them.

use std::time::Instant;

use serde_json::Value;

use super::EXACTLY;
use crate::programs::{finish, python, sql, start};
use crate::roles::{PATIENCE, Role, System, status};

/// One transaction of so many MiB that cannot be compressed.
const MIB: u64 = 24;

const WRITER: &str = "
import os, sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
sqlite.execute('BEGIN')
for number in range(int(sys.argv[2]) * 16):
    sqlite.execute('INSERT INTO t VALUES (?, ?)', (number, os.urandom(65536)))
sqlite.execute('COMMIT')
";

/// A system in which the sequencer has some parts of a transaction, and not all.
fn between_parts(folder: &std::path::Path) -> (System, Role) {
    let system = System::start(folder);
    sql(&system.app, "CREATE TABLE t (a INTEGER, b BLOB); INSERT INTO t VALUES (-1, 'before');");
    let agent = system.follow();
    system.assert_equal();
    finish(start(python(WRITER, [system.app.to_str().unwrap(), &MIB.to_string()]), ""));
    let deadline = Instant::now() + PATIENCE;
    let part = |told: &Value| told["sequenced_next"]["part"].as_u64().unwrap_or(0);
    loop {
        let told = status(&system.home).unwrap_or_default();
        if part(&told) > 0 {
            println!("interrupted at {}", told["sequenced_next"]);
            return (system, agent);
        }
        let is_through = told["sequenced_next"]["commit"].as_u64() > Some(1);
        assert!(Instant::now() < deadline && !is_through, "it was too fast to be interrupted: {told}");
        std::thread::yield_now();
    }
}

#[test]
fn an_agent_killed_between_parts_sends_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (system, mut agent) = between_parts(folder.path());
    agent.kill();
    let mut agent = system.follow();
    assert!(agent.how().contains(EXACTLY), "nothing was committed meanwhile: {}", agent.how());
    sql(&system.app, "UPDATE t SET b = NULL WHERE a % 3 = 0;");
    system.assert_replica_equals();
    agent.end();
}

#[test]
fn a_sequencer_killed_between_parts_takes_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (mut system, mut agent) = between_parts(folder.path());
    system.restart_sequencer();
    sql(&system.app, "UPDATE t SET b = NULL WHERE a % 3 = 0;");
    system.assert_replica_equals();
    assert_eq!(agent.attached().len(), 1);
    agent.end();
}
