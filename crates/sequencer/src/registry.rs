//! The streams of this process, each with its owner.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use synddb_protocol::chain;
use synddb_protocol::id::StreamId;
use synddb_protocol::signing::SigningKey;
use synddb_service::shutdown::Shutdown;
use synddb_storage::BatchStore;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, watch};

use crate::backoff::Backoff;
use crate::config::Config;
use crate::error::LeadError;
use crate::journal::{FILE, Journal, JournalError};
use crate::leading::Leader;
use crate::live::Live;
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
    #[error("the stream ended here: {why}; see the service's log")]
    Resting {
        /// For what it ended.
        why: &'static str,
        /// When it may be opened again.
        wait: Duration,
    },
    /// The operating system gives no thread.
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
}

/// The streams of this process.
pub(crate) struct Registry {
    config: Config,
    key: Arc<SigningKey>,
    store: Arc<dyn BatchStore>,
    streams: Mutex<Streams>,
    ended: mpsc::Sender<Ended>,
}

/// The streams with an owner, and those whose owner ended in trouble: a stream is in one of both.
#[derive(Default)]
struct Streams {
    led: BTreeMap<StreamId, Led>,
    troubled: BTreeMap<StreamId, Troubled>,
}

/// A stream with an owner.
struct Led {
    handle: Handle,
    since: Instant,
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
    ) -> (Self, mpsc::Receiver<Ended>) {
        let (ended, receiver) = mpsc::channel(STREAMS_MAX);
        (Self { config, key, store, streams: Mutex::default(), ended }, receiver)
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

    /// All streams that have owners.
    pub(crate) fn all(&self) -> Vec<StreamId> {
        self.streams().led.keys().copied().collect()
    }

    /// The only stream, if there is exactly one, with an owner or without.
    pub(crate) fn only(&self) -> Option<StreamId> {
        let streams = self.streams();
        let only = streams.led.keys().chain(streams.troubled.keys()).next().copied();
        only.filter(|_| streams.len() == 1)
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
            view.trouble.or(phase).map(|trouble| (*stream, trouble))
        });
        let ended = || streams.troubled.iter().next().map(|(stream, troubled)| (*stream, troubled.why));
        let (stream, trouble) = of_led.or_else(ended)?;
        Some(format!("stream {stream}: {trouble}; see the log of the service"))
    }

    /// Whether an owner of a stream may begin now, as far as earlier ones tell.
    ///
    /// # Errors
    /// [`OpenStreamError::Resting`].
    pub(crate) fn check_rested(&self, stream: StreamId) -> Result<(), OpenStreamError> {
        self.streams().troubled.get(&stream).map_or(Ok(()), Troubled::check_rested)
    }

    /// The owner of a stream, which begins to lead it now unless it has one.
    ///
    /// # Errors
    /// [`OpenStreamError`].
    pub(crate) fn lead(&self, stream: StreamId) -> Result<Handle, OpenStreamError> {
        let mut streams = self.streams();
        if let Some(led) = streams.led.get(&stream) {
            return Ok(led.handle.clone());
        }
        streams.troubled.get(&stream).map_or(Ok(()), Troubled::check_rested)?;
        if streams.len() >= STREAMS_MAX && !streams.troubled.contains_key(&stream) {
            return Err(OpenStreamError::TooMany);
        }
        let journal = Journal::open(&self.folder().join(stream.to_key()), stream)?;
        let handle = self.start_owner(stream, journal).map_err(OpenStreamError::Thread)?;
        let backoff = streams.troubled.remove(&stream).map(|troubled| troubled.backoff);
        streams.led.insert(stream, Led { handle: handle.clone(), since: Instant::now(), backoff });
        Ok(handle)
    }

    fn start_owner(&self, stream: StreamId, journal: Journal) -> io::Result<Handle> {
        let (commands, receiver) = mpsc::channel(self.config.queue_max.max(1));
        let (shown, view) = watch::channel(View::opening());
        let (live, feed) = Live::new();
        let finish = Shutdown::new();
        let leader = Leader {
            stream,
            key: Arc::clone(&self.key),
            trusted: self.config.trusted(&self.key),
            batching: self.config.batch,
            journal_bytes_max: self.config.journal_bytes_max,
            drain: self.config.drain(),
        };
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
        let name = format!("stream {}", &stream.to_key()[..6]);
        std::thread::Builder::new().name(name).spawn(move || {
            // The journal is used on this thread only; what waits for the network waits on the runtime.
            let error = runtime.block_on(owner.run()).err();
            // Nobody listens any more when the process ends without waiting.
            ended.blocking_send(Ended { stream, error }).ok();
        })?;
        Ok(Handle { commands, view, feed, finish })
    }

    /// Takes note of an owner that ended. Gives the error that it ended with.
    pub(crate) fn note(&self, ended: Ended) -> Option<(StreamId, LeadError)> {
        let Ended { stream, error } = ended;
        let mut streams = self.streams();
        let led = streams.led.remove(&stream);
        let error = error?;
        let earlier = led.filter(|led| led.since.elapsed() < SETTLED).and_then(|led| led.backoff);
        let mut backoff = earlier.unwrap_or_else(Backoff::of_the_costly);
        let wait = backoff.delay();
        let rests_until = Instant::now() + wait;
        streams.troubled.insert(stream, Troubled { why: error.in_brief(), rests_until, backoff });
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

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // Maps that a panic left behind are still maps.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    fn len(&self) -> usize {
        self.led.len() + self.troubled.len()
    }
}
