//! What the shipper and the thread that captures tell one another, and how the shipper is started.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use synddb_protocol::hash::CommitDigest;
use synddb_protocol::http::Position;
use synddb_protocol::id::Incarnation;
use synddb_protocol::log::Checkpoint;

use super::backoff::Backoff;
use super::client::Client;
use super::leg::Leg;
use super::promises::Promises;
use super::sequencers::{Sequencers, Which};
use super::trust::Trust;
use super::watch::Watcher;
use super::{Cursor, RingWhenGone, Shipper};
use crate::config::Config;
use crate::error::AgentError;
use crate::event::Events;
use crate::handle::Shared;
use crate::home::{Home, IncarnationFolder};
use crate::outbox::{Found, Outbox, Wanted};
use crate::status::Problem;

/// Messages that wait for the shipper. More than all that can be under way: an answer to each request, two legs, a checkpoint.
const MESSAGES_MAX: usize = 4 * REQUESTS_MAX;
/// Requests that wait for the thread that captures.
const REQUESTS_MAX: usize = 16;
/// What the shipper is told.
pub(crate) enum Message {
    /// An incarnation to send. One that is known is handed over with its outbox: nothing more will be captured for it.
    Leg {
        incarnation: Incarnation,
        folder: IncarnationFolder,
        /// Where its oldest submission begins.
        start: Position,
        outbox: Option<Box<Outbox>>,
    },
    /// What was asked for.
    Found { generation: u64, found: Found },
    /// What comes before this was forgotten.
    Forgotten(Position),
    /// What was seen stored is not what was kept.
    Differs(String),
    /// A batch is stored.
    Seen(Box<Checkpoint>),
    /// Nothing is stored where that was asked for, or nobody leads the stream there.
    Unseen(Which),
    /// The sequencer's key is proven to have signed twice for one place.
    Convicted(Problem),
    /// Whoever was asked for what is stored gave no answer, and there are others.
    Unanswered(Which),
    /// End when everything before `end` is stored, or the time is up.
    Drain { until: Instant, end: Option<Position> },
}

/// What the shipper asks of the thread that captures.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request {
    /// The first submission that is wanted, as soon as there is one.
    Find { generation: u64, wanted: Wanted },
    /// What comes before `next` is stored, with `last` as its last digest.
    Stored { next: Position, last: CommitDigest },
    /// The shipper ends.
    Ended {
        /// Whether everything is stored.
        complete: bool,
    },
}

/// The other side of the channels: what the thread that captures has.
pub(crate) struct Link {
    // Dropped first, so that the shipper never waits for one who waits for its end.
    pub(crate) requests: Receiver<Request>,
    pub(crate) shipper: ShipperThread,
}

/// The shipper's thread. Whoever drops this waits for its end: at most as long as one request may be silent.
pub(crate) struct ShipperThread {
    pub(crate) messages: SyncSender<Message>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for ShipperThread {
    fn drop(&mut self) {
        // One that has ended already is not told.
        self.messages.send(Message::Drain { until: Instant::now(), end: None }).ok();
        if let Some(thread) = self.thread.take() {
            // A fault of it was noticed by the thread that captures.
            thread.join().ok();
        }
    }
}

/// Starts the shipper. `older` are the incarnations whose outboxes nobody else has, oldest first; `awaited` are those that were begun and come from
/// the thread that captures, once it has attached.
pub(crate) fn start(
    config: &Config,
    home: Arc<Home>,
    shared: Arc<Shared>,
    events: Events,
    older: Vec<IncarnationFolder>,
    awaited: Vec<Incarnation>,
) -> Result<Link, AgentError> {
    let (messages, inbox) = sync_channel(MESSAGES_MAX);
    let (requests, outgoing) = sync_channel(REQUESTS_MAX);
    let (watch, wanted) = sync_channel(1);
    let trust = Arc::new(Trust::new(config, home.folder(), home.stream())?);
    let sequencers = Arc::new(Sequencers::new(&config.sequencers)?);
    let folder = home.folder().to_owned();
    let promises = Promises::new(folder, Arc::clone(&trust), Arc::clone(&shared), events.clone())?;
    let promises = Arc::new(promises);
    let watcher = Watcher {
        client: Client::new(config, home.stream(), Arc::clone(&trust), Arc::clone(&sequencers))?,
        promises: Arc::clone(&promises),
        are_several: sequencers.are_several(),
        shared: Arc::clone(&shared),
        wanted,
        seen: messages.clone(),
    };
    let mut legs = Vec::new();
    for folder in older {
        let outbox = Outbox::open(&folder.outbox(), config.outbox)?;
        check_stream(&home, &outbox)?;
        legs.push(Leg::new(outbox.incarnation(), folder, &outbox.start()?, Some(outbox))?);
    }
    let shipper = Shipper {
        client: Client::new(config, home.stream(), trust, Arc::clone(&sequencers))?,
        promises,
        taken_by: sequencers.current(),
        sequencers,
        asked_in_vain: 0,
        ring: RingWhenGone(shared.waker.clone()),
        shared,
        events,
        _home: home,
        messages: inbox,
        requests,
        watch,
        legs,
        awaited,
        deferred: None,
        cursor: Cursor { leg: 0, wanted: Wanted::Oldest, held: None, is_asked: false, generation: 0 },
        shipping: None,
        traces: config.outbox.traces,
        missing: Vec::new(),
        has_sent_chunks: false,
        unstored: None,
        is_watching: false,
        is_checking: false,
        seen_stored: None,
        backoff: Backoff::default(),
        not_before: None,
        check_backoff: Backoff::default(),
        check_not_before: None,
        last_gap: None,
        has_stopped: false,
        is_contradicted: false,
        drain: None,
    };
    // It owns nothing, and ends by itself when the shipper is gone and its request is answered.
    spawn("synddb-watcher", move || watcher.run())?;
    let thread = spawn("synddb-shipper", move || shipper.run())?;
    Ok(Link { requests: outgoing, shipper: ShipperThread { messages, thread: Some(thread) } })
}

/// Refuses an outbox that came from another folder.
pub(crate) fn check_stream(home: &Home, outbox: &Outbox) -> Result<(), AgentError> {
    let (expected, found) = (home.stream(), outbox.stream());
    if expected == found { Ok(()) } else { Err(AgentError::OtherStream { expected, found }) }
}

pub(crate) fn spawn<T: Send + 'static>(
    name: &'static str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<std::thread::JoinHandle<T>, AgentError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|source| AgentError::Io {
        doing: "start a thread",
        path: name.into(),
        source,
    })
}
