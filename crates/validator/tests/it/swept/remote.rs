//! The same in buckets of three platforms, whose servers say themselves how old things are.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use synddb_servers::{ObjectServer, Platform};
use synddb_service::shutdown::Shutdown;
use synddb_storage::{ObjectBatchStore, Sweeper};
use synddb_validator::gc::{Retention, run_over};

use super::store::{
    ONE, OTHER, Stored, assert_log_is_whole, copy_back, copy_into, files, keep, named, restores,
};
use crate::log::{STREAM, key};

async fn sweeps(platform: Platform) {
    if !platform.is_here() {
        return;
    }
    let mut stored = Stored::begin().await;
    for _ in 0..3 {
        stored.commit().await;
        stored.snapshot(ONE, 0).await;
    }
    stored.snapshot(OTHER, 0).await;
    let server = ObjectServer::start(platform).unwrap();
    server.bucket("logs").unwrap();
    let url = format!("{}/ours", server.url("logs")).parse().unwrap();
    let variables = server.variables().into_iter().collect();
    let store = ObjectBatchStore::open_with(&url, &variables).await.unwrap();
    copy_into(&stored.root(), &store).await;

    let sweep = async |older_than, dry_run| {
        let sweeper: Arc<dyn Sweeper> = Arc::new(store.clone());
        let retention = Retention { older_than, ..keep(1) };
        // The clock of this machine is ahead, and that of the store counts.
        let now = SystemTime::now() + Duration::from_secs(30 * 86_400);
        run_over(sweeper, STREAM, retention, dry_run, now, Shutdown::new(), |_| ()).await.unwrap()
    };
    let young = sweep(Duration::from_secs(600), false).await;
    assert_eq!(
        (young.manifests.removed.count, young.chunks.removed.count),
        (0, 0),
        "it is younger than ten minutes"
    );
    // What was written this second is older than nothing in the next one.
    let mut would = sweep(Duration::ZERO, true).await;
    while would.manifests.removed.count < 2 || would.young.count > 0 {
        would = sweep(Duration::ZERO, true).await;
    }
    let report = sweep(Duration::ZERO, false).await;
    assert_eq!((would.manifests, would.chunks), (report.manifests, report.chunks));
    assert_eq!((report.manifests.kept.count, report.manifests.removed.count, report.left), (2, 2, None));
    assert!(report.chunks.removed.count >= 2);

    let back = tempfile::tempdir().unwrap();
    copy_back(&store, back.path()).await;
    let gone = report.manifests.removed.count + report.chunks.removed.count;
    assert_eq!((files(&stored.root()).len() - files(back.path()).len()) as u64, gone);
    let left = named(back.path(), "snapshots");
    assert_eq!(left.iter().filter(|name| restores(back.path(), name)).count(), 2);
    assert_log_is_whole(back.path(), key(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_gcs_is_swept() {
    sweeps(Platform::Gcs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_s3_is_swept() {
    sweeps(Platform::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_of_azure_is_swept() {
    sweeps(Platform::Azure).await;
}
