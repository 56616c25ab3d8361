//! Submitting: what is taken, in which order, and what is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use synddb_protocol::http::{Position, Reason};
use synddb_protocol::id::{CommitNumber, StreamId};
use synddb_protocol::limits::BODY_COMPRESSED_MAX;

use crate::sample::{Client, Reader, STREAM, incarnation, snapshot_body, submission_body};
use crate::server::{Server, TOKEN, config, file_store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_submitted_stands_in_the_store_where_its_receipt_says() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await;
    assert_eq!((begun.status, begun.sequence()), (201, 2));
    let mut acknowledged = Vec::new();
    for count in [1, 3, 1, 4096] {
        let answer = server.submit(STREAM, client.next_body(count)).await;
        assert_eq!(answer.status, 201);
        acknowledged.push(answer.receipt());
    }
    let last = acknowledged.last().unwrap().header().sequence.get();
    server.stored(STREAM, last).await;
    let status = server.status(STREAM).await;
    assert_eq!(status.sequence, status.stored);
    assert_eq!(status.sequenced_next.unwrap().commit.get(), client.next);
    assert_eq!(status.stored_next, status.sequenced_next);
    let log = Reader::read(&store, STREAM, &[server.key]).await;
    assert_eq!(log.messages.len() as u64, last);
    for receipt in acknowledged {
        let at = usize::try_from(receipt.header().sequence.get() - 1).unwrap();
        assert_eq!(*log.messages[at].receipt(), receipt);
    }
    assert_eq!(log.tip.client().unwrap().next.get(), client.next);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_token_is_refused_before_the_body_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let url = format!("{}/streams/{}/submit", server.base, STREAM.to_key());
    assert_eq!(server.announce(STREAM, "submit", None, 8_000_000).await.reason(), Reason::Unauthorized);
    let wrong = server.http.post(&url).bearer_auth("f".repeat(32)).body("x");
    assert_eq!(server.send(wrong).await.reason(), Reason::Unauthorized);
    for path in ["snapshot/chunks/00", "snapshot"] {
        let url = format!("{}/streams/{}/{path}", server.base, STREAM.to_key());
        let method = if path == "snapshot" { reqwest::Method::POST } else { reqwest::Method::PUT };
        assert_eq!(server.send(server.http.request(method, url)).await.reason(), Reason::Unauthorized);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_uses_no_sequence() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let nowhere = server.submit(STREAM, client.clone().next_body(1)).await;
    assert_eq!(nowhere.reason(), Reason::NotBegun);
    server.begin(&client).await.receipt();

    let limit = BODY_COMPRESSED_MAX as u64;
    let huge = server.announce(STREAM, "submit", Some(TOKEN), limit + 1).await;
    assert_eq!(huge.reason(), Reason::TooLarge { limit });
    assert_eq!(server.submit(STREAM, b"no body".to_vec()).await.reason(), Reason::Malformed);
    let snapshot = snapshot_body(client.beginning());
    assert_eq!(server.submit(STREAM, snapshot).await.reason(), Reason::Malformed);
    let mut foreign = Client::new(StreamId::from_bytes([1; 32]));
    assert_eq!(server.submit(STREAM, foreign.next_body(1)).await.reason(), Reason::Unprocessable);

    let mut ahead = client.clone();
    ahead.commits(1);
    let expected = Position { incarnation: client.incarnation, commit: CommitNumber::FIRST, part: None };
    assert_eq!(server.submit(STREAM, ahead.next_body(1)).await.reason(), Reason::Gap { expected });
    let mut other = client.clone();
    other.incarnation = incarnation(1, 9);
    let superseded = Reason::IncarnationSuperseded { running: client.incarnation };
    assert_eq!(server.submit(STREAM, other.next_body(1)).await.reason(), superseded);

    assert_eq!(server.submit(STREAM, client.next_body(1)).await.sequence(), 3);
    server.stop().await;
    let log = Reader::read(&store, STREAM, &[crate::sample_key(folder.path(), "one")]).await;
    assert_eq!(log.messages.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn posters_at_once_get_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Arc::new(Server::start(&store, config(folder.path(), "one")).await);
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    let mut last = 2;
    for _ in 0..10 {
        // Many send the same commit at once, and others another content for the same place.
        let mut rival = client.clone();
        let (mine, theirs) = (client.commits_with(1, b"mine"), rival.commits_with(1, b"theirs"));
        let bodies = [client.submit(&mine), rival.submit(&theirs)].map(submission_body);
        let posts = (0..16).map(|index| {
            let (server, body) = (Arc::clone(&server), bodies[index % 2].clone());
            tokio::spawn(async move { (index % 2, server.submit(STREAM, body).await) })
        });
        let answers = futures::future::join_all(posts.collect::<Vec<_>>()).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let winners: BTreeSet<usize> =
            answers.iter().filter(|(_, answer)| answer.status < 300).map(|(side, _)| *side).collect();
        let [winner] = Vec::from_iter(winners)[..] else { panic!("both or none were taken") };
        assert_eq!(answers.iter().filter(|(_, answer)| answer.status == 201).count(), 1);
        let receipts: BTreeSet<Vec<u8>> = answers
            .iter()
            .filter(|(side, _)| *side == winner)
            .map(|(_, answer)| {
                assert_eq!(answer.sequence(), last + 1);
                answer.body.clone()
            })
            .collect();
        assert_eq!(receipts.len(), 1, "all got the same receipt");
        for (_, answer) in answers.iter().filter(|(side, _)| *side != winner) {
            assert!(matches!(answer.reason(), Reason::ContentMismatch { .. }), "{answer:?}");
        }
        last += 1;
        if winner == 1 {
            client = rival;
        }
    }
    server.stored(STREAM, last).await;
    let log = Reader::read(&store, STREAM, &[server.key]).await;
    assert_eq!(log.messages.len() as u64, last);
    Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_by_its_name_or_by_being_the_only_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    assert_eq!(server.get("status").await.reason(), Reason::NotFound);
    let first = Client::new(STREAM);
    server.begin(&first).await.receipt();
    assert_eq!(server.get("status").await.status, 200);
    let second = Client::new(StreamId::from_bytes([7; 32]));
    server.begin(&second).await.receipt();
    assert_eq!(server.get("status").await.reason(), Reason::NotFound);
    let streams: Vec<StreamId> = serde_json::from_slice(&server.get("streams").await.body).unwrap();
    assert_eq!(streams, [second.stream, first.stream]);
    assert_eq!(server.get("streams/12/status").await.reason(), Reason::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_body_of_another_media_type_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    let body = client.next_body(1);
    let url = format!("{}/submit", server.base);
    let named = async |media_type: &str| {
        let request = server.http.post(&url).bearer_auth(TOKEN).body(body.clone());
        server.send(request.header("content-type", media_type)).await
    };
    for other in [
        "application/json",
        "text/plain; charset=utf-8",
        "application/x-www-form-urlencoded",
        "",
        "application/cbor-seq",
    ] {
        assert_eq!(named(other).await.reason(), Reason::UnsupportedMediaType, "{other}");
    }
    assert_eq!(named("Application/CBOR; q=1").await.sequence(), begun + 1, "no place was used before");
}
