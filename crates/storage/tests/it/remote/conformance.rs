//! Every contract on every platform, each check in a part of a bucket that nobody else has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use synddb_servers::Platform;
use synddb_storage::ObjectBatchStore;
use synddb_storage::conformance::leases::{self, SharedLease};
use synddb_storage::conformance::sweeping::{self, SharedSweeper};
use synddb_storage::conformance::{self, SharedStore};

use super::{new_bucket, server, variables};

/// Opens the parts of a new bucket, one after another.
struct Parts {
    bucket: String,
    variables: Vec<(String, String)>,
    next: AtomicU32,
}

impl Parts {
    async fn open(&self) -> ObjectBatchStore {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let url = format!("{}/logs of/one {number}", self.bucket).replace(' ', "-").parse().unwrap();
        ObjectBatchStore::open_with(&url, &variables(self.variables.clone())).await.unwrap()
    }
}

fn parts(platform: Platform) -> Option<Parts> {
    let server = server(platform)?;
    let bucket = server.url(&new_bucket(server));
    Some(Parts { bucket, variables: server.variables(), next: AtomicU32::new(0) })
}

async fn keeps_the_contract(platform: Platform) {
    let Some(parts) = parts(platform) else { return };
    let report = conformance::run(|| async { Arc::new(parts.open().await) as SharedStore }).await;
    report.into_result().unwrap_or_else(|report| panic!("{platform:?}\n{report}"));
}

async fn keeps_the_contract_of_leases(platform: Platform) {
    let Some(parts) = parts(platform) else { return };
    let report = leases::run(|| async { Arc::new(parts.open().await) as SharedLease }).await;
    report.into_result().unwrap_or_else(|report| panic!("{platform:?}\n{report}"));
}

async fn keeps_the_contract_of_sweepers(platform: Platform) {
    let Some(parts) = parts(platform) else { return };
    let report = sweeping::run(|| async { Arc::new(parts.open().await) as SharedSweeper }).await;
    report.into_result().unwrap_or_else(|report| panic!("{platform:?}\n{report}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs_keeps_the_contract() {
    keeps_the_contract(Platform::Gcs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_keeps_the_contract() {
    keeps_the_contract(Platform::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_keeps_the_contract() {
    keeps_the_contract(Platform::Azure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs_keeps_the_contract_of_leases() {
    keeps_the_contract_of_leases(Platform::Gcs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_keeps_the_contract_of_leases() {
    keeps_the_contract_of_leases(Platform::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_keeps_the_contract_of_leases() {
    keeps_the_contract_of_leases(Platform::Azure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs_keeps_the_contract_of_sweepers() {
    keeps_the_contract_of_sweepers(Platform::Gcs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_keeps_the_contract_of_sweepers() {
    keeps_the_contract_of_sweepers(Platform::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_keeps_the_contract_of_sweepers() {
    keeps_the_contract_of_sweepers(Platform::Azure).await;
}
