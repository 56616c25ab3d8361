//! What real servers refuse, and what is told of it: the kind that a caller acts on, and words that name the fix.

use std::error::Error as StdError;

use synddb_servers::{ObjectServer, Platform};
use synddb_storage::{
    BatchStore as _, Failure, GetError, Lease as _, LeaseError, ListError, ObjectBatchStore, OpenError,
    PageLimit, Put, PutError, Start, StoreUrl,
};

use super::{new_bucket, new_url, open, server, servers, variables};
use crate::{BATCHES, STREAM, batch, body};

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Unavailable,
    Denied,
    Misconfigured,
}

/// Everything that a failure of the kind expected says, its causes included.
pub(crate) fn told(failure: &Failure, expected: Expected) -> String {
    let kind = match failure {
        Failure::Unavailable(_) => Some(Expected::Unavailable),
        Failure::Denied(_) => Some(Expected::Denied),
        Failure::Misconfigured(_) => Some(Expected::Misconfigured),
        Failure::Full(_) => None,
    };
    assert_eq!(kind, Some(expected), "{failure:?}");
    let mut text = failure.to_string();
    let mut source = failure.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn of_open(opened: Result<ObjectBatchStore, OpenError>) -> Failure {
    match opened.unwrap_err() {
        OpenError::Failed { failure, .. } => failure,
        error => panic!("{error:?}"),
    }
}

/// What each kind of request fails with.
async fn failures(store: &ObjectBatchStore) -> Vec<Failure> {
    let mut failures = Vec::new();
    match store.get(&batch(1)).await.unwrap_err() {
        GetError::Failed { failure, .. } => failures.push(failure),
        error => panic!("{error:?}"),
    }
    match store.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap_err() {
        ListError::Failed { failure, .. } => failures.push(failure),
        error => panic!("{error:?}"),
    }
    failures.push(store.streams().await.unwrap_err());
    failures.extend(failures_of_writes(store).await);
    match store.read(STREAM).await.unwrap_err() {
        LeaseError::Failed { failure, .. } => failures.push(failure),
        error => panic!("{error:?}"),
    }
    failures
}

async fn failures_of_writes(store: &ObjectBatchStore) -> Vec<Failure> {
    let put = match store.put(&batch(2), body("never")).await.unwrap_err() {
        PutError::Failed { failure, .. } => failure,
        error => panic!("{error:?}"),
    };
    let write = match store.write(STREAM, None, body("never")).await.unwrap_err() {
        LeaseError::Failed { failure, .. } => failure,
        error => panic!("{error:?}"),
    };
    vec![put, write]
}

const NO_BUCKET: &str = "the bucket does not exist: create it, or correct the address of the store";

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_no_empty_store() {
    for server in servers() {
        let url = server.url("nobodys-bucket").parse::<StoreUrl>().unwrap();
        let variables = variables(server.variables());
        for opened in [
            ObjectBatchStore::open_with(&url, &variables).await,
            ObjectBatchStore::open_existing_with(&url, &variables).await,
        ] {
            let text = told(&of_open(opened), Expected::Misconfigured);
            assert!(text.contains(NO_BUCKET), "{:?}: {text}", server.platform());
        }
    }
}

#[tokio::test]
async fn a_bucket_that_is_removed_reads_as_no_absent_object() {
    for server in servers() {
        let bucket = new_bucket(server);
        let store = open(server, &server.url(&bucket).parse().unwrap()).await;
        assert_eq!(store.get(&batch(1)).await.unwrap(), None);
        server.remove_bucket(&bucket).unwrap();
        for failure in failures(&store).await {
            let text = told(&failure, Expected::Misconfigured);
            assert!(text.contains(NO_BUCKET), "{:?}: {text}", server.platform());
        }
    }
}

/// The variables of a server, with one changed.
fn with(server: &ObjectServer, name: &str, change: impl Fn(&str) -> String) -> Vec<(String, String)> {
    let mut changed = server.variables();
    let (_, value) = changed.iter_mut().find(|(known, _)| known == name).unwrap();
    *value = change(value);
    changed
}

/// What is told to who comes to a store that is there with these variables.
async fn refused(server: &ObjectServer, variables: Vec<(String, String)>) -> String {
    let url = new_url(server);
    open(server, &url).await.put(&batch(1), body("there")).await.unwrap();
    let opened = ObjectBatchStore::open_with(&url, &super::variables(variables)).await;
    told(&of_open(opened), Expected::Denied)
}

#[tokio::test]
async fn wrong_credentials_are_told_as_such() {
    if let Some(s3) = server(Platform::S3) {
        let unknown = with(s3, "AWS_ACCESS_KEY_ID", |_| "nobody".to_owned());
        let wrong = with(s3, "AWS_SECRET_ACCESS_KEY", |secret| format!("{secret}?"));
        for (variables, code) in
            [(unknown, "code=`InvalidAccessKeyId`"), (wrong, "code=`SignatureDoesNotMatch`")]
        {
            let text = refused(s3, variables).await;
            assert!(text.contains("does not accept the credentials") && text.contains(code), "{text}");
        }
    }
    if let Some(azure) = server(Platform::Azure) {
        let wrong = with(azure, "AZURE_STORAGE_CONNECTION_STRING", |text| {
            let (before, _) = text.split_once("AccountKey=").unwrap();
            format!("{before}AccountKey=d3Jvbmc=")
        });
        // Azure says `AuthenticationFailed` here. Its stand-in says what Azure says to who is known and may not.
        let text = refused(azure, wrong).await;
        assert!(
            text.contains("the credentials do not permit this") && text.contains("AuthorizationFailure"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_reader_reads_and_is_told_that_it_may_not_write() {
    for server in servers() {
        let Some(reader) = server.variables_of_reader().unwrap() else { continue };
        let url = new_url(server);
        let writer = open(server, &url).await;
        writer.put(&batch(1), body("there")).await.unwrap();
        writer.write(STREAM, None, body("a heartbeat")).await.unwrap();
        let reader = ObjectBatchStore::open_with(&url, &variables(reader)).await.unwrap();
        assert_eq!(reader.get(&batch(1)).await.unwrap(), Some(body("there")));
        assert_eq!(reader.get(&batch(9)).await.unwrap(), None);
        let page = reader.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap();
        assert_eq!(page.keys, [batch(1)]);
        let version = reader.read(STREAM).await.unwrap().unwrap().0;
        for failure in failures_of_writes(&reader).await {
            let text = told(&failure, Expected::Denied);
            assert!(text.contains("the credentials do not permit this: grant it"), "{text}");
        }
        let over = reader.write(STREAM, Some(&version), body("never")).await.unwrap_err();
        assert!(matches!(&over, LeaseError::Failed { failure: Failure::Denied(_), .. }), "{over:?}");
        // Nothing had to be written for this.
        assert_eq!(reader.put(&batch(1), body("there")).await.unwrap(), Put::Unchanged);
        assert_eq!(writer.get(&batch(2)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_when_it_is_needed() {
    for platform in Platform::ALL.into_iter().filter(|platform| platform.is_here()) {
        let server = ObjectServer::start(platform).unwrap();
        let url = new_url(&server);
        let store = open(&server, &url).await;
        store.put(&batch(1), body("there")).await.unwrap();
        let variables = variables(server.variables());
        drop(server);
        for failure in failures(&store).await {
            told(&failure, Expected::Unavailable);
        }
        // It may be back when it is needed, so that a process starts without it.
        let reopened = ObjectBatchStore::open_with(&url, &variables).await.unwrap();
        assert!(reopened.get(&batch(1)).await.unwrap_err().retry_may_help());
    }
}
