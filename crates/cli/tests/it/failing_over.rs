//! Two sequencers over one store, as processes, and an agent that knows both: one is killed, the other takes over.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::Value;

use super::processes::{diff, run, synddb};
use super::programs::sql;
use super::roles::{PATIENCE_TEXT, Role, make_store, sequencer_as, status, store};

/// A sequencer that goes on behind messages of other keys, its URL and its key.
fn sequencer(folder: &Path, name: &str, trusted: &[&str]) -> (Role, String, String) {
    start(folder, name, trusted, &[])
}

fn start(folder: &Path, name: &str, trusted: &[&str], flags: &[&str]) -> (Role, String, String) {
    let mut command = sequencer_as(folder, name, "127.0.0.1:0");
    command.args(flags).env("SYNDDB_SEQUENCER_TRUSTED_KEYS", format!("{trusted:?}"));
    let role = Role::start(command);
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
    let mut agent = follow(&app, [&first_url, &second_url], [&first_key, &second_key]);
    let write = |number: u32| insert(&app, number);
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

    assert_read(folder, &[&first_key, &second_key], 20);
}

#[test]
fn of_two_standbys_the_other_one_leads_when_the_leader_is_killed_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_store(folder);
    let (app, home) = (folder.join("app.db"), folder.join("app.db-synddb"));
    sql(&app, "CREATE TABLE t (number INTEGER, payload BLOB);");
    // Each is given the other one's key, which is made at its first start.
    let (mut second, _, second_key) = standby(folder, "second", &[]);
    second.end();
    let (mut first, first_url, first_key) = standby(folder, "first", &[&second_key]);
    let (mut second, second_url, _) = standby(folder, "second", &[&first_key]);
    let mut agent = follow(&app, [&first_url, &second_url], [&first_key, &second_key]);
    assert_stored(&app);
    // Either of them may have been quicker to lead what nobody led.
    let leads_first = status(&home).unwrap()["sequencer"] == first_url.as_str();
    let leader = if leads_first { &mut first } else { &mut second };
    let (other_url, mut keys) =
        (if leads_first { &second_url } else { &first_url }, [&*first_key, &*second_key]);
    if !leads_first {
        keys.reverse();
    }

    let is_over = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let numbers = (1..=ROWS_MAX).take_while(|_| !is_over.load(Ordering::SeqCst));
            numbers.inspect(|number| insert(&app, *number)).last().unwrap_or(0)
        });
        // Whatever ends this ends the writer.
        let _stops = Stops(&is_over);
        (0..3).for_each(|_| assert_stored(&app));
        leader.kill();
        let killed = Instant::now();
        agent.event("failed_over", |event| event["sequencer"] == other_url.as_str());
        println!("the other standby took a submission {:?} after the leader was killed", killed.elapsed());
        (0..3).for_each(|_| assert_stored(&app));
        is_over.store(true, Ordering::SeqCst);
        writer.join().unwrap()
    });
    println!("rows written: {written}");
    assert_stored(&app);
    let said = status(&home).unwrap();
    assert_eq!((&said["sequencer"], &said["problem"]), (&other_url.clone().into(), &Value::Null));
    assert_eq!(said["promises"]["evidence"], 0, "{said}");
    agent.end();
    assert_read(folder, &keys, written);
}

#[test]
fn that_no_key_is_named_for_several_sequencers_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_store(folder);
    let app = folder.join("app.db");
    sql(&app, "CREATE TABLE t (number INTEGER, payload BLOB);");
    let mut command =
        synddb(["follow", "--json", "--stop-on-eof", "--drain-timeout", "0s", app.to_str().unwrap()]);
    command.args(["--sequencer", "http://127.0.0.1:1,http://127.0.0.1:2"]);
    command.arg("--token-file").arg(folder.join("token"));
    let agent = Role::start(command);
    let said = agent.event("keys_unnamed", |_| true);
    assert_eq!(said["sequencers"], 2);
    agent.how();
    assert!(agent.events().iter().filter(|event| event["event"] == "keys_unnamed").count() == 1);
}

/// Most rows that are written under load.
const ROWS_MAX: u32 = 100_000;

/// Ends the writer when it is dropped.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A sequencer that stands by, its URL and its key.
fn standby(folder: &Path, name: &str, trusted: &[&str]) -> (Role, String, String) {
    start(folder, name, trusted, &["--standby"])
}

fn insert(app: &Path, number: u32) {
    sql(app, &format!("INSERT INTO t VALUES ({number}, randomblob(100));"));
}

/// An agent that knows these sequencers and believes these keys.
fn follow(app: &Path, urls: [&str; 2], keys: [&str; 2]) -> Role {
    let mut command = synddb(["follow", "--json", "--stop-on-eof", app.to_str().unwrap()]);
    command.args(["--sequencer", urls[0], "--sequencer", urls[1], "--sequencer-key", &keys.join(",")]);
    command.arg("--token-file").arg(app.with_file_name("token"));
    let agent = Role::start(command);
    agent.how();
    agent
}

/// The stored log of several leaders is whole for whoever believes them all, and holds every row once.
fn assert_read(folder: &Path, keys: &[&str], rows: u32) {
    let (app, home) = (folder.join("app.db"), folder.join("app.db-synddb"));
    let stream = synddb_agent::stream_of(&home).unwrap().to_string();
    let (replica, store) = (folder.join("replica.db"), store(folder));
    let log = ["--store", &store, "--stream", &stream];
    // Whoever believes only the first leader is told how to believe the others.
    let of_first = ["verify", &store, "--stream", &stream, "--sequencer-key", keys[0]];
    let (exit, told, errors) = run(synddb(of_first));
    assert!(exit == 1 && errors.contains("add it with --sequencer-key"), "{exit}: {told}{errors}");
    let rebuild = ["replica", "--once", "--json", replica.to_str().unwrap()];
    let believed = keys.iter().flat_map(|key| ["--sequencer-key", key]);
    let (exit, told, errors) = run(synddb(rebuild.into_iter().chain(log).chain(believed)));
    assert_eq!(exit, 0, "{told}{errors}");
    let (exit, told, errors) = diff(&app, &replica);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    let counted = sql(&replica, "SELECT count(*), count(DISTINCT number) FROM t;");
    assert_eq!(counted.trim(), format!("{rows}|{rows}"));
}
