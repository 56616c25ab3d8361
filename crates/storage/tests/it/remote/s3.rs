//! What buckets of S3 are set up to do beside: to keep objects for a time, and to encrypt them.

use synddb_servers::{ObjectServer, Platform};
use synddb_storage::{BatchStore as _, Lease as _, ObjectBatchStore, Put, PutError, StoreUrl};

use super::{open, server, variables};
use crate::{STREAM, batch, body};

/// A bucket that keeps every version of an object, for a day at least.
pub(super) fn locked_bucket(server: &ObjectServer, name: &str) -> StoreUrl {
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    server.ask("PUT", &format!("/{name}"), "", &lock, b"").unwrap().succeeded().unwrap();
    let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                <Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    server
        .ask("PUT", &format!("/{name}"), "object-lock=", &[], rule.as_bytes())
        .unwrap()
        .succeeded()
        .unwrap();
    server.url(name).parse().unwrap()
}

#[tokio::test]
async fn a_bucket_with_object_lock_keeps_what_was_put() {
    let Some(server) = server(Platform::S3) else { return };
    let store = open(server, &locked_bucket(server, "locked")).await;
    assert_eq!(store.put(&batch(1), body("kept")).await.unwrap(), Put::Created);
    assert_eq!(store.put(&batch(1), body("kept")).await.unwrap(), Put::Unchanged);
    let other = store.put(&batch(1), body("another")).await.unwrap_err();
    assert!(matches!(other, PutError::Conflict { .. }), "{other:?}");

    // Not even its administrator removes the version; without naming one he only hides it.
    let path = format!("/locked/{}", batch(1));
    let held = server.ask("HEAD", &path, "", &[], b"").unwrap();
    let version = held.header("x-amz-version-id").unwrap();
    let removed = server.ask("DELETE", &path, &format!("versionId={version}"), &[], b"").unwrap();
    assert!((400..500).contains(&removed.status), "{} {}", removed.status, removed.text());
    assert_eq!(store.get(&batch(1)).await.unwrap(), Some(body("kept")));
}

/// A lease is overwritten, which in such a bucket adds a version each time: it works, and every heartbeat is kept for the time that the
/// bucket keeps things.
#[tokio::test]
async fn a_lease_in_a_bucket_with_object_lock_works_by_versions() {
    let Some(server) = server(Platform::S3) else { return };
    let store = open(server, &locked_bucket(server, "locked-lease")).await;
    let mut version = store.write(STREAM, None, body("0")).await.unwrap();
    for number in 1..=3 {
        version = store.write(STREAM, Some(&version), body(&number.to_string())).await.unwrap();
    }
    assert_eq!(store.read(STREAM).await.unwrap(), Some((version, body("3"))));
    let listed =
        server.ask("GET", "/locked-lease", "versions=", &[], b"").unwrap().succeeded().unwrap().text();
    assert_eq!(listed.matches("<Version>").count(), 4, "{listed}");
}

#[tokio::test]
async fn encryption_by_a_key_of_the_bucket_owner_arrives() {
    if !Platform::S3.is_here() {
        return;
    }
    let kms = ("MINIO_KMS_SECRET_KEY", "log-key:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    let server = ObjectServer::start_with(Platform::S3, &[kms]).unwrap();
    server.bucket("logs").unwrap();
    let mut set = server.variables();
    set.push(("AWS_SERVER_SIDE_ENCRYPTION".to_owned(), "aws:kms".to_owned()));
    set.push(("AWS_SSE_KMS_KEY_ID".to_owned(), "log-key".to_owned()));
    let url = server.url("logs").parse().unwrap();
    let store = ObjectBatchStore::open_with(&url, &variables(set)).await.unwrap();
    assert_eq!(store.put(&batch(1), body("secret")).await.unwrap(), Put::Created);
    assert_eq!(store.put(&batch(1), body("secret")).await.unwrap(), Put::Unchanged);
    assert_eq!(store.get(&batch(1)).await.unwrap(), Some(body("secret")));
    let version = store.write(STREAM, None, body("a heartbeat")).await.unwrap();
    store.write(STREAM, Some(&version), body("the next")).await.unwrap();
    for name in [batch(1).to_string(), format!("{}/lease", STREAM.to_key())] {
        let held = server.ask("HEAD", &format!("/logs/{name}"), "", &[], b"").unwrap().succeeded().unwrap();
        assert_eq!(held.header("x-amz-server-side-encryption"), Some("aws:kms"), "{held:?}");
        let key = held.header("x-amz-server-side-encryption-aws-kms-key-id").unwrap();
        assert!(key.ends_with("log-key"), "{key}");
    }
    // What is put without these variables is not encrypted: the variables made the difference.
    let plain = open(&server, &url).await;
    plain.put(&batch(2), body("plain")).await.unwrap();
    let held = server.ask("HEAD", &format!("/logs/{}", batch(2)), "", &[], b"").unwrap().succeeded().unwrap();
    assert_eq!(held.header("x-amz-server-side-encryption"), None, "{held:?}");
}
