//! The contract on every implementation of this crate.

use std::sync::Arc;

use synddb_storage::conformance::{SharedStore, run};
use synddb_storage::faulty::{Faults, FaultyStore};
use synddb_storage::{ObjectBatchStore, StoreUrl};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract() {
    let report = run(|| async { Arc::new(ObjectBatchStore::memory()) as SharedStore }).await;
    report.into_result().unwrap_or_else(|report| panic!("{report}"));
}

#[tokio::test]
async fn memory_keeps_the_contract_on_one_thread() {
    let report = run(|| async { Arc::new(ObjectBatchStore::memory()) as SharedStore }).await;
    report.into_result().unwrap_or_else(|report| panic!("{report}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_keep_the_contract() {
    let base = tempfile::tempdir().unwrap();
    let next = std::sync::atomic::AtomicU32::new(0);
    let report = run(|| async {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // A name with everything that a URL escapes must make no difference.
        let url = StoreUrl::folder(&base.path().join(format!("store #{number} 100%?"))).unwrap();
        Arc::new(ObjectBatchStore::open(&url).await.unwrap()) as SharedStore
    })
    .await;
    report.into_result().unwrap_or_else(|report| panic!("{report}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_store_without_faults_keeps_the_contract() {
    let report = run(|| async {
        let faults = Faults::new(|| 0);
        Arc::new(FaultyStore::new(ObjectBatchStore::memory(), faults)) as SharedStore
    })
    .await;
    report.into_result().unwrap_or_else(|report| panic!("{report}"));
}
