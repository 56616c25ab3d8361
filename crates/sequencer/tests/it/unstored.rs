//! A journal in which much waits to be stored: it is published as it was signed, or not at all.

use std::path::Path;

use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{Body, Entry, MessageType};
use synddb_sequencer::{Config, accept_unstored};
use synddb_sqlite::rusqlite::Connection;
use synddb_storage::BatchStore;

use crate::sample::{Client, Reader, STREAM};
use crate::sample_key;
use crate::server::{Server, config, file_store};

/// More than one thread verifies, and more than one chunk is read.
const COMMITS: usize = 1200;

/// Has the journal hold the beginning of a stream and so many commits, none of them stored.
async fn fill(store: &std::sync::Arc<dyn BatchStore>, config: &Config, client: &mut Client) {
    let beginning = Body::of(&Entry::Snapshot(client.beginning())).unwrap();
    let commits = std::iter::repeat_with(|| {
        Body::read(MessageType::Submission, client.next_body(1), BODY_BYTES_MAX).unwrap()
    });
    let bodies = std::iter::once(beginning).chain(commits.take(COMMITS));
    let last = accept_unstored(std::sync::Arc::clone(store), config, STREAM, bodies).await.unwrap();
    assert_eq!(last.get(), COMMITS as u64 + 2, "the epoch's message, the snapshot, and every commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_waited_is_published_where_it_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let config = config(folder.path(), "one");
    let mut client = Client::new(STREAM);
    fill(&store, &config, &mut client).await;
    let server = Server::start(&store, config).await;
    let (body, promised) = (client.next_body(1), COMMITS as u64 + 2);
    let taken = loop {
        let answer = server.submit(STREAM, body.clone()).await;
        if answer.status != 503 {
            break answer.sequence();
        }
        server.pass_time(STREAM).await;
    };
    assert_eq!(taken, promised + 2, "behind the message of the second epoch");
    server.stop().await;
    let log = Reader::read(&store, STREAM, &[sample_key(folder.path(), "one")]).await;
    let places: Vec<_> = log.commits().into_iter().map(|(number, _, sequence)| (number, sequence)).collect();
    let expected: Vec<_> = (1..=COMMITS as u64).map(|number| (number, number + 2)).collect();
    assert_eq!((&places[..COMMITS], &places[COMMITS..]), (&expected[..], &[(COMMITS as u64 + 1, taken)][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_published_behind_a_byte_that_changed() {
    for (table, column, sequence) in [("bodies", "body", 700), ("messages", "receipt", 1100)] {
        let folder = tempfile::tempdir().unwrap();
        let store = file_store(folder.path()).await;
        let config = config(folder.path(), "one");
        fill(&store, &config, &mut Client::new(STREAM)).await;
        flip_last_byte(&config.dir, table, column, sequence);
        let server = Server::start(&store, config).await;
        server.troubled("the journal does not follow its own log").await;
        server.stop().await;
        let log = Reader::read(&store, STREAM, &[sample_key(folder.path(), "one")]).await;
        // A batch that was cut before it may be there.
        let published = i64::try_from(log.messages.len()).unwrap();
        assert!(published < sequence, "{table}: {published}");
    }
}

fn flip_last_byte(journals: &Path, table: &str, column: &str, sequence: i64) {
    let file = journals.join("streams").join(STREAM.to_key()).join("journal.db");
    let journal = Connection::open(file).unwrap();
    let sql = format!("SELECT {column} FROM {table} WHERE sequence = ?");
    let mut bytes: Vec<u8> = journal.query_row(&sql, [sequence], |row| row.get(0)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let sql = format!("UPDATE {table} SET {column} = ? WHERE sequence = ?");
    assert_eq!(journal.execute(&sql, (bytes, sequence)).unwrap(), 1);
}
