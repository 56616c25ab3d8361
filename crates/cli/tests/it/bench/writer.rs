//! The writer of a benchmark, without the benchmark: that it writes what it says, so that what is compared is the same.

use std::io::{BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout};

use serde_json::{Value, json};

use super::folder;
use crate::processes::{spoken_to, synddb};
use crate::programs::sql;

/// A writer that runs.
struct Writer {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(database: &Path, workload: &Value, until: &Value, capture: &str) -> Self {
        let order = json!({
            "database": database, "sqlite": "libsqlite3.so.0", "workload": workload,
            "synchronous": "normal", "until": until, "warm_up": 60.0, "capture": capture,
        });
        let (child, input, lines) = spoken_to(synddb(["bench", "write", &order.to_string()]));
        let mut writer = Self { child, input, lines };
        assert_eq!(writer.next()["said"], "ready");
        writer
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().expect("the writer ended").unwrap()).unwrap()
    }

    fn say(&mut self, word: &str) {
        writeln!(self.input.as_mut().unwrap(), "\"{word}\"").unwrap();
    }

    /// Has it write and end; what it says that it wrote.
    fn write(mut self) -> Value {
        self.say("go");
        let wrote = self.next();
        assert_eq!(wrote["said"], "wrote");
        self.say("end");
        assert!(self.child.wait().unwrap().success());
        wrote
    }
}

/// Writes so many transactions into a database of a folder.
fn written(
    folder: &Path,
    name: &str,
    workload: &Value,
    transactions: u64,
    capture: &str,
) -> (PathBuf, Value) {
    let database = folder.join(name);
    let until = json!({ "transactions": transactions });
    let wrote = Writer::start(&database, workload, &until, capture).write();
    assert_eq!(wrote["transactions"], transactions);
    (database, wrote)
}

#[test]
fn a_writer_writes_what_it_says_and_the_same_each_time() {
    let folder = folder();
    for workload in ["row", "rows", "orders", "orders_indexed"] {
        let write = |name: &str| written(folder.path(), name, &json!(workload), 30, "none");
        let ((one, wrote), (other, _)) = (write(&format!("{workload}1")), write(&format!("{workload}2")));
        assert_eq!(sql(&one, ".dump"), sql(&other, ".dump"), "{workload}");
        if workload.starts_with("orders") {
            // Every order that came filled another one, and money only changes hands.
            let seen = sql(
                &one,
                "SELECT count(*) FROM trades; SELECT sum(balance) FROM accounts;
                 SELECT status, count(*) FROM orders GROUP BY status;",
            );
            assert_eq!(seen, "30\n1000000000\nfilled|30\nopen|10000\n");
            assert_eq!(wrote["rows"], 150);
        } else {
            let rows = sql(&one, "SELECT count(*), min(length(text)), max(length(text)) FROM entries;");
            assert_eq!(rows.trim(), format!("{}|40|40", wrote["rows"]));
        }
    }
    let (giant, wrote) = written(folder.path(), "giant", &json!({"giant": {"text_bytes": 400}}), 1, "none");
    assert_eq!(wrote["rows"], 500_000);
    let seen = sql(&giant, "SELECT count(*), min(length(text)), max(length(text)) FROM entries;");
    assert_eq!(seen.trim(), "500000|400|400");
}

#[test]
fn other_ways_to_capture_have_every_row() {
    let folder = folder();
    let write = |workload: &str, capture: &str| {
        written(folder.path(), &format!("{workload}-{capture}"), &json!(workload), 20, capture)
    };
    let (triggered, _) = write("orders", "triggers");
    let seen = sql(&triggered, "SELECT of, what, count(*) FROM outbox GROUP BY of, what ORDER BY of, what;");
    assert_eq!(seen, "accounts|UPDATE|40\norders|INSERT|20\norders|UPDATE|20\ntrades|INSERT|20\n");
    let newest = "SELECT balance FROM accounts WHERE id = (SELECT id FROM outbox WHERE of = 'accounts' ORDER BY number DESC LIMIT 1);
                  SELECT value_1 FROM outbox WHERE of = 'accounts' ORDER BY number DESC LIMIT 1;";
    let newest = sql(&triggered, newest);
    let newest: Vec<_> = newest.lines().collect();
    assert_eq!(newest[0], newest[1]);
    for workload in ["row", "rows"] {
        let (kept, wrote) = write(workload, "session");
        let rows = wrote["rows"].as_u64().unwrap();
        // One changeset a transaction, and every text is in one.
        let seen = sql(
            &kept,
            "SELECT count(*) FROM outbox;
             SELECT count(*) FROM entries WHERE EXISTS
               (SELECT 1 FROM outbox WHERE instr(changeset, CAST(text AS BLOB)) > 0);",
        );
        assert_eq!(seen, format!("20\n{rows}\n"));
    }
}

#[test]
fn a_paced_writer_says_when_each_commit_was_there() {
    let folder = folder();
    let until = json!({"paced": {"transactions": 40, "every": {"secs": 0, "nanos": 2_000_000}}});
    let wrote = Writer::start(&folder.path().join("app.db"), &json!("row"), &until, "none").write();
    let committed: Vec<_> =
        wrote["committed_ns"].as_array().unwrap().iter().map(|ns| ns.as_u64().unwrap()).collect();
    assert!(committed.len() == 40 && committed.is_sorted(), "{wrote}");
    // The first begins at once, and the last 39 times 2 ms later.
    assert!(wrote["seconds"].as_f64().unwrap() >= 0.078, "{wrote}");
}

#[test]
fn a_writer_gets_warm_and_then_writes_what_it_says() {
    let folder = folder();
    let database = folder.path().join("app.db");
    let mut writer = Writer::start(&database, &json!("rows"), &json!({"transactions": 10}), "none");
    writer.say("warm");
    let warm = writer.next();
    // Its WAL began anew twice: each time a thousand pages and more had come, of some for each transaction.
    assert_eq!((&warm["said"], &warm["is_warm"]), (&json!("warm"), &json!(true)), "{warm}");
    let (before, wrote) = (warm["transactions"].as_u64().unwrap(), writer.write());
    assert!(before > 200 && wrote["transactions"] == 10, "{warm}, {wrote}");
    let rows = sql(&database, "SELECT count(*) FROM entries;");
    assert_eq!(rows.trim(), ((before + 10) * 100).to_string());
}

#[test]
fn a_writer_ends_when_nobody_is_there_any_more() {
    let folder = folder();
    let database = folder.path().join("app.db");
    let mut writer = Writer::start(&database, &json!("row"), &json!({"seconds": 3000.0}), "none");
    writer.say("go");
    writer.input = None;
    assert!(writer.child.wait().unwrap().success());
}
