//! What a standby is told when it starts, or while it stands by, because it would be too late when the leader dies.

use std::sync::Arc;
use std::time::Instant;

use synddb_sequencer::{Config, Leasing, Role, SequencerError, run};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_storage::{ObjectBatchStore, StoreUrl};

use super::{CALM, WAIT_MAX, configure};
use crate::killed::Process;
use crate::sample::{Client, STREAM};
use crate::server::{Server, config};

const ROLES: [Role; 3] = [Role::Alone, Role::Leader, Role::Standby];

fn of_role(folder: &std::path::Path, name: &str, role: Role) -> Config {
    Config { role, lease: Leasing::new(20, 60_000).unwrap(), ..config(folder, name) }
}

async fn try_start(
    objects: &Arc<ObjectBatchStore>,
    folder: &std::path::Path,
    role: Role,
) -> Result<Server, SequencerError> {
    Server::try_start_with_leases(objects, Arc::clone(objects) as _, of_role(folder, "one", role)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_owns_a_folder_until_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Arc::new(ObjectBatchStore::memory());
    // It knows no stream, and has opened no journal.
    let owner = Process::start(&configure(folder.path(), "one", "standby", CALM));
    for role in ROLES {
        let refused = try_start(&objects, folder.path(), role).await.err().unwrap();
        assert!(matches!(&refused, SequencerError::Owned { folder: owned } if owned.ends_with("one")));
        assert!(refused.to_string().contains("another process owns this folder"), "{refused}");
    }
    owner.kill();
    for role in ROLES {
        try_start(&objects, folder.path(), role).await.unwrap().stop().await;
    }
}

#[tokio::test]
async fn a_store_that_nobody_else_reaches_is_for_one_who_is_alone() {
    let folder = tempfile::tempdir().unwrap();
    for role in ROLES {
        let config = Config { store: StoreUrl::memory(), ..of_role(folder.path(), "one", role) };
        let shutdown = Shutdown::new();
        shutdown.ask();
        let ended = run(config, Metrics::detached(), shutdown, |_| {}).await;
        match role {
            Role::Alone => ended.unwrap(),
            Role::Leader | Role::Standby => {
                assert!(matches!(ended, Err(SequencerError::Unshared { .. })), "{ended:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_says_at_once_that_it_does_not_trust_who_leads() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Arc::new(ObjectBatchStore::memory());
    let leader = try_start(&objects, folder.path(), Role::Leader).await.unwrap();
    let begun = leader.begin(&Client::new(STREAM)).await.sequence();
    leader.stored(STREAM, begun).await;
    for trusted_keys in [Vec::new(), vec![leader.key]] {
        let is_trusted = !trusted_keys.is_empty();
        let standby = Config { trusted_keys, ..of_role(folder.path(), "two", Role::Standby) };
        let standby = Server::start_with_leases(&objects, Arc::clone(&objects) as _, standby).await;
        assert_eq!(standby.submit(STREAM, Client::new(STREAM).next_body(1)).await.status, 503);
        let until = Instant::now() + WAIT_MAX;
        let mut looks = 0;
        loop {
            let answer = standby.get("readyz").await;
            assert_eq!(answer.status, 503, "it leads nothing");
            let why = String::from_utf8(answer.body).unwrap();
            assert!(why.contains("standing by"), "{why}");
            let says = why.contains("a key that is not trusted here") && why.contains("`trusted_keys`");
            assert!(!(says && is_trusted), "{why}");
            // Nothing shows that a lease was looked at and found well: so many times its heartbeats passed.
            looks += 1;
            if says || (is_trusted && looks == 50) {
                break;
            }
            assert!(Instant::now() < until, "{why}");
            leader.pass_time(STREAM).await;
        }
        standby.stop().await;
    }
    leader.stop().await;
}
