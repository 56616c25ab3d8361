//! What readers get: batches as stored, checkpoints when they come, and nothing that is not stored.

use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use synddb_protocol::encoding::cbor::Reader as Cbor;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::http::Reason;
use synddb_protocol::id::Sequence;
use synddb_protocol::limits::BATCH_STORED_MAX;
use synddb_protocol::log::Batch;
use synddb_storage::faulty::{Loss, Verb};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::killed::{Process, configure};
use crate::sample::{Client, PAGES, Reader, STREAM, noise, snapshot_body, submission_body};
use crate::server::{Answer, Server, config, faulty_store, file_store, http};

/// Most requests of a process that wait.
const LEAVES: usize = 256;

/// The batches in an answer.
fn batches(answer: &Answer) -> Vec<(u64, u64)> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut reader = Cbor::new(&answer.body);
    let mut batches = Vec::new();
    while reader.position() < answer.body.len() {
        let batch = Batch::from_stored(reader.bytes("batch", BATCH_STORED_MAX).unwrap()).unwrap();
        batches.push((batch.first().get(), batch.last().get()));
    }
    batches
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_range_is_answered_with_the_batches_that_cover_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let mut last = server.begin(&client).await.sequence();
    for count in [1, 3, 2, 5] {
        // Several messages in one batch: the store takes nothing while they come.
        faults.lose_requests(Verb::Put, Loss::PerMille(1000));
        for _ in 0..count {
            last = server.submit(STREAM, client.next_body(1)).await.sequence();
        }
        faults.lose_requests(Verb::Put, Loss::Never);
        server.stored(STREAM, last).await;
    }
    let stored = Reader::read(&store, STREAM, &[server.key]).await.batches;
    let stored: Vec<(u64, u64)> = stored.iter().map(|(first, last)| (first.get(), last.get())).collect();
    assert!(stored.iter().any(|(first, last)| first < last), "{stored:?}");
    for start in 1..=last {
        for end in start..=last + 3 {
            let answer = server.get(&format!("batches/{start}_{end}")).await;
            let covering: Vec<_> =
                stored.iter().copied().filter(|(first, last)| *last >= start && *first <= end).collect();
            assert_eq!(batches(&answer), covering, "{start} to {end}");
        }
    }
    let reason = |path: String| {
        let server = &server;
        async move { server.get(&path).await.reason() }
    };
    assert_eq!(reason(format!("batches/{}_{}", last + 1, last + 1)).await, Reason::NotFound);
    assert_eq!(reason("batches/2_1".into()).await, Reason::Range);
    assert_eq!(reason("batches/1_4097".into()).await, Reason::Range);
    assert_eq!(batches(&server.get("batches/1_4096").await), stored);
    for path in ["0_1", "1", "a_b", "+1_2", "1_+2", "01_02", "1_02", "1_", "_1", "1_2_3", "-1_2"] {
        assert_eq!(reason(format!("batches/{path}")).await, Reason::NotFound, "{path}");
    }
    for end in ["1000000000000", "18446744073709551615", "99999999999999999999999"] {
        assert_eq!(reason(format!("batches/1_{end}")).await, Reason::Range, "{end}");
        assert_eq!(reason(format!("batches/{end}_{end}")).await, Reason::NotFound, "{end}");
    }
    faults.lose_requests(Verb::Get, Loss::PerMille(1000));
    let refused = server.get("batches/1_1").await;
    assert_eq!(refused.reason(), Reason::Unavailable);
    // Everybody may ask: neither names nor causes of what is behind are told.
    let told = String::from_utf8(refused.body).unwrap();
    assert!(!told.contains("injected") && !told.contains(&STREAM.to_key()), "{told}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_reader_is_answered_when_it_is_stored_and_no_sooner() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    let taken = server.submit(STREAM, client.next_body(1)).await.sequence();
    let waited = server.get(&format!("checkpoint?at_least={taken}&wait_ms=30")).await;
    assert_eq!(waited.body, server.get("checkpoint").await.body);
    assert_eq!(server.stored(STREAM, begun).await.claim().size.get(), begun);
    let status = server.status(STREAM).await;
    assert_eq!((status.sequence.unwrap().get(), status.stored.unwrap().get()), (taken, begun));
    assert_eq!(status.sequenced_next.map(|next| next.commit.get()), Some(2));
    assert_eq!(status.stored_next.map(|next| next.commit.get()), Some(1));
    // The batch is put a moment later.
    while server.get("readyz").await.status == 200 {
        server.pass_time(STREAM).await;
    }
    let readyz = server.get("readyz").await;
    assert_eq!(readyz.reason(), Reason::Unavailable);
    let told = String::from_utf8(readyz.body).unwrap();
    assert!(told.contains("the store does not take a batch") && !told.contains("injected"), "{told}");
    faults.clear();
    assert_eq!(server.stored(STREAM, taken).await.claim().size.get(), taken);
    assert_eq!(server.get("readyz").await.status, 200);
    assert_eq!(server.get("checkpoint?at_least=0").await.reason(), Reason::Malformed);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_sequencer_asks_the_store_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    let taken = server.submit(STREAM, client.next_body(1)).await.sequence();
    server.stored(STREAM, taken).await;
    let before = faults.requests();
    for _ in 0..20 {
        server.pass_time(STREAM).await;
    }
    assert_eq!(faults.requests(), before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read_keep_nobody_out() {
    const ROWS: usize = 6 << 20;
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    let mut last = begun;
    for _ in 0..2 {
        let commits = client.commits_with(1, &noise(ROWS));
        last = server.submit(STREAM, submission_body(client.submit(&commits))).await.sequence();
        server.stored(STREAM, last).await;
    }
    let mut silent = Vec::new();
    for _ in 0..10 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let address = server.base.strip_prefix("http://").unwrap().parse().unwrap();
        let mut connection = socket.connect(address).await.unwrap();
        let request = format!("GET /batches/1_{last} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        // The answer has begun, so its bytes are in memory.
        let mut begun = [0; 12];
        connection.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200");
        silent.push(connection);
    }
    assert_eq!(batches(&server.get(&format!("batches/{begun}_{begun}")).await), [(begun, begun)]);
    assert_eq!(batches(&server.get(&format!("batches/{last}_{last}")).await), [(last, last)]);
    drop(silent);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_polls_without_leave_are_answered_at_once() {
    // A process of its own: leave to wait is one for all of a process.
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&configure(folder.path()));
    let http = http();
    let chunk = format!("snapshot/chunks/{}", ChunkHash::of(PAGES).to_key());
    process.post(&http, &chunk, PAGES.to_vec()).await.unwrap();
    let begun = process.post(&http, "snapshot", snapshot_body(Client::new(STREAM).beginning())).await;
    assert_eq!(begun.unwrap().0, 201);
    let never = Sequence::MAX;
    let url = format!("{}/checkpoint?at_least={never}&wait_ms=20000", process.base);
    let asked = Instant::now();
    let polls = (0..LEAVES + 20).map(|_| http.get(&url).send().boxed());
    let mut polls: FuturesUnordered<_> = polls.collect();
    let mut at_once = 0;
    while at_once < 20 {
        polls.next().await.unwrap().unwrap();
        at_once += 1;
    }
    assert!(asked.elapsed() < Duration::from_secs(15), "they waited: {:?}", asked.elapsed());
    // The others still wait.
    assert!(polls.next().now_or_never().is_none());
    process.kill();
}

#[tokio::test]
async fn a_stream_whose_name_is_no_text_is_not_the_only_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    server.begin(&Client::new(STREAM)).await.receipt();
    assert_eq!(server.get("status").await.status, 200);
    for stream in ["%FF", "%ff%00", "0x", "5d"] {
        let answer = server.get(&format!("streams/{stream}/status")).await;
        assert_eq!(answer.reason(), Reason::NotFound, "{stream}");
    }
}
