//! `POST /query`, `GET /status` and the probes, over HTTP. What SQL may do is tested in `synddb-sqlite`.

use serde_json::{Value, json};
use synddb_validator::{Event, Mode};

use super::log::Log;
use super::running::{Running, client};

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
    (config.query.concurrent_max, config.query.ms_max) = (1, 1500);
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
