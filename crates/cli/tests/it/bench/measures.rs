//! The other measures: latency, one huge transaction, attaching, and an idle agent.

use std::fs;

use serde_json::{Value, json};

use super::{capture, folder, positive, told};
use crate::processes::synddb;

/// Runs one measure with more arguments, and returns what it says.
fn measure(name: &str, more: &[&str]) -> Vec<Value> {
    let folder = folder();
    let mut command = synddb(capture(folder.path(), name, "0.2"));
    // What is meant for an agent of the user's does not count here, wherever it says so.
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join(".env"), "SYNDDB_AGENT_SEQUENCER_KEY=nobody\n").unwrap();
    command.args(more).env("SYNDDB_AGENT_STORE", "nowhere").current_dir(here.path());
    told(folder.path(), command)
}

/// Median, 99th percentile and maximum, in nanoseconds.
fn spread(latency: &Value) -> [u64; 3] {
    let spread = ["p50_ns", "p99_ns", "max_ns"].map(|name| latency[name].as_u64().unwrap());
    assert!(spread.is_sorted(), "{latency}");
    spread
}

#[test]
fn each_commit_is_seen_captured_and_then_durable() {
    let [latency] = &measure("latency", &[])[..] else { panic!() };
    for disk in ["disk_before", "disk_after"] {
        assert!(spread(&latency[disk])[0] > 0, "{latency}");
    }
    let runs = latency["runs"].as_array().unwrap();
    let of = |run: &Value| (run["synchronous"].clone(), run["every_ms"].as_u64().unwrap());
    let expected = ["normal", "full"].map(|synchronous| [25, 10, 1].map(|every| (json!(synchronous), every)));
    assert_eq!(runs.iter().map(of).collect::<Vec<_>>(), expected.concat());
    for run in runs {
        assert_eq!(run["commits"].as_u64(), Some(200 / run["every_ms"].as_u64().unwrap()), "{run}");
        let [commit, captured, kept] = ["commit", "captured", "kept"].map(|name| spread(&run[name]));
        assert!(commit[0] > 0 && kept[0] > 0, "{run}");
        // A commit is durable after it is here, so each of these is.
        assert!(captured.iter().zip(kept).all(|(captured, kept)| *captured < kept), "{run}");
    }
}

#[test]
fn one_huge_transaction_is_captured_whole() {
    let giants = measure("giant", &[]);
    let seen: Vec<_> =
        giants.iter().map(|giant| (giant["rows"].as_u64(), giant["text_bytes"].as_u64())).collect();
    assert_eq!(seen, [(Some(500_000), Some(40)), (Some(500_000), Some(400))]);
    for giant in &giants {
        let figures = ["written_seconds", "captured_seconds", "cpu_seconds", "memory_peak_bytes"];
        assert!(figures.iter().all(|name| positive(&giant[*name])), "{giant}");
    }
}

#[test]
fn attaching_to_a_database_that_is_there_is_measured() {
    let [walk] = &measure("walk", &["--walk-bytes", "5000000"])[..] else { panic!() };
    let bytes = walk["database_bytes"].as_u64().unwrap();
    assert!((4_500_000..6_000_000).contains(&bytes), "{walk}");
    let snapshot = walk["snapshot_bytes"].as_u64().unwrap();
    assert!((1_000_000..bytes).contains(&snapshot), "{walk}");
    assert!(positive(&walk["walk_seconds"]) && positive(&walk["cpu_seconds"]), "{walk}");
    assert!(positive(&walk["attached_seconds"]) && positive(&walk["memory_peak_bytes"]), "{walk}");
}

#[test]
fn an_idle_agent_is_looked_at() {
    let [idle] = &measure("idle", &[])[..] else { panic!() };
    assert!(idle["seconds"].as_f64() >= Some(10.0), "{idle}");
    assert!(idle["cpu_percent"].as_f64().is_some_and(|percent| percent >= 0.0), "{idle}");
    // Its pin looks around once a second.
    assert!(positive(&idle["wakeups_per_minute"]), "{idle}");
    if idle["calls"].is_null() {
        assert!(idle["calls_unseen"].as_str().unwrap().contains("strace"), "{idle}");
    } else {
        assert!(positive(&idle["calls"]["calls_per_minute"]), "{idle}");
        assert_eq!(idle["calls"]["sent_per_minute"], 0.0, "an idle agent asks nobody: {idle}");
    }
}
