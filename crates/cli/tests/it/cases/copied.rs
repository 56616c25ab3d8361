//! Two agents where there should be one.

use std::fs;
use std::process::Command;

use super::EXACTLY;
use crate::programs::sql;
use crate::roles::{Role, System};

#[test]
fn a_second_agent_is_refused_also_from_another_folder() {
    let folder = tempfile::tempdir().unwrap();
    let system = System::start(folder.path());
    sql(&system.app, "CREATE TABLE t (a);");
    let mut agent = system.follow();
    for home in [system.home.clone(), folder.path().join("elsewhere")] {
        let mut second = Role::start(system.agent_of(&system.app, &home));
        let failed = second.event("failed", |_| true);
        assert!(failed["message"].as_str().unwrap().contains("stop that one first"), "{failed}");
        assert_eq!(second.ended().code(), Some(2), "{failed}");
    }
    sql(&system.app, "INSERT INTO t VALUES (1);");
    system.assert_replica_equals();
    assert_eq!(agent.attached().len(), 1);
    agent.end();
}

#[test]
fn of_a_database_and_its_copy_the_second_one_is_refused_loudly_and_no_reader_stops() {
    let folder = tempfile::tempdir().unwrap();
    let system = System::start(folder.path());
    sql(&system.app, "CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 'both');");
    let mut agent = system.follow();
    sql(&system.app, "INSERT INTO t VALUES (2, 'both');");
    system.assert_equal();
    agent.end();
    // As somebody does who copies a whole machine: the database, what lies beside it, and the agent's folder.
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let script = r#"cp -a "$1"/app.db* "$2""#;
    let copied =
        Command::new("sh").args(["-c", script, "sh"]).arg(folder.path()).arg(&copy).status().unwrap();
    assert!(copied.success());
    let (other_app, other_home) = (copy.join("app.db"), copy.join("app.db-synddb"));

    let mut agent = system.follow();
    let other = Role::start(system.agent_of(&other_app, &other_home));
    println!("the first {}; its copy {}", agent.how(), other.how());
    // Neither has seen anything happen, so both go on.
    assert!(agent.how().contains(EXACTLY) && other.how().contains(EXACTLY));
    sql(&system.app, "INSERT INTO t VALUES (3, 'of the first');");
    system.assert_equal();
    sql(&other_app, "INSERT INTO t VALUES (3, 'of the copy');");
    let warning = other.event("warning", |_| true);
    println!("{warning}");
    assert_eq!(warning["kind"], "shipping_stopped", "{warning}");

    sql(&system.app, "INSERT INTO t VALUES (4, 'of the first');");
    sql(&other_app, "INSERT INTO t VALUES (4, 'of the copy');");
    system.assert_replica_equals();
    let warned = agent.events().into_iter().find(|event| event["event"] == "warning");
    assert_eq!(warned, None, "the first one was hindered");
    agent.end();
}
