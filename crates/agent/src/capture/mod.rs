//! The thread that captures: it owns the source and the running outbox, and is the only one that touches either.
//!
//! ```text
//! attach --> follow: answer, poll, answer --> asked to end --> catch up --> wait until all is stored --> end
//!    ^                  | lost the way
//!    +--- wait ---------+
//! ```
//!
//! What must stay true:
//!
//! - Nothing is polled while the outbox has no room: a follower ends at an error, and the WAL keeps what is committed.
//! - What ends a follower and can pass begins a new incarnation, and everybody is told. What cannot pass ends the agent.
//!
//! Knows nothing of the network.

mod answer;
mod audit;
mod pause;
mod pinning;
mod processors;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use synddb_protocol::http::Position;
use synddb_sqlite::capture::WalPosition;

use crate::attach::{Attached, Attacher, Left, Running};
use crate::config::Config;
use crate::embedded::Fed;
use crate::error::AgentError;
use crate::event::{Event, Events};
use crate::handle::Shared;
use crate::home::{Home, IncarnationFolder};
use crate::outbox::{Outbox, Wanted};
use crate::pin;
use crate::ship::{Link, Message, Request};
use crate::source::{Mark, waiting};
use crate::status::{Captured, Pending, Teller};
pub use audit::Audited;
use audit::Audits;
use pause::{Pauses, failure_of, outbox_full};
use pinning::PinTried;
use processors::Processors;

/// The longest sleep of an idle agent. Nothing depends on it: commits and callers wake it.
const IDLE: Duration = Duration::from_secs(600);

/// Between two looks at the application's WAL while nothing can be captured.
const WATCH: Duration = Duration::from_secs(1);

/// How long commits wait for others while many come and the sequencer does not keep up, so that they share an fsync and a request.
const GATHER: Duration = Duration::from_millis(10);
/// So many commits that are captured and not known to be sequenced mean that the sequencer does not keep up.
const COMMITS_AHEAD: u64 = 256;

/// So much that is committed and not captured, in bytes of the WAL, is not left to wait.
const GATHER_BYTES: u64 = 1 << 20;

/// How long a failure is left alone before it is tried again by an agent that was asked to end.
const STOPPING: Duration = Duration::from_millis(200);

/// What callers ask.
pub(crate) enum Call {
    /// Whether everything up to a position was captured, or what is committed now.
    Captured { position: Option<WalPosition>, answer: SyncSender<Captured> },
    /// What comes next once everything is captured that is committed now.
    CatchUp { answer: SyncSender<Position> },
    /// What a full scan of the database finds.
    Audit { answer: SyncSender<Audited> },
}

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Whether everything that was committed when it was asked to end is stored.
    pub complete: bool,
    /// What was captured and not seen stored, in the last incarnation. It is sent by the next agent.
    pub pending: Pending,
}

pub(crate) struct Capture {
    config: Config,
    home: Arc<Home>,
    events: Events,
    shared: Arc<Shared>,
    calls: Receiver<Call>,
    link: Link,
    /// What the shipper waits for, and is not there yet.
    wanted: Option<(u64, Wanted)>,
    /// Who waits until what was committed then is captured.
    catching_up: Vec<(Mark, SyncSender<Position>)>,
    pin_tried: PinTried,
    audits: Audits,
    processors: Processors,
}

/// What the thread begins with.
pub(crate) enum Start {
    /// A database to attach to, and the incarnation that was left.
    Attach(Option<Box<Left>>),
    /// An incarnation whose commits are handed over.
    Fed(Box<Fed>),
}

impl Capture {
    pub(crate) fn new(
        config: Config,
        home: Arc<Home>,
        events: Events,
        shared: Arc<Shared>,
        calls: Receiver<Call>,
        link: Link,
    ) -> Self {
        let (pin_tried, audits) = (PinTried::default(), Audits::new(config.audit_interval));
        Self {
            config,
            home,
            events,
            shared,
            calls,
            link,
            wanted: None,
            catching_up: Vec::new(),
            pin_tried,
            audits,
            processors: Processors::default(),
        }
    }

    /// Captures until it is asked to end, or cannot go on.
    pub(crate) fn run(mut self, start: Start) -> Result<Ended, AgentError> {
        let (captured, left) = match start {
            Start::Attach(left) => {
                self.processors = Processors::of_this_thread(self.config.wal_bytes_max);
                let mut left = left.map(|left| *left);
                (self.capture(&mut left), left)
            }
            Start::Fed(fed) => {
                let mut left = None;
                (self.capture_fed(fed.attached(), &mut left), left)
            }
        };
        let failure = captured.err().filter(|error| !matches!(error, AgentError::Stopped));
        if let Some(error) = &failure {
            self.tell(failure_of(error, "do what it says, then start the agent again"));
        }
        let complete = match self.drain(left) {
            Ok(complete) => complete,
            // What came first is told.
            Err(error) => return Err(failure.unwrap_or(error)),
        };
        self.events.say(Event::Ended { complete: complete && failure.is_none() });
        match failure {
            Some(error) => Err(error),
            None => Ok(Ended { complete, pending: self.shared.board.status().pending }),
        }
    }

    fn capture(&mut self, left: &mut Option<Left>) -> Result<(), AgentError> {
        if let Some(Left { outbox, folder }) = left.as_ref() {
            let (incarnation, folder, start) = (outbox.incarnation(), folder.clone(), outbox.start()?);
            self.send(Message::Leg { incarnation, folder, start, outbox: None })?;
        }
        let mut pauses = Pauses::default();
        let mut has_let_go = false;
        while !self.shared.is_stopping() {
            if std::mem::take(&mut has_let_go) && !self.wait_for_room(left)? {
                break;
            }
            let attacher = Attacher {
                config: &self.config,
                home: &self.home,
                events: &self.events,
                waker: &self.shared.waker,
                stopping: &self.shared.stopping,
            };
            let followed = match attacher.attach(left) {
                Ok(attached) => {
                    pauses.attached();
                    let mut running = self.begin(attached)?;
                    let followed = self.follow(&mut running);
                    // The follower goes, and with it every lock on the application's files. Who waits is answered by the next
                    // incarnation, which holds what is waited for.
                    let Running { source, outbox, folder } = running;
                    drop(source);
                    let outbox = match &followed {
                        Ok(()) => outbox,
                        Err(error) => self.reopen(outbox, &folder, error, &mut pauses)?,
                    };
                    *left = Some(Left { outbox, folder });
                    followed
                }
                Err(error) => Err(error),
            };
            match followed {
                Ok(()) => {
                    // Whoever ends in order leaves nothing behind that holds the application's WAL.
                    if pin::dismiss(self.home.folder()) {
                        self.pin_tried.ended();
                    }
                    return Ok(());
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    has_let_go = matches!(error, AgentError::LetGo { .. });
                    self.pause(&error, &mut pauses, left)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until what is captured next has room, after the WAL was let go: attached without it, the WAL would grow with nobody to capture it. Says
    /// whether there is room now; otherwise the agent was asked to end.
    fn wait_for_room(&mut self, left: &mut Option<Left>) -> Result<bool, AgentError> {
        let Some(left) = left else { return Ok(true) };
        loop {
            if self.shared.is_stopping() {
                return Ok(false);
            }
            self.refuse_calls();
            self.answer_requests(&mut left.outbox)?;
            // Asked after what may have made room: nobody rings again for that.
            if left.outbox.has_room() {
                return Ok(true);
            }
            self.shared.waker.wait(IDLE).map_err(waiting)?;
        }
    }

    /// Takes commits that are handed over. What fails and can pass is tried again: whoever hands them over has them still.
    fn capture_fed(&mut self, attached: Attached, left: &mut Option<Left>) -> Result<(), AgentError> {
        let mut pauses = Pauses::default();
        pauses.attached();
        let mut running = self.begin(attached)?;
        loop {
            let followed = self.follow(&mut running);
            let Running { source, outbox, folder } = running;
            let Err(error) = followed else {
                *left = Some(Left { outbox, folder });
                return Ok(());
            };
            let outbox = self.reopen(outbox, &folder, &error, &mut pauses)?;
            *left = Some(Left { outbox, folder });
            if error.is_final() {
                return Err(error);
            }
            self.pause(&error, &mut pauses, left)?;
            if self.shared.is_stopping() {
                let until = self.shared.drain_until(self.config.drain_max);
                let rest = until.saturating_duration_since(Instant::now());
                if rest.is_zero() {
                    // Whoever handed commits over has them still; the next agent keeps them.
                    return Ok(());
                }
                self.shared.waker.wait(rest.min(STOPPING)).map_err(waiting)?;
            }
            let Some(Left { outbox, folder }) = left.take() else { return Err(error) };
            self.shared.board.tell(Teller::Capture, None);
            running = Running { source, outbox, folder };
        }
    }

    /// Opens the outbox anew after something failed: what comes next goes by what is durable, which only the file knows. Without it
    /// nothing is begun, since a new incarnation names its end.
    fn reopen(
        &mut self,
        outbox: Outbox,
        folder: &IncarnationFolder,
        failure: &AgentError,
        pauses: &mut Pauses,
    ) -> Result<Outbox, AgentError> {
        let mut opened = outbox.reopen();
        loop {
            let error = match opened {
                Ok(outbox) => return Ok(outbox),
                Err(error) => AgentError::from(error),
            };
            if failure.is_final() || error.is_final() {
                return Err(error);
            }
            self.pause(&error, pauses, &mut None)?;
            if self.shared.is_stopping() {
                return Err(error);
            }
            opened = Outbox::open(&folder.outbox(), self.config.outbox);
        }
    }

    /// Tells everybody what is followed now.
    fn begin(&mut self, attached: Attached) -> Result<Running, AgentError> {
        let Attached { running, before, how } = attached;
        if let Some(Left { outbox, folder }) = before {
            self.wanted = None;
            let (incarnation, start) = (outbox.incarnation(), outbox.start()?);
            let outbox = Some(Box::new(outbox));
            self.send(Message::Leg { incarnation, folder, start, outbox })?;
        }
        let (incarnation, start) = (running.outbox.incarnation(), running.outbox.start()?);
        let folder = running.folder.clone();
        self.send(Message::Leg { incarnation, folder, start, outbox: None })?;
        self.processors.note_behind(0);
        self.shared.board.tell(Teller::Capture, None);
        self.note(&running);
        let next = running.outbox.end();
        self.events.say(Event::Attached { stream: self.home.stream(), incarnation, how, next });
        for (_, answer) in self.catching_up.drain(..) {
            // Who does not wait any more is not told.
            answer.send(next).ok();
        }
        Ok(running)
    }

    /// Captures until it is asked to end.
    fn follow(&mut self, running: &mut Running) -> Result<(), AgentError> {
        // One that is still at work scans for a follower that is gone.
        self.audits.give_up();
        let mut next_poll = Instant::now();
        let mut is_full = false;
        loop {
            let pin_again = self.keep_pinned(running);
            let is_asked = self.answer_calls(running)?;
            self.answer_requests(&mut running.outbox)?;
            if self.shared.is_stopping() {
                self.audits.give_up();
                return self.catch_up(running);
            }
            if self.audit(running)? {
                continue;
            }
            if !running.outbox.has_room() {
                self.tell(outbox_full());
                is_full = true;
                let bytes = running.source.wal_used_bytes()?;
                if bytes > self.config.wal_bytes_detach {
                    pin::dismiss(self.home.folder());
                    return Err(AgentError::LetGo { bytes, bytes_max: self.config.wal_bytes_detach });
                }
                self.shared.waker.wait(WATCH).map_err(waiting)?;
                continue;
            }
            if std::mem::take(&mut is_full) {
                self.shared.board.tell(Teller::Capture, None);
            }
            let wait = next_poll.saturating_duration_since(Instant::now());
            if !is_asked && !wait.is_zero() {
                self.shared.waker.wait(wait).map_err(waiting)?;
                continue;
            }
            let began = Instant::now();
            let commits = self.poll(running)?;
            self.tell_pinned(running);
            if commits == 0 {
                if self.begin_audit(running)? {
                    continue;
                }
                let idle = pin_again.unwrap_or(IDLE).min(self.audits.due_in());
                running.source.wait(&self.shared.waker, idle)?;
                continue;
            }
            if running.source.behind_bytes()? < GATHER_BYTES {
                // As long as keeping these took, so that a busy application shares the disk with us half the time at most.
                let now = Instant::now();
                let is_ahead = commits > 1 && self.commits_ahead(running) > COMMITS_AHEAD;
                next_poll = now + if is_ahead { GATHER } else { (now - began).min(GATHER) };
            }
        }
    }

    /// How many commits are captured and not known to be sequenced.
    fn commits_ahead(&self, running: &Running) -> u64 {
        let next = running.outbox.end();
        let sent = self.shared.board.sequenced_next().filter(|sent| sent.incarnation == next.incarnation);
        next.commit.get() - sent.map_or(1, |sent| sent.commit.get().min(next.commit.get()))
    }

    /// Captures some of what is committed, if there is room, and answers who waited for it.
    fn poll(&mut self, running: &mut Running) -> Result<u64, AgentError> {
        if self.audits.is_running() {
            return Ok(0);
        }
        self.processors.note_behind(running.source.behind_bytes()?);
        let commits = running.source.poll(&mut running.outbox)?;
        if commits > 0 {
            self.note(running);
            self.answer_shipper(&running.outbox)?;
        }
        self.answer_caught_up(running);
        Ok(commits)
    }

    /// Captures everything that is committed now, as soon as there is room for it.
    fn catch_up(&mut self, running: &mut Running) -> Result<(), AgentError> {
        let now = running.source.committed()?;
        let until = self.shared.drain_until(self.config.drain_max);
        while !running.source.has_captured(&now) {
            self.answer_requests(&mut running.outbox)?;
            if running.outbox.has_room() {
                self.poll(running)?;
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // The next agent finds that it is committed, and begins anew.
                return Ok(());
            }
            self.shared.waker.wait(left).map_err(waiting)?;
        }
        self.shared.has_caught_up.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Lets the shipper finish. Says whether everything is stored.
    fn drain(&mut self, mut left: Option<Left>) -> Result<bool, AgentError> {
        let end = left.as_ref().map(|left| left.outbox.end());
        let until = self.shared.drain_until(self.config.drain_max);
        self.events.say(Event::Draining { next: end });
        self.send(Message::Drain { until, end })?;
        loop {
            self.refuse_calls();
            match self.link.requests.try_recv() {
                Ok(Request::Ended { complete }) => {
                    return Ok(complete && self.shared.has_caught_up.load(Ordering::SeqCst));
                }
                Ok(request) => {
                    if let Some(left) = &mut left {
                        match self.answer_request(&mut left.outbox, request) {
                            // Its time was up before it had this answer. Its last word stands behind what it asked.
                            Err(AgentError::Fault { .. }) => {}
                            answered => answered?,
                        }
                    }
                }
                Err(TryRecvError::Empty) => {
                    self.shared.waker.wait(IDLE).map_err(waiting)?;
                }
                Err(TryRecvError::Disconnected) => return Err(AgentError::Fault { thread: "shipper" }),
            }
        }
    }
}

#[cfg(test)]
mod tests;
