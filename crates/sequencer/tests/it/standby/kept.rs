//! What a sequencer does with its lease, in this process, where others write the lease as they like.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use synddb_protocol::id::StreamId;
use synddb_sequencer::{Config, Leasing, Role, SequencerError};
use synddb_storage::{Failure, Lease, LeaseError, LeaseVersion, ObjectBatchStore};

use super::WAIT_MAX;
use crate::sample::{Client, STREAM};
use crate::server::{Server, config, file_store};

fn led(folder: &std::path::Path, name: &str, role: Role) -> Config {
    Config { role, lease: Leasing::new(20, 400).unwrap(), ..config(folder, name) }
}

/// Writes over the lease, whatever it holds.
async fn overwrite(lease: &dyn Lease, text: &'static str) {
    loop {
        let version = lease.read(STREAM).await.unwrap().map(|(version, _)| version);
        if lease.write(STREAM, version.as_ref(), Bytes::from_static(text.as_bytes())).await.is_ok() {
            return;
        }
    }
}

/// Waits until `/readyz` answers this.
async fn until_ready(server: &Server, status: u16) -> String {
    let until = Instant::now() + WAIT_MAX;
    loop {
        let answer = server.get("readyz").await;
        if answer.status == status {
            return String::from_utf8(answer.body).unwrap();
        }
        assert!(Instant::now() < until, "it stays {}", answer.status);
        server.pass_time(STREAM).await;
    }
}

/// Leases of which some answers are lost: every second one of a write that took effect, and of reads the next so many.
#[derive(Clone)]
struct Lossy {
    inner: Arc<ObjectBatchStore>,
    writes: Arc<AtomicU64>,
    lost_reads: Arc<AtomicU64>,
}

impl Lossy {
    fn new(inner: &Arc<ObjectBatchStore>) -> Self {
        Self { inner: Arc::clone(inner), writes: Arc::default(), lost_reads: Arc::default() }
    }
}

fn no_answer(stream: StreamId) -> LeaseError {
    LeaseError::Failed { stream, failure: Failure::Unavailable("no answer".into()) }
}

#[async_trait]
impl Lease for Lossy {
    async fn read(&self, stream: StreamId) -> Result<Option<(LeaseVersion, Bytes)>, LeaseError> {
        let lose = |left: u64| left.checked_sub(1);
        if self.lost_reads.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
            return Err(no_answer(stream));
        }
        self.inner.read(stream).await
    }

    async fn write(
        &self,
        stream: StreamId,
        expected: Option<&LeaseVersion>,
        bytes: Bytes,
    ) -> Result<LeaseVersion, LeaseError> {
        let written = self.inner.write(stream, expected, bytes).await?;
        if self.writes.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
            return Err(no_answer(stream));
        }
        Ok(written)
    }

    async fn streams(&self) -> Result<Vec<StreamId>, Failure> {
        Lease::streams(&*self.inner).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_whose_answer_was_lost_is_known_again() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Arc::new(ObjectBatchStore::memory());
    let lossy = Lossy::new(&objects);
    let config = led(folder.path(), "one", Role::Leader);
    let server = Server::start_with_leases(&objects, Arc::new(lossy.clone()), config).await;
    let begun = server.begin(&Client::new(STREAM)).await.sequence();
    server.stored(STREAM, begun).await;
    let until = Instant::now() + WAIT_MAX;
    while lossy.writes.load(Ordering::SeqCst) < 20 {
        assert!(Instant::now() < until, "it does not beat");
        assert_eq!(server.get("readyz").await.status, 200, "it took its own lease for somebody else's");
        server.pass_time(STREAM).await;
    }
    server.stop().await;
    let (_, bytes) = objects.read(STREAM).await.unwrap().unwrap();
    let left: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(left["state"], "released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_cannot_read_the_lease_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Arc::new(ObjectBatchStore::memory());
    let leader = led(folder.path(), "one", Role::Leader);
    let leader = Server::start_with_leases(&objects, Arc::clone(&objects) as _, leader).await;
    let begun = leader.begin(&Client::new(STREAM)).await.sequence();
    leader.stored(STREAM, begun).await;
    let blind = Lossy::new(&objects);
    let standby = led(folder.path(), "two", Role::Standby);
    let standby = Server::start_with_leases(&objects, Arc::new(blind.clone()), standby).await;
    // Asked for the stream, it watches it; from then on it sees nothing for longer than its patience.
    assert_eq!(standby.submit(STREAM, Client::new(STREAM).next_body(1)).await.status, 503);
    blind.lost_reads.store(60, Ordering::SeqCst);
    let until = Instant::now() + WAIT_MAX;
    while blind.lost_reads.load(Ordering::SeqCst) > 0 {
        assert!(Instant::now() < until, "it does not look");
        leader.pass_time(STREAM).await;
    }
    assert_eq!(blind.writes.load(Ordering::SeqCst), 0, "it took a lease that it did not see");
    assert_eq!(leader.status(STREAM).await.epoch.get(), 1);
    standby.stop().await;
    leader.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_lease_is_taken_is_not_ready_leads_on_and_takes_it_back_when_nobody_beats() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Arc::new(ObjectBatchStore::memory());
    let server = Server::start_with_leases(
        &objects,
        Arc::clone(&objects) as _,
        led(folder.path(), "one", Role::Leader),
    )
    .await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    until_ready(&server, 200).await;
    overwrite(&*objects, "somebody else's").await;
    let why = until_ready(&server, 503).await;
    assert!(why.contains("another sequencer has the lease"), "{why}");
    // Only the log can depose it.
    let taken = server.submit(STREAM, client.next_body(1)).await;
    assert_eq!(taken.status, 201);
    server.stored(STREAM, taken.sequence()).await;
    // Whoever took it never wrote again.
    until_ready(&server, 200).await;
    server.stop().await;
    let (_, bytes) = objects.read(STREAM).await.unwrap().unwrap();
    let left: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(left["state"], "released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lost_its_journal_and_met_no_lease_leads_when_it_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Arc::new(ObjectBatchStore::memory());
    let server = Server::start_with_leases(
        &objects,
        Arc::clone(&objects) as _,
        led(folder.path(), "one", Role::Standby),
    )
    .await;
    assert!(server.get("readyz").await.status == 503, "it leads nothing");
    let client = Client::new(STREAM);
    // A submission that nobody can take begins no stream.
    assert_eq!(server.submit(STREAM, client.clone().next_body(1)).await.status, 409);
    assert_eq!(objects.read(STREAM).await.unwrap(), None);
    // A balancer of connections must be able to choose another one.
    let refused = server.http.post(format!("{}/streams/{}/snapshot", server.base, STREAM.to_key()));
    let body = crate::sample::snapshot_body(Client::new(STREAM).beginning());
    server.put_chunk(STREAM, crate::sample::PAGES).await;
    let refused = refused.bearer_auth(crate::server::TOKEN).body(body).send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["connection"]),
        (503, &"close".parse().unwrap())
    );
    let until = Instant::now() + WAIT_MAX;
    let begun = loop {
        let answer = server.begin(&client).await;
        if answer.status != 503 {
            break answer;
        }
        assert_eq!(answer.retry_after, Some(1));
        assert!(Instant::now() < until, "it does not lead");
        server.get("livez").await;
    };
    assert_eq!(begun.status, 201);
    until_ready(&server, 200).await;
    server.stop().await;
}

#[tokio::test]
async fn a_role_with_leases_needs_a_store_that_has_some() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    for role in [Role::Leader, Role::Standby] {
        let refused = Server::try_start(&store, led(folder.path(), "one", role)).await;
        assert!(matches!(refused.err().unwrap(), SequencerError::NoLease));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_role_that_has_leases_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Arc::new(ObjectBatchStore::memory());
    let server = Server::start_with_leases(
        &objects,
        Arc::clone(&objects) as _,
        led(folder.path(), "one", Role::Alone),
    )
    .await;
    let begun = server.begin(&Client::new(STREAM)).await.sequence();
    server.stored(STREAM, begun).await;
    server.stop().await;
    assert_eq!(objects.read(STREAM).await.unwrap(), None);
}
