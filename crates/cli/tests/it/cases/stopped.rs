//! An agent that stands still for a while.

use crate::programs::{finish, python, sql, start};
use crate::roles::System;

/// Commits, and checkpoints in every mode.
const WRITER: &str = "
import sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
sqlite.execute('PRAGMA busy_timeout = 20')
for number in range(1500):
    sqlite.execute('INSERT INTO t VALUES (?, ?)', (number, bytes(number)))
    if number % 7 == 0:
        sqlite.execute('UPDATE t SET b = b || ? WHERE a % 50 = ?', ('x', number % 50))
    if number % 100 == 0:
        mode = ('PASSIVE', 'FULL', 'RESTART', 'TRUNCATE')[number // 100 % 4]
        sqlite.execute('PRAGMA wal_checkpoint(%s)' % mode).fetchall()
";

#[test]
fn an_agent_that_stood_still_goes_on_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let system = System::start(folder.path());
    sql(&system.app, "CREATE TABLE t (a, b);");
    let mut agent = system.follow();
    for _ in 0..2 {
        agent.signal("STOP");
        finish(start(python(WRITER, [system.app.to_str().unwrap()]), ""));
        agent.signal("CONT");
        system.assert_replica_equals();
    }
    // It was attached all the while, so nothing began anew.
    assert_eq!(agent.attached().len(), 1, "{:#?}", agent.events());
    agent.end();
}
