//! That a precondition is honoured is what everything rests on, and it is the server's doing. So the same servers are met with a proxy
//! before them that keeps preconditions to itself: the suites must say what is broken, or they would not notice a store that ignores them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use synddb_servers::{DeafProxy, ObjectServer, Platform};
use synddb_storage::ObjectBatchStore;
use synddb_storage::conformance::leases::{self, LeaseCheck, SharedLease};
use synddb_storage::conformance::{self, Check, SharedStore};

use super::{new_bucket, server, variables};

/// What a store breaks that overwrites. Everything else holds.
const BROKEN: [Check; 5] = [
    Check::SameBytesAgain,
    Check::OtherBytesConflict,
    Check::ConcurrentPuts,
    Check::ConcurrentSamePuts,
    Check::EmptyObject,
];

const BROKEN_OF_LEASES: [LeaseCheck; 5] = [
    LeaseCheck::NotAbsentIsConflict,
    LeaseCheck::OldVersionIsConflict,
    LeaseCheck::AbsentIsConflict,
    LeaseCheck::OneOfMany,
    LeaseCheck::Sizes,
];

/// Opens parts of a new bucket, unsigned and through the proxy given, or through none.
struct Parts {
    bucket: String,
    variables: Vec<(String, String)>,
    next: AtomicU32,
}

impl Parts {
    fn new(server: &ObjectServer, proxy: Option<&DeafProxy>) -> Self {
        let bucket = new_bucket(server);
        let address = proxy.map_or(server.address(), DeafProxy::address);
        let variables = server.variables_unsigned_at(&bucket, address).unwrap();
        Self { bucket: server.url(&bucket), variables, next: AtomicU32::new(0) }
    }

    async fn open(&self) -> ObjectBatchStore {
        let url = format!("{}/{}", self.bucket, self.next.fetch_add(1, Ordering::SeqCst)).parse().unwrap();
        ObjectBatchStore::open_with(&url, &variables(self.variables.clone())).await.unwrap()
    }
}

async fn is_noticed(platform: Platform) {
    let Some(server) = server(platform) else { return };
    let proxy = DeafProxy::before(server.address()).unwrap();
    let parts = Parts::new(server, Some(&proxy));
    let report =
        conformance::run_only(&BROKEN, || async { Arc::new(parts.open().await) as SharedStore }).await;
    assert_eq!(report.broken(), BROKEN, "{platform:?}\n{report}");
    let report = leases::run(|| async { Arc::new(parts.open().await) as SharedLease }).await;
    assert_eq!(report.broken(), BROKEN_OF_LEASES, "{platform:?}\n{report}");
    // The same checks hold for the same client without the proxy: nothing else that differs here breaks them.
    let parts = Parts::new(server, None);
    let report =
        conformance::run_only(&BROKEN, || async { Arc::new(parts.open().await) as SharedStore }).await;
    report.into_result().unwrap_or_else(|report| panic!("{platform:?}\n{report}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs_that_ignores_preconditions_is_noticed() {
    is_noticed(Platform::Gcs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_that_ignores_preconditions_is_noticed() {
    is_noticed(Platform::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_that_ignores_preconditions_is_noticed() {
    is_noticed(Platform::Azure).await;
}
