//! Everything has a bound, and what is over it is refused to the caller's face.

use std::sync::Arc;

use synddb_protocol::http::Reason;
use synddb_protocol::id::StreamId;
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_sequencer::{Batching, Config, SequencerError};
use synddb_storage::faulty::{Loss, Verb};

use crate::sample::{Client, Reader, STREAM, noise, submission_body};
use crate::server::{Server, config, faulty_store, file_store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_journal_refuses_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let small = Config { journal_bytes_max: 100_000, ..config(folder.path(), "one") };
    let server = Server::start(&store, small).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    let rows = noise(10_000);
    let mut first = None;
    let refused = loop {
        let mut next = client.clone();
        let commits = next.commits_with(1, &rows);
        let body = submission_body(next.submit(&commits));
        let answer = server.submit(STREAM, body.clone()).await;
        if answer.status != 201 {
            assert_eq!(answer.reason(), Reason::DiskFull);
            break body;
        }
        first.get_or_insert((body, answer.body));
        client = next;
    };
    assert!(client.next > 5);
    // What has a place needs no room.
    let (body, receipt) = first.unwrap();
    let again = server.submit(STREAM, body).await;
    assert_eq!((again.status, again.body), (200, receipt));
    faults.clear();
    let last = server.status(STREAM).await.sequence.unwrap().get();
    server.stored(STREAM, last).await;
    assert_eq!(server.submit(STREAM, refused).await.status, 201);
    server.stop().await;
    let log = Reader::read(&store, STREAM, &[crate::sample_key(folder.path(), "one")]).await;
    assert_eq!(log.commits().len() as u64, client.next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_messages_wait_to_be_stored_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let few = Config { journal_messages_max: 4, ..config(folder.path(), "one") };
    let server = Server::start(&store, few).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    for _ in 0..4 {
        assert_eq!(server.submit(STREAM, client.next_body(1)).await.status, 201);
    }
    let refused = client.next_body(1);
    assert_eq!(server.submit(STREAM, refused.clone()).await.reason(), Reason::DiskFull);
    faults.clear();
    server.stored(STREAM, begun + 4).await;
    assert_eq!(server.submit(STREAM, refused).await.status, 201);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_queue_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let narrow = Config { queue_max: 1, ..config(folder.path(), "one") };
    let server = Arc::new(Server::start(&store, narrow).await);
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    let mut was_busy = false;
    for _ in 0..200 {
        let body = client.next_body(1);
        let posts: Vec<_> = (0..32)
            .map(|_| {
                let (server, body) = (Arc::clone(&server), body.clone());
                tokio::spawn(async move { server.submit(STREAM, body).await })
            })
            .collect();
        for post in posts {
            let answer = post.await.unwrap();
            if answer.status == 429 {
                assert_eq!((answer.reason(), answer.retry_after), (Reason::Busy, Some(1)));
                was_busy = true;
            } else {
                answer.receipt();
            }
        }
        if was_busy {
            break;
        }
    }
    assert!(was_busy, "32 requests at once never met a full queue of one");
    Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_end_at_their_bounds_and_not_inside_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let batch = Batching { messages_max: 4, ..config(folder.path(), "one").batch };
    let server = Server::start(&store, Config { batch, ..config(folder.path(), "one") }).await;
    let mut client = Client::new(STREAM);
    let mut last = server.begin(&client).await.sequence();
    server.stored(STREAM, last).await;
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    for _ in 0..10 {
        last = server.submit(STREAM, client.next_body(1)).await.sequence();
    }
    faults.clear();
    server.stored(STREAM, last).await;
    // One whole commit and a part: the batch ends before the part.
    let whole = server.submit(STREAM, client.next_body(1)).await.sequence();
    let part = server.submit(STREAM, submission_body(client.part(false))).await.sequence();
    assert_eq!(server.stored(STREAM, whole).await.claim().size.get(), whole);
    let end = server.submit(STREAM, submission_body(client.part(true))).await.sequence();
    server.stored(STREAM, end).await;
    let log = Reader::read(&store, STREAM, &[server.key]).await;
    assert!(log.batches.iter().all(|(first, last)| last.get() - first.get() < 4), "{:?}", log.batches);
    assert!(log.batches.iter().any(|(first, _)| first.get() == part));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_owns_the_journals_and_the_store_must_be_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let begun = server.begin(&Client::new(STREAM)).await.sequence();
    let second = Server::try_start(&store, config(folder.path(), "one")).await;
    assert!(matches!(second.err(), Some(SequencerError::Owned { .. })));
    server.stored(STREAM, begun).await;
    server.stop().await;
    // Another store ends before what this journal saw stored: nothing may be signed there.
    std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
    let elsewhere = file_store(&folder.path().join("elsewhere")).await;
    let lost = Server::start(&elsewhere, config(folder.path(), "one")).await;
    lost.troubled("the store ends before what was stored in it").await;
    assert_eq!(lost.get("status").await.reason(), Reason::NotLeading);
    // The other streams of the process go on.
    assert_eq!(lost.begin(&Client::new(StreamId::from_bytes([3; 32]))).await.status, 201);
    lost.stop().await;
}

/// A frame of runs (RFC 8878, section 3.1.1.2.2): a kilobyte that opens to as much as a body may hold.
fn bomb() -> Vec<u8> {
    const RUN: usize = 128 << 10;
    let head = u32::try_from(RUN << 3 | 1 << 1).unwrap();
    let runs = BODY_BYTES_MAX / RUN;
    let mut frame = stating(u32::try_from(BODY_BYTES_MAX).unwrap());
    for number in 1..=runs {
        let is_last = u32::from(number == runs);
        frame.extend_from_slice(&(head | is_last).to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// The head of a frame that states this size.
fn stating(bytes: u32) -> Vec<u8> {
    [&b"\x28\xb5\x2f\xfd\xa0"[..], &bytes.to_le_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bodies_take_room_for_what_they_state_before_they_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Arc::new(Server::start(&store, config(folder.path(), "one")).await);
    // One byte more than fits is refused by its head alone.
    let limit = u32::try_from(BODY_BYTES_MAX).unwrap();
    let too_large = [stating(limit + 1), b"\x01\x00\x00".to_vec()].concat();
    let too_large = server.submit(STREAM, too_large).await;
    assert_eq!(too_large.reason(), Reason::TooLarge { limit: limit.into() });
    assert_eq!(server.submit(STREAM, bomb()).await.reason(), Reason::Malformed);

    let mut was_busy = false;
    for _ in 0..10 {
        let posts: Vec<_> = (0..64)
            .map(|_| {
                let server = Arc::clone(&server);
                tokio::spawn(async move { server.submit(STREAM, bomb()).await })
            })
            .collect();
        for post in posts {
            match post.await.unwrap().reason() {
                Reason::Busy => was_busy = true,
                reason => assert_eq!(reason, Reason::Malformed),
            }
        }
        if was_busy {
            break;
        }
    }
    assert!(was_busy, "64 bodies of 32 MiB at once never met the bound of 512 MiB");
    // All room is back.
    assert_eq!(server.submit(STREAM, bomb()).await.reason(), Reason::Malformed);
    Arc::into_inner(server).unwrap().stop().await;
}
