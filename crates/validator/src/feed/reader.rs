//! One reader on its way: a task that reads, renders and hands over, and a body that a connection takes pieces of.
//!
//! At the tip it takes from the ring what was applied; behind it, it waits for its turn and reads the store. A turn lasts while the connection takes what is
//! read: nobody else waits for one that does not, and no batch does. It ends when its connection goes, the process
//! ends, the replica is not shown any more, or it takes nothing for too long. The last words say why, and from where to go on.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use synddb_protocol::chain;
use synddb_protocol::log::VerifiedMessage;
use synddb_service::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error, warn};

use super::history::History;
use super::log::{LogError, Mark, Reading};
use super::place::Place;
use super::render::{Next, Rendering};
use super::ring::Shown;
use super::seats::Seat;
use super::{Anew, Feed, NotShown};
use crate::metrics;
use crate::view::View;

/// How long nothing is said while nothing happens. Shorter than the patience of the proxies between.
const IDLE: Duration = Duration::from_secs(15);
/// How long the store is read for one reader while others may wait for their turn.
const TURN_MAX: Duration = Duration::from_secs(60);
/// How long connections are waited for in one turn, all together.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of bodies that a reader keeps of what was read in its turn when that is over, beside the message that is being shown.
const HELD_BYTES_MAX: usize = 4 << 20;
/// Pieces that wait for a connection.
const PIECES_MAX: usize = 2;
/// How long a browser waits before it connects again, in milliseconds.
const RETRY_MS: u64 = 1000;

/// Why a reader ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Why {
    /// Everything that was asked for was shown.
    Through,
    /// Nobody is there any more.
    Gone,
    /// The process was asked to end.
    Stopping,
    /// It took nothing for too long.
    Slow,
    /// Its client has most of all, and another one wanted to read.
    Crowded,
    /// There is no replica any more that could be shown.
    NotShown,
    /// Its place is far past what the replica holds.
    Past,
    /// What is behind its place is not kept any more.
    NotKept,
    /// What is behind its place could not be read again.
    Unavailable,
}

/// A reader.
pub(super) struct Reader {
    feed: Feed,
    /// What it asked for.
    place: Option<Place>,
    rendering: Rendering,
    /// The message that is shown next.
    next: u64,
    /// The last message that is shown.
    through: u64,
    /// Up to where it was shown everything, once that is known.
    told: Option<Place>,
    said: Instant,
    /// The store, while it is read for this one.
    turn: Option<Turn>,
    /// Whether the store is waited for in its turn.
    is_reading: bool,
    /// What was read of it and is not shown yet.
    held: Held,
    /// Where the last batch began that was read, and where it ended.
    read: Vec<Mark>,
    /// Through here it is known which commits in parts became whole, and what of the store was given up.
    known: u64,
    given_up: Option<GivenUp>,
    shutdown: Shutdown,
}

/// That the store is read for one reader.
struct Turn {
    reading: Reading,
    history: Arc<History>,
    until: Instant,
    /// How long its connection may still be waited for.
    patience: Duration,
    _permit: OwnedSemaphorePermit,
}

/// Messages that no replica stood behind: a commit in parts was not whole when a snapshot began something else, and what came with its parts was not
/// committed either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GivenUp {
    /// The size of the log before them.
    after: u64,
    /// The message of the snapshot.
    begins: u64,
}

/// Messages of one batch of the store.
#[derive(Default)]
struct Held {
    messages: VecDeque<Arc<VerifiedMessage>>,
    /// Whether the first one is a snapshot to begin anew with.
    anew: Option<Anew>,
    history: Arc<History>,
    /// The size of the log behind them.
    size: u64,
}

impl Held {
    fn of(shown: Shown, history: Arc<History>) -> Self {
        Self { messages: shown.messages.into(), anew: shown.anew, history, size: shown.size }
    }

    /// Lets go of all but a few, which are read again.
    fn shrink(&mut self) {
        let mut bytes = 0;
        let few = self.messages.iter().take_while(|message| {
            bytes += message.body_bytes();
            bytes <= HELD_BYTES_MAX
        });
        let few = few.count();
        if let Some(first) = self.messages.get(few) {
            self.size = first.header().sequence.get() - 1;
            self.messages.truncate(few);
            self.messages.shrink_to_fit();
        }
    }
}

/// What a reader is shown, piece by piece.
pub(crate) struct Pieces {
    pieces: mpsc::Receiver<Piece>,
    /// Why there is nothing behind the last piece, and up to where the reader had shown everything.
    last: Arc<OnceLock<(Why, Option<Place>)>>,
    view: View,
    /// Up to where everything was taken.
    taken: Option<Place>,
    is_over: bool,
}

/// What goes to a connection at a time.
struct Piece {
    bytes: Bytes,
    /// Up to where everything was shown with it.
    told: Option<Place>,
}

impl Pieces {
    /// The next piece, once there is one. `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let mut was_dropped = false;
        while let Some(piece) = self.pieces.recv().await {
            // What is not believed any more is shown to nobody, also where it was rendered before.
            if !self.view.is_withheld() && !was_dropped {
                self.taken = piece.told;
                return Some(piece.bytes);
            }
            was_dropped = true;
        }
        if std::mem::replace(&mut self.is_over, true) {
            return None;
        }
        let (why, told) = *self.last.get()?;
        let (why, after) = if was_dropped { (Why::NotShown, self.taken) } else { (why, told) };
        let data = json!({ "why": why, "after": after.map(|place| place.to_string()) });
        Some(Bytes::from(format!("event: ended\ndata: {data}\n\n")))
    }
}

/// What is next for a reader.
enum Look {
    /// A message, and whether it is one to begin anew with.
    Message(Arc<VerifiedMessage>, Option<Anew>, Arc<History>),
    /// Nothing that is shown, through this size of the log.
    Passed(u64),
    /// Nothing, until more is applied.
    Tip,
    /// Messages in the store.
    Behind,
    /// It fell behind what is kept.
    NotKept,
}

impl Reader {
    pub(super) fn new(
        feed: Feed,
        place: Option<Place>,
        through: u64,
        tables: Option<BTreeSet<String>>,
        shutdown: Shutdown,
    ) -> Self {
        let rendering = Rendering::new(place.unwrap_or(Place::Behind(0)), tables);
        Self {
            through,
            feed,
            place,
            rendering,
            next: 1,
            told: place,
            said: Instant::now(),
            turn: None,
            is_reading: false,
            held: Held::default(),
            read: Vec::new(),
            known: 0,
            given_up: None,
            shutdown,
        }
    }

    /// Begins. `seat` is given back when it ends, also where its connection stays and takes nothing.
    pub(super) fn start(mut self, seat: Seat) -> Pieces {
        let (to, pieces) = mpsc::channel(PIECES_MAX);
        let last = Arc::new(OnceLock::new());
        let (words, view, taken) = (Arc::clone(&last), self.feed.view.clone(), self.told);
        tokio::spawn(async move {
            let _counted = Counted::new();
            let left = seat.left.clone();
            let why = tokio::select! {
                biased;
                () = left.cancelled() => Why::Crowded,
                Err(why) = self.run(&to) => why,
            };
            if why == Why::Slow {
                metrics::feed_reader_dropped();
                debug!(place = ?self.told, "a reader of changes is too slow");
            }
            words.set((why, self.told)).ok();
            drop(seat);
        });
        Pieces { pieces, last, view, taken, is_over: false }
    }

    async fn run(&mut self, to: &mpsc::Sender<Piece>) -> Result<std::convert::Infallible, Why> {
        self.send(to, format!("retry: {RETRY_MS}\n\n").into(), self.told).await?;
        self.begin(to).await?;
        loop {
            if self.is_through(self.next) {
                return Err(Why::Through);
            }
            if !self.feed.is_shown() {
                return Err(Why::NotShown);
            }
            match self.look() {
                Look::Message(message, anew, history) => self.show(to, &message, anew, &history).await?,
                Look::Passed(size) => {
                    self.next = self.next.max(size + 1);
                    // Where nothing of all this was of its tables, it is told how far it is all the same.
                    if self.said.elapsed() >= IDLE {
                        self.say(to).await?;
                    }
                }
                Look::Tip => {
                    let mut applied = self.feed.applied.clone();
                    let more = async move {
                        if applied.changed().await.is_err() {
                            // The owner ended. What it left is still shown, or is not, which is looked at from time to time.
                            std::future::pending::<()>().await;
                        }
                    };
                    self.wait(to, more).await?;
                }
                Look::Behind => self.catch_up(to).await?,
                Look::NotKept => return Err(Why::NotKept),
            }
        }
    }

    /// Waits until the replica may be shown, and begins at the place that was asked for.
    async fn begin(&mut self, to: &mpsc::Sender<Piece>) -> Result<(), Why> {
        let view = self.feed.view.clone();
        self.wait(to, async move { view.looked_at().await }).await?;
        if !self.feed.is_shown() {
            return Err(Why::NotShown);
        }
        let place = self.feed.place(self.place).map_err(|refused| match refused {
            NotShown::Past { .. } => Why::Past,
            NotShown::NotKept { .. } => Why::NotKept,
            NotShown::NoReplica | NotShown::Busy => Why::NotShown,
        })?;
        self.rendering.begin(place);
        (self.next, self.told) = (place.next(), Some(place));
        Ok(())
    }

    fn look(&mut self) -> Look {
        while let Some(message) = self.held.messages.pop_front() {
            let anew = self.held.anew.take();
            if message.header().sequence.get() >= self.next {
                return Look::Message(message, anew, Arc::clone(&self.held.history));
            }
        }
        if self.held.size >= self.next {
            return Look::Passed(self.held.size);
        }
        if self.turn.is_some() {
            return Look::Behind;
        }
        let applied = self.feed.applied.borrow_and_update();
        if self.next > applied.size() {
            return Look::Tip;
        }
        if let Some(shown) = applied.ring.get(self.next) {
            // One at a time: whoever is slow holds no batch that the ring let go of.
            return match shown.message(self.next) {
                Some((message, anew)) => Look::Message(message, anew, Arc::clone(&applied.history)),
                None => Look::Passed(shown.size),
            };
        }
        let is_kept = applied.marks.first().is_some_and(|first| first < self.next);
        if is_kept { Look::Behind } else { Look::NotKept }
    }

    /// Whether a message is behind all that was asked for. A commit that began before is shown whole.
    fn is_through(&self, next: u64) -> bool {
        next > self.through && !self.rendering.is_inside()
    }

    /// Shows a message.
    async fn show(
        &mut self,
        to: &mpsc::Sender<Piece>,
        message: &VerifiedMessage,
        anew: Option<Anew>,
        history: &History,
    ) -> Result<(), Why> {
        let sequence = message.header().sequence.get();
        if self.is_through(sequence) {
            self.next = self.next.max(sequence);
            return Ok(());
        }
        self.rendering.open(message);
        loop {
            match self.rendering.next(message, anew, history) {
                Ok(Next::Event(event)) => {
                    self.send(to, event.to_bytes().into(), Some(event.place)).await?;
                }
                Ok(Next::Pause) => tokio::task::yield_now().await,
                Ok(Next::Done) => break,
                Err(cause) => {
                    error!(sequence, error = %chain(&cause), "changes cannot be shown");
                    return Err(Why::Unavailable);
                }
            }
        }
        self.next = sequence + 1;
        if self.said.elapsed() >= IDLE { self.say(to).await } else { Ok(()) }
    }

    /// Reads one more batch of the store, in turn. The turn is over where the replica stands, when its time is, or when the connection was waited for too
    /// long in it, see [`Reader::send`].
    async fn catch_up(&mut self, to: &mpsc::Sender<Piece>) -> Result<(), Why> {
        let mut turn = match self.turn.take() {
            Some(turn) if Instant::now() < turn.until => turn,
            over => {
                drop(over);
                self.turn(to).await?
            }
        };
        self.is_reading = true;
        let shown = self.wait(to, turn.reading.next()).await?.map_err(|error| why(&error))?;
        self.is_reading = false;
        let Some(mut shown) = shown else { return Ok(()) };
        self.read = turn.reading.read().to_vec();
        if turn.reading.is_inside() && shown.size > self.known {
            // Nothing is kept of what is looked at: it is read again, in another turn.
            return self.look_ahead(to, turn, shown.after, shown.size).await;
        }
        if let Some(GivenUp { after, begins }) = self.given_up {
            shown.messages.retain(|message| {
                let sequence = message.header().sequence.get();
                sequence <= after || sequence >= begins
            });
        }
        self.held = Held::of(shown, Arc::clone(&turn.history));
        self.turn = Some(turn);
        Ok(())
    }

    /// Reads on, to where no commit in parts is open: it became whole, or was given up.
    async fn look_ahead(
        &mut self,
        to: &mpsc::Sender<Piece>,
        mut turn: Turn,
        after: u64,
        through: u64,
    ) -> Result<(), Why> {
        self.known = through;
        self.is_reading = true;
        while turn.reading.is_inside() {
            let Some(shown) = self.wait(to, turn.reading.next()).await?.map_err(|error| why(&error))? else {
                break;
            };
            if let Some(first) = shown.messages.first().filter(|_| shown.anew.is_some()) {
                self.given_up = Some(GivenUp { after, begins: first.header().sequence.get() });
                break;
            }
            self.known = shown.size;
        }
        self.is_reading = false;
        Ok(())
    }

    /// Waits for its turn, and begins to read.
    async fn turn(&mut self, to: &mpsc::Sender<Piece>) -> Result<Turn, Why> {
        let turn = Arc::clone(&self.feed.turns).acquire_owned();
        let permit = self.wait(to, turn).await?.map_err(|_| Why::Stopping)?;
        let until = Instant::now() + TURN_MAX;
        let (history, marks, tail) = {
            let applied = self.feed.applied.borrow();
            let Some(tail) = applied.tail.clone() else { return Err(Why::NotShown) };
            (Arc::clone(&applied.history), Arc::clone(&applied.marks), tail)
        };
        let gaps = self.feed.view.status().gaps;
        let Some(log) = self.feed.log.get().cloned() else { return Err(Why::NotShown) };
        let (next, shutdown) = (self.next, self.shutdown.clone());
        let read = std::mem::take(&mut self.read);
        let reading = async move { log.read(next, marks, read, tail, gaps, &shutdown).await };
        let reading = self.wait(to, reading).await?.map_err(|error| why(&error))?;
        Ok(Turn { reading, history, until, patience: PATIENCE, _permit: permit })
    }

    /// Waits, and says from time to time that it does.
    async fn wait<T>(&mut self, to: &mpsc::Sender<Piece>, what: impl Future<Output = T>) -> Result<T, Why> {
        let mut what = pin!(what);
        let shutdown = self.shutdown.clone();
        loop {
            let silent = self.said + IDLE;
            tokio::select! {
                biased;
                () = to.closed() => return Err(Why::Gone),
                () = shutdown.asked() => return Err(Why::Stopping),
                came = &mut what => return Ok(came),
                () = sleep_until(silent) => {
                    if self.feed.view.is_withheld() {
                        return Err(Why::NotShown);
                    }
                    if self.is_reading && to.capacity() == 0 {
                        // Nobody else's turn waits for a connection that takes nothing.
                        self.said = Instant::now();
                    } else {
                        self.say(to).await?;
                    }
                }
            }
        }
    }

    /// Says that it is there, and how far everything was shown.
    async fn say(&mut self, to: &mpsc::Sender<Piece>) -> Result<(), Why> {
        let passed = self.next - 1;
        let (told, is_behind) = match self.told {
            None => (passed, true),
            Some(Place::Behind(size)) => (size, true),
            Some(Place::BehindCommit(sequence, _) | Place::Inside(sequence, _, _)) => (sequence.get(), false),
        };
        let is_news = passed > told || (passed == told && !is_behind);
        if self.rendering.is_inside() || !is_news {
            return self.send(to, Bytes::from_static(b":\n\n"), self.told).await;
        }
        // No event without data; the place counts all the same.
        let place = Place::Behind(passed);
        self.send(to, format!("id: {place}\n\n").into(), Some(place)).await
    }

    /// Hands a piece to the connection, with which everything up to `told` was shown. Where that takes nothing, others read the store meanwhile.
    async fn send(&mut self, to: &mpsc::Sender<Piece>, bytes: Bytes, told: Option<Place>) -> Result<(), Why> {
        let shutdown = self.shutdown.clone();
        let room = async {
            let stall_max = self.feed.stall_max;
            if let Some(turn) = &mut self.turn {
                let began = Instant::now();
                let patience = turn.patience.min(stall_max);
                if let Ok(room) = timeout(patience, to.reserve()).await {
                    turn.patience = turn.patience.saturating_sub(began.elapsed());
                    return Ok(room);
                }
                self.turn = None;
                self.held.shrink();
            }
            timeout(stall_max, to.reserve()).await
        };
        let room = tokio::select! {
            biased;
            room = room => room,
            () = shutdown.asked() => return Err(Why::Stopping),
        };
        match room {
            Ok(Ok(_)) if self.feed.view.is_withheld() => return Err(Why::NotShown),
            Ok(Ok(room)) => room.send(Piece { bytes, told }),
            Ok(Err(_)) => return Err(Why::Gone),
            Err(_) => return Err(Why::Slow),
        }
        (self.said, self.told) = (Instant::now(), told);
        Ok(())
    }
}

fn why(error: &LogError) -> Why {
    warn!(error = %chain(error), "changes cannot be read again");
    match error {
        LogError::Asked => Why::Stopping,
        LogError::Mark { .. } | LogError::Read(_) | LogError::Another { .. } => Why::Unavailable,
    }
}

/// That a reader is counted while this lives.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::feed_readers(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::feed_readers(-1.0);
    }
}
