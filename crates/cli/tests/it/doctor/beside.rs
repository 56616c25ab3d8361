//! Beside an agent, a mirror, and what they keep; and what attaching says that it changes.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::{Application, command, examine, look};
use crate::dev::Dev;
use crate::processes::{Mirror, synddb};
use crate::programs::sql;

#[test]
fn a_followed_database_is_well_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    let application = Application::start(&app, "SELECT * FROM t");
    let dev = Dev::start(folder.path());
    let told = dev.event("attaching", |_| true);
    assert_eq!((&told["switches_to_wal"], &told["wal_limit_mib"]), (&true.into(), &64.into()), "{told}");
    if application.sqlite.as_str() < "3.51" {
        let who = format!("(process {})", application.child.id());
        assert!(told["writers_at_risk"][0]["who"].as_str().unwrap().ends_with(&who), "{told}");
    }
    for _ in 0..3 {
        sql(&app, "INSERT INTO t VALUES (1);");
        let found = look(command(&app));
        assert_eq!(found.exit, 0);
        found.says("agent", "ok", &format!("(process {})", dev.pid("agent")));
        found.says("outbox", "ok", "submissions wait");
        found.says("folder", "ok", "stream=`0x");
        found.says("readable", "ok", "reads");
    }
    dev.assert_replica_equals();
    application.end();
    dev.stop();
    let found = examine(&app);
    found.says("agent", "ok", "nobody");
    found.says("outbox", "ok", "0 submissions wait");
    fs::set_permissions(folder.path().join("app.db-synddb"), PermissionsExt::from_mode(0o770)).unwrap();
    examine(&app).says("folder", "refused", "others may write");
}

#[test]
fn another_follower_is_named() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE t (a);");
    let mirror = Mirror::start(folder.path());
    let found = look(command(&mirror.source));
    let who = format!("(process {})", mirror.child.id());
    let seen = found.says("agent", "refused", &who);
    assert!(seen.starts_with("another agent or mirror follows this database"), "{seen}");
    sql(&mirror.source, "INSERT INTO t VALUES (1);");
    mirror.stop();
}

#[test]
fn attaching_says_what_it_changes_before_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    let token = folder.path().join("token");
    fs::write(&token, "a-token-of-more-than-thirty-two-characters").unwrap();
    fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).unwrap();
    let follow = || {
        let mut command = synddb(["follow", app.to_str().unwrap(), "--sequencer", "http://127.0.0.1:9"]);
        command.args(["--token-file", token.to_str().unwrap(), "--stop-on-eof", "--drain-timeout", "0s"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut told = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            told.push(line.unwrap());
            if told.last().is_some_and(|line| line.starts_with("agent follows")) {
                drop(child.stdin.take());
            }
        }
        assert_eq!(child.wait().unwrap().code(), Some(5), "nothing is stored: {told:#?}");
        told
    };
    let told = follow();
    for line in ["attaching to ", "  switches it to journal_mode=WAL", "  makes ", "  while it is followed: "]
    {
        assert!(told.iter().any(|said| said.starts_with(line)), "{line}: {told:#?}");
    }
    let told = follow().join("\n");
    assert!(told.contains("while it is followed") && !told.contains("  makes "), "{told}");
    // What waits is told without an agent, too, and stays.
    let found = examine(&app);
    let seen = found.says("outbox", "ok", "submissions wait");
    assert!(seen.contains("snapshots that wait: ") && !seen.ends_with(": 0"), "{seen}");
    assert_eq!(found.exit, 0);
}
