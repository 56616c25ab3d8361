//! A process that is killed at any point loses nothing and doubles nothing.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use synddb_client::{How, Location};

use super::{Opened, Place, options};

/// Names the folder of a child. Without it, this binary is the parent.
const FOLDER: &str = "SYNDDB_CLIENT_TEST_FOLDER";
const URL: &str = "SYNDDB_CLIENT_TEST_URL";

/// How many processes are killed. Each next one dies somewhere else.
const ROUNDS: usize = 12;

/// What a child does; in the parent, nothing.
#[test]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let location = Location::File(folder.join("app.db"));
    let mut opened = Opened::open(&location, &options(folder, &std::env::var(URL).unwrap())).unwrap();
    println!("\nresumed {}", u64::from(opened.how() == How::Resumed));
    let next = opened.number("SELECT coalesce(max(a), 0) + 1 FROM t");
    for number in next.. {
        opened.write(&format!(
            "INSERT INTO t VALUES({number}, hex(randomblob(200))); UPDATE total SET n = n + 1"
        ));
        println!("\nwrote {number}");
    }
}

fn said(line: &str, word: &str) -> Option<u64> {
    line.strip_prefix(word)?.trim().parse().ok()
}

#[test]
fn a_killed_process_loses_and_doubles_nothing() {
    let place = Place::new();
    let mut opened = place.open();
    opened.schema(
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE TABLE total(n); INSERT INTO total VALUES(0)",
    );
    opened.close();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["killed::writes_until_it_is_killed", "--exact", "--nocapture", "--test-threads=1"])
            .env(FOLDER, place.folder.path())
            .env(URL, place.sequencer.url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let resumed = lines.by_ref().find_map(|line| said(&line, "resumed")).unwrap();
        assert_eq!(
            resumed, 1,
            "round {round}: a killed process left nothing that another one could not go on from"
        );
        let enough = lines.by_ref().filter_map(|line| said(&line, "wrote")).nth(3 + 7 * round);
        assert!(enough.is_some(), "the child ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let last = lines.filter_map(|line| said(&line, "wrote")).last();
        acknowledged = last.or(enough).unwrap();
    }
    let mut opened = place.open();
    assert_eq!(opened.how(), How::Resumed);
    let rows = opened.number("SELECT count(*) FROM t");
    assert!(rows.unsigned_abs() >= acknowledged, "{rows} rows, {acknowledged} acknowledged");
    assert_eq!(opened.number("SELECT n FROM total"), rows);
    opened.push();
    // The first commit made the tables. The log has each number once, and as many as there are rows.
    let commits = usize::try_from(rows).unwrap() + 1;
    assert_eq!((place.sequencer.snapshots().len(), place.sequencer.commits()), (1, commits));
    place.sequencer.assert_replica_equals(&place.path());
    opened.close();
}
