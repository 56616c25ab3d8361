//! Starting an agent, and what can be asked of it from any thread.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use synddb_protocol::http::Position;
use synddb_protocol::id::StreamId;
use synddb_sqlite::capture::{Waker, WalPosition};

use crate::attach::Left;
use crate::capture::{Audited, Call, Capture, Ended, Start};
use crate::config::Config;
use crate::error::{AgentError, PushError};
use crate::event::{Event, Events};
use crate::home::Home;
use crate::ship;
use crate::status::{AgentStatus, Board, Captured, reaches};

/// Callers that wait for an answer of the thread that captures.
pub(crate) const CALLS_MAX: usize = 64;

/// How long an answer about a position is waited for: the thread that captures may be attaching.
const CALL_MAX: Duration = Duration::from_secs(2);

/// How far a push goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// The sequencer has it on its disk. Its receipts are provisional.
    #[default]
    Sequenced,
    /// It was seen in a stored batch.
    Stored,
}

/// What the threads of an agent share.
pub(crate) struct Shared {
    pub(crate) board: Board,
    pub(crate) waker: Waker,
    pub(crate) stopping: AtomicBool,
    /// Whether everything was captured that was committed when it was asked to end.
    pub(crate) has_caught_up: AtomicBool,
    asked: OnceLock<Instant>,
    /// Whether nothing is to be waited for.
    at_once: AtomicBool,
}

impl Shared {
    /// What the threads of an agent of this stream share.
    pub(crate) fn new(stream: StreamId) -> Result<Arc<Self>, AgentError> {
        let waker = Waker::new().map_err(|source| AgentError::Io {
            doing: "make an event descriptor",
            path: PathBuf::new(),
            source,
        })?;
        Ok(Arc::new(Self {
            board: Board::new(stream),
            waker,
            stopping: AtomicBool::new(false),
            has_caught_up: AtomicBool::new(false),
            asked: OnceLock::new(),
            at_once: AtomicBool::new(false),
        }))
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Until when what is captured may take to be stored.
    pub(crate) fn drain_until(&self, drain_max: Duration) -> Instant {
        let asked = *self.asked.get_or_init(Instant::now);
        if self.at_once.load(Ordering::SeqCst) { asked } else { asked + drain_max }
    }
}

/// An agent that runs. When it is dropped, the agent is asked to end, and not waited for.
pub struct Handle {
    shared: Arc<Shared>,
    calls: SyncSender<Call>,
    thread: Mutex<Option<JoinHandle<Result<Ended, AgentError>>>>,
}

/// Starts an agent: takes its folder, opens what it holds, and attaches to the database on a thread of its own. `on_event` is called from
/// the agent's threads, one at a time, and holds them up as long as it takes.
///
/// # Errors
/// [`AgentError`] when the folder is another agent's, or what it holds cannot be read. That the database cannot be followed is told by
/// [`Handle::join`].
pub fn start(config: Config, on_event: impl Fn(Event) + Send + 'static) -> Result<Handle, AgentError> {
    // What can be refused is, before anything is made.
    ship::check_sequencers(&config.sequencers)?;
    let home = Arc::new(Home::open(&config.folder)?);
    let events = Events::to(on_event);
    let shared = Shared::new(home.stream())?;
    let mut older = home.incarnations()?;
    let left = Left::newest(&home, &mut older, &config)?;
    let awaited = left.iter().map(|left| left.outbox.incarnation()).collect();
    let link = ship::start(&config, Arc::clone(&home), Arc::clone(&shared), events.clone(), older, awaited)?;
    let (calls, incoming) = sync_channel(CALLS_MAX);
    let capture = Capture::new(config, home, events, Arc::clone(&shared), incoming, link);
    let ends = EndsBoard(Arc::clone(&shared));
    let thread = ship::spawn("synddb-capture", move || {
        let _ends = ends;
        capture.run(Start::Attach(left.map(Box::new)))
    })?;
    Ok(Handle::new(shared, calls, thread))
}

/// Tells whoever waits for the status that the thread that captures has ended, also when it ends by a fault.
pub(crate) struct EndsBoard(pub(crate) Arc<Shared>);

impl Drop for EndsBoard {
    fn drop(&mut self) {
        self.0.board.end();
    }
}

impl Handle {
    pub(crate) fn new(
        shared: Arc<Shared>,
        calls: SyncSender<Call>,
        thread: JoinHandle<Result<Ended, AgentError>>,
    ) -> Self {
        Self { shared, calls, thread: Mutex::new(Some(thread)) }
    }

    /// What the agent says of itself. Never waits for its work.
    pub fn status(&self) -> AgentStatus {
        self.shared.board.status()
    }

    /// Whether everything was captured that stood in the WAL up to `position`
    /// ([`synddb_sqlite::capture::committed_position`]), or without one, everything that is committed now. What can be captured for that is
    /// captured first. "Not yet" also while the database is being attached.
    pub fn captured(&self, position: Option<WalPosition>) -> Captured {
        let (answer, answered) = sync_channel(1);
        if self.call(Call::Captured { position, answer }).is_err() {
            return Captured::NotYet;
        }
        answered.recv_timeout(CALL_MAX).unwrap_or(Captured::NotYet)
    }

    /// Has everything captured that is committed now, and waits until it is sequenced or stored.
    ///
    /// # Errors
    /// [`PushError`] when it does not come there in time, or at all.
    pub fn push(&self, until: Until, deadline: Instant) -> Result<AgentStatus, PushError> {
        let next = self.catch_up(deadline)?;
        let (status, is_there) = self.shared.board.wait(deadline, |status| {
            let reached = match until {
                Until::Sequenced => status.sequenced_next,
                Until::Stored => status.stored_next,
            };
            reaches(reached.as_ref(), &next)
        });
        if is_there {
            return Ok(status);
        }
        let status = Box::new(status);
        Err(if Instant::now() < deadline {
            PushError::Stopped { status }
        } else {
            PushError::TimedOut { status }
        })
    }

    /// Has the application's database scanned in full, where everything is captured that is committed, and compared with what was captured.
    /// Meanwhile nothing is captured. A database that is not what was captured is attached anew.
    ///
    /// # Errors
    /// [`PushError`] when it does not come to its end in time, or at all.
    pub fn audit(&self, deadline: Instant) -> Result<Audited, PushError> {
        let (answer, answered) = sync_channel(1);
        self.call(Call::Audit { answer })?;
        match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(audited) => Ok(audited),
            Err(RecvTimeoutError::Timeout) => Err(PushError::TimedOut { status: Box::new(self.status()) }),
            Err(RecvTimeoutError::Disconnected) => Err(PushError::Ended),
        }
    }

    /// Asks the agent to end: it captures what is committed, has it stored within the time it was given, and ends. Never waits.
    pub fn stop(&self) {
        self.shared.asked.get_or_init(Instant::now);
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.waker.wake();
    }

    /// Asks the agent to end without waiting for anything to be stored: what was committed is kept, and sent by the next agent. Never waits.
    pub fn stop_at_once(&self) {
        self.shared.at_once.store(true, Ordering::SeqCst);
        self.stop();
    }

    /// Waits until the agent has ended, and says how. Only the first caller is told.
    ///
    /// # Errors
    /// [`AgentError`] that ended it.
    pub fn join(&self) -> Result<Ended, AgentError> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Err(AgentError::Joined) };
        thread.join().unwrap_or(Err(AgentError::Fault { thread: "capture" }))
    }

    /// Has everything captured that is committed now; what comes next then.
    fn catch_up(&self, deadline: Instant) -> Result<Position, PushError> {
        let (answer, answered) = sync_channel(1);
        self.call(Call::CatchUp { answer })?;
        match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(next) => Ok(next),
            Err(RecvTimeoutError::Timeout) => Err(PushError::TimedOut { status: Box::new(self.status()) }),
            Err(RecvTimeoutError::Disconnected) => Err(PushError::Ended),
        }
    }

    fn call(&self, call: Call) -> Result<(), PushError> {
        match self.calls.try_send(call) {
            Ok(()) => {
                self.shared.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err(PushError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(PushError::Ended),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}
