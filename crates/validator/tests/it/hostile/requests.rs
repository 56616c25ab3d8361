//! Whoever asks a replica may be anybody: questions that almost come, answers that nobody reads, and questions changed at random.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::Child;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use synddb_validator::{Event, Mode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::killed::{configuration, validator};
use crate::log::Log;
use crate::running::{PATIENCE, Running, client};

/// How many almost ask, and as many ask and read nothing, unless the environment says.
const CONNECTIONS: u64 = 150;

/// For how long somebody else asks meanwhile.
const TIME: Duration = Duration::from_secs(2);

/// The most memory that the process may have had, in MiB: the bounds of bodies and of answers, and what queries take.
const MEMORY_MAX_MIB: u64 = 640;

/// Bytes of a question that never ends, and what is sent of it.
const QUESTION: usize = 1 << 20;
const SENT: usize = QUESTION - 1000;

/// How many questions are changed at random.
const CASES: usize = 1500;

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A validator that caught up, and where it listens.
fn started(log: &Log) -> (Process, SocketAddr) {
    let file = configuration(log, "follow");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("listen = \"127.0.0.1:0\"\n{text}")).unwrap();
    let mut child = validator(&file).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let process = Process(child);
    let mut address = None;
    for line in lines.by_ref() {
        if let Some((_, rest)) = line.split_once("127.0.0.1:").filter(|_| line.contains("listening")) {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            address = Some(format!("127.0.0.1:{port}").parse().unwrap());
        }
        if line.contains("CaughtUp") {
            break;
        }
    }
    // Whoever writes and is read by nobody stands still.
    std::thread::spawn(move || lines.for_each(drop));
    (process, address.unwrap())
}

fn question(length: usize) -> String {
    format!("POST /query HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n")
}

/// Sends a question but for its end, and waits until it is refused.
async fn almost_ask(to: SocketAddr) {
    let mut connection = TcpStream::connect(to).await.unwrap();
    connection.write_all(question(QUESTION).as_bytes()).await.ok();
    connection.write_all(&vec![b' '; SENT]).await.ok();
    connection.readable().await.ok();
    std::future::pending::<()>().await;
}

/// How often one asks that reads nothing.
const ASKED: usize = 4;

/// Asks for long answers, and reads nothing.
async fn read_nothing(to: SocketAddr) {
    let mut connection = TcpStream::connect(to).await.unwrap();
    let sql = json!({"sql": "SELECT hex(zeroblob(500000)), hex(zeroblob(500000)), hex(zeroblob(500000))"})
        .to_string();
    for _ in 0..ASKED {
        connection.write_all(format!("{}{sql}", question(sql.len())).as_bytes()).await.ok();
    }
    std::future::pending::<()>().await;
}

/// What is put into questions.
const PIECES: [&str; 25] = [
    "DELETE FROM t",
    ";",
    "'",
    "\"",
    "--",
    "/*",
    "\\u0000",
    "null",
    "1e999",
    "-1",
    "[[[[",
    "{\"blob\":\"zz\"}",
    "pragma",
    "attach",
    "t",
    "_synddb_position",
    "9223372036854775808",
    " ",
    "1",
    " + 1",
    " OR 1",
    "max(a)",
    "hex(",
    ")",
    ",",
];

/// The same, but for a few bytes.
fn changed(text: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut text = text.to_vec();
    for _ in 0..random.random_range(1..3) {
        let at = random.random_range(0..=text.len());
        match random.random_range(0..6) {
            0 => text.truncate(at),
            1 if at < text.len() => text[at] ^= 1 << random.random_range(0..8),
            2 | 3 => drop(text.splice(at..at, PIECES[random.random_range(0..PIECES.len())].bytes())),
            4 if at < text.len() => text[at] = b"0123456789 ,()*"[random.random_range(0..15)],
            _ => drop(text.drain(at..text.len().min(at + 2))),
        }
    }
    text
}

fn memory_max_mib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_almost_come_and_answers_that_nobody_reads_take_bounded_memory() {
    let connections =
        std::env::var("SYNDDB_HOSTILE_CONNECTIONS").map_or(CONNECTIONS, |most| most.parse().unwrap());
    let log = Log::begin("CREATE TABLE t(a); INSERT INTO t VALUES(1)").await;
    let (mut process, address) = started(&log);
    let mut crowd = JoinSet::new();
    for _ in 0..connections {
        crowd.spawn(almost_ask(address));
        crowd.spawn(read_nothing(address));
    }
    let (http, begun) = (client(), Instant::now());
    let (mut took, mut busy) = (Vec::new(), 0);
    while begun.elapsed() < TIME || took.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "who asks is kept out");
        let asked = Instant::now();
        let question =
            http.post(format!("http://{address}/query")).json(&json!({"sql": "SELECT count(*) FROM t"}));
        match question.send().await.unwrap().status().as_u16() {
            200 => took.push(asked.elapsed()),
            429 => busy += 1,
            other => panic!("{other}"),
        }
    }
    crowd.shutdown().await;
    took.sort_unstable();
    let memory = memory_max_mib(&process);
    println!(
        "{connections} almost ask and as many read nothing: {} answers, p50 {:.1} ms, longest {:.1} ms; {busy} times busy; {memory} MiB at most",
        took.len(),
        took[took.len() / 2].as_secs_f64() * 1e3,
        took.last().unwrap().as_secs_f64() * 1e3,
    );
    assert!(memory < MEMORY_MAX_MIB, "{memory} MiB");
    assert!(process.0.try_wait().unwrap().is_none(), "it ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_changed_at_random_are_answered_or_refused_and_change_nothing() {
    let log = Log::begin("CREATE TABLE t(a); INSERT INTO t VALUES(1), (2)").await;
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.query.ms_max = 500;
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let questions = [
        (
            "query",
            json!({"sql": "SELECT a, count(*) FROM t WHERE a < ? GROUP BY a ORDER BY 2 LIMIT 9", "parameters": [7], "truncate": true}),
        ),
        (
            "query",
            json!({"sql": "WITH x(y) AS (VALUES (1), (2)) SELECT y, a FROM x JOIN t ON a = y", "parameters": []}),
        ),
        ("tables/rows", json!({"table": "t", "after": [1], "cut": {"at": [[2]]}})),
        (
            "tables/rows",
            json!({"table": "t", "after": [1], "through": [{"integer": "9007199254740993"}], "cut": "listed"}),
        ),
    ];
    let mut random = SmallRng::seed_from_u64(1);
    let http = client();
    let base = running.url("").await;
    let mut found = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..CASES {
        let (path, question) = &questions[random.random_range(0..questions.len())];
        // The SQL is changed inside of JSON that is right, or the JSON is.
        let text = match question["sql"].as_str().filter(|_| random.random_bool(0.7)) {
            Some(sql) => {
                let mut question = question.clone();
                let changed = changed(sql.as_bytes(), &mut random);
                question["sql"] = String::from_utf8_lossy(&changed).into_owned().into();
                question.to_string().into_bytes()
            }
            None => changed(question.to_string().as_bytes(), &mut random),
        };
        let answer = http.post(format!("{base}/{path}")).body(text.clone()).send().await.unwrap();
        let status = answer.status().as_u16();
        assert!(
            matches!(status, 200 | 400 | 404 | 413 | 422 | 429 | 503),
            "{status}: {path}: {}",
            String::from_utf8_lossy(&text)
        );
        *found.entry(status).or_default() += 1;
    }
    println!("{CASES} questions changed at random: {found:?}");
    assert!(found.contains_key(&200) && found.contains_key(&400), "{found:?}");
    let (_, answer) = running.query(json!({"sql": "SELECT sum(a), count(*) FROM t"})).await;
    assert_eq!(answer["rows"], json!([[3, 2]]));
    assert_eq!(answer["state"], json!(log.state().to_string()));
    running.stop().await.unwrap();
}
