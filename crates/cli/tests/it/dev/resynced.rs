//! A replica that somebody wrote into: the validator finds it, names the row, and fetches the replica again.

use serde_json::Value;

use super::Dev;
use super::curl;
use crate::processes::{diff, run, synddb};
use crate::programs::sql;
use crate::roles::Role;

#[test]
fn a_forged_row_is_named_and_the_replica_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(
        &app,
        "CREATE TABLE account(name TEXT PRIMARY KEY, balance REAL); INSERT INTO account VALUES('alice', 10);",
    );
    let dev = Dev::start(folder.path());
    sql(&app, ".timeout 5000\nINSERT INTO account VALUES('bob', 2.5);");
    dev.assert_replica_equals();
    let (replica, store) = (dev.replica(), dev.running("store"));
    let (stream, key) = (dev.running("stream"), dev.running("key"));
    dev.stop();

    let file = replica.to_str().unwrap();
    let of_log = ["--store", &store, "--stream", &stream, "--sequencer-key", &key, "--replica", file];
    let mut command = synddb(["validator", "--json", "--stop-on-eof", "--listen", "127.0.0.1:0"]);
    command.args(of_log);
    let mut validator = Role::start(command);
    let url = validator.event("listening", |_| true)["url"].as_str().unwrap().to_owned();
    validator.event("caught_up", |_| true);
    let (code, audit) = curl(&["-X", "POST", &format!("{url}/audit?wait_ms=60000")]);
    assert_eq!((code, &audit["equal"]), (200, &true.into()), "{audit}");

    sql(&replica, ".timeout 5000\nUPDATE account SET balance = 1000000 WHERE name = 'bob';");
    // By then it may have been found already, by the look that is taken every two seconds.
    let (code, audit) = curl(&["-X", "POST", &format!("{url}/audit?wait_ms=60000")]);
    assert!(code == 503 || audit["equal"] == false, "{code} {audit}");
    let halted = validator.event("halted", |_| true);
    let (code, status) = curl(&[&format!("{url}/status")]);
    assert_eq!((code, &status["sequence"]), (200, &Value::Null), "{status}");
    let difference = &status["halted"]["difference"];
    for (field, wanted) in [
        ("table", "account"),
        ("column", "balance"),
        ("expected", "2.5 (real)"),
        ("found", "1000000.0 (real)"),
        ("naming", "done"),
    ] {
        assert_eq!(difference[field], wanted, "{status}");
    }
    assert!(difference["row"].as_str().unwrap().starts_with("_rowid_="), "{status}");
    assert_eq!(halted["difference"], *difference);

    // Not under a validator, also a halted one.
    let again = |more: &[&str]| {
        let mut command = synddb(["validator"]);
        command.args(more).args(of_log);
        run(command)
    };
    let (exit, _, errors) = again(&["resync", "--once"]);
    assert!(exit == 2 && errors.contains("another process keeps the replica"), "{exit} {errors}");
    validator.close_input();
    assert_eq!(validator.ended().code(), Some(1));

    let report = format!("{file}.divergence.json");
    let told: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(told["halted"]["difference"], *difference);
    assert_eq!(diff(&app, &replica).0, 1);
    let (exit, told, errors) = again(&["resync", "--once"]);
    assert_eq!(exit, 0, "{told}{errors}");
    let (exit, told, errors) = diff(&app, &replica);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    assert!(!std::path::Path::new(&report).exists());
    // Nothing is left to go on behind: what the report names is not there any more.
    let (exit, _, errors) = again(&["resume", "--once", "--after-divergence", &report]);
    assert!(exit == 2 && errors.contains("the report cannot be read"), "{exit} {errors}");
}
