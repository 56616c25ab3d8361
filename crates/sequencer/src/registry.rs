//! The streams of this process, each with its owner; of a standby also those that it watches and does not lead.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use synddb_chain::Endpoint;
use synddb_protocol::chain;
use synddb_protocol::id::StreamId;
use synddb_protocol::signing::SigningKey;
use synddb_service::shutdown::Shutdown;
use synddb_storage::{BatchStore, LeaseVersion};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{Notify, mpsc, watch};

use crate::backoff::Backoff;
use crate::config::{Config, Role};
use crate::error::LeadError;
use crate::journal::{FILE, Journal, JournalError};
use crate::leading::Leader;
use crate::live::Live;
use crate::mailbox::{Mailbox, Means, keep};
use crate::standby::{Keeper, Leases, Start, UNTRUSTED};
use crate::stream::{Handle, Owner, Parts, Phase, View};

/// Most streams that one process leads.
pub(crate) const STREAMS_MAX: usize = 64;

/// An owner that lasted this long owes nothing to those before it.
const SETTLED: Duration = Duration::from_secs(600);

/// How an owner ended.
pub(crate) struct Ended {
    stream: StreamId,
    error: Option<LeadError>,
}

/// Why a stream is not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenStreamError {
    /// Its journal does not open.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There are too many.
    #[error("this process leads {STREAMS_MAX} streams, the most it can; start another one for this stream")]
    TooMany,
    /// Its last owner ended in trouble not long ago.
    #[error("the stream ended here: {why}; see the log of the service")]
    Resting {
        /// For what it ended.
        why: &'static str,
        /// When it may be opened again.
        wait: Duration,
    },
    /// This process stands by: it leads the stream when nobody else does.
    #[error("this sequencer stands by, and another one leads or is about to")]
    StandingBy,
    /// The operating system gives no thread.
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
}

/// The streams of this process.
pub(crate) struct Registry {
    config: Config,
    key: Arc<SigningKey>,
    store: Arc<dyn BatchStore>,
    leases: Option<Leases>,
    /// Nodes of the bridge's chain.
    nodes: Vec<Endpoint>,
    streams: Mutex<Streams>,
    /// Kept from one owner to the next: a ledger is open once.
    mailboxes: Mutex<BTreeMap<StreamId, Arc<Mailbox>>>,
    /// Told when a stream is watched that was not.
    watched_more: Notify,
    ended: mpsc::Sender<Ended>,
}

/// The streams with an owner, and those without whose last owner ended in trouble, or that a standby watches, or both.
#[derive(Default)]
struct Streams {
    led: BTreeMap<StreamId, Led>,
    troubled: BTreeMap<StreamId, Troubled>,
    /// Of each, whether it is led by a key that is not trusted here.
    watched: BTreeMap<StreamId, Arc<AtomicBool>>,
}

/// A stream with an owner.
struct Led {
    handle: Handle,
    since: Instant,
    /// Whether somebody else took its lease.
    is_lease_lost: Arc<AtomicBool>,
    /// What its owners before it left, if they ended in trouble.
    backoff: Option<Backoff>,
}

/// A stream whose owner ended in trouble. Clients ask for it again and again, and each owner may claim an epoch: so it rests.
struct Troubled {
    why: &'static str,
    rests_until: Instant,
    backoff: Backoff,
}

impl Troubled {
    fn check_rested(&self) -> Result<(), OpenStreamError> {
        let wait = self.rests_until.saturating_duration_since(Instant::now());
        if wait.is_zero() { Ok(()) } else { Err(OpenStreamError::Resting { why: self.why, wait }) }
    }
}

impl Registry {
    /// A registry without streams. How its owners end is told to whoever holds the receiver.
    pub(crate) fn new(
        config: Config,
        key: Arc<SigningKey>,
        store: Arc<dyn BatchStore>,
        leases: Option<Leases>,
        nodes: Vec<Endpoint>,
    ) -> (Self, mpsc::Receiver<Ended>) {
        let (ended, receiver) = mpsc::channel(STREAMS_MAX);
        let (streams, mailboxes, watched_more) = (Mutex::default(), Mutex::default(), Notify::new());
        (Self { config, key, store, leases, nodes, streams, mailboxes, watched_more, ended }, receiver)
    }

    /// The streams that have a journal here and are admitted.
    ///
    /// # Errors
    /// When the folder of the journals cannot be read. That there is none yet is no error.
    pub(crate) fn known(&self) -> io::Result<Vec<StreamId>> {
        let folders = match std::fs::read_dir(self.folder()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            folders => folders?,
        };
        let mut known = Vec::new();
        for folder in folders {
            let folder = folder?;
            let name = folder.file_name();
            let stream = name.to_str().and_then(|name| StreamId::from_key(name).ok());
            match stream.filter(|_| folder.path().join(FILE).is_file()) {
                Some(stream) if self.admits(stream) => known.push(stream),
                Some(stream) => {
                    tracing::warn!(%stream, "the configuration does not admit a stream that has a journal")
                }
                None => {}
            }
        }
        Ok(known)
    }

    /// The streams that the configuration names.
    pub(crate) fn named(&self) -> BTreeSet<StreamId> {
        self.config.streams.named().cloned().unwrap_or_default()
    }

    /// Whether the configuration lets this process lead a stream.
    pub(crate) fn admits(&self, stream: StreamId) -> bool {
        self.config.streams.admit(stream)
    }

    /// A stream that has an owner.
    pub(crate) fn get(&self, stream: StreamId) -> Option<Handle> {
        self.streams().led.get(&stream).map(|led| led.handle.clone())
    }

    /// For what the owner of a stream ended, unless it has another one by now.
    pub(crate) fn ended_for(&self, stream: StreamId) -> Option<&'static str> {
        self.streams().troubled.get(&stream).map(|troubled| troubled.why)
    }

    /// Whether this process watches a stream, and does not lead it.
    pub(crate) fn is_watched(&self, stream: StreamId) -> bool {
        self.streams().watched.contains_key(&stream)
    }

    /// Whether a stream is one of this process, whatever becomes of it.
    pub(crate) fn is_known(&self, stream: StreamId) -> bool {
        self.streams().names().contains(&stream)
    }

    /// The streams that this process watches and does not lead.
    pub(crate) fn watched(&self) -> BTreeSet<StreamId> {
        self.streams().watched.keys().copied().collect()
    }

    /// Returns when a stream may be watched that was not.
    pub(crate) async fn watched_more(&self) {
        self.watched_more.notified().await;
    }

    /// Watches a stream from now on, unless it is led here.
    ///
    /// # Errors
    /// [`OpenStreamError::TooMany`].
    pub(crate) fn watch(&self, stream: StreamId) -> Result<(), OpenStreamError> {
        let mut streams = self.streams();
        streams.check_room(stream)?;
        if !streams.led.contains_key(&stream) && streams.begin_to_watch(stream) {
            self.watched_more.notify_one();
        }
        Ok(())
    }

    /// Lets everybody see whether a stream that is watched is led by a key that is not trusted here.
    pub(crate) fn show_trust(&self, stream: StreamId, is_untrusted: Arc<AtomicBool>) {
        if let Some(shown) = self.streams().watched.get_mut(&stream) {
            *shown = is_untrusted;
        }
    }

    /// All streams that have owners.
    pub(crate) fn all(&self) -> Vec<StreamId> {
        self.streams().led.keys().copied().collect()
    }

    /// The only stream, if there is exactly one, with an owner or without.
    pub(crate) fn only(&self) -> Option<StreamId> {
        let names = self.streams().names();
        names.first().copied().filter(|_| names.len() == 1)
    }

    /// What stands in the way of some stream, if anything does.
    pub(crate) fn trouble(&self) -> Option<String> {
        let streams = self.streams();
        let of_led = streams.led.iter().find_map(|(stream, led)| {
            let view = led.handle.view.borrow();
            let phase = match view.phase {
                Phase::Leading => None,
                Phase::Opening => Some("is being opened"),
                Phase::Deposed => Some("is led by another sequencer"),
                Phase::Ended => Some("has no owner"),
            };
            let lost = led.is_lease_lost.load(Ordering::Relaxed);
            let lost = lost.then_some("another sequencer has the lease, and may lead");
            view.trouble.or(phase).or(lost).map(|trouble| (*stream, trouble))
        });
        let ended = || streams.troubled.iter().next().map(|(stream, troubled)| (*stream, troubled.why));
        let Some((stream, trouble)) = of_led.or_else(ended) else {
            // Who leads some streams and watches others does what it is there for.
            let stands_by = self.config.role == Role::Standby && streams.led.is_empty();
            return stands_by.then(|| streams.standing_by());
        };
        Some(format!("stream {stream}: {trouble}; see the log of the service"))
    }

    /// Whether an owner of a stream may begin now, as far as earlier ones tell, and as far as this process does not stand by for it.
    ///
    /// # Errors
    /// [`OpenStreamError::Resting`] or [`OpenStreamError::StandingBy`].
    pub(crate) fn check_free(&self, stream: StreamId) -> Result<(), OpenStreamError> {
        let streams = self.streams();
        streams.check_rested(stream)?;
        if streams.watched.contains_key(&stream) { Err(OpenStreamError::StandingBy) } else { Ok(()) }
    }

    /// How long a stream rests from now on.
    pub(crate) fn rest(&self, stream: StreamId) -> Duration {
        match self.streams().check_rested(stream) {
            Err(OpenStreamError::Resting { wait, .. }) => wait,
            _ => Duration::ZERO,
        }
    }

    /// The owner of a stream, which begins to lead it now unless it has one. A standby watches it from now on instead.
    ///
    /// # Errors
    /// [`OpenStreamError`].
    pub(crate) fn lead(&self, stream: StreamId) -> Result<Handle, OpenStreamError> {
        let mut streams = self.streams();
        if let Some(led) = streams.led.get(&stream) {
            return Ok(led.handle.clone());
        }
        streams.check_rested(stream)?;
        if self.config.role == Role::Standby {
            drop(streams);
            self.watch(stream)?;
            return Err(OpenStreamError::StandingBy);
        }
        let journal = self.open_journal(&streams, stream)?;
        let keeper = self.leases.as_ref().map(|leases| (leases.keeper(stream), Start::Seize));
        self.begin(&mut streams, stream, journal, keeper).map_err(OpenStreamError::Thread)
    }

    /// Begins to lead a watched stream, whose lease was taken. Where its journal does not open the lease comes back, and the stream rests.
    pub(crate) fn lead_with(
        &self,
        stream: StreamId,
        keeper: Keeper,
        version: LeaseVersion,
    ) -> Result<(), Box<(Keeper, LeaseVersion)>> {
        let mut streams = self.streams();
        let (error, unused) = match self.open_journal(&streams, stream) {
            Ok(journal) => {
                let keeper = Some((keeper, Start::Taken(version)));
                match self.begin(&mut streams, stream, journal, keeper) {
                    Ok(_) => return Ok(()),
                    // The keeper went with the thread that did not begin: the lease grows old.
                    Err(error) => (OpenStreamError::Thread(error), Ok(())),
                }
            }
            Err(error) => (error, Err(Box::new((keeper, version)))),
        };
        tracing::error!(%stream, error = chain(&error), "cannot lead a stream whose lease was taken");
        streams.rest(stream, "it cannot be opened here", None);
        unused
    }

    fn open_journal(&self, streams: &Streams, stream: StreamId) -> Result<Journal, OpenStreamError> {
        streams.check_room(stream)?;
        Ok(Journal::open(&self.folder().join(stream.to_key()), stream)?)
    }

    /// Begins to lead a stream without an owner.
    fn begin(
        &self,
        streams: &mut Streams,
        stream: StreamId,
        journal: Journal,
        keeper: Option<(Keeper, Start)>,
    ) -> io::Result<Handle> {
        let is_lease_lost = keeper.as_ref().map(|(keeper, _)| keeper.is_lost()).unwrap_or_default();
        let handle = self.start_owner(stream, journal, keeper)?;
        let backoff = streams.troubled.remove(&stream).map(|troubled| troubled.backoff);
        streams.watched.remove(&stream);
        let led = Led { handle: handle.clone(), since: Instant::now(), is_lease_lost, backoff };
        streams.led.insert(stream, led);
        Ok(handle)
    }

    fn start_owner(
        &self,
        stream: StreamId,
        journal: Journal,
        keeper: Option<(Keeper, Start)>,
    ) -> io::Result<Handle> {
        let (commands, receiver) = mpsc::channel(self.config.queue_max.max(1));
        let (shown, view) = watch::channel(View::opening());
        let (live, feed) = Live::new();
        let finish = Shutdown::new();
        let leader = Leader::of(&self.config, stream, Arc::clone(&self.key));
        let mailbox = self.mailbox(stream);
        let means = Means {
            store: Arc::clone(&self.store),
            trusted: leader.trusted.clone(),
            nodes: self.config.nodes.clone(),
            endpoints: self.nodes.clone(),
            deadlines: self.config.deadlines,
        };
        let beside = mailbox.clone().map(|mailbox| keep(mailbox, means, commands.clone(), view.clone()));
        let owner = Owner::new(Parts {
            leader,
            store: Arc::clone(&self.store),
            journal,
            commands: receiver,
            view: shown,
            live,
            finish: finish.clone(),
        });
        let (runtime, ended) = (Runtime::current(), self.ended.clone());
        let (seen, asked_to_end) = (view.clone(), finish.clone());
        let name = format!("stream {}", &stream.to_key()[..6]);
        std::thread::Builder::new().name(name).spawn(move || {
            // Beside this thread: a disk that syncs for long must not look like a death.
            let keeping = keeper.map(|(keeper, start)| runtime.spawn(keeper.keep(start, seen, asked_to_end)));
            let beside = beside.map(|beside| runtime.spawn(beside));
            // The journal is used on this thread only; what waits for the network waits on the runtime.
            let error = runtime.block_on(owner.run()).err();
            if let Some(keeping) = keeping {
                // It ends because the owner has: nobody is told before the lease is released.
                runtime.block_on(keeping).ok();
            }
            if let Some(beside) = beside {
                // Two never read for one ledger.
                runtime.block_on(beside).ok();
            }
            // Nobody listens any more when the process ends without waiting.
            ended.blocking_send(Ended { stream, error }).ok();
        })?;
        Ok(Handle { commands, view, feed, mailbox, finish })
    }

    /// Takes note of an owner that ended. Gives the error that it ended with.
    pub(crate) fn note(&self, ended: Ended) -> Option<(StreamId, LeadError)> {
        let Ended { stream, error } = ended;
        let mut streams = self.streams();
        let led = streams.led.remove(&stream);
        if self.config.role == Role::Standby && streams.begin_to_watch(stream) {
            self.watched_more.notify_one();
        }
        let error = error?;
        let earlier = led.filter(|led| led.since.elapsed() < SETTLED).and_then(|led| led.backoff);
        let wait = streams.rest(stream, error.in_brief(), earlier);
        tracing::error!(%stream, error = chain(&error), rests_ms = wait.as_millis(),
            "the stream ended; the others go on");
        Some((stream, error))
    }

    /// Asks every owner to store what it has, and to end.
    pub(crate) fn finish(&self) {
        for led in self.streams().led.values() {
            led.handle.finish.ask();
        }
    }

    /// Whether any owner is left.
    pub(crate) fn is_busy(&self) -> bool {
        !self.streams().led.is_empty()
    }

    /// The folder of the journals.
    pub(crate) fn folder(&self) -> PathBuf {
        self.config.dir.join("streams")
    }

    /// The mailbox of a stream, where there is a bridge.
    fn mailbox(&self, stream: StreamId) -> Option<Arc<Mailbox>> {
        let bridge = self.config.bridge?.domain();
        // A map that a panic left behind is still a map.
        let mut known = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let folder = self.folder().join(stream.to_key());
            Arc::new(Mailbox::new(stream, bridge, Arc::clone(&self.key), folder))
        };
        Some(Arc::clone(known.entry(stream).or_insert_with(new)))
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // Maps that a panic left behind are still maps.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    /// All of them, each once.
    fn names(&self) -> BTreeSet<StreamId> {
        self.led.keys().chain(self.troubled.keys()).chain(self.watched.keys()).copied().collect()
    }

    /// Whether it was not watched before.
    fn begin_to_watch(&mut self, stream: StreamId) -> bool {
        let is_new = !self.watched.contains_key(&stream);
        self.watched.entry(stream).or_default();
        is_new
    }

    /// What a standby says that leads nothing.
    fn standing_by(&self) -> String {
        let untrusted = self.watched.iter().find(|(_, is_untrusted)| is_untrusted.load(Ordering::Relaxed));
        untrusted.map_or_else(
            || "standing by: no stream is led here".to_owned(),
            |(stream, _)| format!("standing by, and cannot take over stream {stream}: {UNTRUSTED}"),
        )
    }

    fn check_room(&self, stream: StreamId) -> Result<(), OpenStreamError> {
        let names = self.names();
        let has_room = names.len() < STREAMS_MAX || names.contains(&stream);
        if has_room { Ok(()) } else { Err(OpenStreamError::TooMany) }
    }

    fn check_rested(&self, stream: StreamId) -> Result<(), OpenStreamError> {
        self.troubled.get(&stream).map_or(Ok(()), Troubled::check_rested)
    }

    /// Lets a stream rest for a reason, longer than the last time. Says how long.
    fn rest(&mut self, stream: StreamId, why: &'static str, earlier: Option<Backoff>) -> Duration {
        let earlier = earlier.or_else(|| self.troubled.remove(&stream).map(|troubled| troubled.backoff));
        let mut backoff = earlier.unwrap_or_else(Backoff::of_the_costly);
        let wait = backoff.delay();
        self.troubled.insert(stream, Troubled { why, rests_until: Instant::now() + wait, backoff });
        wait
    }
}
