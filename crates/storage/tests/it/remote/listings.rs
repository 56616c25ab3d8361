//! What is found by listing: the end of a log, its streams, and everything that lies there.

use futures::StreamExt as _;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_servers::ObjectServer;
use synddb_storage::{
    BatchStore as _, Key, Lease as _, LeaseName, Name, ObjectBatchStore, last_batch, last_epoch,
    last_snapshot,
};

use super::{new_url, open, servers};
use crate::{STREAM, batch, body};

/// How many puts are under way at once.
const PUTS: usize = 16;

async fn put(store: &ObjectBatchStore, numbers: impl IntoIterator<Item = u64>) {
    let puts = futures::stream::iter(numbers).map(|number| async move {
        store.put(&batch(number), body("batch")).await.unwrap();
    });
    puts.buffer_unordered(PUTS).collect::<()>().await;
}

#[tokio::test]
async fn the_end_of_a_log_is_found_on_every_platform() {
    for server in servers() {
        let store = open(server, &new_url(server)).await;
        assert_eq!(last_batch(&store, STREAM).await.unwrap(), None);
        assert_eq!(last_epoch(&store, STREAM).await.unwrap(), None);
        assert_eq!(last_snapshot(&store, STREAM).await.unwrap(), None);
        put(&store, [1, 5000, 9_000_000]).await;
        assert_eq!(last_batch(&store, STREAM).await.unwrap(), Some(Sequence::new(9_000_000).unwrap()));
        // More than a page, so that it has to be searched.
        put(&store, (1..=1_100).map(|number| 10_000_000 + number * 7)).await;
        assert_eq!(last_batch(&store, STREAM).await.unwrap(), Some(Sequence::new(10_007_700).unwrap()));
    }
}

async fn all_names(store: &ObjectBatchStore, stream: StreamId) -> Vec<(Name, u64)> {
    let mut names = Vec::new();
    store.names(stream, |name, size| names.push((name, size))).await.unwrap();
    names.sort_unstable();
    names
}

/// What an administrator puts there beside the log.
fn put_foreign(server: &ObjectServer, path: &str) {
    let headers: &[_] = &[("x-ms-blob-type", "BlockBlob")];
    server.ask("PUT", path, "", headers, b"foreign").unwrap().succeeded().unwrap();
}

#[tokio::test]
async fn streams_and_names_are_told_on_every_platform() {
    for server in servers() {
        let bucket = super::new_bucket(server);
        for prefix in ["", "/part"] {
            let url = format!("{}{prefix}", server.url(&bucket)).parse().unwrap();
            let store = open(server, &url).await;
            assert_eq!(store.streams().await.unwrap(), []);
            let other = StreamId::from_bytes([0x11; 32]);
            let key = Key::Batch { stream: other, first: Sequence::FIRST };
            store.put(&batch(1), body("one")).await.unwrap();
            store.put(&key, body("other's")).await.unwrap();
            store.write(STREAM, None, body("a heartbeat")).await.unwrap();
            let foreign = format!("{}/notes.txt", STREAM.to_key());
            put_foreign(server, &format!("/{bucket}{prefix}/{foreign}"));
            put_foreign(server, &format!("/{bucket}{prefix}/readme.txt"));
            assert_eq!(store.streams().await.unwrap(), [other, STREAM]);
            let names =
                [(Name::Key(batch(1)), 3), (Name::Lease(LeaseName(STREAM)), 11), (Name::Foreign(foreign), 7)];
            assert_eq!(all_names(&store, STREAM).await, names);
            assert_eq!(all_names(&store, other).await, [(Name::Key(key), 7)]);
        }
    }
}
