//! The streams of this process, each with its owner.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use synddb_protocol::chain;
use synddb_protocol::id::StreamId;
use synddb_protocol::signing::SigningKey;
use synddb_service::shutdown::Shutdown;
use synddb_storage::BatchStore;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::journal::{FILE, Journal, JournalError};
use crate::lead::{LeadError, Leader};
use crate::stream::{Handle, Owner, Parts, Phase, View};

/// Most streams that one process leads.
pub(crate) const STREAMS_MAX: usize = 64;

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
    led: BTreeMap<StreamId, Handle>,
    troubled: BTreeMap<StreamId, &'static str>,
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
        self.streams().led.get(&stream).cloned()
    }

    /// For what the owner of a stream ended, unless it has another one by now.
    pub(crate) fn ended_for(&self, stream: StreamId) -> Option<&'static str> {
        self.streams().troubled.get(&stream).copied()
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
        let of_led = streams.led.iter().find_map(|(stream, handle)| {
            let view = handle.view.borrow();
            let phase = match view.phase {
                Phase::Leading => None,
                Phase::Opening => Some("is being opened"),
                Phase::Deposed => Some("is led by another sequencer"),
                Phase::Ended => Some("has no owner"),
            };
            view.trouble.or(phase).map(|trouble| (*stream, trouble))
        });
        let ended = || streams.troubled.iter().next().map(|(stream, trouble)| (*stream, *trouble));
        let (stream, trouble) = of_led.or_else(ended)?;
        Some(format!("stream {stream}: {trouble}; see the log of the service"))
    }

    /// The owner of a stream, which begins to lead it now unless it has one.
    ///
    /// # Errors
    /// [`OpenStreamError`].
    pub(crate) fn lead(&self, stream: StreamId) -> Result<Handle, OpenStreamError> {
        let mut streams = self.streams();
        if let Some(handle) = streams.led.get(&stream) {
            return Ok(handle.clone());
        }
        if streams.len() >= STREAMS_MAX && !streams.troubled.contains_key(&stream) {
            return Err(OpenStreamError::TooMany);
        }
        let journal = Journal::open(&self.folder().join(stream.to_key()), stream)?;
        let handle = self.start_owner(stream, journal).map_err(OpenStreamError::Thread)?;
        streams.troubled.remove(&stream);
        streams.led.insert(stream, handle.clone());
        Ok(handle)
    }

    fn start_owner(&self, stream: StreamId, journal: Journal) -> io::Result<Handle> {
        let (commands, receiver) = mpsc::channel(self.config.queue_max.max(1));
        let (shown, view) = watch::channel(View::opening());
        let finish = Shutdown::new();
        let leader = Leader {
            stream,
            key: Arc::clone(&self.key),
            trusted: self.config.trusted(&self.key),
            batching: self.config.batch,
        };
        let owner = Owner::new(Parts {
            leader,
            store: Arc::clone(&self.store),
            journal,
            journal_bytes_max: self.config.journal_bytes_max,
            drain: self.config.drain(),
            commands: receiver,
            view: shown,
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
        Ok(Handle { commands, view, finish })
    }

    /// Takes note of an owner that ended. Gives the error that it ended with.
    pub(crate) fn note(&self, ended: Ended) -> Option<(StreamId, LeadError)> {
        let Ended { stream, error } = ended;
        let mut streams = self.streams();
        streams.led.remove(&stream);
        let error = error?;
        streams.troubled.insert(stream, error.in_brief());
        tracing::error!(%stream, error = chain(&error), "the stream ended; the others go on");
        Some((stream, error))
    }

    /// Asks every owner to store what it has, and to end.
    pub(crate) fn finish(&self) {
        for handle in self.streams().led.values() {
            handle.finish.ask();
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
