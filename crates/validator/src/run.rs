//! How the parts are put together, and how it ends.
//!
//! ```text
//! fetch --FETCHED_MAX--> verify --VERIFIED_MAX--> owner (a thread) --events--> run --> whoever called
//! ```
//!
//! Whoever is asked to end stops looking for news, takes what the store holds, and ends when that is applied, within
//! [`DRAIN_MAX`](crate::pipeline::DRAIN_MAX).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use synddb_protocol::chain;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::signing::{Domain, RegisteredSigner, SigningKey};
use synddb_service::http::{ConnectionBounds, Transport, listen, serve};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_service::trouble::Trouble;
use synddb_storage::{BatchStore, ObjectBatchStore, OpenError, StoreUrl};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::auditors::Auditors;
use crate::config::{Config, ConfigProblem, FromSnapshot, Mode, Trusted};
use crate::door::Door;
use crate::endorse::{self, Due, Endorser, Shown};
use crate::error::ValidatorError;
use crate::event::{End, Event};
use crate::feed::{Live, Log};
use crate::fetch::{Fetch, PatientStore};
use crate::halting::Halting;
use crate::keys::{KeySource, KeysFile, PatientKeys, Pinned};
use crate::news::{News, Sequencer};
use crate::pipeline::{DRAIN_MAX, FETCHED_MAX, VERIFIED_MAX, cut_off};
use crate::replica::{Context, Owner, Started};
use crate::rules::{Rule, RuleCost, Rulebook, RulesFile};
use crate::serve::{Serving, router};
use crate::snapshots::{self, Beginning, Shelf, Taker};
use crate::start::{Begun, Start};
use crate::verify::{Joined, Stopped, Verify, join};
use crate::view::View;
use crate::watch::{Audits, tick};

/// Events that wait for whoever called.
const EVENTS_MAX: usize = 64;
/// How long a store that is not there yet is waited for between two looks.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// Follows the log of a store until asked to end, or once.
///
/// A halt in [`Mode::Follow`] with a listener is served until the process is asked to end, and is the error then. Without a listener, and in
/// [`Mode::Once`], it is the error at once.
///
/// # Errors
/// [`ValidatorError`].
pub async fn run(
    config: Config,
    metrics: Metrics,
    shutdown: Shutdown,
    on_event: impl FnMut(Event) + Send + 'static,
) -> Result<End, ValidatorError> {
    run_as(Start::GoOn, config, metrics, shutdown, on_event).await
}

/// Looks at whether a configuration could be run, as far as that can be seen on this machine. Nothing is made, and the store is not asked.
///
/// # Errors
/// [`ValidatorError`], as [`run`] would end with it.
pub async fn check(config: &Config) -> Result<(), ValidatorError> {
    Checked::of(config, None).await?;
    snapshots::check_key(&config.snapshots)?;
    if config.endorse.on {
        snapshots::check_key_file(&config.endorse.key_file).map_err(ValidatorError::EndorseKey)?;
    }
    rulebook(config, Vec::new())?;
    if let Some(address) = config.listen {
        Transport::open(config.tls.as_ref())?;
        Auditors::of(config.credentials_file.as_deref(), address)?;
    }
    Ok(())
}

/// As [`run`], and it begins otherwise than by going on.
///
/// # Errors
/// [`ValidatorError`].
pub async fn run_as(
    start: Start,
    config: Config,
    metrics: Metrics,
    shutdown: Shutdown,
    on_event: impl FnMut(Event) + Send + 'static,
) -> Result<End, ValidatorError> {
    let store = Source::Address(config.store.clone());
    let with = With::default();
    Box::pin(run_from(start, store, with, config, metrics, shutdown, on_event)).await
}

/// As [`run_as`], with rules in Rust beside those that the configuration names.
///
/// # Errors
/// [`ValidatorError`].
pub async fn run_with_rules(
    rules: Vec<Arc<dyn Rule>>,
    start: Start,
    config: Config,
    metrics: Metrics,
    shutdown: Shutdown,
    on_event: impl FnMut(Event) + Send + 'static,
) -> Result<End, ValidatorError> {
    let store = Source::Address(config.store.clone());
    let with = With { keys: None, rules };
    Box::pin(run_from(start, store, with, config, metrics, shutdown, on_event)).await
}

/// What the configuration cannot name.
#[derive(Default)]
struct With {
    /// Whom to believe; what the configuration says of keys is not looked at then.
    keys: Option<Arc<dyn KeySource>>,
    /// Rules in Rust.
    rules: Vec<Arc<dyn Rule>>,
}

/// The rules of a validator: none where it neither endorses nor is told any.
fn rulebook(config: &Config, rules: Vec<Arc<dyn Rule>>) -> Result<Option<Rulebook>, ValidatorError> {
    if config.rules.is_none() && rules.is_empty() && !config.endorse.on {
        return Ok(None);
    }
    let texts = config.rules.as_deref().map(RulesFile::read).transpose()?.unwrap_or_default().rules;
    RulesFile::check_beside(&texts, &rules)?;
    let (one, all) = (Duration::from_millis(config.rule_ms_max), Duration::from_millis(config.scan_ms_max));
    let cost = RuleCost { steps: config.rule_steps_max, one, all };
    Ok(Some(Rulebook::new(texts, rules, cost, config.endorse.incarnation_max)))
}

/// As [`run`], over a store that is open; `config.store` is not looked at.
///
/// # Errors
/// [`ValidatorError`].
pub async fn run_over(
    store: Arc<dyn BatchStore>,
    config: Config,
    metrics: Metrics,
    shutdown: Shutdown,
    on_event: impl FnMut(Event) + Send + 'static,
) -> Result<End, ValidatorError> {
    let with = With::default();
    Box::pin(run_from(Start::GoOn, Source::Open(store), with, config, metrics, shutdown, on_event)).await
}

/// The same with keys from another source than the configuration can name; what it says of keys is not looked at.
///
/// # Errors
/// [`ValidatorError`].
pub async fn run_trusting(
    store: Arc<dyn BatchStore>,
    keys: Arc<dyn KeySource>,
    config: Config,
    metrics: Metrics,
    shutdown: Shutdown,
    on_event: impl FnMut(Event) + Send + 'static,
) -> Result<End, ValidatorError> {
    let with = With { keys: Some(keys), rules: Vec::new() };
    Box::pin(run_from(Start::GoOn, Source::Open(store), with, config, metrics, shutdown, on_event)).await
}

/// Where the store is.
#[derive(Clone)]
pub(crate) enum Source {
    Address(StoreUrl),
    Open(Arc<dyn BatchStore>),
}

async fn run_from(
    start: Start,
    source: Source,
    with: With,
    config: Config,
    metrics: Metrics,
    shutdown: Shutdown,
    mut on_event: impl FnMut(Event) + Send + 'static,
) -> Result<End, ValidatorError> {
    let checked = Checked::of(&config, with.keys).await?;
    let rules = rulebook(&config, with.rules)?;
    let key = snapshots::key(&config.snapshots)?;
    let signer = endorse::signer(&config.endorse).map_err(ValidatorError::EndorseKey)?;
    let shown = Shown::default();
    let (file, stream, asked) = (config.replica.clone(), checked.stream, start.clone());
    let taken = spawn_blocking(move || Begun::by(&asked, &file, stream));
    let begun = taken.await.map_err(|_| ValidatorError::Fault { part: "replica" })??;
    // Kept until the end, also while a halt is served.
    let (_lock, replica) = (begun.place.lock(), begun.place.file().to_owned());
    let before = begun.report.clone();
    crate::metrics::describe(stream);
    let view = View::new(stream);
    view.lacks(&begun.gaps);
    view.started(begun.started.as_ref().and_then(Started::told));
    if begun.replaced.is_some() {
        view.hide();
    }
    let door = Door::new(config.query.door());
    let audits = Audits::default();
    let shelf = Shelf::default();
    let (live, feed) = Live::new(view.clone(), &config.changes);
    let serving_ends = Shutdown::new();
    let (events, mut happened) = mpsc::channel(EVENTS_MAX);
    let mut server = match config.listen {
        Some(address) => {
            let transport = Transport::open(config.tls.as_ref())?;
            let listener = Listener::bind(address)?;
            let serving = Serving {
                view: view.clone(),
                replica: replica.clone(),
                limits: config.query.limits(),
                scan_max: Duration::from_millis(config.scan_ms_max),
                door: door.clone(),
                audits: audits.clone(),
                auditors: Auditors::of(config.credentials_file.as_deref(), listener.address)?,
                lag_max: config.lag_max,
                shelf: shelf.clone(),
                feed,
                signer: signer.clone(),
                bridge: config.endorse.bridge(),
                shown: shown.clone(),
                shutdown: serving_ends.clone(),
            };
            on_event(Event::Listening { address: listener.address, scheme: transport.scheme() });
            Some(Server::start(listener, transport, config.http, serving, metrics, serving_ends))
        }
        None => None,
    };
    let following = Following {
        config: &config,
        checked: checked.clone(),
        shutdown: shutdown.clone(),
        view: view.clone(),
        door,
        events,
        until: None,
        audits: Some(audits),
        snapshots: Some(Snapshots { key, shelf }),
        live: server.is_some().then_some(live),
        rules,
        endorses: signer.map(|signer| Endorses { signer, shown }),
    };
    let mut ended = {
        let mut following = Box::pin(following.run(source.clone(), begun));
        loop {
            tokio::select! {
                biased;
                Some(event) = happened.recv() => on_event(event),
                ended = &mut following => break ended,
                failed = Server::failed(server.as_mut()) => break Err(failed),
            }
        }
    };
    while let Ok(event) = happened.try_recv() {
        on_event(event);
    }
    if let Err(ValidatorError::Halted { halt, source: cause }) = &mut ended {
        error!(from = halt.from.get(), to = halt.to.get(), detail = halt.detail, "halted");
        let halting =
            Halting { config: &config, checked, view: &view, replica: &replica, shutdown: &shutdown };
        if matches!(start, Start::Resync { .. }) {
            halting.advise(halt, before.as_ref());
        }
        halting.tell(halt, cause, source).await;
        on_event(Event::Halted(halt.clone()));
        if config.mode == Mode::Follow && server.is_some() {
            tokio::select! {
                () = shutdown.asked() => {}
                failed = Server::failed(server.as_mut()) => warn!(error = %chain(&failed), "a halt is served no more"),
            }
        }
    }
    if let Some(server) = server {
        server.stop().await;
    }
    ended
}

/// What a configuration says, with nothing missing.
#[derive(Clone)]
pub(crate) struct Checked {
    pub(crate) stream: StreamId,
    keys: Arc<dyn KeySource>,
    sequencer: Option<Sequencer>,
}

impl Checked {
    /// The same for who reads the log a second time: it knows where it ends.
    pub(crate) fn aside(&self) -> Self {
        Self { sequencer: None, ..self.clone() }
    }

    /// `keys` go before what the configuration says of keys.
    async fn of(config: &Config, keys: Option<Arc<dyn KeySource>>) -> Result<Self, ValidatorError> {
        let stream = config.stream.ok_or(ConfigProblem::NoStream)?;
        let trusted = if keys.is_some() { None } else { Some(Trusted::of(config)?) };
        if config.replica.file_name().is_none() {
            return Err(ConfigProblem::NoFile { path: config.replica.clone() }.into());
        }
        let bounds = [
            ("query.rows_max", config.query.rows_max as u64),
            ("query.bytes_max", config.query.bytes_max as u64),
            ("query.ms_max", config.query.ms_max),
            ("query.memory_bytes_max", config.query.memory_bytes_max as u64),
            ("query.concurrent_max", config.query.concurrent_max as u64),
            ("changes.readers_max", config.changes.readers_max as u64),
            ("changes.stall_ms_max", config.changes.stall_ms_max),
            ("scan_ms_max", config.scan_ms_max),
            ("poll_ms_max", config.poll_ms_max),
            ("wal_bytes_max", config.wal_bytes_max),
            ("rule_steps_max", config.rule_steps_max),
            ("rule_ms_max", config.rule_ms_max),
            ("endorse.inclusion_ms", config.endorse.inclusion_ms),
        ];
        if config.snapshots.is_on() && !config.store.is_writable() {
            return Err(ConfigProblem::NotWritable { store: config.store.clone() }.into());
        }
        // The only stores that cannot be written are those that cannot be listed.
        if config.from_snapshot == FromSnapshot::Newest && !config.store.is_writable() {
            return Err(ConfigProblem::NotListed { store: config.store.clone() }.into());
        }
        if config.endorse.on && !config.store.is_writable() {
            return Err(ConfigProblem::NotEndorsable { store: config.store.clone() }.into());
        }
        if (config.endorse.chain_id == 0) != (config.endorse.registry == Domain::NONE.contract) {
            return Err(ConfigProblem::HalfADomain.into());
        }
        if config.endorse.chain_id == 0 && config.endorse.bridge != Domain::NONE.contract {
            return Err(ConfigProblem::BridgeWithoutChain.into());
        }
        if config.endorse.nodes.are_named() && config.endorse.bridge == Domain::NONE.contract {
            return Err(ConfigProblem::NodesWithoutBridge.into());
        }
        config.endorse.endpoints()?;
        config.endorse.quorum().map_err(ConfigProblem::Quorum)?;
        if let Some((key, _)) = bounds.into_iter().find(|(_, bound)| *bound == 0) {
            return Err(ConfigProblem::Zero { key }.into());
        }
        let sequencer = config
            .sequencer
            .as_deref()
            .map(|url| Sequencer::at(url, config.sequencer_ca_file.as_deref(), stream))
            .transpose()?;
        let keys: Arc<dyn KeySource> = match (keys, trusted) {
            (Some(keys), _) => keys,
            (None, Some(Trusted::Pinned(keys))) => Arc::new(Pinned::new(keys)),
            (None, Some(Trusted::File(file))) => Arc::new(KeysFile::open(&file).await?),
            (None, None) => return Err(ConfigProblem::NoKeys.into()),
        };
        Ok(Self { stream, keys, sequencer })
    }
}

/// The stages from the store to the replica.
pub(crate) struct Following<'c> {
    pub(crate) config: &'c Config,
    pub(crate) checked: Checked,
    pub(crate) shutdown: Shutdown,
    pub(crate) view: View,
    pub(crate) door: Door,
    pub(crate) events: mpsc::Sender<Event>,
    /// The last message that is read.
    pub(crate) until: Option<Sequence>,
    /// Where audits are asked for, if anybody may.
    pub(crate) audits: Option<Audits>,
    /// What is done with snapshots, where this is the replica of the process.
    pub(crate) snapshots: Option<Snapshots>,
    /// Who is shown what was committed, if anybody.
    pub(crate) live: Option<Live>,
    /// The rules that every commit is shown to, if any.
    pub(crate) rules: Option<Rulebook>,
    /// Who endorses, if anybody.
    pub(crate) endorses: Option<Endorses>,
}

/// Who endorses.
pub(crate) struct Endorses {
    /// The key.
    signer: Arc<RegisteredSigner>,
    /// Where it is shown.
    shown: Shown,
}

/// What is done with snapshots.
pub(crate) struct Snapshots {
    /// The key that signs them, where they are taken.
    key: Option<Arc<SigningKey>>,
    /// Where they are told of.
    shelf: Shelf,
}

impl Following<'_> {
    pub(crate) async fn run(self, source: Source, begun: Begun) -> Result<End, ValidatorError> {
        let Self {
            config,
            checked,
            shutdown,
            view,
            door,
            events,
            until,
            audits,
            snapshots,
            live,
            rules,
            endorses,
        } = self;
        let Checked { stream, keys, sequencer } = checked;
        let nothing = End { sequence: None, state: None };
        let Some(store) = open(source, config.mode, &shutdown).await? else { return Ok(nothing) };
        if let Some(live) = &live {
            live.reads(Log {
                store: Arc::clone(&store),
                stream,
                keys: Arc::clone(&keys),
                supported: config.supported,
                file: begun.place.file().to_owned(),
            });
        }
        let stop = CancellationToken::new();
        // Whoever stops waiting for this ends every part of it.
        let _ending = stop.clone().drop_guard();
        if let Some(snapshots) = &snapshots {
            snapshots.shelf.open(&store, stream);
        }
        let (puts, endorsing) = (Arc::clone(&store), Arc::clone(&store));
        let store = match config.mode {
            Mode::Follow => PatientStore::following(store, shutdown.clone(), stop.clone()),
            Mode::Once => PatientStore::new(store, shutdown.clone(), stop.clone()),
        };
        let (asked, late) = (shutdown.clone(), stop.clone());
        let mut stages = JoinSet::new();
        stages.spawn(async move {
            asked.asked().await;
            tokio::time::sleep(DRAIN_MAX).await;
            late.cancel();
        });
        let keys = PatientKeys::new(keys, shutdown.clone(), stop.clone());
        let mut begun = begun;
        if config.from_snapshot == FromSnapshot::Newest && begun.kept.is_none() {
            let supported = config.supported;
            let of =
                Beginning { store: &store, stream, keys: &keys, supported, events: &events, stop: &stop };
            begun = match snapshots::begin(of, begun).await {
                Ok(begun) => begun,
                Err(Stopped::GaveUp) => return Ok(nothing),
                Err(Stopped::Failed(error)) => return Err(*error),
            };
            view.started(begun.started.as_ref().and_then(Started::told));
        }
        let Begun { place, kept, gaps, started, report, replaced } = begun;
        let last = kept.as_ref().map(|kept| kept.checkpoint.clone());
        let joined = join(&store, stream, &keys, config.supported, place.file(), kept).await;
        let Joined { leaders, tip, signers, checkpoint } = match joined {
            Ok(joined) => joined,
            Err(Stopped::GaveUp) => return Ok(nothing),
            Err(Stopped::Failed(error)) => return Err(*error),
        };
        let next = tip.next().unwrap_or(Sequence::FIRST);
        let (fetched, to_verify) = mpsc::channel(FETCHED_MAX);
        let (verified, to_apply) = mpsc::channel(VERIFIED_MAX);
        let news = News::new(sequencer, Duration::from_millis(config.poll_ms_max), view.clone());
        let (mode, asked) = (config.mode, shutdown.clone());
        let fetch = Fetch {
            store: store.clone(),
            stream,
            next,
            last,
            news,
            mode,
            shutdown: asked,
            until,
            looks_behind: false,
        };
        if let Some(key) = snapshots.and_then(|snapshots| snapshots.key)
            && mode == Mode::Follow
        {
            let taker = Taker {
                config: config.snapshots.clone(),
                key,
                replica: place.file().to_owned(),
                stream,
                store: puts,
                view: view.clone(),
                audits: audits.clone(),
                events: events.clone(),
                shutdown: shutdown.clone(),
                stop: stop.clone(),
                began_with: started.as_ref().map(|started| started.checkpoint.claim().size),
            };
            stages.spawn(taker.run());
        }
        let due = endorses.is_some().then(Due::default);
        if let (Some(Endorses { signer, shown }), Some(due), Mode::Follow) = (endorses, &due, mode) {
            let endorser = Endorser {
                config: config.endorse.clone(),
                quorum: config.endorse.quorum().map_err(ConfigProblem::Quorum)?,
                nodes: config.endorse.endpoints()?,
                signer,
                stream,
                store: endorsing,
                replica: place.file().to_owned(),
                due: due.clone(),
                view: view.clone(),
                shown,
                events: events.clone(),
                shutdown: shutdown.clone(),
                stop: stop.clone(),
            };
            stages.spawn(endorser.run());
        }
        if let Some(audits) = audits {
            audits.open(&verified);
            let (to, config) = (verified.downgrade(), config.clone());
            if mode == Mode::Follow {
                stages.spawn(async move { tick(to, &config).await });
            }
        }
        stages.spawn(fetch.run(fetched));
        stages
            .spawn(Verify::new(store.clone(), keys, leaders, tip, signers.clone()).run(to_verify, verified));
        let (patient, ending) = (config.mode == Mode::Follow, store.clone());
        let runtime = Handle::current();
        let context = Context {
            runtime,
            store,
            stream,
            view,
            door,
            wal_bytes_max: config.wal_bytes_max,
            patient,
            thorough: false,
            events,
            stop: stop.clone(),
            gaps,
            started,
            report,
            replaced,
            live,
            rules,
            due,
        };
        let mut owner = Box::pin(own(move || Owner::run(place, checkpoint, signers, context, to_apply)));
        tokio::select! {
            // Who follows has no end but one that was asked for.
            ended = &mut owner => match ended {
                Ok(_) if patient && !ending.may_end() => Err(cut_off()),
                ended => ended,
            },
            () = stop.cancelled() => {
                stages.shutdown().await;
                owner.await
            }
        }
    }
}

/// Runs the owner of a replica, or who reads it in full, on a thread of its own, and waits for its end.
pub(crate) async fn own<T: Send + 'static>(
    owner: impl FnOnce() -> Result<T, ValidatorError> + Send + 'static,
) -> Result<T, ValidatorError> {
    let (tell, told) = oneshot::channel();
    let fault = || ValidatorError::Fault { part: "replica" };
    let started = std::thread::Builder::new().name("replica".to_owned()).spawn(move || {
        // Who does not wait any more does not need it.
        tell.send(owner()).ok();
    });
    started.map_err(|_| fault())?;
    told.await.map_err(|_| fault())?
}

/// Opens the store. One that is not there yet is waited for where there is time.
async fn open(
    source: Source,
    mode: Mode,
    shutdown: &Shutdown,
) -> Result<Option<Arc<dyn BatchStore>>, ValidatorError> {
    let url = match source {
        Source::Open(store) => return Ok(Some(store)),
        Source::Address(url) => url,
    };
    let mut trouble = Trouble::default();
    loop {
        let error = match ObjectBatchStore::open_existing(&url).await {
            Ok(store) => return Ok(Some(Arc::new(store))),
            Err(error) => error,
        };
        let waits = match &error {
            OpenError::Missing { .. } | OpenError::ParentMissing { .. } => mode == Mode::Follow,
            OpenError::Failed { failure, .. } => failure.retry_may_help(),
            OpenError::NotAFolder { .. } | OpenError::Settings { .. } | OpenError::ReadOnly { .. } => false,
        };
        if !waits {
            return Err(error.into());
        }
        if let Some(lasting) = trouble.met(Instant::now(), "absent") {
            let (attempts, lasts_s) = (lasting.times, lasting.lasts.as_secs());
            warn!(error = %chain(&error), attempts, lasts_s, "the store is not there yet; looking again");
        }
        tokio::select! {
            () = shutdown.asked() => return Ok(None),
            () = tokio::time::sleep(STORE_RETRY) => {}
        }
    }
}

/// Where is listened, before anything is served.
struct Listener {
    address: SocketAddr,
    socket: TcpListener,
}

impl Listener {
    fn bind(address: SocketAddr) -> Result<Self, ValidatorError> {
        let refused = |source| ValidatorError::Listen { address, source };
        let socket = listen(address).map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        info!(%address, "listening");
        Ok(Self { address, socket })
    }
}

/// The listener. It outlives what it serves, so that a halt can be looked at.
struct Server {
    asked: Shutdown,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    fn start(
        listener: Listener,
        transport: Transport,
        bounds: ConnectionBounds,
        serving: Serving,
        metrics: Metrics,
        asked: Shutdown,
    ) -> Self {
        let task =
            tokio::spawn(serve(listener.socket, transport, router(serving, metrics), bounds, asked.clone()));
        Self { asked, task }
    }

    /// Returns only when the listener ends that nobody asked to.
    async fn failed(server: Option<&mut Self>) -> ValidatorError {
        let Some(server) = server else { return std::future::pending().await };
        match (&mut server.task).await {
            Ok(Err(error)) => ValidatorError::Serve(error),
            Ok(Ok(())) | Err(_) => ValidatorError::Fault { part: "listener" },
        }
    }

    async fn stop(self) {
        self.asked.ask();
        if !self.task.is_finished() {
            self.task.await.ok();
        }
    }
}
