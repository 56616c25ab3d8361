//! Buckets of three platforms, in real servers. One server of each is started when the first test asks for it, and serves them all;
//! each test has a bucket of its own.
//!
//! A test whose server is not installed is left out, loudly; in CI it fails.

mod clock;
mod conformance;
mod listings;
mod preconditions;
mod races;
mod refusals;
mod removals;
mod s3;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use synddb_servers::{ObjectServer, Platform};
use synddb_storage::{ObjectBatchStore, StoreUrl, Variables};

pub(crate) use clock::meet_wrong_clock;

/// The server of a platform, or `None` when it is not installed.
fn server(platform: Platform) -> Option<&'static ObjectServer> {
    static GCS: OnceLock<ObjectServer> = OnceLock::new();
    static S3: OnceLock<ObjectServer> = OnceLock::new();
    static AZURE: OnceLock<ObjectServer> = OnceLock::new();
    if !platform.is_here() {
        return None;
    }
    let server = match platform {
        Platform::Gcs => &GCS,
        Platform::S3 => &S3,
        Platform::Azure => &AZURE,
    };
    Some(server.get_or_init(|| ObjectServer::start(platform).unwrap()))
}

/// The servers that are installed.
fn servers() -> impl Iterator<Item = &'static ObjectServer> {
    Platform::ALL.into_iter().filter_map(server)
}

/// The name of a new bucket.
fn new_bucket(server: &ObjectServer) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test-{}", NEXT.fetch_add(1, Ordering::SeqCst));
    server.bucket(&name).unwrap();
    name
}

/// The address of a new bucket.
fn new_url(server: &ObjectServer) -> StoreUrl {
    server.url(&new_bucket(server)).parse().unwrap()
}

fn variables(pairs: Vec<(String, String)>) -> Variables {
    pairs.into_iter().collect()
}

async fn open(server: &ObjectServer, url: &StoreUrl) -> ObjectBatchStore {
    ObjectBatchStore::open_with(url, &variables(server.variables())).await.unwrap()
}
