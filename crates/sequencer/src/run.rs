//! A whole sequencer: opens what it leads, serves, and drains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use synddb_protocol::chain;
use synddb_protocol::id::{Epoch, StreamId};
use synddb_protocol::signing::VerifyingKey;
use synddb_service::credentials::CredentialsFile;
use synddb_service::http::{Gate, Readiness, Transport, frame, listen, serve};
use synddb_service::secret::signing_key;
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_storage::{BatchStore, GetError, Key, Lease, ObjectBatchStore};
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::check::{check_shared, nodes};
use crate::config::{Config, Role};
use crate::error::{LeadError, SequencerError};
use crate::folder::OwnedFolder;
use crate::http::{ABOUT, Front, router};
use crate::journal::JournalError;
use crate::registry::{Ended, OpenStreamError, Registry, STREAMS_MAX};
use crate::standby::{Holder, Leases, stand_by};

/// How long an owner may take beyond the time for draining, to answer, to close its journal and to release its lease.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What a sequencer is once it serves.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// Where it listens.
    pub address: SocketAddr,
    /// The scheme of URLs that lead there: `http`, or `https` where it speaks TLS.
    pub scheme: &'static str,
    /// The key that it signs with.
    pub key: VerifyingKey,
}

/// Runs a sequencer until it is asked to end: then it takes nothing more, stores what it accepted as far as time allows, and ends. It
/// asks for the end itself when it cannot go on.
///
/// # Errors
/// [`SequencerError`] when it cannot start or cannot go on. What it acknowledged is in its journal.
pub async fn run(
    config: Config,
    metrics: Metrics,
    shutdown: Shutdown,
    started: impl FnOnce(Started),
) -> Result<(), SequencerError> {
    check_shared(&config)?;
    let lease_store = config.lease_store.as_ref().filter(|_| config.role != Role::Alone);
    let store = Arc::new(ObjectBatchStore::open(&config.store).await.map_err(Box::new)?);
    let lease = match lease_store {
        Some(url) => Arc::new(ObjectBatchStore::open(url).await.map_err(Box::new)?),
        None => Arc::clone(&store),
    };
    run_with_leases(store, lease, config, metrics, shutdown, started).await
}

/// The same over a store that is open, whatever `config.store` says.
///
/// # Errors
/// As [`run`]; [`SequencerError::NoLease`] for a role that needs leases.
pub async fn run_over(
    store: Arc<dyn BatchStore>,
    config: Config,
    metrics: Metrics,
    shutdown: Shutdown,
    started: impl FnOnce(Started),
) -> Result<(), SequencerError> {
    if config.role != Role::Alone {
        return Err(SequencerError::NoLease);
    }
    run_whole(store, None, config, metrics, shutdown, started).await
}

/// The same over a store that is open, with its leases.
///
/// # Errors
/// As [`run`].
pub async fn run_with_leases(
    store: Arc<dyn BatchStore>,
    lease: Arc<dyn Lease>,
    config: Config,
    metrics: Metrics,
    shutdown: Shutdown,
    started: impl FnOnce(Started),
) -> Result<(), SequencerError> {
    let lease = Some(lease).filter(|_| config.role != Role::Alone);
    run_whole(store, lease, config, metrics, shutdown, started).await
}

async fn run_whole(
    store: Arc<dyn BatchStore>,
    lease: Option<Arc<dyn Lease>>,
    config: Config,
    metrics: Metrics,
    shutdown: Shutdown,
    started: impl FnOnce(Started),
) -> Result<(), SequencerError> {
    // Held to the end of this function: everything below is this process's alone.
    let _owned = OwnedFolder::take(&config.dir)?;
    crate::metrics::describe();
    let key = Arc::new(signing_key(&config.key_file)?);
    let gate = Gate::open(CredentialsFile::at(&config.credentials_file), config.evidence.clone())?;
    let transport = Transport::open(config.tls.as_ref())?;
    let (address, bounds, drain, role) = (config.listen, config.http, config.drain(), config.role);
    let holder = Holder::new().map_err(SequencerError::Random)?;
    let leases = lease.map(|lease| Leases {
        leasing: config.lease.at(lease.pace()),
        lease,
        role,
        holder,
        key_id: key.id(),
        trusted: config.trusted(&key),
        url: config.url.clone(),
    });
    let nodes = nodes(&config)?;
    let (registry, mut ended) =
        Registry::new(config, Arc::clone(&key), Arc::clone(&store), leases.clone(), nodes);
    let registry = Arc::new(registry);
    let from_start = open_known(&registry)?;
    let refused = |source| SequencerError::Listen { address, source };
    let listener = listen(address).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let readiness = Arc::clone(&registry);
    let probe = move || readiness.trouble().map_or(Readiness::Ready, Readiness::NotReady);
    // Whoever stands by waits for a lease, or for somebody to ask.
    let naming = (role != Role::Standby)
        .then(|| tokio::spawn(lead_named(Arc::clone(&registry), Arc::clone(&store), shutdown.clone())));
    let routes = router(Front::new(gate, Arc::clone(&registry), store, shutdown.clone()));
    started(Started { address, scheme: transport.scheme(), key: *key.verifying_key() });
    tracing::info!(%address, key = %key.id(), streams = from_start, ?role, "serving");
    let standing_by = leases
        .filter(|_| role == Role::Standby)
        .map(|leases| tokio::spawn(stand_by(Arc::clone(&registry), leases, shutdown.clone())));

    let routes = frame(&ABOUT, routes, metrics, Arc::new(probe));
    let serving = serve(listener, transport, routes, bounds, shutdown.clone());
    tokio::pin!(serving);
    let mut failure = None;
    let served = loop {
        tokio::select! {
            served = &mut serving => break served,
            Some(end) = ended.recv() => if let Some(error) = fatal(&registry, end) {
                failure.get_or_insert(error);
                shutdown.ask();
            },
        }
    };
    // Nothing is taken over from here on: the owners that are asked to finish are all there will be.
    shutdown.ask();
    for opening in [naming, standing_by].into_iter().flatten() {
        opening.await.map_err(|error| std::panic::resume_unwind(error.into_panic())).ok();
    }
    registry.finish();
    drain_owners(&registry, &mut ended, drain).await;
    match failure {
        Some((stream, source)) => Err(SequencerError::Lead { stream, source: Box::new(source) }),
        None => served.map_err(SequencerError::Serve),
    }
}

/// Begins to lead every stream that has a journal, or to stand by for it. Gives their number.
fn open_known(registry: &Registry) -> Result<usize, SequencerError> {
    let unreadable = |source| SequencerError::Folder { folder: registry.folder(), source };
    let known = registry.known().map_err(unreadable)?;
    for stream in &known {
        match registry.lead(*stream) {
            // One whose owner ended that soon is in trouble, which the registry tells.
            Ok(_) | Err(OpenStreamError::Resting { .. } | OpenStreamError::StandingBy) => {}
            Err(OpenStreamError::Journal(source)) => {
                return Err(SequencerError::Journal { stream: *stream, source });
            }
            Err(OpenStreamError::TooMany) => {
                return Err(SequencerError::TooManyStreams { streams_max: STREAMS_MAX });
            }
            Err(OpenStreamError::Thread(source)) => return Err(SequencerError::Thread(source)),
        }
    }
    Ok(known.len())
}

/// Begins to lead each stream that the configuration names and that has a log, where this machine has no journal of it: nobody need ask first for what the bridge sent.
/// Each waits for itself alone.
async fn lead_named(registry: Arc<Registry>, store: Arc<dyn BatchStore>, shutdown: Shutdown) {
    let all = registry.named().into_iter().map(|stream| lead_begun(&registry, &*store, stream));
    tokio::select! {
        () = shutdown.asked() => {}
        _ = futures::future::join_all(all) => {}
    }
}

/// Begins to lead a stream that has a log. Tries again until the store has answered, and the stream can be led.
async fn lead_begun(registry: &Registry, store: &dyn BatchStore, stream: StreamId) {
    let (mut backoff, key) = (Backoff::of_the_costly(), Key::Epoch { stream, epoch: Epoch::FIRST });
    loop {
        let error = match store.get(&key).await {
            Ok(None) => return,
            _ if registry.is_known(stream) => return,
            // Whatever lies there: who leads says what is wrong with it.
            Ok(Some(_)) | Err(GetError::TooLarge { .. }) => match registry.lead(stream) {
                Ok(_) => return,
                Err(error) => chain(&error),
            },
            Err(error) => chain(&error),
        };
        tracing::warn!(%stream, error, "a stream that is named is not led yet; trying again");
        backoff.wait().await;
    }
}

/// The error to end with. Whatever is wrong with one stream ends that stream alone, unless the disk fails, which is everybody's. One that is full may get
/// room: its streams rest meanwhile, and leave their leases to others.
fn fatal(registry: &Registry, ended: Ended) -> Option<(StreamId, LeadError)> {
    let (stream, error) = registry.note(ended)?;
    let is_fatal = matches!(&error, LeadError::Journal(error) if !matches!(error, JournalError::Full));
    is_fatal.then_some((stream, error))
}

/// Waits for the owners, within a bound.
async fn drain_owners(registry: &Registry, ended: &mut mpsc::Receiver<Ended>, drain: Duration) {
    let all = async {
        while registry.is_busy()
            && let Some(end) = ended.recv().await
        {
            registry.note(end);
        }
    };
    if tokio::time::timeout(drain + END_PATIENCE, all).await.is_err() {
        tracing::error!("an owner does not end; its journal is safe");
    }
}
