//! A disk without room for the outbox.

use std::process::Command;

use crate::programs::{finish, program, python, sql, start};
use crate::roles::{Role, System, signal};

/// The largest file that the agent may write at first, in blocks of 512 bytes: as on a full disk, a write fails half-way.
const BLOCKS: u32 = 2048;

/// Commits rows that cannot be compressed, together more than the agent may write.
const WRITER: &str = "
import os, sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for number in range(60):
    sqlite.execute('INSERT INTO t VALUES (?, ?)', (number, os.urandom(100000)))
";

#[test]
fn an_agent_whose_disk_is_full_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let system = System::start(folder.path());
    sql(&system.app, "CREATE TABLE t (a, b);");
    let agent = system.agent();
    let mut limited = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -S -f {BLOCKS}; exec \"$0\" \"$@\"");
    limited.args(["-c", &script]).arg(agent.get_program()).args(agent.get_args());
    let mut agent = Role::start(limited);
    agent.how();
    // Nothing is stored, so that all of it stays in the outbox.
    signal(system.sequencer.pid(), "STOP");
    finish(start(python(WRITER, [system.app.to_str().unwrap()]), ""));
    let warning = agent.event("warning", |event| event["kind"] == "not_capturing");
    println!("{warning}");
    let mut room = program("prlimit");
    room.args(["--fsize=unlimited:", "--pid", &agent.pid().to_string()]);
    finish(start(room, ""));
    signal(system.sequencer.pid(), "CONT");
    system.assert_replica_equals();
    println!("{:?}", agent.attached());
    agent.end();
}
