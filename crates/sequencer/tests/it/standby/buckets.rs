//! Taking over where log and leases lie in real object stores, together or apart.

use std::sync::Arc;

use synddb_servers::{ObjectServer, Platform};
use synddb_storage::{BatchStore, Lease, LeaseName, ObjectBatchStore, StoreUrl, Variables};

use super::sender::{Sender, kill_under_load, ms, stands_by};
use super::{TAKEOVER_MAX, USUAL, configure, configure_over, lease, read_log, read_log_of};
use crate::killed::Process;
use crate::sample::STREAM;

/// Kills a leader under load, over the bucket that `more` may put the leases beside. Gives the store, as a reader sees it.
async fn take_over(server: &ObjectServer, more: &str) -> Arc<ObjectBatchStore> {
    let folder = tempfile::tempdir().unwrap();
    let url: StoreUrl = format!("{}/of/two", server.url("logs")).parse().unwrap();
    let start = |name: &str, role| {
        let file = configure_over(&url.to_string(), folder.path(), name, role, more);
        Process::start_logged(&file, &server.variables(), &folder.path().join(format!("{name}.log")))
    };
    let (one, two) = (start("one", "leader"), start("two", "standby"));
    let mut sender = Sender::new();
    sender.begin(&[&one]).await;
    stands_by(&sender.http, &two, &one).await;
    let took = kill_under_load(&mut sender, &one, &two, 60).await;
    println!("from the kill to the next accepted submission: {}; sent again: {}", ms(took), sender.resent);
    assert!(took < TAKEOVER_MAX);
    sender.finish(&[&two]).await;
    let variables: Variables = server.variables().into_iter().collect();
    let store = Arc::new(ObjectBatchStore::open_existing_with(&url, &variables).await.unwrap());
    let epochs = read_log_of(Arc::clone(&store) as Arc<dyn BatchStore>, sender.commits()).await;
    assert_eq!(epochs.len(), 2, "{epochs:?}");
    store
}

async fn take_over_on(platform: Platform) {
    if !platform.is_here() {
        return;
    }
    let server = ObjectServer::start(platform).unwrap();
    server.bucket("logs").unwrap();
    let store = take_over(&server, USUAL).await;
    assert!(store.read(STREAM).await.unwrap().is_some(), "the lease lies beside the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_on_google_cloud_storage() {
    take_over_on(Platform::Gcs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_on_s3() {
    take_over_on(Platform::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_on_azure() {
    take_over_on(Platform::Azure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_may_lie_apart_from_a_log_that_nothing_overwrites() {
    if !Platform::S3.is_here() {
        return;
    }
    let server = ObjectServer::start(Platform::S3).unwrap();
    server.bucket("logs").unwrap();
    let apart = tempfile::tempdir().unwrap();
    let at = apart.path().join("store");
    let store = take_over(&server, &format!("lease_store = \"file://{}\"\n{USUAL}", at.display())).await;
    assert_eq!(lease(apart.path())["state"], "held");
    assert!(at.join(LeaseName(STREAM).to_string()).exists());
    assert!(store.read(STREAM).await.unwrap().is_none(), "nothing lies there that is overwritten");
}

/// Over files, with the leases in a folder of their own; the log is in the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_leases_holds_nothing_else() {
    let (folder, apart) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = apart.path().join("store");
    let more = format!("lease_store = \"file://{}\"\n{USUAL}", at.display());
    let one = Process::start(&configure(folder.path(), "one", "leader", &more));
    let mut sender = Sender::new();
    sender.begin(&[&one]).await;
    sender.send(&[&one], 5).await;
    sender.finish(&[&one]).await;
    assert_eq!(read_log(folder.path(), sender.commits()).await.len(), 1);
    assert!(!folder.path().join("store").join(LeaseName(STREAM).to_string()).exists());
    let entries = std::fs::read_dir(at.join(STREAM.to_key())).unwrap();
    let names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| name.starts_with("lease")), "{names:?}");
}
