//! What real servers do not let be removed, and what is told of it.

use synddb_protocol::hash::ChunkHash;
use synddb_servers::Platform;
use synddb_storage::{BatchStore as _, ObjectBatchStore, Removable, RemoveError, Sweeper as _};

use super::refusals::{Expected, told};
use super::s3::locked_bucket;
use super::{new_bucket, new_url, open, server, variables};
use crate::{STREAM, body};

const WORDS: &str = "the platform does not let it be removed: grant the permission to delete";

fn chunk() -> Removable {
    Removable::chunk(STREAM, ChunkHash::from_bytes([9; 32]))
}

async fn refused(store: &ObjectBatchStore) -> String {
    let RemoveError::Failed { key, failure } = store.remove(&[chunk()]).await.unwrap_err();
    assert_eq!(key, *chunk().key());
    told(&failure, Expected::Denied)
}

#[tokio::test]
async fn who_may_not_delete_is_told_to_be_granted_it() {
    for platform in Platform::ALL {
        let Some(server) = server(platform) else { continue };
        let Some(reader) = server.variables_of_reader().unwrap() else { continue };
        let url = new_url(server);
        let writer = open(server, &url).await;
        writer.put(chunk().key(), body("there")).await.unwrap();
        let reader = ObjectBatchStore::open_with(&url, &variables(reader)).await.unwrap();
        if platform == Platform::Azure {
            // The stand-in for Azure falls over a batch of somebody who may not do what is in it.
            reader.remove(&[chunk()]).await.unwrap_err();
        } else {
            let text = refused(&reader).await;
            assert!(text.contains(WORDS), "{text}");
        }
        assert_eq!(writer.get(chunk().key()).await.unwrap(), Some(body("there")));
        writer.remove(&[chunk()]).await.unwrap();
        assert_eq!(reader.get(chunk().key()).await.unwrap(), None);
    }
}

/// Immutability policies are not what the stand-in knows; a lease keeps a blob in the same way, and is told in the same place.
#[tokio::test]
async fn what_is_held_in_a_container_is_told_with_its_code() {
    let Some(server) = server(Platform::Azure) else { return };
    let bucket = new_bucket(server);
    let store = open(server, &server.url(&bucket).parse().unwrap()).await;
    store.put(chunk().key(), body("there")).await.unwrap();
    let path = format!("/{bucket}/{}", chunk().key());
    let hold =
        [("x-ms-lease-action", "acquire"), ("x-ms-lease-duration", "-1"), ("x-ms-version", "2021-08-06")];
    server.ask("PUT", &path, "comp=lease", &hold, b"").unwrap().succeeded().unwrap();
    let text = refused(&store).await;
    assert!(text.contains(WORDS) && text.contains("LeaseIdMissing"), "{text}");
    assert_eq!(store.get(chunk().key()).await.unwrap(), Some(body("there")));
}

/// A bucket that keeps versions removes nothing, and hides it: it is gone for every reader, and takes its room until the bucket's own rules let
/// the version go.
#[tokio::test]
async fn a_bucket_that_keeps_versions_hides_what_is_removed() {
    let Some(server) = server(Platform::S3) else { return };
    let store = open(server, &locked_bucket(server, "locked-removal")).await;
    store.put(chunk().key(), body("kept")).await.unwrap();
    store.remove(&[chunk()]).await.unwrap();
    assert_eq!(store.get(chunk().key()).await.unwrap(), None);
    let listed =
        server.ask("GET", "/locked-removal", "versions=", &[], b"").unwrap().succeeded().unwrap().text();
    assert_eq!(
        (listed.matches("<Version>").count(), listed.matches("<DeleteMarker>").count()),
        (1, 1),
        "{listed}"
    );
}
