//! Chunks and snapshots: how a stream and an incarnation begin.

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::http::Reason;
use synddb_protocol::id::StreamId;
use synddb_protocol::log::Entry;
use synddb_sequencer::{Config, Streams};
use synddb_storage::Key;

use crate::sample::{self, Client, PAGES, Reader, STREAM, snapshot_body};
use crate::server::{Server, TOKEN, config, file_store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_waits_for_its_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let client = Client::new(STREAM);
    let body = snapshot_body(client.beginning());
    let missing = Reason::MissingChunks { missing: vec![ChunkHash::of(PAGES)] };
    assert_eq!(server.post(STREAM, "snapshot", body.clone()).await.reason(), missing);
    // Nothing was begun by that.
    assert_eq!(server.get("status").await.reason(), Reason::NotFound);

    assert_eq!(server.put_chunk(STREAM, PAGES).await.status, 201);
    assert_eq!(server.put_chunk(STREAM, PAGES).await.status, 200);
    let name = ChunkHash::of(b"other").to_key();
    let url = format!("{}/streams/{}/snapshot/chunks/{name}", server.base, STREAM.to_key());
    let wrong = server.send(server.http.put(url).bearer_auth(TOKEN).body(PAGES)).await;
    assert_eq!(wrong.reason(), Reason::Unprocessable);
    // What is no chunk is not kept, whatever it is called: no frame, one that states too much, and one with something behind it.
    let huge = b"\x28\xb5\x2f\xfd\xa0\x01\x00\x80\x00\x01\x00\x00";
    for blob in [&b"a film"[..], huge, &[PAGES, &[0]].concat()] {
        assert_eq!(server.put_chunk(STREAM, blob).await.reason(), Reason::Unprocessable);
        let key = Key::Chunk { stream: STREAM, hash: ChunkHash::of(blob) };
        assert_eq!(store.get(&key).await.unwrap(), None);
    }

    let begun = server.post(STREAM, "snapshot", body.clone()).await;
    assert_eq!((begun.status, begun.sequence()), (201, 2));
    // Sent again, it is recognised before anybody asks whether it follows.
    let again = server.post(STREAM, "snapshot", body).await;
    assert_eq!((again.status, again.body), (200, begun.body));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_chunks_are_found_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let client = Client::new(STREAM);
    let mut snapshot = client.beginning();
    let names: Vec<Vec<u8>> = (0..2500u32).map(|number| sample::chunk(number.to_be_bytes())).collect();
    let chunk = snapshot.chunks[0];
    snapshot.chunks = names
        .iter()
        .map(|name| synddb_protocol::submission::Chunk { hash: ChunkHash::of(name), ..chunk })
        .collect();
    let absent = [ChunkHash::of(&names[7]), ChunkHash::of(&names[2000])];
    // Into the folder of the store, as `spec/storage.md` has it: thousands of durable puts would take their time.
    let chunks = folder.path().join("store").join(STREAM.to_key()).join("chunks");
    std::fs::create_dir_all(&chunks).unwrap();
    for name in names.iter().filter(|name| !absent.contains(&ChunkHash::of(name))) {
        std::fs::write(chunks.join(ChunkHash::of(name).to_key()), name).unwrap();
    }
    let body = snapshot_body(snapshot);
    let refused = server.post(STREAM, "snapshot", body.clone()).await;
    let Reason::MissingChunks { mut missing } = refused.reason() else { panic!("{refused:?}") };
    missing.sort();
    let mut expected = absent.to_vec();
    expected.sort();
    assert_eq!(missing, expected);
    for name in [&names[7], &names[2000]] {
        assert_eq!(server.put_chunk(STREAM, name).await.status, 201);
    }
    assert_eq!(server.post(STREAM, "snapshot", body).await.status, 201);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_incarnation_supersedes_and_its_predecessor_is_still_known() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut old = Client::new(STREAM);
    server.begin(&old).await.receipt();
    let mut before = old.clone();
    let body = old.next_body(2);
    let taken = server.submit(STREAM, body.clone()).await;
    let mut new = old.successor();
    assert_eq!(server.begin(&new).await.status, 201);
    let superseded = Reason::IncarnationSuperseded { running: new.incarnation };
    // What came in time is known, with other content it is a mismatch, and the rest never gets a place.
    let again = server.submit(STREAM, body).await;
    assert_eq!((again.status, again.body), (200, taken.body));
    let other = before.commits_with(2, b"other");
    let other = server.submit(STREAM, sample::submission_body(before.submit(&other))).await;
    assert!(matches!(other.reason(), Reason::ContentMismatch { .. }));
    assert_eq!(server.submit(STREAM, old.next_body(1)).await.reason(), superseded);
    assert_eq!(server.submit(STREAM, new.next_body(1)).await.status, 201);

    // A snapshot inside the incarnation stands after its commit, once.
    let now = snapshot_body(new.snapshot_now());
    let first = server.post(STREAM, "snapshot", now.clone()).await;
    let second = server.post(STREAM, "snapshot", now).await;
    assert_eq!((first.status, second.status, &first.body), (201, 200, &second.body));
    server.stored(STREAM, first.sequence()).await;
    let log = Reader::read(&store, STREAM, &[server.key]).await;
    let snapshots = log.messages.iter().filter(|message| matches!(message.entry(), Entry::Snapshot(_)));
    assert_eq!(snapshots.count(), 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_admitted_streams_begin() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let admitted = StreamId::from_bytes([3; 32]);
    let only = Config { streams: Streams::Only([admitted].into()), ..config(folder.path(), "one") };
    let server = Server::start(&store, only).await;
    let refused = server.post(STREAM, "snapshot", snapshot_body(Client::new(STREAM).beginning())).await;
    assert_eq!(refused.reason(), Reason::NotFound);
    assert_eq!(server.put_chunk(STREAM, PAGES).await.reason(), Reason::NotFound);
    assert_eq!(server.begin(&Client::new(admitted)).await.status, 201);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_time_cures_names_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    for number in 0..64 {
        let client = Client::new(StreamId::from_bytes([number; 32]));
        assert_eq!(server.begin(&client).await.status, 201);
    }
    let refused = server.begin(&Client::new(StreamId::from_bytes([64; 32]))).await;
    assert_eq!((refused.reason(), refused.retry_after), (Reason::Unprocessable, None));
    server.stop().await;
}
