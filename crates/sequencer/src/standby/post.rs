//! What a standby does: it watches the lease of every stream that it knows, and leads those whose lease it takes.
//!
//! It knows a stream by its journal, because a client asked for it, or because somebody keeps a lease of it in the store. A stream
//! that lies in the store without a lease is left alone until somebody asks for it: nobody may want it led, or a leader without a lease leads it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use synddb_protocol::chain;
use synddb_protocol::id::StreamId;
use synddb_service::shutdown::Shutdown;
use synddb_service::trouble::Trouble;
use synddb_storage::Failure;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::keeper::Leases;
use crate::registry::Registry;

/// How often the store is asked for streams that nobody told of.
const DISCOVERY: Duration = Duration::from_secs(5);

/// How long that may take.
const DISCOVERY_MAX: Duration = Duration::from_secs(30);

/// Stands by until the process is asked to end.
pub(crate) async fn stand_by(registry: Arc<Registry>, leases: Leases, shutdown: Shutdown) {
    let mut watching: JoinSet<StreamId> = JoinSet::new();
    let mut watched = BTreeSet::new();
    let mut trouble = Trouble::default();
    let mut discovery = tokio::time::interval(DISCOVERY);
    discovery.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        for stream in registry.watched() {
            if watched.insert(stream) {
                let (registry, leases, shutdown) = (Arc::clone(&registry), leases.clone(), shutdown.clone());
                watching.spawn(async move {
                    tokio::select! {
                        () = watch(&registry, &leases, stream) => {}
                        () = shutdown.asked() => {}
                    }
                    stream
                });
            }
        }
        tokio::select! {
            () = shutdown.asked() => break,
            () = registry.watched_more() => {}
            Some(done) = watching.join_next() => match done {
                Ok(stream) => {
                    watched.remove(&stream);
                }
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            _ = discovery.tick() => {
                let found = tokio::select! {
                    found = timeout(DISCOVERY_MAX, discover(&registry, &leases)) => found,
                    () = shutdown.asked() => break,
                };
                let found = found.unwrap_or_else(|late| Err(Failure::Unavailable(Box::new(late))));
                match found {
                    Ok(()) => {
                        trouble.over(Instant::now());
                    }
                    Err(error) => if let Some(lasting) = trouble.met(Instant::now(), "untold") {
                        let (attempts, lasts_s) = (lasting.times, lasting.lasts.as_secs());
                        tracing::warn!(error = chain(&error), attempts, lasts_s,
                            "the store does not tell its streams; trying again");
                    },
                }
            }
        }
    }
    while watching.join_next().await.is_some() {}
}

/// Watches one stream until it is led here, or cannot be.
async fn watch(registry: &Registry, leases: &Leases, stream: StreamId) {
    // Whoever failed to lead it rests first, and so leaves the lease to others.
    sleep(registry.rest(stream)).await;
    let mut keeper = leases.keeper(stream);
    registry.show_trust(stream, keeper.is_untrusted());
    let version = keeper.take().await;
    if let Err(unled) = registry.lead_with(stream, keeper, version) {
        let (mut keeper, version) = *unled;
        keeper.release(version).await;
    }
}

/// Finds streams that somebody keeps a lease of.
async fn discover(registry: &Registry, leases: &Leases) -> Result<(), Failure> {
    for stream in leases.lease.streams().await? {
        if !registry.admits(stream) || registry.is_known(stream) {
            continue;
        }
        // One whose lease does not answer is found the next time.
        if let Ok(Some(_)) = leases.lease.read(stream).await
            && let Err(error) = registry.watch(stream)
        {
            tracing::warn!(%stream, error = chain(&error), "cannot stand by for a stream");
        }
    }
    Ok(())
}
