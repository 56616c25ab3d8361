//! Two sequencers over one store, as processes, and an agent that knows both: one is killed, the other takes over.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use super::processes::{diff, run, synddb};
use super::programs::sql;
use super::roles::{PATIENCE_TEXT, Role, make_store, start_sequencer_as, status, store};

/// A sequencer that goes on behind messages of other keys, its URL and its key.
fn sequencer(folder: &Path, name: &str, trusted: &[&str]) -> (Role, String, String) {
    let trusted = ("SYNDDB_SEQUENCER_TRUSTED_KEYS", PathBuf::from(format!("{trusted:?}")));
    let role = start_sequencer_as(folder, name, "127.0.0.1:0", &[trusted]);
    let listening = role.event("listening", |_| true);
    let [url, key] = ["url", "key"].map(|field| listening[field].as_str().unwrap().to_owned());
    (role, url, key)
}

/// Everything that is committed now is stored.
fn assert_stored(app: &Path) {
    let push = ["push", app.to_str().unwrap(), "--stored", "--timeout", PATIENCE_TEXT];
    let (exit, told, errors) = run(synddb(push));
    assert_eq!(exit, 0, "{told}{errors}");
}

#[test]
fn another_sequencer_takes_over_and_every_commit_is_stored_once() {
    assert_taken_over(Role::kill);
}

#[test]
fn a_sequencer_that_stands_still_is_left_and_finds_itself_deposed() {
    assert_taken_over(|first| first.signal("STOP"));
}

/// Another sequencer takes over from one of which `end` makes an end, maybe not for good.
fn assert_taken_over(end: impl Fn(&mut Role)) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_store(folder);
    let (app, home) = (folder.join("app.db"), folder.join("app.db-synddb"));
    sql(&app, "CREATE TABLE t (number INTEGER, payload BLOB);");
    let (mut first, first_url, first_key) = sequencer(folder, "first", &[]);
    let (_second, second_url, second_key) = sequencer(folder, "second", &[&first_key]);
    let mut command = synddb(["follow", "--json", "--stop-on-eof", app.to_str().unwrap()]);
    command.args(["--sequencer", &first_url, "--sequencer", &second_url]);
    command.args(["--sequencer-key", &format!("{first_key},{second_key}")]);
    command.arg("--token-file").arg(folder.join("token"));
    let mut agent = Role::start(command);
    agent.how();
    let write = |number: u32| {
        sql(&app, &format!("INSERT INTO t VALUES ({number}, randomblob(100));"));
    };
    (1..=10).for_each(write);
    assert_stored(&app);
    assert_eq!(status(&home).unwrap()["sequencer"], first_url.as_str());

    // It ends with something under way, and what follows is written as if nothing had happened.
    write(11);
    end(&mut first);
    let ended = Instant::now();
    write(12);
    agent.event("failed_over", |event| event["sequencer"] == second_url.as_str());
    println!("another sequencer took a submission {:?} after the first one was gone", ended.elapsed());
    // Whoever stood still goes on, with all that was sent to it meanwhile.
    first.signal("CONT");
    (13..=20).for_each(write);
    assert_stored(&app);
    let said = status(&home).unwrap();
    assert_eq!((&said["sequencer"], &said["problem"]), (&second_url.clone().into(), &Value::Null));
    let promises = &said["promises"];
    println!("promises: {promises}");
    assert_eq!(promises["evidence"], 0, "{promises}");
    assert!(promises["got"].as_u64().unwrap() >= 3, "{promises}");
    agent.end();
    assert!(!agent.events().iter().any(|event| event["event"] == "evidence"));

    let stream = synddb_agent::stream_of(&home).unwrap().to_string();
    let replica = folder.join("replica.db");
    let store = store(folder);
    let whom = ["--store", &store, "--stream", &stream, "--sequencer-key", &first_key];
    let whom = || whom.into_iter().chain(["--sequencer-key", &second_key]);
    let rebuild = ["replica", "--once", "--json", replica.to_str().unwrap()];
    let (exit, told, errors) = run(synddb(rebuild.into_iter().chain(whom())));
    assert_eq!(exit, 0, "{told}{errors}");
    let (exit, told, errors) = diff(&app, &replica);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    assert_eq!(sql(&replica, "SELECT count(*), count(DISTINCT number) FROM t;").trim(), "20|20");
}
