//! `POST /query`, `GET /status` and the probes, over HTTP. What SQL may do is tested in `synddb-sqlite`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use synddb_validator::{Event, Mode};

use super::log::Log;
use super::running::{PATIENCE, Running, client};

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES
    (1), (2.5), ('text'), (x'00ff'), (NULL), (9007199254740993), (9e999), (CAST(x'ff41' AS TEXT))";

async fn serving(setup: &str) -> (Log, Running) {
    let log = Log::begin(setup).await;
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    (config.query.rows_max, config.query.bytes_max, config.query.ms_max) = (100, 100_000, 300);
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    (log, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_in_their_forms_with_the_state_that_they_are_of() {
    let (log, mut running) = serving(SETUP).await;
    let (status, answer) = running.query(json!({"sql": "SELECT id, v FROM t ORDER BY id"})).await;
    assert_eq!(status, 200, "{answer}");
    let values = [
        json!(1),
        json!(2.5),
        json!("text"),
        json!({"blob": "00ff"}),
        Value::Null,
        json!({"integer": "9007199254740993"}),
        json!({"real": "inf"}),
        json!({"text": "ff41"}),
    ];
    let rows: Vec<Value> = values.iter().zip(1..).map(|(value, id): (_, u64)| json!([id, value])).collect();
    let state = log.state().to_string();
    let expected =
        json!({"columns": ["id", "v"], "rows": rows, "sequence": 2, "state": state, "truncated": false});
    assert_eq!(answer, expected);
    // The same forms are taken as parameters.
    for value in values.iter().filter(|value| !value.is_null()) {
        let body = json!({"sql": "SELECT count(*) FROM t WHERE v = ?", "parameters": [value]});
        let (_, answer) = running.query(body).await;
        assert_eq!(answer["rows"], json!([[1]]), "{value}");
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_code() {
    let (_log, mut running) = serving(SETUP).await;
    let many =
        "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1000) SELECT v FROM n";
    let endless = "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT count(*) FROM n";
    for (body, status, code) in [
        (json!({"sql": "DELETE FROM t"}), 422, "unprocessable"),
        (json!({"sql": "SELECT * FROM _synddb_position"}), 422, "unprocessable"),
        (json!({"sql": "SELECT 1; SELECT 2"}), 422, "unprocessable"),
        (json!({"sql": "SELECT nothing FROM t"}), 400, "malformed"),
        (json!({"sql": "SELEC"}), 400, "malformed"),
        (json!({"sql": "SELECT ?"}), 400, "malformed"),
        (json!({"sql": "SELECT ?", "parameters": [true]}), 400, "malformed"),
        (json!({"sql": "SELECT 1", "else": 1}), 400, "malformed"),
        (json!("SELECT 1"), 400, "malformed"),
        (json!({"sql": many}), 413, "too_large"),
        (json!({"sql": "SELECT hex(zeroblob(60000))"}), 413, "too_large"),
        (json!({"sql": format!("SELECT '{}'", "x".repeat(100_000))}), 413, "too_large"),
        (json!({"sql": "x".repeat(2 << 20)}), 413, "too_large"),
        (json!({"sql": endless}), 503, "unavailable"),
        (json!({"sql": "SELECT ?", "parameters": vec![json!({"blob": ""}); 1001]}), 413, "too_large"),
        // Not one that waits for anything, either.
        (
            json!({"sql": "SELECT ?", "parameters": vec![0; 1001], "wait_for": {"sequence": 9}, "wait_ms": 0}),
            413,
            "too_large",
        ),
    ] {
        let (found, problem) = running.query(body.clone()).await;
        let shown: String = body.to_string().chars().take(80).collect();
        assert_eq!((found, &problem["code"]), (status, &code.into()), "{shown}: {problem}");
    }
    let (status, answer) = running.query(json!({"sql": many, "truncate": true})).await;
    assert_eq!((status, answer["rows"].as_array().unwrap().len()), (200, 100));
    assert_eq!(answer["truncated"], json!(true));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_queries_run_than_may() {
    let log = Log::begin(SETUP).await;
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    (config.query.concurrent_max, config.query.waiting_max, config.query.ms_max) = (1, 0, 1500);
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let endless = "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT count(*) FROM n";
    let url = running.url("/query").await;
    let post = || client().post(&url).json(&json!({"sql": endless})).send();
    let (one, two) = tokio::join!(post(), post());
    let mut found = [one.unwrap().status().as_u16(), two.unwrap().status().as_u16()];
    found.sort_unstable();
    assert_eq!(found, [429, 503]);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_waits_for_its_turn() {
    const GREEDY: usize = 12;
    let log = Log::begin(SETUP).await;
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    (config.query.concurrent_max, config.query.ms_max) = (1, 100);
    config.query.waiting_ms_max = 100_000;
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let endless = "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT count(*) FROM n";
    let url = running.url("/query").await;
    let (over, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let greedy: Vec<_> = (0..GREEDY)
        .map(|_| {
            let (url, over, ended) = (url.clone(), Arc::clone(&over), Arc::clone(&ended));
            tokio::spawn(async move {
                let client = client();
                while !over.load(Ordering::Relaxed) {
                    let answer = client.post(&url).json(&json!({"sql": endless})).send().await.unwrap();
                    assert_eq!(answer.status(), 503, "it ran, and was not turned away");
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    while ended.load(Ordering::Relaxed) < 2 * GREEDY {
        tokio::task::yield_now().await;
    }
    // Somebody else's question is next, whatever waits of one client.
    let modest =
        reqwest::Client::builder().local_address(Some("127.0.0.2".parse().unwrap())).build().unwrap();
    let before = ended.load(Ordering::Relaxed);
    let answer = modest.post(&url).json(&json!({"sql": "SELECT 1"})).send().await.unwrap();
    let meanwhile = ended.load(Ordering::Relaxed) - before;
    assert_eq!(answer.status(), 200);
    assert!(meanwhile < GREEDY / 2, "{meanwhile} went before it");
    over.store(true, Ordering::Relaxed);
    for asked in greedy {
        asked.await.unwrap();
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_gives_its_place_back() {
    let log = Log::begin(SETUP).await;
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    // Nobody's time is over, and nobody's patience, before the test fails.
    (config.query.concurrent_max, config.query.ms_max) = (1, 100_000);
    config.query.waiting_ms_max = 100_000;
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let endless = "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT count(*) FROM n";
    let url = running.url("/query").await;
    for _ in 0..3 {
        let short = client().post(&url).json(&json!({"sql": endless})).timeout(Duration::from_millis(200));
        assert!(short.send().await.unwrap_err().is_timeout());
        let answer = tokio::time::timeout(PATIENCE, running.query(json!({"sql": "SELECT 1"}))).await;
        assert_eq!(answer.expect("the place is free").0, 200);
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_waits_for_the_state_that_it_names() {
    let (mut log, mut running) = serving(SETUP).await;
    let client_state = |log: &Log| log.tip.client().unwrap().clone();
    let now = client_state(&log);
    let there = json!({"incarnation": now.incarnation, "commit": now.next});
    let sql = "SELECT count(*) FROM t";
    // What is there already is not waited for.
    for wait_for in [there.clone(), json!({"sequence": 2}), json!({"sequence": 1})] {
        let (status, answer) = running.query(json!({"sql": sql, "wait_for": wait_for, "wait_ms": 0})).await;
        assert_eq!((status, &answer["rows"]), (200, &json!([[8]])), "{answer}");
    }
    let next = json!({"incarnation": now.incarnation, "commit": now.next.get() + 1});
    for wait_for in [next.clone(), json!({"sequence": 3})] {
        let (status, problem) = running.query(json!({"sql": sql, "wait_for": wait_for, "wait_ms": 50})).await;
        assert_eq!((status, &problem["code"]), (412, &json!("not_yet")), "{problem}");
    }
    // Another one of the same counter is no incarnation of this log.
    let mut other = next.clone();
    other["incarnation"]["nonce"] = json!(format!("0x{}", "ab".repeat(16)));
    let (status, problem) = running.query(json!({"sql": sql, "wait_for": other, "wait_ms": 0})).await;
    assert_eq!((status, &problem["code"]), (412, &json!("not_yet")), "{problem}");
    for wait_for in [json!({}), json!(3), json!({"sequence": 3, "commit": 1}), json!({"commit": 1})] {
        let (status, problem) = running.query(json!({"sql": sql, "wait_for": wait_for})).await;
        assert_eq!((status, &problem["code"]), (400, &json!("malformed")), "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        for told in ["`wait_for`", "\"incarnation\"", "\"commit\"", "\"sequence\""] {
            assert!(detail.contains(told), "the forms are named: {detail}");
        }
        assert!(!detail.contains("untagged"), "{detail}");
    }
    // More wait for a state than may be inside, and others are answered meanwhile.
    let url = running.url("/query").await;
    let waiting: Vec<_> = (0..20)
        .map(|number| {
            let wait_for = if number % 2 == 0 { next.clone() } else { json!({"sequence": 3}) };
            let body = json!({"sql": sql, "wait_for": wait_for, "wait_ms": 30_000});
            tokio::spawn(client().post(&url).json(&body).send())
        })
        .collect();
    assert_eq!(running.query(json!({"sql": sql})).await.1["rows"], json!([[8]]));
    assert!(waiting.iter().all(|asked| !asked.is_finished()));
    log.run("INSERT INTO t(v) VALUES(7)");
    log.publish().await;
    for asked in waiting {
        let answer = asked.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!((&answer["rows"], &answer["sequence"]), (&json!([[9]]), &json!(3)));
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_as_csv_to_who_asks_for_it() {
    let (log, mut running) = serving(SETUP).await;
    let url = running.url("/query").await;
    let ask = |accept: &'static str, sql: &'static str| {
        client().post(&url).header("accept", accept).json(&json!({"sql": sql, "truncate": true})).send()
    };
    let answer = ask("text/csv", "SELECT id AS \"a number\", v FROM t ORDER BY id").await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/csv; charset=utf-8; header=present");
    let state = log.state().to_string();
    assert_eq!(
        [header("synddb-sequence"), header("synddb-state"), header("synddb-truncated")],
        ["2", &state, "false"]
    );
    let expected = "a number,v\r\n1,1\r\n2,2.5\r\n3,text\r\n4,x'00ff'\r\n5,\r\n6,9007199254740993\r\n7,9e999\r\n8,CAST(x'ff41' AS TEXT)\r\n";
    assert_eq!(answer.text().await.unwrap(), expected);
    let many =
        "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1000) SELECT v FROM n";
    let answer = ask("text/csv; header=present", many).await.unwrap();
    assert_eq!(answer.headers()["synddb-truncated"], "true");
    assert_eq!(answer.text().await.unwrap().lines().count(), 101);
    for accept in ["*/*", "application/json", "text/csv, application/json"] {
        let answer = ask(accept, "SELECT 1").await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json", "{accept}");
    }
    let refused = ask("text/csv", "DELETE FROM t").await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["content-type"]),
        (422, &"application/problem+json".parse().unwrap())
    );
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_probes_say_where_it_stands() {
    let (mut log, mut running) = serving(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(7); INSERT INTO t(v) VALUES(8)");
    let last = log.publish().await;
    running.until_applied(last).await;
    let (code, status) = running.get_json("/status").await;
    let client = log.tip.client().unwrap();
    let expected = json!({
        "stream": super::log::STREAM.to_string(),
        "sequence": 4,
        "next": {"incarnation": client.incarnation, "commit": 3},
        "state": log.state().to_string(),
        "timestamp": log.tip.timestamp().as_ms(),
        "stored": 4,
        "halted": null, "gaps": [],
    });
    assert_eq!((code, status), (200, expected));
    assert_eq!(running.get("/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(running.get("/metrics").await.0, 200);
    assert_eq!(running.get_json("/nothing").await.1["code"], json!("not_found"));
    assert_eq!(running.get_json("/query").await.1["code"], json!("method_not_allowed"));
    running.stop().await.unwrap();
}
