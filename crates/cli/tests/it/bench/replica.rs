//! `synddb bench replica`: that what it measures is equal to the application's database.

use serde_json::Value;

use super::{folder, positive, told};
use crate::processes::synddb;

/// Runs one scenario, and returns what it says.
fn measured(only: &str) -> Value {
    let folder = folder();
    let dir = folder.path().to_str().unwrap();
    let which =
        ["bench", "replica", "--dir", dir, "--only", only, "--seconds", "0.2", "--pairs", "2", "--json"];
    let mut told = told(folder.path(), synddb(which));
    assert_eq!(told.len(), 1);
    told.remove(0)
}

#[test]
fn a_replica_and_changesets_come_to_the_same_rows() {
    for (only, of_one) in [("rows", 100), ("orders", 5)] {
        let caught_up = measured(only);
        assert_eq!((&caught_up["measure"], &caught_up["scenario"]), (&"catch_up".into(), &only.into()));
        let transactions = caught_up["transactions"].as_u64().unwrap();
        assert!(transactions > 0);
        assert_eq!(caught_up["row_changes"].as_u64(), Some(of_one * transactions), "{caught_up}");
        let figures =
            ["app_per_second", "replica_per_second", "changeset_per_second", "cpu_us_per_row_change"];
        assert!(figures.iter().all(|name| positive(&caught_up[*name])), "{caught_up}");
        assert!(["stored_bytes", "memory_bytes_max"].iter().all(|name| positive(&caught_up[*name])));
        assert_eq!(caught_up["ratio"]["of_pairs"].as_array().map(Vec::len), Some(2), "{caught_up}");
    }
}

#[test]
fn every_commit_is_seen_in_the_live_replica() {
    let lags = measured("lag");
    let runs = lags["runs"].as_array().unwrap();
    let seen: Vec<_> = runs.iter().map(|run| (run["every_ms"].as_u64(), run["commits"].as_u64())).collect();
    assert_eq!(seen, [(Some(25), Some(8)), (Some(10), Some(20)), (Some(1), Some(200))]);
    assert!(runs.iter().all(|run| positive(&run["applied"]["p50_ns"])), "{lags}");
}
