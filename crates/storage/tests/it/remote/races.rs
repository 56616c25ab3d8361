//! Processes that race in a bucket, as those of `processes.rs` do in a folder.

use synddb_servers::Platform;

use super::{new_url, open, server};
use crate::child::{Role, start_at};
use crate::processes::{count_in, race_in};

async fn agree(platform: Platform) {
    let Some(server) = server(platform) else { return };
    let url = new_url(server);
    let start = |role: Role, name: &str| start_at(role, &url, &server.variables(), name);
    race_in(open(server, &url).await, |name| start(Role::Race, name)).await;
    count_in(open(server, &url).await, |name| start(Role::Count, name)).await;
}

#[tokio::test]
async fn processes_that_race_in_gcs_agree() {
    agree(Platform::Gcs).await;
}

#[tokio::test]
async fn processes_that_race_in_s3_agree() {
    agree(Platform::S3).await;
}

#[tokio::test]
async fn processes_that_race_in_azure_agree() {
    agree(Platform::Azure).await;
}
