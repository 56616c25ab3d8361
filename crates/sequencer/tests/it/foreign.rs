//! A store in which somebody else puts objects: they cost requests, and never the log.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use synddb_protocol::http::Reason;
use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_storage::faulty::{Loss, Verb};
use synddb_storage::{BatchStore, Key};

use crate::sample::{Client, Reader, STREAM};
use crate::server::{Server, config, faulty_store, file_store};

/// A stream with `count` batches of one message each; the sequencer has ended.
async fn lead_and_end(store: &Arc<dyn BatchStore>, folder: &Path, count: u64) -> Client {
    let server = Server::start(store, config(folder, "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    for _ in begun..count {
        let taken = server.submit(STREAM, client.next_body(1)).await.sequence();
        server.stored(STREAM, taken).await;
    }
    server.stop().await;
    client
}

async fn plant(store: &Arc<dyn BatchStore>, first: u64, object: Bytes) {
    let key = Key::Batch { stream: STREAM, first: Sequence::new(first).unwrap() };
    store.put(&key, object).await.unwrap();
}

/// Goes on with a stream, which takes as long as its opening takes.
async fn go_on(server: &Server, client: &mut Client) -> u64 {
    let body = client.next_body(1);
    loop {
        let answer = server.submit(STREAM, body.clone()).await;
        if answer.status != 503 {
            break answer.sequence();
        }
        assert_eq!(answer.reason(), Reason::NotLeading);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_behind_an_absent_number_is_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let far = Key::Epoch { stream: STREAM, epoch: Epoch::new(999_999_999_998).unwrap() };
    store.put(&far, Bytes::from_static(b"no record")).await.unwrap();
    let before = faults.requests().total();
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let begun = server.begin(&Client::new(STREAM)).await.receipt();
    assert_eq!(begun.header().epoch, Epoch::FIRST);
    assert!(faults.requests().total() - before < 50, "{:?}", faults.requests());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_ends_where_its_own_batches_end() {
    for loses_journal in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (store, faults) = faulty_store(folder.path()).await;
        let mut client = lead_and_end(&store, folder.path(), 12).await;
        let replayed = Key::Batch { stream: STREAM, first: Sequence::FIRST };
        let replayed = store.get(&replayed).await.unwrap().unwrap();
        plant(&store, 999_999_999_998, Bytes::from_static(b"no batch")).await;
        plant(&store, 5_000, replayed.clone()).await;
        for number in 100..150 {
            plant(&store, number, replayed.clone()).await;
        }
        if loses_journal {
            std::fs::remove_dir_all(folder.path().join("one")).unwrap();
        }
        let before = faults.requests().total();
        let server = Server::start(&store, config(folder.path(), "one")).await;
        // The message of the new epoch stands between.
        assert_eq!(go_on(&server, &mut client).await, 14);
        assert!(faults.requests().total() - before < 2_000, "{:?}", faults.requests());
        server.stored(STREAM, 14).await;
        let log = Reader::read(&store, STREAM, &[server.key]).await;
        assert_eq!(log.messages.len(), 14);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_inside_a_batch_hides_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    // One batch holds all but the first of them: the store takes nothing while they come.
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    let mut last = server.submit(STREAM, client.next_body(1)).await.sequence();
    while server.get("readyz").await.status == 200 {
        server.pass_time(STREAM).await;
    }
    for _ in 0..7 {
        last = server.submit(STREAM, client.next_body(1)).await.sequence();
    }
    faults.clear();
    server.stored(STREAM, last).await;
    plant(&store, last - 3, Bytes::from_static(b"no batch")).await;
    let first = store.get(&Key::Batch { stream: STREAM, first: Sequence::FIRST }).await.unwrap().unwrap();
    plant(&store, last - 2, first).await;
    for number in last - 3..=last {
        assert_eq!(server.get(&format!("batches/{number}_{number}")).await.status, 200, "{number}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_taken_by_no_batch_ends_its_stream_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    lead_and_end(&store, folder.path(), 3).await;
    plant(&store, 4, Bytes::from_static(b"no batch")).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    server.troubled("an object stands where the log goes on that is no batch of it").await;
    let other = Client::new(StreamId::from_bytes([3; 32]));
    assert_eq!(server.begin(&other).await.status, 201);
    let status = server.get(&format!("streams/{}/status", STREAM.to_key())).await;
    assert_eq!(status.reason(), Reason::NotLeading);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journals_are_nobody_elses() {
    fn check(folder: &Path) -> usize {
        let files = std::fs::read_dir(folder).unwrap().map(Result::unwrap).map(|entry| {
            let is_folder = entry.path().is_dir();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if is_folder { 0o700 } else { 0o600 }, "{}", entry.path().display());
            if is_folder { check(&entry.path()) } else { 1 }
        });
        files.sum()
    }
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let journals = folder.path().join("one");
    let server = Server::start(&store, config(folder.path(), "one")).await;
    server.begin(&Client::new(STREAM)).await.receipt();
    assert!(check(&journals) >= 1);
    server.stop().await;
    // One that an earlier version made is closed to others.
    let journal = journals.join("streams").join(STREAM.to_key()).join("journal.db");
    std::fs::set_permissions(&journal, std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = Server::start(&store, config(folder.path(), "one")).await;
    assert!(check(&journals) >= 1);
    server.stop().await;
}
