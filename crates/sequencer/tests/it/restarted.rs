//! Ending and beginning again: what was accepted is stored first, and what could not be is published with its old signatures.

use synddb_protocol::log::{Batch, Entry};
use synddb_sequencer::{Batching, Config};
use synddb_storage::Key;
use synddb_storage::faulty::{Loss, Verb};

use crate::sample::{Client, Reader, STREAM, submission_body};
use crate::sample_key;
use crate::server::{Server, config, faulty_store, file_store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequencer_that_ends_stores_what_it_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    // No batch ever becomes old.
    let batch = Batching { age_ms: 86_400_000, ..Batching::default() };
    let server = Server::start(&store, Config { batch, ..config(folder.path(), "one") }).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    server.submit(STREAM, client.next_body(3)).await.receipt();
    let part = server.submit(STREAM, submission_body(client.part(false))).await.sequence();
    assert_eq!(server.status(STREAM).await.stored.unwrap().get(), 1);
    server.stop().await;
    let log = Reader::read(&store, STREAM, &[sample_key(folder.path(), "one")]).await;
    assert_eq!(log.messages.len() as u64, part);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_stored_is_published_with_its_old_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let hurried = || Config { drain_ms: 0, ..config(folder.path(), "one") };
    let server = Server::start(&store, hurried()).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    let mut promised = vec![server.submit(STREAM, client.next_body(1)).await.receipt()];
    // The first is in a batch that was cut; the others only gather behind it.
    while server.get("readyz").await.status == 200 {
        server.pass_time(STREAM).await;
    }
    for _ in 0..3 {
        promised.push(server.submit(STREAM, client.next_body(1)).await.receipt());
    }
    server.stop().await;
    faults.clear();

    let server = Server::start(&store, hurried()).await;
    let last = promised.last().unwrap().header().sequence.get();
    server.stored(STREAM, last + 1).await;
    let taken = loop {
        let answer = server.submit(STREAM, client.clone().next_body(1)).await;
        if answer.status == 201 {
            break answer;
        }
        server.pass_time(STREAM).await;
    };
    // The epoch message stands behind the last of the old ones.
    assert_eq!(taken.sequence(), last + 2);
    server.stored(STREAM, taken.sequence()).await;
    let log = Reader::read(&store, STREAM, &[server.key]).await;
    let at = usize::try_from(begun).unwrap();
    let stored: Vec<_> = log.messages[at..].iter().map(|message| message.receipt().clone()).collect();
    assert_eq!(stored[..promised.len()], promised);
    assert!(matches!(log.messages[at + promised.len()].entry(), Entry::Epoch(_)));
    // What was cut before kept its checkpoint; the rest stands under the new leader's.
    let mut epochs = Vec::new();
    for (first, _) in &log.batches {
        let object = store.get(&Key::Batch { stream: STREAM, first: *first }).await.unwrap().unwrap();
        epochs.push((first.get(), Batch::from_stored(&object).unwrap().checkpoint().claim().epoch.get()));
    }
    assert!(epochs.contains(&(begun + 1, 1)) && epochs.contains(&(begun + 2, 2)), "{epochs:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_start_is_an_epoch_and_an_old_journal_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let mut client = Client::new(STREAM);
    let journals = folder.path().join("one");
    let backup = folder.path().join("backup");
    for round in 1..=4u64 {
        if round == 3 {
            // The journal of two starts ago comes back.
            std::fs::remove_dir_all(&journals).unwrap();
            std::fs::rename(&backup, &journals).unwrap();
        }
        let server = Server::start(&store, config(folder.path(), "one")).await;
        if round == 1 {
            server.begin(&client).await.receipt();
        }
        let body = client.next_body(1);
        let taken = loop {
            let answer = server.submit(STREAM, body.clone()).await;
            if answer.status != 503 {
                break answer;
            }
        };
        assert_eq!(taken.status, 201);
        assert_eq!(server.status(STREAM).await.epoch.get(), round);
        server.stop().await;
        if round == 1 {
            copy(&journals, &backup);
        }
    }
    let log = Reader::read(&store, STREAM, &[sample_key(folder.path(), "one")]).await;
    assert_eq!(log.commits().len(), 4);
    assert_eq!(log.messages.len(), 9);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
