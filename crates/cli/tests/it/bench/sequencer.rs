//! `synddb bench sequencer`: that what it measures is in the store, and that it refuses what would mislead.

use serde_json::json;

use super::{folder, positive, told};
use crate::processes::{run, synddb};

#[test]
fn what_was_acknowledged_is_stored_and_has_its_figures() {
    let folder = folder();
    let dir = folder.path().to_str().unwrap();
    let which =
        ["bench", "sequencer", "--dir", dir, "--streams", "1,3", "--bytes", "200,300000", "--only", "submit"];
    let told = told(
        folder.path(),
        synddb(which.into_iter().chain(["--seconds", "0.3", "--warm-up", "0.1", "--json"])),
    );
    let of: Vec<_> = told.iter().map(|load| load["streams"].as_u64().unwrap()).collect();
    assert_eq!(of, [1, 3, 1, 3]);
    for (load, bytes) in told.iter().zip([200.0, 200.0, 300_000.0, 300_000.0]) {
        assert_eq!(load["measure"], "load", "{load}");
        let body_bytes = load["body_bytes"].as_f64().unwrap();
        assert!((body_bytes - bytes).abs() <= bytes / 20.0, "{load}");
        let submissions = load["submissions"].as_u64().unwrap();
        assert!(submissions > 0 && load["batches"].as_u64().unwrap() > 0, "{load}");
        let figures = [
            "submissions_per_second",
            "bytes_per_second",
            "cpu_percent",
            "cpu_us_per_submission",
            "clients_cpu_percent",
            "memory_bytes_max",
        ];
        assert!(figures.iter().all(|name| positive(&load[*name])), "{load}");
        assert!(load["seconds"].as_f64().unwrap() >= 0.3, "{load}");
        assert!(load["stored_after_seconds"].as_f64().unwrap() >= 0.0, "{load}");
        assert!(load["refused"].is_u64(), "{load}");
        let soon = &load["acknowledged"];
        let [p50, p99, p999, max] = ["p50_ns", "p99_ns", "p999_ns", "max_ns"].map(|name| soon[name].as_u64());
        assert!(p50 > Some(0) && p50 <= p99 && p99 <= p999 && p999 <= max, "{load}");
        // Only where `strace` is and may look is it known; otherwise it is said why not.
        let syncs = &load["syncs"];
        assert_eq!(syncs.is_object(), load["syncs_unseen"].is_null(), "{load}");
        if syncs.is_object() {
            assert!(positive(&syncs["submissions"]) && positive(&syncs["journal_per_submission"]), "{load}");
            // One stream has one submission under way, so no two share a wait for the disk.
            let shares = load["streams"] != json!(1);
            assert!(shares || syncs["journal_per_submission"].as_f64() >= Some(1.0), "{load}");
        }
    }
}

#[test]
fn what_waited_in_a_journal_is_stored_after_a_restart() {
    let folder = folder();
    let dir = folder.path().to_str().unwrap();
    let which = ["bench", "sequencer", "--dir", dir, "--only", "restart", "--messages", "3000", "--json"];
    let [restart] = &told(folder.path(), synddb(which))[..] else { panic!() };
    assert_eq!((&restart["measure"], &restart["messages"]), (&json!("restart"), &json!(3000)));
    let [listening, accepted, stored] = ["listening_seconds", "accepted_seconds", "stored_seconds"]
        .map(|name| restart[name].as_f64().unwrap());
    assert!(0.0 < listening && listening <= accepted && accepted <= stored, "{restart}");
    let figures = ["journal_bytes", "batches", "cpu_us_per_message", "memory_bytes_max"];
    assert!(figures.iter().all(|name| positive(&restart[*name])), "{restart}");
}

#[test]
fn what_no_sequencer_takes_is_refused() {
    for (option, value) in
        [("--streams", "65"), ("--streams", "0"), ("--bytes", "9000000"), ("--bytes", "few")]
    {
        let (exit, told, errors) = run(synddb(["bench", "sequencer", option, value]));
        assert_eq!((exit, told.as_str()), (2, ""), "{option} {value}: {errors}");
        assert!(errors.contains("give a number from 1 to"), "{option} {value}: {errors}");
    }
    let (exit, told, errors) = run(synddb(["bench", "sequencer", "--dir", "/dev/shm"]));
    assert_eq!((exit, told.as_str()), (2, ""), "{errors}");
    assert!(errors.contains("name a folder on a real disk with --dir"), "{errors}");
}
