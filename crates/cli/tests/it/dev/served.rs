//! What a running system answers, and how it is left.

use serde_json::Value;

use super::harness::Dev;
use crate::processes::{run, synddb};
use crate::programs::{finish, program, sql, start};
use crate::roles::PATIENCE_TEXT;

/// `curl` on a URL of a validator or sequencer: the status code, and the body as JSON.
pub(crate) fn curl(arguments: &[&str]) -> (u16, Value) {
    let mut curl = program("curl");
    curl.args(["--silent", "--show-error", "--write-out", "\n%{http_code}"]).args(arguments);
    let told = finish(start(curl, ""));
    let (body, code) = told.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())))
}

#[test]
fn a_replica_answers_queries_that_only_read() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(
        &app,
        "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'one'), (2.5, x'00ff'), (NULL, 9007199254740993);",
    );
    let dev = Dev::start(folder.path());
    dev.assert_replica_equals();
    let url = format!("{}/query", dev.running("validator"));
    let ask = |body: &str| curl(&["--header", "Content-Type: application/json", "--data-binary", body, &url]);

    let (code, answer) = ask(r#"{"sql": "SELECT a, b FROM t WHERE b IS NOT ?", "parameters": ["none"]}"#);
    assert_eq!(code, 200, "{answer}");
    assert_eq!(answer["columns"], serde_json::json!(["a", "b"]));
    let rows = serde_json::json!([
        [1, "one"],
        [2.5, {"blob": "00ff"}],
        [null, {"integer": "9007199254740993"}],
    ]);
    assert_eq!(answer["rows"], rows);
    let status = dev.status();
    assert_eq!(answer["state"], status["validator"]["state"]);

    for refused in [
        "INSERT INTO t VALUES (3, 3)",
        "DELETE FROM t",
        "ATTACH 'other.db' AS other",
        "PRAGMA journal_mode = DELETE",
        "SELECT * FROM _synddb_position",
        "SELECT 1; SELECT 2",
        "VACUUM",
        "CREATE TEMP TABLE x (a)",
    ] {
        let (code, answer) = ask(&serde_json::json!({ "sql": refused }).to_string());
        assert_eq!(code, 422, "{refused}: {answer}");
        assert_eq!(answer["code"], "unprocessable", "{refused}");
    }
    let (code, answer) = ask(r#"{"sql": "SELEKT 1"}"#);
    assert_eq!((code, answer["code"].as_str()), (400, Some("malformed")), "{answer}");
    dev.assert_replica_equals();

    for (process, probe) in [("validator", "/livez"), ("validator", "/readyz"), ("sequencer", "/readyz")] {
        let (code, answer) = curl(&[&format!("{}{probe}", dev.running(process))]);
        assert_eq!(code, 200, "{process} {probe}: {answer}");
    }
    for process in ["validator", "sequencer"] {
        let (code, answer) = curl(&[&format!("{}/metrics", dev.running(process))]);
        assert_eq!(code, 200);
        assert!(answer.as_str().unwrap().contains(&format!("synddb_{process}_")), "{answer}");
    }
    dev.stop();
}

#[test]
fn push_waits_until_everything_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    let dev = Dev::start(folder.path());
    sql(&app, "INSERT INTO t VALUES (1);");
    let push =
        |timeout| run(synddb(["push", app.to_str().unwrap(), "--stored", "--timeout", timeout, "--json"]));
    let (exit, told, errors) = push(PATIENCE_TEXT);
    assert_eq!(exit, 0, "{told}{errors}");
    let reached: Value = serde_json::from_str(told.trim()).unwrap();
    let status = dev.status();
    assert_eq!(status["sequencer"]["stored_next"]["commit"], 2, "{status}");
    assert_eq!(reached["next"]["commit"], 2, "{reached}");

    dev.signal("sequencer", "STOP");
    sql(&app, "INSERT INTO t VALUES (2);");
    let (exit, told, errors) = push("500ms");
    assert_eq!(exit, 4, "{told}{errors}");
    dev.signal("sequencer", "CONT");
    dev.stop();
}

#[test]
fn a_detached_database_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    let dev = Dev::start(folder.path());
    sql(&app, "INSERT INTO t VALUES (1);");
    dev.assert_replica_equals();
    let detach = || run(synddb(["detach", app.to_str().unwrap(), "--restore-journal-mode", "--json"]));
    let (exit, told, errors) = detach();
    assert_eq!(exit, 2, "a running `dev` would attach again: {told}{errors}");
    let (kept, stream) = (dev.folder.clone(), dev.running("stream"));
    dev.stop();

    let (exit, told, errors) = detach();
    assert_eq!(exit, 0, "{told}{errors}");
    assert_eq!(sql(&app, "PRAGMA journal_mode; SELECT * FROM t;"), "delete\n1\n");
    let beside: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
    for gone in ["stream", "incarnations", "agent.sock", "replica.db"] {
        assert!(!kept.join(gone).exists(), "{gone} is left");
    }
    let (exit, _, errors) = detach();
    assert_eq!(exit, 2, "{errors}");

    // Followed again, it is another stream, beside the first one in the same store.
    let dev = Dev::start(folder.path());
    sql(&app, "INSERT INTO t VALUES (2);");
    dev.assert_replica_equals();
    assert_ne!(dev.running("stream"), stream);
    dev.stop();
}

#[test]
fn shells_are_told_how_to_complete() {
    let (exit, told, errors) = run(synddb(["completions", "bash"]));
    assert_eq!(exit, 0, "{errors}");
    assert!(told.contains("synddb") && told.contains("detach"));
}
