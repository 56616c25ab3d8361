//! Objects of the store, in order, ahead of who needs them.
//!
//! A key is computed from the batch before, so nothing has to be listed; what a listing could save is in [`crate::ahead`]. A batch is decoded here, unverified, only to learn where the next one
//! begins; whoever stores nonsense there makes this fetch the wrong object ahead, and is refused by the next stage.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use synddb_protocol::chain;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{Batch, BatchError, SignedCheckpoint};
use synddb_service::shutdown::Shutdown;
use synddb_service::trouble::Trouble;
use synddb_storage::{BatchStore, Failure, GetError, Key, ListError, Page, PageLimit, Start, last_batch};
use tokio::sync::mpsc::Sender;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::ahead::AheadOfChain;
use crate::config::Mode;
use crate::error::{HaltCause, Refused, ValidatorError};
use crate::news::{News, Told};
use crate::pipeline::{Ahead, Item, Room};
use crate::store_end::{self, Elsewhere};

/// The first wait after a store did not answer.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait between two tries.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(10);

/// Why an object was not got.
#[derive(Debug)]
pub(crate) enum NoAnswer<E = GetError> {
    /// The store did not answer, and the process was asked to end meanwhile.
    GaveUp,
    /// No retry helps.
    Failed(E),
}

/// The store, asked until it answers. Clones are the same.
#[derive(Clone)]
pub(crate) struct PatientStore {
    store: Arc<dyn BatchStore>,
    shutdown: Shutdown,
    /// Cancelled when the time for what is under way is over.
    stop: CancellationToken,
    heard: Arc<Heard>,
}

/// What was heard of the store so far.
#[derive(Default)]
struct Heard {
    /// A store that answered once is asked again also when it denies access or cannot be used: somebody changed something, and may change it back.
    /// One that never did is a wrong address or a wrong credential, which is told at once.
    is_followed: bool,
    has_answered: AtomicBool,
    trouble: Mutex<Trouble>,
}

impl PatientStore {
    /// For who reads once: a store that denies access ends it.
    pub(crate) fn new(store: Arc<dyn BatchStore>, shutdown: Shutdown, stop: CancellationToken) -> Self {
        Self { store, shutdown, stop, heard: Arc::default() }
    }

    /// For who follows: once the store answered, nothing that it fails with is for good.
    pub(crate) fn following(store: Arc<dyn BatchStore>, shutdown: Shutdown, stop: CancellationToken) -> Self {
        let heard = Heard { is_followed: true, ..Heard::default() };
        Self { store, shutdown, stop, heard: Arc::new(heard) }
    }

    /// Whether stages may end before the end of the store.
    pub(crate) fn may_end(&self) -> bool {
        self.shutdown.is_asked() || self.stop.is_cancelled()
    }

    /// Whether there is time to ask for more: some, once the process was asked to end, for what is under way.
    pub(crate) fn goes_on(&self) -> Result<(), NoAnswer> {
        if self.stop.is_cancelled() { Err(NoAnswer::GaveUp) } else { Ok(()) }
    }

    /// Gets an object. While the store does not answer, it is asked again for as long as nobody asks the process to end.
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Bytes>, NoAnswer> {
        let mut wait = RETRY_MIN;
        loop {
            let error = match self.store.get(key).await {
                Ok(object) => {
                    self.heard.answered();
                    return Ok(object);
                }
                Err(error) => error,
            };
            let GetError::Failed { failure, .. } = &error else { return Err(NoAnswer::Failed(error)) };
            let Some(kind) = self.heard.passing(failure) else { return Err(NoAnswer::Failed(error)) };
            if !self.goes_on_after(kind, &error, &mut wait).await {
                return Err(NoAnswer::GaveUp);
            }
        }
    }

    /// Lists keys for who can do without.
    pub(crate) async fn list_once(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        self.store.list(start, limit).await
    }

    /// The first message of the last batch that the store lists, asked for as patiently while it does not answer. A store that cannot list,
    /// or denies it, can serve all that a reader needs, so that is not waited for.
    pub(crate) async fn last_batch(&self, stream: StreamId) -> Result<Option<Sequence>, NoAnswer<ListError>> {
        self.list(|store| async move { last_batch(&*store, stream).await }).await
    }

    /// Asks what needs listings, as patiently while the store does not answer, and not where it cannot list.
    pub(crate) async fn list<T, F: Future<Output = Result<T, ListError>> + Send>(
        &self,
        ask: impl Fn(Arc<dyn BatchStore>) -> F + Send + Sync,
    ) -> Result<T, NoAnswer<ListError>> {
        let mut wait = RETRY_MIN;
        loop {
            let error = match ask(Arc::clone(&self.store)).await {
                Ok(last) => {
                    self.heard.answered();
                    return Ok(last);
                }
                Err(error) => error,
            };
            let ListError::Failed { failure, .. } = &error else { return Err(NoAnswer::Failed(error)) };
            let passing = self.heard.passing(failure).filter(|_| failure.retry_may_help());
            let Some(kind) = passing else { return Err(NoAnswer::Failed(error)) };
            if !self.goes_on_after(kind, &error, &mut wait).await {
                return Err(NoAnswer::GaveUp);
            }
        }
    }

    /// Waits after a failure; `false` when the process was asked to end meanwhile.
    async fn goes_on_after(
        &self,
        kind: &'static str,
        error: &(dyn std::error::Error + Sync),
        wait: &mut Duration,
    ) -> bool {
        if let Some(lasting) = self.heard.trouble().met(Instant::now(), kind) {
            let (attempts, lasts_s) = (lasting.times, lasting.lasts.as_secs());
            warn!(error = %chain(error), attempts, lasts_s, "{kind}; trying again");
        }
        tokio::select! {
            () = self.shutdown.asked() => return false,
            () = tokio::time::sleep(spread(*wait)) => {}
        }
        *wait = (*wait * 2).min(RETRY_MAX);
        true
    }
}

impl Heard {
    fn answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
        if let Some(lasting) = self.trouble().over(Instant::now()) {
            let (attempts, lasts_s) = (lasting.times, lasting.lasts.as_secs());
            info!(attempts, lasts_s, "the store answers again");
        }
    }

    /// What the trouble is called where it is waited for.
    fn passing(&self, failure: &Failure) -> Option<&'static str> {
        let may_be_undone = self.is_followed && self.has_answered.load(Ordering::Relaxed);
        match failure {
            Failure::Unavailable(_) | Failure::Full(_) => Some("the store does not answer"),
            Failure::Denied(_) => may_be_undone.then_some("the store denies access"),
            Failure::Misconfigured(_) => may_be_undone.then_some("the store cannot do what a store must"),
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        // When something was said is right whoever panicked.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time from half of `wait` to all of it, so that many replicas do not ask at once.
pub(crate) fn spread(wait: Duration) -> Duration {
    // Hashers of the standard library begin with random keys.
    let eighths = u32::try_from(RandomState::new().hash_one(0u8) % 5).unwrap_or(0) + 4;
    wait * eighths / 8
}

/// Fetches the batches of one log.
pub(crate) struct Fetch {
    pub(crate) store: PatientStore,
    pub(crate) stream: StreamId,
    pub(crate) next: Sequence,
    /// The checkpoint of the batch before that.
    pub(crate) last: Option<SignedCheckpoint>,
    pub(crate) news: News,
    pub(crate) mode: Mode,
    pub(crate) shutdown: Shutdown,
    /// Where the end of the store is for this reader, wherever it is for others.
    pub(crate) until: Option<Sequence>,
    /// Whether it is looked behind the end for what is listed there: by who says of a whole log what it is. Others need no listing, and for them
    /// what lies there is no part of the log.
    pub(crate) looks_behind: bool,
}

impl Fetch {
    /// Fetches until asked to end, or until the end of the store where that is the mode, or until something is wrong.
    pub(crate) async fn run(mut self, to: Sender<Item<Batch>>) {
        let room = Room::new();
        let mut batches = AheadOfChain::new(self.store.clone(), self.stream);
        let mut end_told = false;
        // What was applied before this start is not known to be in this store until a batch is found that goes on from it.
        let mut doubted = self.next > Sequence::FIRST;
        loop {
            // Asked before the look, so that what the store holds when the process is asked to end is fetched.
            let asked = self.shutdown.is_asked();
            let mut step = self.step(&mut batches, &room).await;
            if matches!(step, Step::Absent) && self.until.is_none() {
                let doubted = std::mem::take(&mut doubted);
                step = self.look_at_end(doubted).await;
            }
            let item = match step {
                Step::Batch(batch) => {
                    doubted = false;
                    Item::Batch(*batch)
                }
                Step::Failed(error) => Item::Failed(error),
                Step::GaveUp => return,
                Step::Absent if end_told => {
                    if asked {
                        return;
                    }
                    doubted = self.news.wait(self.next, &self.shutdown).await == Told::Less;
                    continue;
                }
                Step::Absent => Item::End,
            };
            end_told = matches!(item, Item::End);
            let last = matches!(item, Item::Failed(_)) || end_told && (asked || self.mode == Mode::Once);
            // A stage that nobody listens to any more has nothing to do.
            if to.send(item).await.is_err() || last {
                return;
            }
        }
    }

    /// Makes sure that the log ends where nothing is under the next key.
    async fn look_at_end(&self, doubted: bool) -> Step {
        let Self { store, stream, next, last, looks_behind, .. } = self;
        let looked = if doubted {
            store_end::check(store, *stream, *next, last.as_ref()).await
        } else if *looks_behind {
            store_end::check_hole(store, *stream, *next).await
        } else {
            return Step::Absent;
        };
        match looked {
            Ok(()) => Step::Absent,
            Err(Elsewhere::GaveUp) => Step::GaveUp,
            Err(Elsewhere::Failed(error)) => Step::Failed(error),
        }
    }

    async fn step(&mut self, batches: &mut AheadOfChain, room: &Room) -> Step {
        let first = self.next;
        if self.until.is_some_and(|until| first > until) {
            return Step::Absent;
        }
        let stored = match batches.get(first).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Step::Absent,
            Err(NoAnswer::GaveUp) => return Step::GaveUp,
            Err(NoAnswer::Failed(error @ GetError::TooLarge { .. })) => {
                return Step::refused(first, first, Refused::TooLarge(error));
            }
            Err(NoAnswer::Failed(error)) => return Step::Failed(Box::new(error.into())),
        };
        self.news.found();
        let Some(room) = room.take(stored.len()).await else { return Step::GaveUp };
        let decoded = spawn_blocking(move || Batch::from_stored(&stored)).await;
        let batch = match decoded {
            Ok(Ok(batch)) => batch,
            Ok(Err(error)) => return Step::refused(first, first, BatchError::from(error).into()),
            Err(_) => return Step::Failed(Box::new(ValidatorError::Fault { part: "decoder" })),
        };
        if batch.first() != first {
            let misplaced = Refused::Misplaced { expected: first, found: batch.first() };
            return Step::refused(first, first, misplaced);
        }
        // At the end of the numbers there is no next batch, and the verifier refuses what claims one.
        self.next = batch.last().next().unwrap_or(batch.last());
        self.last = Some(batch.checkpoint().clone());
        Step::Batch(Box::new(Ahead::of(batch, room)))
    }
}

enum Step {
    Batch(Box<Ahead<Batch>>),
    /// There is nothing under the next key.
    Absent,
    /// The process was asked to end before the store answered.
    GaveUp,
    Failed(Box<ValidatorError>),
}

impl Step {
    fn refused(from: Sequence, to: Sequence, why: Refused) -> Self {
        Self::Failed(Box::new(HaltCause::refused(from, why).into_error(from, to)))
    }
}
