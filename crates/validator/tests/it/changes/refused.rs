//! Who is shown nothing, and who is ended.

use synddb_validator::Event as Happened;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::listening;
use super::reader::Events;
use crate::log::Log;
use crate::running::{PATIENCE, Running, client};

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_none_or_is_not_held_is_a_problem() {
    let log = Log::begin("CREATE TABLE t(a)").await;
    let mut config = listening(&log);
    config.changes.readers_max = 1;
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    for (query, status, code) in [
        ("?from=65540", 404, "not_found"),
        ("?from=5&through=3", 400, "range"),
        ("?from=2&through=1", 400, "range"),
        ("?from=0", 400, "malformed"),
        ("?from=x", 400, "malformed"),
        ("?tables=", 400, "malformed"),
        ("?tables=a,,b", 400, "malformed"),
        ("?else=1", 400, "malformed"),
    ] {
        let (found, problem) = running.get_json(&format!("/changes{query}")).await;
        assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{query}: {problem}");
    }
    let url = running.url("/changes").await;
    for (id, status) in [("no", 400), ("3-", 400), ("65539", 404), ("2", 200), ("9-3", 200)] {
        let answer = let_in(|| client().get(&url).header("last-event-id", id)).await;
        assert_eq!(answer.status().as_u16(), status, "{id}");
    }
    // The one who reads keeps the other one out until it goes.
    let reading = let_in(|| client().get(&url)).await;
    assert_eq!(reading.status().as_u16(), 200);
    let refused = client().get(&url).send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 429);
    drop(reading);
    let_in(|| client().get(&url)).await;
    running.stop().await.unwrap();
}

/// The answer to a request that is not kept out any more: that somebody has gone is noticed a moment later.
async fn let_in(request: impl Fn() -> reqwest::RequestBuilder) -> reqwest::Response {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let answer = request().send().await.unwrap();
        if answer.status().as_u16() != 429 {
            return answer;
        }
        assert!(std::time::Instant::now() < until, "nobody is let in");
        tokio::task::yield_now().await;
    }
}

/// Three batches with so much in them that no connection takes all of one while nobody reads.
async fn large(log: &mut Log) {
    let grow = "INSERT INTO t(v) SELECT hex(randomblob(5000)) FROM (WITH RECURSIVE n(v) AS
        (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1500) SELECT v FROM n)";
    for _ in 0..3 {
        log.run(grow);
        log.publish().await;
    }
}

/// A connection that reads the beginning of an event, and no more until it is told.
async fn slow(url: &str) -> (TcpStream, Vec<u8>) {
    let address = url.trim_start_matches("http://").split('/').next().unwrap();
    let path = url.split_once(address).unwrap().1;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1 << 16).unwrap();
    let mut slow = socket.connect(address.parse().unwrap()).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    slow.write_all(head.as_bytes()).await.unwrap();
    let (mut text, mut buffer) = (Vec::new(), [0; 64]);
    while !text.windows(13).any(|window| window == b"event: commit") {
        let read = tokio::time::timeout(PATIENCE, slow.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0);
        text.extend_from_slice(&buffer[..read]);
    }
    (slow, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_keeps_nobody_else_from_reading_the_store() {
    let mut log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    large(&mut log).await;
    let mut config = listening(&log);
    // Longer than this test has.
    config.changes.stall_ms_max = 3_600_000;
    Running::start(log.config(synddb_validator::Mode::Once)).end().await.unwrap();
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let url = running.url("/changes?from=3").await;
    // As many as have turns.
    let [(mut first, mut text), _second] = [slow(&url).await, slow(&url).await];
    let mut events = Events::open(&url, None).await;
    let through = |event: &super::reader::Event| {
        event.name == "commit" && event.is_last() && event.number("through") == log.last().get()
    };
    events.until(through).await;
    // And it goes on itself, with nothing twice and nothing left out.
    let wanted = format!("id: {}-3\n", log.last());
    let mut buffer = vec![0; 1 << 16];
    while !text[text.len().saturating_sub(buffer.len() + 64)..]
        .windows(wanted.len())
        .any(|window| window == wanted.as_bytes())
    {
        let read = tokio::time::timeout(PATIENCE, first.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0);
        text.extend_from_slice(&buffer[..read]);
    }
    // An id is in the first piece of its event, and is not cut.
    let text = String::from_utf8_lossy(&text);
    let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    let mut again =
        Events::open(&running.url(&format!("/changes?from=3&through={}", log.last())).await, None).await;
    let again = again.until(|event| event.name == "ended").await;
    let expected: Vec<&str> = again.iter().filter_map(|event| event.id.as_deref()).collect();
    assert_eq!(ids, expected);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_one_message_is_told_and_who_comes_back_behind_it_is_told_that_this_was_all() {
    let log = Log::begin("CREATE TABLE t(a)").await;
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let url = running.url("/changes?from=2&through=2").await;
    for (id, told) in [(None, vec!["snapshot", "ended"]), (Some("2"), vec!["ended"])] {
        let mut events = Events::open(&url, id).await;
        let found = events.until(|event| event.name == "ended").await;
        assert_eq!(found.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), told);
        assert_eq!(found.last().unwrap().data["why"], "through");
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_is_ended_and_told_from_where_to_go_on() {
    let mut log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    let grow = "INSERT INTO t(v) SELECT hex(randomblob(5000)) FROM (WITH RECURSIVE n(v) AS
        (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 600) SELECT v FROM n)";
    for _ in 0..3 {
        log.run(grow);
        log.publish().await;
    }
    let mut config = listening(&log);
    (config.changes.readers_max, config.changes.stall_ms_max) = (1, 3_000);
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let url = running.url("/changes?from=3").await;
    let address = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let mut slow = TcpStream::connect(&address).await.unwrap();
    slow.write_all(format!("GET /changes?from=3 HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut text = vec![0; 12];
    slow.read_exact(&mut text).await.unwrap();
    assert_eq!(text, b"HTTP/1.1 200");
    // It reads no more. Its place is free again though its connection is there: nobody waits for who does not read.
    let until = std::time::Instant::now() + PATIENCE;
    let mut was_busy = 0;
    loop {
        assert!(std::time::Instant::now() < until, "it is never ended");
        match client().get(&url).send().await.unwrap().status().as_u16() {
            429 => was_busy += 1,
            200 => break,
            other => panic!("{other}"),
        }
        tokio::task::yield_now().await;
    }
    assert!(was_busy > 0);
    let mut buffer = vec![0; 1 << 16];
    while !text.windows(12).any(|window| window == b"event: ended") {
        let read = tokio::time::timeout(PATIENCE, slow.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "the last words come");
        text.extend_from_slice(&buffer[..read]);
    }
    let read = tokio::time::timeout(PATIENCE, slow.read(&mut buffer)).await.unwrap().unwrap();
    text.extend_from_slice(&buffer[..read]);
    let text = String::from_utf8_lossy(&text);
    let told = text.split("event: ended").nth(1).unwrap();
    assert!(told.contains("\"why\":\"slow\""), "{told}");
    let after = told.split("\"after\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let last = text.split("event: ended").next().unwrap().rsplit("\nid: ").next().unwrap();
    assert_eq!(last.lines().next(), Some(after.as_str()), "it is the id of the last event");
    // From there everything else comes, whatever this machine does meanwhile.
    let (url, mut id) = (running.url("/changes").await, Some(after));
    let is_last = |event: &super::reader::Event| {
        event.name == "commit" && event.is_last() && event.number("through") == log.last().get()
    };
    'again: loop {
        let mut events = Events::open(&url, id.as_deref()).await;
        while let Some(event) = events.next().await {
            if is_last(&event) {
                break 'again;
            }
            assert!(event.name == "commit" || event.data["why"] == "slow", "{event:?}");
        }
        id = events.last_id;
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_not_what_it_was_shows_no_changes_any_more() {
    let mut log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    log.run("INSERT INTO t(v) VALUES(1)");
    log.publish().await;
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    crate::audited::shell(&log.replica(), "UPDATE t SET v = 'forged'");
    log.run("INSERT INTO t(v) VALUES(2)");
    log.publish().await;
    running.until(|event| matches!(event, Happened::Halted(_))).await;
    let (status, problem) = running.get_json("/changes?from=3").await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("unavailable")), "{problem}");
    running.stop().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_believed_any_more_is_shown_to_nobody_who_reads_already() {
    let mut log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    large(&mut log).await;
    let last = log.last();
    let mut config = listening(&log);
    config.changes.stall_ms_max = 3_600_000;
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    // In the middle of what was applied, which is in memory.
    let (mut reading, mut text) = slow(&running.url("/changes?from=3").await).await;
    crate::audited::shell(&log.replica(), "UPDATE t SET v = 'forged'");
    log.run("INSERT INTO t(v) VALUES(2)");
    log.publish().await;
    running.until(|event| matches!(event, Happened::Halted(_))).await;
    let mut buffer = vec![0; 1 << 16];
    while !text.windows(12).any(|window| window == b"event: ended") {
        let read = tokio::time::timeout(PATIENCE, reading.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "the last words come");
        text = text.split_off(text.len().saturating_sub(1 << 10));
        text.extend_from_slice(&buffer[..read]);
    }
    let text = String::from_utf8_lossy(&text);
    let told = text.split("event: ended").nth(1).unwrap();
    assert!(told.contains("\"why\":\"not_shown\""), "{told}");
    let after = told.split("\"after\":\"").nth(1).unwrap().split('"').next().unwrap();
    assert_ne!(after, format!("{last}-3"), "not all of it was shown");
    running.stop().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_does_not_keep_the_others_out() {
    let log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    let mut config = listening(&log);
    config.changes.readers_max = 4;
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let url = running.url("/changes").await;
    let mut greedy = Vec::new();
    for _ in 0..4 {
        greedy.push(Events::open(&url, None).await);
    }
    assert_eq!(client().get(&url).send().await.unwrap().status().as_u16(), 429);
    let other = reqwest::Client::builder().local_address(std::net::IpAddr::from([127, 0, 0, 2]));
    let answer = other.build().unwrap().get(&url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let ended = greedy[3].next().await.unwrap();
    assert_eq!((ended.name.as_str(), &ended.data["why"]), ("ended", &"crowded".into()));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_further_than_the_replica_or_comes_while_it_starts_waits() {
    let mut log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    let mut config = listening(&log);
    // A folder with nothing in it: nobody knows yet what the replica will be.
    let store = log.folder.path().join("store");
    let away = log.folder.path().join("away");
    std::fs::rename(&store, &away).unwrap();
    std::fs::create_dir(&store).unwrap();
    config.poll_ms_max = 50;
    let mut running = Running::start(config);
    let url = running.url("/changes").await;
    let mut waiting = Events::open(&url, Some("2")).await;
    let mut ahead = Events::open(&url, Some("3-1")).await;
    std::fs::remove_dir(&store).unwrap();
    std::fs::rename(&away, &store).unwrap();
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    // The replica holds two messages.
    let mut later = Events::open(&url, Some("4-2")).await;
    for id in 1..=3 {
        log.run(&format!("INSERT INTO t VALUES({id}, 'v')"));
        log.publish().await;
    }
    for (events, expected) in [(&mut waiting, "3-1"), (&mut ahead, "4-2"), (&mut later, "5-3")] {
        assert_eq!(events.next().await.unwrap().id.as_deref(), Some(expected));
    }
    running.stop().await.unwrap();
}
