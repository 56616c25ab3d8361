//! What `synddb detach` leaves.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::harness::Dev;
use crate::doctor::Application;
use crate::embedded::Sequencer;
use crate::processes::{run, synddb};
use crate::programs::sql;

#[test]
fn nothing_is_left_beside_a_detached_database_and_its_mode_can_be_switched_back() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    let dev = Dev::start(folder.path());
    sql(&app, "INSERT INTO t VALUES (1);");
    dev.assert_replica_equals();
    dev.stop();
    assert!(folder.path().join("app.db-wal").exists(), "a follower leaves the WAL");

    let (exit, told, errors) = run(synddb(["detach", app.to_str().unwrap()]));
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    assert!(told.contains("journal mode wal, which stays; `PRAGMA journal_mode=DELETE`"), "{told}");
    for gone in ["app.db-wal", "app.db-shm"] {
        assert!(!folder.path().join(gone).exists(), "{gone} is left");
    }
    assert_eq!(sql(&app, "PRAGMA journal_mode = DELETE; SELECT * FROM t;"), "delete\n1\n");
}

#[test]
fn a_mode_that_others_keep_from_being_switched_back_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    let dev = Dev::start(folder.path());
    let kept = dev.folder.clone();
    dev.assert_replica_equals();
    dev.stop();

    let application = Application::start(&app, "SELECT * FROM t");
    let detach = || run(synddb(["detach", app.to_str().unwrap(), "--restore-journal-mode"]));
    let (exit, told, errors) = detach();
    assert_eq!((exit, told.as_str()), (2, ""), "{errors}");
    assert!(errors.contains("close it there"), "{errors}");
    assert!(kept.join("stream").exists(), "it can be tried again");
    application.end();
    let (exit, told, errors) = detach();
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    assert_eq!(sql(&app, "PRAGMA journal_mode;"), "delete\n");
    assert!(!kept.join("stream").exists());
}

#[test]
fn an_agent_that_runs_is_ended_and_one_that_does_not_answer_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    let sequencer = Sequencer::start(folder.path());
    let mut agent = synddb(["follow", app.to_str().unwrap(), "--json", "--sequencer", &sequencer.url])
        .args(["--token-file", folder.path().join("token").to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(agent.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("\"event\":\"attached\"")), "it ended before it was attached");
    sql(&app, "INSERT INTO t VALUES (1);");

    let detach = || run(synddb(["detach", app.to_str().unwrap()]));
    let signal = |name: &str| {
        let kill = format!("kill -{name} {}", agent.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    };
    signal("STOP");
    let (exit, told, errors) = detach();
    signal("CONT");
    assert_eq!((exit, told.as_str()), (2, ""), "{errors}");
    assert!(errors.contains("does not answer; end it"), "{errors}");

    let (exit, told, errors) = detach();
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    assert!(agent.wait().unwrap().success(), "the agent drained");
    for gone in ["app.db-wal", "app.db-shm", "app.db-synddb/stream"] {
        assert!(!folder.path().join(gone).exists(), "{gone} is left");
    }
}
