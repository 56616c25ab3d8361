//! The log as it grows: every place once, provisional until it is stored, and nobody waits for those who read it.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use synddb_protocol::Canonical as _;
use synddb_protocol::encoding::cbor::Reader as Cbor;
use synddb_protocol::http::Reason;
use synddb_protocol::live::LogItem;
use synddb_protocol::log::{Receipt, SignedCheckpoint};
use synddb_sequencer::Config;
use synddb_storage::faulty::{Loss, Verb};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::killed::{Process, configure};
use crate::sample::{Client, PAGES, Reader, STREAM, noise, snapshot_body, submission_body};
use crate::server::{Server, config, faulty_store, file_store, http};
use crate::shown::{PATIENCE, Shown};

/// Most readers of a process.
const READERS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_shown_before_it_is_stored_and_told_stored_after() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    // The first message is the epoch's, which was never shown before it was stored.
    let mut from_first = Shown::begin(&server, "from=1").await;
    assert_eq!(from_first.mark(begun).await.to_bytes(), server.get("checkpoint").await.body);
    let behind = from_first.next().await;
    assert!(matches!(behind, Some(LogItem::Behind { from }) if from.get() == 1), "{behind:?}");
    assert!(from_first.next().await.is_none(), "it ends");

    let mut live = Shown::begin(&server, "").await;
    let mut earlier = Shown::begin(&server, &format!("from={begun}")).await;
    let (message, is_stored) = earlier.message().await;
    assert_eq!((message.receipt.header().sequence.get(), is_stored), (begun, true));
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    let receipt = server.submit(STREAM, client.next_body(1)).await.receipt();
    for shown in [&mut live, &mut earlier] {
        let (message, is_stored) = shown.message().await;
        assert_eq!((&message.receipt, is_stored), (&receipt, false));
    }
    assert_eq!(server.stored(STREAM, begun).await.claim().size.get(), begun);
    faults.clear();
    let mark = live.mark(receipt.header().sequence.get()).await;
    assert_eq!(mark.to_bytes(), server.stored(STREAM, receipt.header().sequence.get()).await.to_bytes());
    // Whoever ends the process is not kept waiting, and the reader is not told to go elsewhere.
    server.stop().await;
    assert!(live.next_but_marks().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reconnects_sees_every_place_once() {
    const MESSAGES: u64 = 150;
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Arc::new(Server::start(&store, config(folder.path(), "one")).await);
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    let last = begun + MESSAGES;
    let writer = {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            for _ in 0..MESSAGES {
                assert_eq!(server.submit(STREAM, client.next_body(1)).await.status, 201);
            }
        })
    };
    let mut random = StdRng::seed_from_u64(7);
    let mut seen: Vec<Receipt> = Vec::new();
    let mut query = format!("from={begun}");
    while seen.len() as u64 <= MESSAGES {
        let mut shown = Shown::begin(&server, &query).await;
        for _ in 0..random.random_range(1..12) {
            if seen.len() as u64 > MESSAGES {
                break;
            }
            seen.push(shown.message().await.0.receipt);
        }
        // The connection ends wherever it was.
        let header = seen.last().unwrap().header();
        query = format!("from={}&epoch={}", header.sequence.get() + 1, header.epoch);
    }
    writer.await.unwrap();
    // The place behind the last is fine to wait at, and tells when everything is stored.
    Shown::begin(&server, &query).await.mark(last).await;
    let key = server.key;
    Arc::into_inner(server).unwrap().stop().await;
    let log = Reader::read(&store, STREAM, &[key]).await;
    let first = usize::try_from(begun - 1).unwrap();
    let stored: Vec<Receipt> =
        log.messages[first..].iter().map(|message| message.receipt().clone()).collect();
    assert_eq!(seen, stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_deposed_sequencer_showed_is_withdrawn() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let old = Server::start(&store, config(folder.path(), "old")).await;
    let mut client = Client::new(STREAM);
    old.begin(&client).await.receipt();
    let first = old.submit(STREAM, client.next_body(1)).await.sequence();
    old.stored(STREAM, first).await;
    let mut shown = Shown::begin(&old, &format!("from={first}")).await;
    assert_eq!(shown.message().await.0.receipt.header().sequence.get(), first);

    let mut rival = config(folder.path(), "new");
    rival.trusted_keys.push(old.key);
    let new = Server::start(&store, rival).await;
    let mut lost = client.clone();
    let taken = new.submit(STREAM, client.next_body(1)).await;
    assert_eq!((taken.status, taken.sequence()), (201, first + 2));
    // The old one does not know yet: what it shows now never comes true.
    let commits = lost.commits_with(1, b"never stored");
    let receipt = old.submit(STREAM, submission_body(lost.submit(&commits))).await.receipt();
    let (message, is_stored) = shown.message().await;
    assert_eq!((&message.receipt, is_stored), (&receipt, false));
    let withdrawn = shown.next_but_marks().await;
    assert!(
        matches!(withdrawn, Some(LogItem::Withdrawn { from }) if from.get() == first + 1),
        "{withdrawn:?}"
    );
    let behind = shown.next_but_marks().await;
    assert!(matches!(behind, Some(LogItem::Behind { from }) if from.get() == first + 1), "{behind:?}");
    assert!(shown.next().await.is_none());
    assert_eq!(Shown::ask(&old, "").await.err().unwrap().reason(), Reason::NotLeading);

    // Whoever did not hear of it learns it where it goes on.
    let resumed = Shown::ask(&new, &format!("from={}&epoch={}", first + 2, receipt.header().epoch)).await;
    assert_eq!(resumed.err().unwrap().reason(), Reason::NotFound);
    let (message, _) = Shown::begin(&new, &format!("from={}", first + 2)).await.message().await;
    assert_eq!(message.receipt, taken.receipt());
    old.stop().await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_the_place_of_a_reader_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let hurried = || Config { drain_ms: 0, ..config(folder.path(), "one") };
    let server = Server::start(&store, hurried()).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    let unstored = server.submit(STREAM, client.next_body(1)).await.receipt();
    let mut shown = Shown::begin(&server, &format!("from={}", begun + 1)).await;
    let (message, is_stored) = shown.message().await;
    assert_eq!((message.receipt, is_stored), (unstored, false));
    server.stop().await;
    faults.clear();

    // The message keeps its place, and is read from the store; the epoch message stands behind it.
    let server = Server::start(&store, hurried()).await;
    server.stored(STREAM, begun + 2).await;
    let mut shown = Shown::begin(&server, &format!("from={}", begun + 2)).await;
    let behind = shown.next_but_marks().await;
    assert!(matches!(behind, Some(LogItem::Behind { from }) if from.get() == begun + 2), "{behind:?}");
    let mut shown = Shown::begin(&server, &format!("from={}", begun + 3)).await;
    let taken = server.submit(STREAM, client.next_body(1)).await.receipt();
    assert_eq!(shown.message().await.0.receipt, taken);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_slow_goes_on_in_the_store_and_keeps_nobody_waiting() {
    const MESSAGES: u64 = 7;
    const ROWS: usize = 5 << 20;
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    let mut silent = silent_reader(&server, begun).await;
    let mut quick = Shown::begin(&server, &format!("from={}", begun + 1)).await;
    let rows = noise(ROWS);
    for sequence in begun + 1..=begun + MESSAGES {
        let commits = client.commits_with(1, &rows);
        let taken = server.submit(STREAM, submission_body(client.submit(&commits))).await;
        assert_eq!((taken.status, taken.sequence()), (201, sequence));
        assert_eq!(quick.message().await.0.receipt, taken.receipt());
    }
    server.stored(STREAM, begun + MESSAGES).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut answer)).await;
    let is_whole = read.expect("it was shown everything, and waits for more").is_ok();
    let (items, is_whole) = items(&answer, is_whole);
    let shown = items.iter().filter(|item| matches!(item, LogItem::Message { .. })).count() as u64;
    assert!(shown < MESSAGES, "it was shown everything");
    // On a machine that is slow enough the connection was given up instead, which is the same to the others.
    let is_told = matches!(items.last(), Some(LogItem::Behind { from }) if from.get() > begun);
    assert!(is_told || !is_whole, "{:?}", items.last());
    server.stop().await;
}

/// A connection that asks for the log and takes nothing of it.
async fn silent_reader(server: &Server, from: u64) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let address = server.base.strip_prefix("http://").unwrap().parse().unwrap();
    let mut connection = socket.connect(address).await.unwrap();
    let request =
        format!("GET /log/stream?from={from} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    connection.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    connection
}

/// The items of an answer in chunks (RFC 9112, section 7.1), and whether it came to its end.
fn items(answer: &[u8], is_whole: bool) -> (Vec<LogItem>, bool) {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let (mut rest, mut body, mut has_end) =
        (head.map_or(&[][..], |head| &answer[head + 4..]), Vec::new(), false);
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        has_end = length == 0;
        let chunk = &rest[line + 2..];
        if has_end || chunk.len() < length + 2 {
            break;
        }
        body.extend_from_slice(&chunk[..length]);
        rest = &chunk[length + 2..];
    }
    let (mut reader, mut items) = (Cbor::new(&body), Vec::new());
    while let Ok(item) = LogItem::read(&mut reader) {
        items.push(item);
    }
    (items, is_whole && has_end)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_bounded_and_counted() {
    // A process of its own: what is counted is counted for all of a process.
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&configure(folder.path()));
    let http = http();
    let chunk = format!("snapshot/chunks/{}", synddb_protocol::hash::ChunkHash::of(PAGES).to_key());
    process.post(&http, &chunk, PAGES.to_vec()).await.unwrap();
    let begun = process.post(&http, "snapshot", snapshot_body(Client::new(STREAM).beginning())).await;
    assert_eq!(begun.unwrap().0, 201);
    let url = format!("{}/log/stream", process.base);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let response = http.get(&url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        readers.push(response);
    }
    let refused = http.get(&url).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    let metrics = http.get(format!("{}/metrics", process.base)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains(&format!("synddb_sequencer_live_readers {READERS}")), "{metrics}");
    // Whoever leaves makes room, as soon as it is noticed.
    readers.pop();
    loop {
        let response = http.get(&url).send().await.unwrap();
        if response.status() == 200 {
            break;
        }
        let never = synddb_protocol::id::Sequence::MAX;
        let wait = format!("{}/checkpoint?at_least={never}&wait_ms=50", process.base);
        http.get(wait).send().await.unwrap();
    }
    process.kill();
}

/// What browsers get: the events in an answer, each with its name, id and data.
async fn events(
    response: &mut reqwest::Response,
    count: usize,
) -> Vec<(String, Option<u64>, serde_json::Value)> {
    let mut text = String::new();
    while text.matches("\n\n").count() < count {
        text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
    }
    let event = |event: &str| {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let id = field("id").map(|id| {
            // A message's id names its epoch as well.
            id.split('-').next().unwrap().parse().unwrap()
        });
        (field("event").unwrap().to_owned(), id, serde_json::from_str(field("data").unwrap()).unwrap())
    };
    text.split_terminator("\n\n").map(event).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_get_events_and_resume_by_their_id() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await;
    let first = begun.sequence();
    server.stored(STREAM, first).await;
    let ask = |last: Option<String>| {
        // The epoch in the address is of what was seen before `from`, and says nothing of what was seen since.
        let url = format!("{}/log/stream?from={first}&epoch=1", server.base);
        let request = server.http.get(url).header("accept", "text/event-stream");
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        async move { request.send().await.unwrap() }
    };
    let mut response = ask(None).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let found = events(&mut response, 2).await;
    let [(stored, None, mark), (message, Some(id), data)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((stored.as_str(), message.as_str(), *id), ("stored", "message", first));
    let checkpoint = hex::decode(mark["checkpoint"].as_str().unwrap().strip_prefix("0x").unwrap()).unwrap();
    assert_eq!(SignedCheckpoint::from_bytes(&checkpoint).unwrap().claim().size.get(), mark["through"]);
    let receipt = hex::decode(data["receipt"].as_str().unwrap().strip_prefix("0x").unwrap()).unwrap();
    assert_eq!(Receipt::from_bytes(&receipt).unwrap(), begun.receipt());
    assert_eq!((&data["sequence"], &data["stored"], &data["type"]), (&first.into(), &true.into(), &2.into()));
    drop(response);

    let next = server.submit(STREAM, client.next_body(1)).await.sequence();
    let found = events(&mut ask(Some(format!("{first}-1"))).await, 2).await;
    assert!(found.iter().any(|(name, id, _)| name == "message" && *id == Some(next)), "{found:?}");
    assert!(found.iter().all(|(_, id, _)| *id != Some(first)), "{found:?}");

    // Another leader gives these places to others: a browser that comes again is not told that what it saw is stored.
    server.stop().await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let fence = next + 1;
    server.stored(STREAM, fence).await;
    assert_eq!(server.submit(STREAM, client.next_body(1)).await.sequence(), fence + 1);
    let again = |last: String| {
        let request = server.http.get(format!("{}/log/stream?from={first}&epoch=1", server.base));
        let request = request.header("accept", "text/event-stream").header("last-event-id", last);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    for (last, status) in [
        (format!("{}-1", fence + 1), 404),
        (format!("{}-2", fence + 1), 200),
        (format!("{}", fence + 1), 200),
        (format!("{}-0", fence + 1), 400),
        ("1-".to_owned(), 400),
    ] {
        assert_eq!(again(last.clone()).await, status, "{last}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_the_log_has_not_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    assert_eq!(Shown::ask(&server, "").await.err().unwrap().reason(), Reason::NotFound);
    let begun = server.begin(&Client::new(STREAM)).await.sequence();
    let refused = [
        (format!("from={}", begun + 2), Reason::NotFound),
        (format!("from={}&epoch=2", begun + 1), Reason::NotFound),
        ("from=0".to_owned(), Reason::Malformed),
        ("since=1".to_owned(), Reason::Malformed),
    ];
    for (query, reason) in refused {
        assert_eq!(Shown::ask(&server, &query).await.err().unwrap().reason(), reason, "{query}");
    }
    assert!(Shown::ask(&server, &format!("from={}&epoch=1", begun + 1)).await.is_ok());
    server.stop().await;
}
