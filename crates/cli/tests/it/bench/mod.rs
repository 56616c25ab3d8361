//! `synddb bench`: that it measures what was captured whole, refuses what would mislead, and leaves nothing. No figure is judged.

mod measures;
mod replica;
mod sequencer;
mod writer;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::kills::is_dead;
use super::processes::{run, synddb};
use super::roles::{PATIENCE, Role, signal};

/// A folder on a real disk, which the system's folder for temporary files may not be.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Arguments of a benchmark of some scenarios. Nothing gets warm first, for which a debug build takes long.
fn capture<'a>(folder: &'a Path, only: &'a str, seconds: &'a str) -> impl Iterator<Item = &'a str> {
    let which = ["bench", "capture", "--dir", folder.to_str().unwrap(), "--only", only];
    which.into_iter().chain(["--seconds", seconds, "--warm-up", "0", "--pairs", "1", "--json"])
}

/// Runs a benchmark of some scenarios, and returns what it says of each.
fn measured(only: &str, seconds: &str) -> Vec<Value> {
    let folder = folder();
    told(folder.path(), synddb(capture(folder.path(), only, seconds)))
}

/// Runs a benchmark in a folder, and returns what it says of each scenario.
fn told(folder: &Path, command: Command) -> Vec<Value> {
    let (exit, told, errors) = run(command);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "something is left");
    let mut events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (events.remove(0), events.pop().unwrap());
    assert_eq!((&first["event"], &last["event"]), (&json!("measuring"), &json!("benchmarked")));
    assert_eq!(first["sqlite"].as_str().unwrap().split('.').next(), Some("3"), "{first}");
    assert!(first["scenarios"].as_array().is_some_and(|scenarios| !scenarios.is_empty()), "{first}");
    let is_same = |(event, of_all): (&Value, &Value)| {
        let of_all = of_all.as_object().unwrap();
        of_all.iter().all(|(name, value)| event[name] == *value)
    };
    let all = last["measured"].as_array().unwrap();
    assert!(all.len() == events.len() && events.iter().zip(all).all(is_same), "{told}");
    events
}

fn positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|value| value.is_finite() && value > 0.0)
}

#[test]
fn each_pair_is_captured_whole_and_has_its_figures() {
    let only = "row-normal,rows-normal,row-full,rows-full,orders-normal,orders-indexed-normal,\
                trigger-outbox,session-outbox,through-replica";
    let events = measured(only, "0.2");
    let names: Vec<_> = events.iter().map(|event| event["scenario"].as_str().unwrap()).collect();
    let expected = [
        "row-normal",
        "rows-normal",
        "row-full",
        "rows-full",
        "orders-normal",
        "orders-indexed-normal",
        "trigger-outbox-row",
        "trigger-outbox-rows",
        "session-outbox-row",
        "session-outbox-rows",
        "through-replica",
    ];
    assert_eq!(names, expected);
    for event in &events {
        for side in ["bare", "captured"] {
            let side = &event[side];
            assert!(positive(&side["transactions_per_second"]) && positive(&side["wal_bytes"]), "{event}");
            let [p50, p99, max] = ["p50_ns", "p99_ns", "max_ns"].map(|name| side["latency"][name].as_u64());
            assert!(p50 > Some(0) && p50 <= p99 && p99 <= max, "{event}");
            assert!(side["wrote_seconds"].as_f64() <= side["whole_seconds"].as_f64(), "{event}");
        }
        let of_pairs = event["ratio"]["of_pairs"].as_array().unwrap();
        assert!(of_pairs.len() == 1 && positive(&of_pairs[0]), "{event}");
        let [bare, captured] = &event["runs"].as_array().unwrap()[..] else { panic!("{event}") };
        assert_eq!((&bare["is_captured"], &captured["is_captured"]), (&json!(false), &json!(true)));
        assert_eq!((&bare["figures"], &captured["figures"]), (&event["bare"], &event["captured"]));
        assert_eq!(event["is_warm"], false, "{event}");
        // Only a process of its own can be asked what it took.
        let name = event["scenario"].as_str().unwrap();
        let is_alone = !name.contains("outbox") && name != "through-replica";
        assert_eq!(event["agent"].is_object(), is_alone, "{event}");
        if is_alone {
            let agent = &event["agent"];
            assert!(positive(&agent["cpu_us_per_row"]) && positive(&agent["memory_bytes_max"]), "{event}");
            let rates = ["write_locks_per_second", "write_locked_us_per_second", "wal_resets_per_second"];
            assert!(rates.iter().all(|rate| agent[*rate].as_f64() >= Some(0.0)), "{event}");
            assert!(agent["write_locked_us_max"].is_u64(), "{event}");
        }
    }
}

#[test]
fn pairs_take_turns_at_being_first_and_begin_warm() {
    let folder = folder();
    let mut command =
        synddb(["bench", "capture", "--only", "row-full", "--seconds", "0.1", "--pairs", "2", "--json"]);
    command.args(["--warm-up", "600"]);
    command.arg("--dir").arg(folder.path());
    let [event] = &told(folder.path(), command)[..] else { panic!() };
    let captured: Vec<_> = event["runs"].as_array().unwrap().iter().map(|run| &run["is_captured"]).collect();
    assert_eq!(captured, [false, true, true, false]);
    assert_eq!(event["is_warm"], true, "{event}");
}

/// The process of a command about something in a folder, as soon as there is one.
fn process(folder: &Path, command: &[&str]) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    let is_it = |pid: &str| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split('\0').skip(1).collect();
        words.starts_with(command) && line.contains(folder.to_str().unwrap())
    };
    loop {
        let files =
            fs::read_dir("/proc").unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        if let Some(pid) = files.filter_map(|name| is_it(&name).then(|| name.parse().unwrap())).next() {
            return pid;
        }
        assert!(Instant::now() < deadline, "`{command:?}` does not come");
        std::thread::yield_now();
    }
}

#[test]
fn a_process_that_is_killed_ends_a_benchmark_and_leaves_nothing() {
    for (killed, said) in [(&["follow"][..], "the agent ended"), (&["bench", "write"], "the writer ended")] {
        let folder = folder();
        let mut bench = Role::start(synddb(capture(folder.path(), "row-normal", "1")));
        // Once its place is held, the agent is at work, or just about to be.
        let pin = process(folder.path(), &["pin"]);
        signal(process(folder.path(), killed), "KILL");
        assert_eq!(bench.ended().code(), Some(3), "{:#?}", bench.events());
        let failed = bench.event("failed", |_| true);
        assert!(failed["message"].as_str().unwrap().contains(said), "{failed}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something is left");
        assert!(is_dead(pin), "the pin is left");
    }
}

#[test]
fn what_would_mislead_is_refused_with_the_fix() {
    let folder = folder();
    let refused = |arguments: &[&str], fix: &str| {
        let mut command = synddb(["bench", "capture"].into_iter().chain(arguments.iter().copied()));
        command.current_dir(folder.path());
        let (exit, told, errors) = run(command);
        assert_eq!(exit, 2, "{arguments:?}: {told}{errors}");
        assert!(errors.contains(fix), "{arguments:?}: {errors}");
        assert_eq!(told, "");
    };
    refused(&["--dir", "/dev/shm"], "name a folder on a real disk with --dir");
    refused(&["--dir", "no/folder"], "name another one with --dir");
    refused(&["--sqlite", "libno-such-sqlite.so"], "apt-get install libsqlite3-0");
    // A library, but not SQLite.
    refused(&["--sqlite", "libc.so.6"], "apt-get install libsqlite3-0");
    for seconds in ["0", "-1", "inf", "NaN", "1e9", "soon"] {
        refused(&[&format!("--seconds={seconds}")], "give a number of seconds");
    }
    refused(&["--pairs", "0"], "--pairs");
    refused(&["--only", "row-loud"], "row-normal");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a refused command left something");
}

#[test]
fn a_signal_ends_a_benchmark_and_leaves_nothing() {
    let folder = folder();
    let only = "row-normal,rows-normal,row-full,rows-full,orders-normal,through-replica";
    let mut bench = Role::start(synddb(capture(folder.path(), only, "0.2")));
    // The second scenario runs, or is about to.
    bench.event("measured", |_| true);
    bench.signal("INT");
    assert_eq!(bench.ended().code(), Some(5), "{:#?}", bench.events());
    let failed = bench.event("failed", |_| true);
    assert!(failed["message"].as_str().unwrap().contains("asked to end"), "{failed}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something is left");
}

#[test]
fn help_says_what_the_figures_mean() {
    for arguments in [&["bench", "--help"][..], &["bench", "capture", "--help"]] {
        let (exit, told, errors) = run(synddb(arguments.iter().copied()));
        assert_eq!((exit, errors.as_str()), (0, ""));
        assert!(told.contains("What is measured") && told.contains("What the figures mean"), "{told}");
    }
}
