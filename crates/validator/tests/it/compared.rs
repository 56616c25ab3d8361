//! `GET /tables`, `GET /schema`, `POST /tables/rows` and `GET /states`, over HTTP. What runs of rows are is tested in `synddb-sqlite`.

use serde_json::{Value, json};
use synddb_protocol::contents::QUESTION_BYTES_MAX;
use synddb_sqlite::rusqlite;
use synddb_validator::{Event, Mode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::log::Log;
use super::running::{PATIENCE, Running, client};

const SETUP: &str =
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE TABLE u(a, b, PRIMARY KEY(b, a)) WITHOUT ROWID;
    INSERT INTO t VALUES(1, 'one'), (2, x'00'), (3, 0.5); INSERT INTO u VALUES(1, 2)";

async fn serving(log: &Log, scan_ms_max: u64) -> Running {
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.scan_ms_max = scan_ms_max;
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    running
}

async fn rows(running: &mut Running, body: Value) -> (u16, Value) {
    let url = running.url("/tables/rows").await;
    let answer = client().post(url).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_are_those_of_the_file() {
    let log = Log::begin(SETUP).await;
    let mut running = serving(&log, 60_000).await;
    let (code, tables) = running.get_json("/tables").await;
    assert_eq!(code, 200, "{tables}");
    let state = json!(log.state().to_string());
    assert_eq!((&tables["found"]["state"], &tables["at"]["state"]), (&state, &state));
    assert_eq!(tables["at"]["sequence"], 2);
    let counted: Vec<_> = tables["found"]["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|table| (&table["name"], &table["rows"]))
        .collect();
    assert_eq!(counted, [(&json!("t"), &json!(3)), (&json!("u"), &json!(1))]);
    let (_, schema) = running.get_json("/schema").await;
    assert_eq!(schema["found"][0]["name"], "t");
    assert_eq!(schema["found"].as_array().unwrap().len(), 2, "what is the replica's own is not told");

    let (code, listed) = rows(&mut running, json!({"table": "t", "after": [1]})).await;
    assert_eq!((code, &listed["found"]["columns"]), (200, &json!(["id", "v"])), "{listed}");
    let values: Vec<_> = listed["found"]["found"]["listed"]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["values"])
        .collect();
    let expected =
        [json!([{"value": 2}, {"value": {"blob": "00"}}]), json!([{"value": 3}, {"value": {"real": "0.5"}}])];
    assert_eq!(values, expected.iter().collect::<Vec<_>>());

    // What somebody else writes into the file is seen as it is, beside what the log claims.
    let sqlite = rusqlite::Connection::open(log.replica()).unwrap();
    sqlite.execute_batch("UPDATE t SET v = 'forged' WHERE id = 2").unwrap();
    let (_, forged) = running.get_json("/tables").await;
    assert_eq!(forged["at"], tables["at"]);
    assert_ne!(forged["found"]["state"], state);
    assert_ne!(forged["found"]["tables"][0]["digest"], tables["found"]["tables"][0]["digest"]);
    assert_eq!(forged["found"]["tables"][1], tables["found"]["tables"][1]);
    // Also when it was found that somebody wrote: that is what is looked at then.
    let url = running.url("/audit").await;
    client().post(url).send().await.unwrap();
    running.until(|event| matches!(event, Event::Halted(_))).await;
    let (status, halted) = running.get_json("/tables").await;
    assert_eq!((status, &halted), (200, &forged));
    running.stop().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_states_that_were_committed_are_kept() {
    let mut log = Log::begin(SETUP).await;
    let mut running = serving(&log, 60_000).await;
    let mut expected = vec![json!({"sequence": 2, "state": log.state().to_string()})];
    for id in 10..13 {
        log.run(&format!("INSERT INTO t(id) VALUES({id})"));
        let last = log.publish().await;
        running.until_applied(last).await;
        expected.insert(0, json!({"sequence": last, "state": log.state().to_string()}));
    }
    let (code, states) = running.get_json("/states?through=1000000").await;
    assert_eq!((code, &states["found"]), (200, &json!(expected)));
    let (_, earlier) = running.get_json("/states?through=3").await;
    assert_eq!(earlier["found"], json!(expected[2..]));
    for malformed in ["/states", "/states?through=0", "/states?through=x", "/states?through=1&more=1"] {
        assert_eq!(running.get_json(malformed).await.1["code"], "malformed", "{malformed}");
    }
    // Kept over a restart, and made in a replica from before there were any.
    running.stop().await.unwrap();
    let mut running = serving(&log, 60_000).await;
    assert_eq!(running.get_json("/states?through=9").await.1["found"], json!(expected));
    running.stop().await.unwrap();
    rusqlite::Connection::open(log.replica()).unwrap().execute_batch("DROP TABLE _synddb_states").unwrap();
    let mut running = serving(&log, 60_000).await;
    assert_eq!(running.get_json("/states?through=9").await.1["found"], json!([]));
    log.run("DELETE FROM t");
    let last = log.publish().await;
    running.until_applied(last).await;
    assert_eq!(running.get_json("/states?through=9").await.1["found"].as_array().unwrap().len(), 1);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_code() {
    let log = Log::begin(SETUP).await;
    let mut running = serving(&log, 60_000).await;
    let many: Vec<Value> = (0..1024).map(|_| json!([1])).collect();
    for (body, status, code) in [
        (json!({"table": "none"}), 404, "not_found"),
        (json!({"table": "_synddb_position"}), 404, "not_found"),
        (json!({"table": "sqlite_schema"}), 404, "not_found"),
        (json!({}), 400, "malformed"),
        (json!({"table": "t", "else": 1}), 400, "malformed"),
        (json!({"table": "t", "after": [0.5]}), 400, "malformed"),
        (json!({"table": "t", "after": [null]}), 400, "malformed"),
        (json!({"table": "u", "after": [1]}), 400, "malformed"),
        (json!({"table": "t", "cut": {"at": many}}), 413, "too_large"),
        (json!({"table": "t", "cut": {"at": vec![json!([1]); 100_000]}}), 413, "too_large"),
        (json!({"table": "t", "after": vec![1; 100_000]}), 400, "malformed"),
        (json!({"table": "x".repeat(QUESTION_BYTES_MAX)}), 413, "too_large"),
    ] {
        let (found, problem) = rows(&mut running, body.clone()).await;
        let shown: String = body.to_string().chars().take(80).collect();
        assert_eq!((found, &problem["code"]), (status, &code.into()), "{shown}: {problem}");
    }
    running.stop().await.unwrap();
}

/// So many rows that a scan takes longer than a hundredth of a second.
const LARGE: &str =
    "CREATE TABLE t(v); WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60000)
    INSERT INTO t SELECT hex(n) FROM n";

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_ends_with_its_time_and_one_runs_at_a_time() {
    let log = Log::begin(LARGE).await;
    let mut running = serving(&log, 1).await;
    let (code, problem) = running.get_json("/tables").await;
    assert_eq!((code, &problem["code"]), (503, &json!("unavailable")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("scan_ms_max"), "{problem}");
    running.stop().await.unwrap();

    let mut running = serving(&log, 60_000).await;
    let url = running.url("/tables").await;
    let get = || client().get(&url).send();
    let (one, two, three) = tokio::join!(get(), get(), get());
    let codes: Vec<u16> =
        [one, two, three].into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    assert!(codes.contains(&200) && codes.contains(&429), "{codes:?}");
    // Queries have places of their own.
    let (scan, query) =
        tokio::join!(client().get(&url).send(), running.query(json!({"sql": "SELECT count(*) FROM t"})));
    assert_eq!((scan.unwrap().status().as_u16(), query.0), (200, 200));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_still_on_its_way_takes_nobodys_turn() {
    let log = Log::begin(SETUP).await;
    let mut running = serving(&log, 60_000).await;
    let address = running.url("").await.trim_start_matches("http://").to_owned();
    // It is told to send its body, and sends the half of it.
    let begin = async || {
        let mut slow = TcpStream::connect(&address).await.unwrap();
        let head = "POST /tables/rows HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\nExpect: 100-continue\r\n\r\n";
        slow.write_all(head.as_bytes()).await.unwrap();
        let mut told = [0; 25];
        slow.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        slow.write_all(b"{\"tab").await.unwrap();
        slow
    };
    let answered = async |mut slow: TcpStream| {
        let mut told = [0; 12];
        tokio::time::timeout(PATIENCE, slow.read_exact(&mut told)).await.expect("in time").unwrap();
        String::from_utf8(told.to_vec()).unwrap()
    };
    let mut slow = begin().await;
    // Others are answered meanwhile.
    assert_eq!(rows(&mut running, json!({"table": "t"})).await.0, 200);
    assert_eq!(running.query(json!({"sql": "SELECT 1"})).await.0, 200);
    slow.write_all(b"le\":\"t\"}").await.unwrap();
    assert_eq!(answered(slow).await, "HTTP/1.1 200");
    // One that never arrives is refused after its time.
    assert_eq!(answered(begin().await).await, "HTTP/1.1 408");
    running.stop().await.unwrap();
}
