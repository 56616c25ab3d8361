//! Sends what the outboxes hold, in order, and learns what is stored.
//!
//! ```text
//!             Find, Stored                    one request at a time
//! capture <--------------- shipper -------------------------------> sequencer
//!         ---------------> (legs)  <---- watcher ----- long poll --> checkpoint of the newest stored batch
//!          Found, Leg, Drain
//! ```
//!
//! Of several sequencers one is spoken to at a time, the one that leads (`turn.rs`). Whether they keep what they promise is looked at beside that
//! (`promises/`).
//!
//! A *leg* is one incarnation: its snapshot, then its submissions. Legs are sent oldest first. The outbox of an older leg belongs to the
//! shipper; that of the running one belongs to the thread that captures, and the shipper asks it.
//!
//! What must stay true:
//!
//! - One submission is in flight, and it is sent with the bytes that were kept, each time.
//! - Nothing is forgotten before its digest was seen in a checkpoint of a stored batch (I3). Its digest binds everything before it.
//! - No snapshot is removed here before its chunks were found in the store behind its stored message (`check.rs`).
//! - A refusal decides by its reason, never by its text. It is not signed, so it ends nothing: it is tried again, slowly. Where a signed
//!   checkpoint contradicts the outbox, nothing is sent any more.
//!
//! Knows nothing of the WAL.

mod backoff;
mod check;
mod client;
mod leg;
mod link;
mod problems;
mod promises;
mod react;
mod sequencers;
mod stored;
mod trust;
mod turn;
mod watch;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use synddb_protocol::chain;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::http::Position;
use synddb_protocol::id::{Incarnation, Sequence};
use synddb_protocol::log::Checkpoint;
use synddb_protocol::trace::Sampling;
use synddb_sqlite::capture::Waker;

use crate::event::{Event, Events};
use crate::handle::Shared;
use crate::home::{Home, IncarnationFolder};
use crate::outbox::{Found, Held, Outbox, OutboxError, Wanted};
use crate::span::Shipping;
use crate::status::{Problem, Teller, reaches};
use backoff::Backoff;
use client::{Client, Placed};
use leg::{Leg, SnapshotIs};
pub(crate) use link::{Link, Message, Request, check_stream, spawn, start};
use promises::Promises;
pub use sequencers::check as check_sequencers;
use sequencers::{Sequencers, Which};
pub(crate) use trust::believed;

/// What to do when the log lacks what this agent has seen in it.
const OTHER_STORE: &str =
    "check that the sequencer's store is the one that was used before; restore it, or begin a new stream";

/// How long a request may take while nobody waits for the end.
const WITHIN: Duration = Duration::from_secs(120);

/// Where sending stands.
struct Cursor {
    /// The leg.
    leg: usize,
    /// What of it comes next.
    wanted: Wanted,
    /// That submission, once it is here.
    held: Option<Held>,
    /// Whether the thread that captures was asked for it.
    is_asked: bool,
    /// Grows when the cursor is moved, so that an answer from before is not taken for one.
    generation: u64,
}

/// When the shipper ends.
struct Drain {
    until: Instant,
    end: Option<Position>,
}

pub(crate) struct Shipper {
    client: Client,
    promises: Arc<Promises>,
    sequencers: Arc<Sequencers>,
    /// How many were asked in vain since one took something, or since the last pause.
    asked_in_vain: usize,
    /// Who took something last.
    taken_by: Which,
    shared: Arc<Shared>,
    events: Events,
    /// The folder stays locked as long as somebody may write to it.
    _home: Arc<Home>,
    messages: Receiver<Message>,
    requests: SyncSender<Request>,
    watch: SyncSender<Sequence>,
    ring: RingWhenGone,
    legs: Vec<Leg>,
    /// Incarnations that were begun by an agent before this one, and of which the thread that captures tells once it has attached.
    awaited: Vec<Incarnation>,
    /// A checkpoint that is about one of them, until its leg is here.
    deferred: Option<Box<Checkpoint>>,
    cursor: Cursor,
    /// The submission that is being sent, and which ones are traced.
    shipping: Option<Shipping>,
    traces: Sampling,
    /// Chunks of the snapshot under way that the store lacks.
    missing: Vec<ChunkHash>,
    /// Whether chunks of it were sent already since something else went well.
    has_sent_chunks: bool,
    /// What was promised a place and not seen stored.
    unstored: Option<Placed>,
    is_watching: bool,
    /// Whether the store is to be looked at although nothing waits to be stored.
    is_checking: bool,
    /// What was seen stored, while the store is behind that.
    seen_stored: Option<Position>,
    backoff: Backoff,
    not_before: Option<Instant>,
    /// The same for looking whether the chunks of a stored snapshot are stored, which holds up nothing else.
    check_backoff: Backoff,
    check_not_before: Option<Instant>,
    /// Where the sequencer last said that something is missing, while nothing went well since.
    last_gap: Option<Position>,
    /// What a signed checkpoint shows contradicts the outbox, or what is kept cannot be read.
    has_stopped: bool,
    /// The last answer said that the log contradicts the outbox.
    is_contradicted: bool,
    drain: Option<Drain>,
}

/// Wakes the thread that captures also when this one ends by a fault.
struct RingWhenGone(Waker);

impl Drop for RingWhenGone {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Shipper {
    fn run(mut self) {
        self.note_sequencer();
        if let Some(first) = self.legs.first() {
            let start = first.start();
            self.note_start(start);
        }
        loop {
            while let Ok(message) = self.messages.try_recv() {
                self.take(message);
            }
            if let Some(complete) = self.is_over() {
                // When nobody captures any more, nobody has to be told.
                self.requests.send(Request::Ended { complete }).ok();
                return;
            }
            let is_due = self.not_before.is_none_or(|time| time <= Instant::now());
            let has_acted = is_due && !self.has_stopped && self.step();
            if !has_acted && !self.sleep() {
                return;
            }
        }
    }

    /// Waits for a message, or for the time to try again; says whether there is still somebody to work for.
    fn sleep(&mut self) -> bool {
        let ends = self.drain.as_ref().map(|drain| drain.until);
        let again = [self.not_before, self.checks_at()].into_iter().flatten().filter(|_| !self.has_stopped);
        let received = match again.chain(ends).min() {
            None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(time) => self.messages.recv_timeout(time.saturating_duration_since(Instant::now())),
        };
        match received {
            Ok(message) => self.take(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Whether the shipper ends now, and whether everything is stored then.
    fn is_over(&self) -> Option<bool> {
        let drain = self.drain.as_ref()?;
        let status = self.shared.board.status();
        let complete =
            self.legs.iter().all(|leg| leg.is_stored(drain.end.as_ref(), status.stored_next.as_ref()));
        // What is contradicted is kept; the next agent tries again.
        let cannot = self.has_stopped || self.is_contradicted;
        (complete || cannot || Instant::now() >= drain.until).then_some(complete)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Leg { incarnation, folder, start, outbox } => {
                self.take_leg(incarnation, folder, start, outbox);
            }
            Message::Found { generation, found } if generation == self.cursor.generation => {
                self.cursor.is_asked = false;
                match found {
                    Found::Held(held) => self.cursor.held = Some(held),
                    Found::NotYet => {}
                    Found::Unknown => self.lack_what_is_expected(),
                }
            }
            // It was asked for before the cursor moved.
            Message::Found { .. } => {}
            Message::Forgotten(next) => self.take_forgotten(next),
            Message::Differs(detail) => self.stop(
                detail,
                "two agents write to this stream, or the outbox was changed; find out which, then begin a new stream",
            ),
            Message::Seen(checkpoint) => self.take_checkpoint(&checkpoint),
            Message::Unseen(which) => self.send_last_again(which),
            Message::Convicted(problem) => self.stop_with(problem),
            Message::Unanswered(which) => self.take_unanswered(which),
            Message::Drain { until, end } => self.drain = Some(Drain { until, end }),
        }
    }

    fn take_leg(
        &mut self,
        incarnation: Incarnation,
        folder: IncarnationFolder,
        start: Position,
        outbox: Option<Box<Outbox>>,
    ) {
        if let Some(at) = self.legs.iter().position(|leg| leg.incarnation == incarnation) {
            self.legs[at].outbox = outbox.map(|outbox| *outbox);
            if self.cursor.leg == at {
                // What was asked for is not answered any more.
                self.cursor.is_asked = false;
                self.cursor.generation += 1;
            }
            return;
        }
        match Leg::new(incarnation, folder, &start, outbox.map(|outbox| *outbox)) {
            Ok(leg) => {
                if self.legs.is_empty() {
                    let start = leg.start();
                    self.note_start(start);
                }
                self.legs.push(leg);
                if let Some(checkpoint) = self.deferred.take() {
                    self.take_checkpoint(&checkpoint);
                }
            }
            Err(error) => self.stop(chain(&error), "keep a copy of the agent's folder, and report this"),
        }
    }

    /// Whether nothing is to be sent now.
    fn is_idle(&self) -> bool {
        let is_sent = |leg: &Leg| leg.snapshot != SnapshotIs::Unsent;
        self.cursor.held.is_none() && self.legs.get(self.cursor.leg).is_none_or(is_sent)
    }

    /// Does the next thing; says whether there was one.
    fn step(&mut self) -> bool {
        if self.seen_stored.is_some() {
            self.not_before = None;
            self.watch();
        }
        if self.check_snapshots() {
            return true;
        }
        let Some(leg) = self.legs.get(self.cursor.leg) else { return false };
        if leg.snapshot == SnapshotIs::Unsent {
            self.send_snapshot();
            return true;
        }
        if let Some(held) = self.cursor.held.take() {
            self.send_submission(held);
            return true;
        }
        let Some(outbox) = &leg.outbox else { return self.ask() };
        match outbox.find(&self.cursor.wanted) {
            Ok(Found::Held(held)) => self.cursor.held = Some(held),
            // All of this leg is sent.
            Ok(Found::NotYet) if self.cursor.leg + 1 < self.legs.len() => {
                self.move_to(self.cursor.leg + 1, Wanted::Oldest);
            }
            Ok(Found::NotYet) => return false,
            Ok(Found::Unknown) => self.lack_what_is_expected(),
            Err(error) => self.stop_broken(&error),
        }
        true
    }

    /// Asks the thread that captures for what comes next; never acts by itself.
    fn ask(&mut self) -> bool {
        if !self.cursor.is_asked {
            let Cursor { generation, wanted, .. } = self.cursor;
            self.request(Request::Find { generation, wanted });
            self.cursor.is_asked = true;
        }
        false
    }

    fn request(&self, request: Request) {
        // Whoever is gone is noticed by the next receive.
        self.requests.send(request).ok();
        self.ring.0.wake();
    }

    fn move_to(&mut self, leg: usize, wanted: Wanted) {
        let generation = self.cursor.generation + 1;
        self.cursor = Cursor { leg, wanted, held: None, is_asked: false, generation };
        self.missing.clear();
    }

    /// Has the watcher look for what was promised, one question at a time.
    fn watch(&mut self) {
        let at_least = match self.unstored {
            _ if self.is_watching || self.deferred.is_some() => return,
            Some(placed) => placed.sequence,
            None if self.is_checking => Sequence::FIRST,
            None => return,
        };
        match self.watch.try_send(at_least) {
            Ok(()) => self.is_watching = true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// How long a request may take.
    fn within(&self) -> Duration {
        let left = |drain: &Drain| drain.until.saturating_duration_since(Instant::now());
        self.drain.as_ref().map_or(WITHIN, left).max(Duration::from_millis(1))
    }

    /// The outbox says what was seen stored; whether the store still has it is looked at once.
    fn note_start(&mut self, start: Option<Position>) {
        self.shared.board.note(|status| (status.sequenced_next, status.stored_next) = (start, start));
        self.is_checking = start.is_some() && self.client.knows_key();
        self.watch();
    }

    fn note_stored(&self, next: Position) {
        if !reaches(self.shared.board.status().stored_next.as_ref(), &next) {
            self.shared.board.note(|status| status.stored_next = Some(next));
            self.events.say(Event::Stored { next });
        }
    }

    fn pause(&mut self, pause: Duration, problem: Problem) {
        self.is_contradicted = false;
        self.not_before = Some(Instant::now() + pause);
        self.tell(problem);
    }

    fn tell(&self, problem: Problem) {
        if self.shared.board.tell(Teller::Shipper, Some(problem.clone())) {
            self.events.say(Event::Warning { problem });
        }
    }

    fn went_well(&mut self) {
        self.backoff.reset();
        self.is_contradicted = false;
        (self.not_before, self.last_gap, self.has_sent_chunks) = (None, None, false);
        if self.shared.board.tell(Teller::Shipper, None) {
            self.events.say(Event::Recovered);
        }
    }

    fn stop(&mut self, detail: String, fix: &str) {
        self.stop_with(problems::stopped(detail, fix));
    }

    fn stop_with(&mut self, problem: Problem) {
        self.has_stopped = true;
        self.tell(problem);
    }

    /// The log contradicts the outbox, as a refusal says. Anybody could say that, so it is tried again, slowly; meanwhile everybody is told
    /// that nothing is sent.
    fn contradicted(&mut self, detail: String, fix: &str) {
        let pause = self.backoff.slow();
        self.pause(pause, problems::stopped(detail, &format!("{fix}; it is tried again, slowly")));
        self.is_contradicted = true;
    }

    /// What the sequencer expects is not here: all that is here is offered again, slowly.
    fn lack_what_is_expected(&mut self) {
        let detail = match self.last_gap {
            Some(Position { incarnation, commit, .. }) => format!(
                "the sequencer expects what the outbox does not hold. incarnation=`{}` commit=`{commit}`",
                incarnation.counter
            ),
            None => "the outbox does not hold what comes next".to_owned(),
        };
        self.move_to(self.cursor.leg, Wanted::Oldest);
        self.contradicted(detail, OTHER_STORE);
    }

    fn stop_broken(&mut self, error: &OutboxError) {
        self.stop(
            chain(error),
            "look at the disk; keep a copy of the agent's folder, then start the agent again",
        );
    }
}
