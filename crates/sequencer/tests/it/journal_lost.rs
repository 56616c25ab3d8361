//! Without its journal a sequencer knows what the store knows, and that is enough for every client.

use synddb_protocol::http::Reason;
use synddb_protocol::id::StreamId;
use synddb_protocol::log::Receipt;
use synddb_sequencer::{Config, Streams};
use synddb_storage::faulty::{Loss, Verb};

use crate::sample::{Client, Reader, STREAM, snapshot_body, submission_body};
use crate::server::{Server, config, faulty_store, file_store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resends_are_answered_from_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut old = Client::new(STREAM);
    let begun = server.begin(&old).await;
    let old_commits = old.commits(6);
    let mut receipts: Vec<Receipt> = Vec::new();
    for two in old_commits.chunks(2) {
        receipts.push(server.submit(STREAM, submission_body(old.submit(two))).await.receipt());
        server.stored(STREAM, receipts.last().unwrap().header().sequence.get()).await;
    }
    let unsent = old.clone();
    let mut client = old.successor();
    server.begin(&client).await.receipt();
    let parts: Vec<Vec<u8>> = (0..3).map(|index| submission_body(client.part(index == 2))).collect();
    let mut answers = Vec::new();
    for part in &parts {
        answers.push(server.submit(STREAM, part.clone()).await);
    }
    let now = snapshot_body(client.snapshot_now());
    let snapshot = server.post(STREAM, "snapshot", now.clone()).await;
    server.stored(STREAM, snapshot.sequence()).await;
    let key = server.key;
    server.stop().await;

    std::fs::remove_dir_all(folder.path().join("one")).unwrap();
    let server = Server::start(&store, config(folder.path(), "one")).await;
    // Nothing is led before somebody asks for it.
    assert_eq!(server.get("status").await.reason(), Reason::NotFound);
    for first in 0..6 {
        for last in first..6 {
            let body = submission_body(old.submit(&old_commits[first..=last]));
            let answer = server.submit(STREAM, body).await;
            assert_eq!((answer.status, answer.receipts().as_slice()), (200, &receipts[first / 2..=last / 2]));
        }
    }
    let beginning = snapshot_body(Client::new(STREAM).beginning());
    assert_eq!(server.post(STREAM, "snapshot", beginning).await.body, begun.body);
    for (part, answer) in parts.iter().zip(&answers) {
        let again = server.submit(STREAM, part.clone()).await;
        assert_eq!((again.status, &again.body), (200, &answer.body));
    }
    let again = server.post(STREAM, "snapshot", now).await;
    assert_eq!((again.status, &again.body), (200, &snapshot.body));

    // What differs differs, what never had a place has none, and what is new is taken.
    let mut other = Client::new(STREAM);
    let others = other.commits_with(3, b"changed");
    let answer = server.submit(STREAM, submission_body(other.submit(&others))).await;
    assert!(matches!(answer.reason(), Reason::ContentMismatch { .. }), "{answer:?}");
    let superseded = Reason::IncarnationSuperseded { running: client.incarnation };
    assert_eq!(server.submit(STREAM, unsent.clone().next_body(1)).await.reason(), superseded);
    let taken = server.submit(STREAM, client.next_body(1)).await;
    assert_eq!(taken.status, 201);
    server.stored(STREAM, taken.sequence()).await;
    let log = Reader::read(&store, STREAM, &[key]).await;
    assert_eq!(log.messages.len() as u64, taken.sequence());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_named_and_has_a_log_is_led_before_somebody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let one = config(folder.path(), "one");
    let key_file = one.key_file.clone();
    let server = Server::start(&store, one).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    let last = server.submit(STREAM, client.next_body(1)).await.sequence();
    server.stored(STREAM, last).await;
    server.stop().await;

    let never_begun = StreamId::from_bytes([9; 32]);
    let named = Streams::Only([STREAM, never_begun].into());
    // A store that does not answer at first is asked again.
    faults.lose_requests(Verb::Get, Loss::Next(1));
    let two = Config { streams: named, key_file, ..config(folder.path(), "two") };
    let server = Server::start(&store, two).await;
    while server.get("streams").await.body == b"[]" {
        tokio::task::yield_now().await;
    }
    // Its epoch message.
    server.stored(STREAM, last + 1).await;
    assert_eq!(server.get("streams").await.body, serde_json::to_vec(&[STREAM]).unwrap());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resend_of_which_only_the_beginning_is_stored_waits_for_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    let mut commits = client.commits(3);
    let first = server.submit(STREAM, submission_body(client.submit(&commits))).await.receipt();
    server.stored(STREAM, first.header().sequence.get()).await;
    server.stop().await;
    std::fs::remove_dir_all(folder.path().join("one")).unwrap();

    let server = Server::start(&store, config(folder.path(), "one")).await;
    server.submit(STREAM, submission_body(client.submit(&commits))).await.receipt();
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    let more = client.commits(3);
    let second = server.submit(STREAM, submission_body(client.submit(&more))).await.receipt();
    commits.extend(more);
    let across = submission_body(client.submit(&commits[1..5]));
    assert_eq!(server.submit(STREAM, across.clone()).await.reason(), Reason::Unavailable);
    faults.clear();
    server.stored(STREAM, second.header().sequence.get()).await;
    assert_eq!(server.submit(STREAM, across).await.receipts(), [first, second]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_an_unknown_key_is_not_led() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    let key = server.key;
    server.stop().await;

    let other = Server::start(&store, config(folder.path(), "other")).await;
    let refused = other.submit(STREAM, client.clone().next_body(1)).await;
    assert_eq!(refused.reason(), Reason::NotLeading);
    other.stop().await;
    let mut trusting = config(folder.path(), "other");
    trusting.trusted_keys.push(key);
    // Its journal is fresh, so the log is taken over where the store ends.
    let other = Server::start(&store, trusting).await;
    let taken = loop {
        let answer = other.submit(STREAM, client.clone().next_body(1)).await;
        if answer.status != 503 {
            break answer;
        }
    };
    assert_eq!(taken.status, 201);
    client.next_body(1);
    other.stored(STREAM, taken.sequence()).await;
    let log = Reader::read(&store, STREAM, &[key, other.key]).await;
    assert_eq!(log.commits().len(), 1);
    other.stop().await;
}
