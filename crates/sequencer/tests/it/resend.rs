//! Sending again: a client that got no answer gets the receipts that it missed, however it cuts its commits the second time.

use synddb_protocol::http::Reason;
use synddb_protocol::log::Receipt;

use crate::sample::{Client, Reader, STREAM, submission_body};
use crate::server::{Server, config, file_store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_again_gets_the_same_receipts_however_it_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    let commits = client.commits(12);
    let receipts: Vec<Receipt> = {
        let mut receipts = Vec::new();
        for three in commits.chunks(3) {
            let body = submission_body(client.submit(three));
            let answer = server.submit(STREAM, body.clone()).await;
            let again = server.submit(STREAM, body).await;
            assert_eq!((answer.status, again.status), (201, 200));
            assert_eq!(answer.body, again.body);
            receipts.push(answer.receipt());
        }
        receipts
    };
    // Twice: while the journal has the bodies or not, and surely when it has them no more.
    for _ in 0..2 {
        for first in 0..commits.len() {
            for last in first..commits.len() {
                let body = submission_body(client.submit(&commits[first..=last]));
                let answer = server.submit(STREAM, body).await;
                assert_eq!(answer.status, 200);
                assert_eq!(answer.receipts(), receipts[first / 3..=last / 3]);
            }
        }
        server.stored(STREAM, receipts[3].header().sequence.get()).await;
    }
    let log = Reader::read(&store, STREAM, &[server.key]).await;
    assert_eq!(log.commits().len(), 12);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_content_for_a_place_is_a_mismatch() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    let mut other = client.clone();
    let commits = client.commits(4);
    let last = server.submit(STREAM, submission_body(client.submit(&commits))).await.sequence();
    let others = other.commits_with(4, b"changed");
    for is_stored in [false, true] {
        if is_stored {
            server.stored(STREAM, last).await;
        }
        for count in [1, 2, 4] {
            let answer = server.submit(STREAM, submission_body(other.submit(&others[..count]))).await;
            let (expected, found) = (commits[count - 1].digest(), others[count - 1].digest());
            assert_eq!(answer.reason(), Reason::ContentMismatch { expected, found });
        }
    }
    // What is new follows another past.
    let answer = server.submit(STREAM, other.next_body(1)).await;
    assert!(matches!(answer.reason(), Reason::ContentMismatch { .. }));
    // Partly new is sent again from what is missing.
    let mut longer = client.clone();
    let more = [commits.clone(), longer.commits(1)].concat();
    let answer = server.submit(STREAM, submission_body(client.submit(&more))).await;
    let Reason::Gap { expected } = answer.reason() else { panic!("{answer:?}") };
    assert_eq!(expected.commit.get(), 5);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_known_by_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    server.submit(STREAM, client.next_body(1)).await.receipt();
    let parts: Vec<Vec<u8>> = (0..5).map(|index| submission_body(client.part(index == 4))).collect();
    let mut answers = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        answers.push(server.submit(STREAM, part.clone()).await);
        // Every part so far is known, also inside the open group.
        for known in 0..=index {
            let again = server.submit(STREAM, parts[known].clone()).await;
            assert_eq!((again.status, &again.body), (200, &answers[known].body));
        }
    }
    let after = server.submit(STREAM, client.next_body(1)).await;
    assert_eq!(after.status, 201);
    server.stored(STREAM, after.sequence()).await;
    let again = server.submit(STREAM, parts[2].clone()).await;
    assert_eq!((again.status, &again.body), (200, &answers[2].body));
    let log = Reader::read(&store, STREAM, &[server.key]).await;
    assert_eq!(log.messages.len(), 9);
    server.stop().await;
}
