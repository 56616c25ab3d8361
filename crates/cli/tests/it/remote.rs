//! `synddb diff --remote`: two replicas that are asked over HTTP, of which one's file was changed by the `sqlite3` shell.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use serde_json::{Value, json};

use super::processes::{run, synddb};
use super::programs::sql;
use super::roles::{PATIENCE_TEXT, Role, System};

const SETUP: &str = "
    CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT, balance REAL);
    WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000)
    INSERT INTO account SELECT n, 'account ' || n, n / 4.0 FROM n;
    CREATE TABLE held (a TEXT COLLATE NOCASE, b, PRIMARY KEY (a DESC, b)) WITHOUT ROWID;
    INSERT INTO held SELECT 'h' || (id % 7), id FROM account WHERE id < 5000;
    CREATE TABLE untouched (v); INSERT INTO untouched VALUES (1);";

/// Most requests that a difference in 100,000 rows takes: status, tables, runs, rows and states, of each.
const REQUESTS_MAX: u64 = 10;

struct Two {
    system: System,
    _agent: Role,
    second: Role,
    urls: [String; 2],
    forged: std::path::PathBuf,
}

impl Two {
    fn start(folder: &Path) -> Self {
        let system = System::start(folder);
        sql(&system.app, SETUP);
        let agent = system.follow();
        sql(&system.app, "UPDATE account SET balance = 0 WHERE id = 1;");
        let forged = folder.join("second.db");
        let (second, url) = system.another_validator(&forged);
        system.assert_equal();
        let urls = [system.validator_url().to_owned(), url];
        Self { system, _agent: agent, second, urls, forged }
    }

    fn diff(&self) -> (i32, Value) {
        remote(&self.urls[0], &self.urls[1])
    }
}

fn remote(one: &str, other: &str) -> (i32, Value) {
    let (exit, told, errors) =
        run(synddb(["diff", "--remote", one, other, "--timeout", PATIENCE_TEXT, "--json"]));
    let event = told.lines().last().unwrap_or_else(|| panic!("it said nothing: {errors}"));
    (exit, serde_json::from_str(event).unwrap())
}

#[test]
fn the_row_that_a_replica_was_forged_in_is_found_in_few_requests() {
    let folder = tempfile::tempdir().unwrap();
    let two = Two::start(folder.path());
    let (exit, equal) = two.diff();
    assert_eq!((exit, &equal["event"]), (0, &json!("equal")), "{equal}");
    assert_eq!(equal["remote"]["requests"], 4, "{equal}");
    let state = equal["state"].clone();

    // The application's own file beside a replica, which has no position in the log.
    let (exit, event) = remote(two.system.app.to_str().unwrap(), &two.urls[1]);
    assert_eq!((exit, &event["state"]), (0, &state), "{event}");

    let id = |id: u64| json!([["id", id]]);
    for (forgery, undo, row) in [
        (
            "UPDATE account SET balance = 1000000 WHERE id = 73122",
            "UPDATE account SET balance = 73122 / 4.0 WHERE id = 73122",
            json!({"table": "account", "key": id(73122), "column": "balance", "one": {"real": "18280.5"}, "other": {"real": "1000000.0"}}),
        ),
        (
            "DELETE FROM account WHERE id = 99999",
            "INSERT INTO account VALUES (99999, 'account 99999', 99999 / 4.0)",
            json!({"table": "account", "key": id(99999), "only_in": "first"}),
        ),
        (
            "INSERT INTO account VALUES (100001, 'nobody', 5)",
            "DELETE FROM account WHERE id = 100001",
            json!({"table": "account", "key": id(100_001), "only_in": "second"}),
        ),
        (
            "UPDATE held SET b = 'x' WHERE b = 4000",
            "UPDATE held SET b = 4000 WHERE b = 'x'",
            json!({"table": "held", "key": [["a", "h3"], ["b", 4000]], "only_in": "first"}),
        ),
    ] {
        sql(&two.forged, &format!("{forgery};"));
        // It finds out by itself, and for a moment then it answers nothing.
        two.second.event("halted", |_| true);
        let (exit, found) = two.diff();
        assert_eq!((exit, &found["event"]), (1, &json!("different")), "{forgery}: {found}");
        let remote = &found["remote"];
        assert_eq!(remote["row"], row, "{forgery}: {found}");
        assert!(remote["requests"].as_u64().unwrap() <= REQUESTS_MAX, "{forgery}: {found}");
        // The first is what the log claims, the second is not; both recorded the same past.
        assert_eq!((&remote["one"]["scanned"], &remote["one"]["claimed"]), (&state, &state), "{found}");
        assert_eq!(remote["other"]["claimed"], state);
        assert_ne!(remote["other"]["scanned"], state);
        let expected = json!({"equal_at": remote["one"]["sequence"], "different_at": null});
        assert_eq!(remote["history"], expected, "{found}");
        sql(&two.forged, &format!("{undo};"));
    }
    assert_eq!(two.diff().0, 0);

    sql(&two.forged, "CREATE INDEX hidden ON account (name);");
    let (exit, told, errors) = run(synddb(["diff", "--remote", &two.urls[0], &two.urls[1]]));
    assert_eq!((exit, errors.as_str()), (1, ""), "{told}");
    assert!(told.starts_with("index hidden: only in the second database\n"), "{told}");
    assert!(told.contains(&format!("{} is not what the log claims at message", two.urls[1])), "{told}");
    println!("{told}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let begin = |folder: &Path| {
        let system = System::start(folder);
        sql(&system.app, "CREATE TABLE t (v); INSERT INTO t VALUES (1);");
        let agent = system.follow();
        system.assert_equal();
        (system, agent)
    };
    let (one, other) = (begin(folder.path()), begin(other.path()));
    let (exit, told) = remote(one.0.validator_url(), other.0.validator_url());
    assert_eq!(exit, 2, "{told}");
    assert!(told["message"].as_str().unwrap().contains("different logs"), "{told}");
    let missing = folder.path().join("none.db");
    assert_eq!(remote(missing.to_str().unwrap(), one.0.validator_url()).0, 2);
    // One that goes no further than an earlier message.
    let copy = folder.path().join("copy.db");
    sql(&one.0.replica(), &format!(".backup '{}'", copy.display()));
    sql(&one.0.app, "INSERT INTO t VALUES (2);");
    one.0.assert_equal();
    let (copy, url) = (copy.to_str().unwrap(), one.0.validator_url());
    let (exit, told, errors) = run(synddb(["diff", "--remote", copy, url, "--timeout", "300ms"]));
    assert_eq!(exit, 4, "{told}{errors}");
    assert!(errors.contains("stands at message"), "{errors}");
}

/// A peer that answers each request to a path with the same text.
fn liar(answers: Vec<(&'static str, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &answers);
        }
    });
    url
}

fn answer(mut stream: TcpStream, answers: &[(&str, String)]) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let head_end = loop {
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            return;
        }
        request.extend_from_slice(&buffer[..read]);
        if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&request[..head_end]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut left = head_end + length - request.len().min(head_end + length);
    while left > 0 {
        let read = stream.read(&mut buffer).unwrap();
        left = left.saturating_sub(read.max(1));
    }
    let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap();
    let body = &answers.iter().find(|(known, _)| *known == path).unwrap_or_else(|| panic!("{path}")).1;
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
}

#[test]
fn a_peer_that_lies_is_found_out_and_prints_nothing_of_its_own() {
    let hash = |digit: &str| format!("0x{}", digit.repeat(64));
    let at = json!({"stream": hash("1"), "sequence": 5, "state": hash("2")});
    let status = json!({
        "stream": hash("1"), "sequence": 5, "next": null, "state": hash("2"), "timestamp": 0, "stored": 5, "halted": null
    });
    let peer = |digit: &str, found: Value| {
        let name = "t\u{1b}[2J\u{202e}";
        let tables = json!({
            "state": hash(digit), "head": hash("4"), "encoding": "utf8", "user_version": 0, "application_id": 0,
            "tables": [{"name": name, "rows": 9, "digest": hash(digit)}],
        });
        let rows = json!({"columns": ["a\u{7}"], "key": [0], "found": found});
        let answer = |found: Value| json!({"at": at, "found": found}).to_string();
        liar(vec![
            ("/status", status.to_string()),
            ("/tables", answer(tables)),
            ("/tables/rows", answer(rows)),
            ("/states", answer(json!([]))),
        ])
    };
    let run_of = |digit: &str, rows: u64| {
        json!({"runs": [
            {"through": [1], "rows": rows, "digest": hash(digit)},
            {"through": null, "rows": rows, "digest": hash(digit)},
        ]})
    };
    let listed = |digit: &str, key: &[usize]| json!({"columns": ["a"], "key": key, "listed": 0, "rows": [{"digest": hash(digit), "values": [{"value": "\u{1b}]0;x\u{7}"}]}]});
    // A part with as many rows as the whole, again and again.
    for (one, other) in [
        (run_of("5", 9), run_of("6", 9)),
        (run_of("5", 9), run_of("5", 9)),
        (json!({"runs": []}), json!({"runs": []})),
        (json!({"runs": [{"through": [1], "rows": 1, "digest": hash("5")}]}), json!({"runs": []})),
        (json!({"listed": {"rows": [], "more": true}}), json!({"runs": []})),
        (json!({"listed": {"rows": [], "more": false}}), json!({"listed": {"rows": [], "more": false}})),
        (listed("5", &[0]), listed("6", &[0])),
    ] {
        let (first, second) = (peer("5", one.clone()), peer("6", other.clone()));
        let (exit, told, errors) = run(synddb(["diff", "--remote", &first, &second, "--timeout", "5s"]));
        assert_eq!(exit, 3, "{one} {other}: {told}{errors}");
    }
    // What differs is told, on lines of ours.
    let row = |digit: &str| {
        let rows = json!([{"digest": hash(digit), "values": [{"value": "\u{1b}]0;x\u{7}"}]}]);
        json!({"listed": {"rows": rows, "more": false}})
    };
    let (first, second) = (peer("5", json!({"listed": {"rows": [], "more": false}})), peer("6", row("6")));
    let (exit, told, errors) = run(synddb(["diff", "--remote", &first, &second, "--timeout", "5s"]));
    assert_eq!(exit, 1, "{told}{errors}");
    assert!(told.contains("only in the second database"), "{told}");
    assert!(!told.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{told:?}");
}
