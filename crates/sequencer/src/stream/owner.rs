//! The owner of a stream: one thread that carries out what the core decides ([`crate::leading`]), and tells it what came of it.
//!
//! Decides nothing but how long to rest. An idle stream sleeps: no timer runs, and the store is asked nothing.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use synddb_protocol::id::{Epoch, Sequence};
use synddb_protocol::log::MessageType;
use synddb_service::shutdown::Shutdown;
use synddb_sqlite::killable::reached;
use synddb_storage::{BatchStore, Key, Put, PutError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::publish::Publisher;
use super::underway::Underway;
use super::{Command, Phase, View};
use crate::backoff::Backoff;
use crate::error::LeadError;
use crate::journal::Journal;
use crate::leading::{Answered, Core, Effect, Event, GROUP_MAX, Leader, Now, Shown};
use crate::live::Live;
use crate::metrics::StreamMetrics;
use crate::tail;

/// An epoch that lasted this long owes nothing to those before it: the next one is claimed as soon as the first was.
const SETTLED: Duration = Duration::from_secs(60);

/// What an owner is made of.
pub(crate) struct Parts {
    pub(crate) leader: Leader,
    pub(crate) store: Arc<dyn BatchStore>,
    pub(crate) journal: Journal,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) view: watch::Sender<View>,
    pub(crate) live: Live,
    pub(crate) finish: Shutdown,
}

/// The owner of a stream.
pub(crate) struct Owner {
    core: Core,
    store: Arc<dyn BatchStore>,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<View>,
    live: Live,
    finish: Shutdown,
    metrics: StreamMetrics,
    publisher: Publisher,
    put: Option<JoinHandle<Result<Put, PutError>>>,
    underway: Underway,
    /// Snapshots that have places and are not stored: no more than the journal holds.
    snapshots: Vec<Sequence>,
    backoff: Backoff,
    /// Since when the stream is led.
    led_since: Option<Instant>,
}

/// What is left to do of the effects of one step.
enum Pending {
    /// Wait for the next event.
    Wait,
    /// Look at the store, after a rest.
    Look { rest: Option<&'static str> },
    /// Claim an epoch.
    Claim { epoch: Epoch, object: Bytes },
    /// Nothing: the stream is left.
    End(Result<(), LeadError>),
}

impl Owner {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { leader, store, journal, commands, view, live, finish } = parts;
        let metrics = StreamMetrics::new(leader.stream);
        let publisher = Publisher::new(Arc::clone(&store), view.clone(), metrics.clone());
        let core = Core::new(leader, journal);
        let underway = Underway::new(core.leader().stream, metrics.clone());
        let (put, snapshots, backoff, led_since) = (None, Vec::new(), Backoff::new(), None);
        Self {
            core,
            store,
            commands,
            view,
            live,
            finish,
            metrics,
            publisher,
            put,
            underway,
            snapshots,
            backoff,
            led_since,
        }
    }

    /// Leads the stream until it is asked to finish.
    ///
    /// # Errors
    /// [`LeadError`] when nothing that this process can do helps.
    pub(crate) async fn run(mut self) -> Result<(), LeadError> {
        let ended = self.lead().await;
        // A put that goes on for an epoch that ended would do no harm, and no good.
        if let Some(put) = &self.put {
            put.abort();
        }
        self.metrics.ended();
        self.view.send_modify(|view| {
            view.phase = Phase::Ended;
            view.trouble = ended.as_ref().err().map(LeadError::in_brief);
        });
        ended
    }

    async fn lead(&mut self) -> Result<(), LeadError> {
        let mut effects = vec![self.core.begin()];
        loop {
            let event = match self.carry_out(effects) {
                Pending::Wait => self.next_event().await,
                Pending::Look { rest } => self.look(rest).await,
                Pending::Claim { epoch, object } => self.claim(epoch, object).await,
                Pending::End(how) => return how,
            };
            // The runtime goes down, and this owner with it.
            let Some(event) = event else { return Ok(()) };
            self.underway.begin_step();
            effects = self.core.step(Now::by_the_clock(), event);
        }
    }

    /// Carries effects out, in their order. What takes time is left to the caller.
    fn carry_out(&mut self, effects: Vec<Effect>) -> Pending {
        let (mut pending, mut has_answered) = (Pending::Wait, false);
        for effect in effects {
            match effect {
                Effect::Look { rest } => pending = Pending::Look { rest },
                Effect::Claim { epoch, object } => pending = Pending::Claim { epoch, object },
                Effect::End(how) => pending = Pending::End(how),
                Effect::Put { first, object } => self.begin_put(first, object),
                Effect::Answer(answered) => {
                    answered.send();
                    has_answered = true;
                }
                Effect::Signed(messages) => {
                    self.metrics.sequenced(messages.len() as u64);
                    self.underway.signed(&messages);
                    let headers = messages.iter().map(|message| message.receipt.header());
                    let snapshots = headers.filter(|header| header.message_type == MessageType::Snapshot);
                    self.snapshots.extend(snapshots.map(|header| header.sequence));
                    self.live.signed(messages);
                }
                Effect::Opened { fence, epoch, stored } => {
                    self.underway = Underway::new(self.core.leader().stream, self.metrics.clone());
                    self.live.opened(fence, epoch, stored.as_ref());
                }
                Effect::Stored(stored) => {
                    self.underway.stored(stored.last);
                    self.snapshots.retain(|sequence| *sequence > stored.last);
                    self.live.stored(&stored);
                }
                Effect::Deposed => self.live.deposed(),
                Effect::Show(shown) => self.show(*shown),
            }
        }
        if has_answered {
            reached("answered");
        }
        pending
    }

    async fn next_event(&mut self) -> Option<Event> {
        let is_ending = !self.core.takes_commands();
        let wake_at = self.core.wake_at();
        tokio::select! {
            biased;
            answered = answer_of(&mut self.put) => answered.map(Event::Put),
            () = self.finish.asked(), if !is_ending => Some(Event::Finish),
            command = self.commands.recv(), if !is_ending => Some(match command {
                Some(first) => Event::Commands(self.group(first)),
                None => Event::Finish,
            }),
            () = at(wake_at) => Some(Event::Woke),
        }
    }

    /// A command, and those that wait behind it.
    fn group(&mut self, first: Command) -> Vec<Command> {
        let mut commands = vec![first];
        while commands.len() < GROUP_MAX
            && let Ok(command) = self.commands.try_recv()
        {
            commands.push(command);
        }
        commands
    }

    async fn look(&mut self, rest: Option<&'static str>) -> Option<Event> {
        if let Some(why) = rest {
            if self.led_since.take().is_some_and(|since| since.elapsed() > SETTLED) {
                self.backoff = Backoff::new();
            }
            self.view.send_modify(|view| view.trouble = Some(why));
        }
        let Self { core, store, commands, finish, backoff, .. } = self;
        let (leader, journal) = (core.leader(), core.journal());
        let looked = async {
            if rest.is_some() {
                backoff.wait().await;
            }
            Event::Looked(tail::look(&**store, journal, leader.stream, &leader.trusted).await)
        };
        Some(unless_finished(finish, commands, looked).await)
    }

    async fn claim(&mut self, epoch: Epoch, object: Bytes) -> Option<Event> {
        let key = Key::Epoch { stream: self.core.leader().stream, epoch };
        let Self { store, commands, finish, .. } = self;
        let claimed = async { Event::Claimed(store.put(&key, object).await) };
        Some(unless_finished(finish, commands, claimed).await)
    }

    fn begin_put(&mut self, first: Sequence, object: Bytes) {
        let key = Key::Batch { stream: self.core.leader().stream, first };
        self.metrics.cut();
        self.underway.put(first);
        let publisher = self.publisher.clone();
        // Until the stream is led, what is put may come from an earlier process.
        let is_ours = self.view.borrow().phase == Phase::Leading;
        let may_name_chunks = !is_ours || self.snapshots.iter().any(|sequence| *sequence >= first);
        let task = tokio::spawn(async move {
            let put = publisher.put(key, object.clone()).await;
            if may_name_chunks && put.is_ok() {
                publisher.look_for_chunks(&key, object).await;
            }
            put
        });
        reached("put sent");
        self.put = Some(task);
    }

    fn show(&mut self, Shown { phase, status, delivered, stored }: Shown) {
        if let Some(status) = &status {
            self.metrics.stands(phase == Phase::Leading, status);
        }
        if phase == Phase::Leading {
            self.led_since.get_or_insert_with(Instant::now);
        }
        self.view.send_modify(|view| {
            view.phase = phase;
            if status.is_some() {
                (view.status, view.delivered, view.stored) = (status, delivered, stored);
            }
        });
    }
}

/// Waits for an event while nothing is led: what clients send meanwhile is refused at once, and the process may be asked to end.
async fn unless_finished(
    finish: &Shutdown,
    commands: &mut mpsc::Receiver<Command>,
    event: impl Future<Output = Event>,
) -> Event {
    tokio::pin!(event);
    loop {
        tokio::select! {
            biased;
            () = finish.asked() => return Event::Finish,
            event = &mut event => return event,
            Some(command) = commands.recv() => Answered::not_leading(command).send(),
        }
    }
}

/// Waits for the outstanding put, if there is one. `None` when the runtime goes down.
async fn answer_of(
    outstanding: &mut Option<JoinHandle<Result<Put, PutError>>>,
) -> Option<Result<Put, PutError>> {
    let Some(task) = outstanding else { return pending().await };
    let joined = task.await;
    *outstanding = None;
    match joined {
        Ok(answer) => Some(answer),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// Waits for a time; for none it waits for ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => pending().await,
    }
}
