//! A store that misbehaves on demand: slow, lossy, or behind.
//!
//! [`FaultyStore`] wraps any store; [`Faults`] is the handle that changes its behaviour while it runs and
//! counts what it was asked. Nothing is wrong until the handle says so. Chance comes from the caller
//! alone, so one seed and one order of requests give one run.
//!
//! Lost requests and lost responses look the same to the caller, as they do on a network. Staleness is
//! something the contract of [`BatchStore`] forbids: it is here to show what a caller does on a store that
//! breaks its word, or behind a cache.
//!
//! The wrapper knows only the objects that were created through it, and of those only the newest
//! [`REMEMBERED_MAX`]; older ones are never hidden.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::key::{Folder, Key};
use crate::store::{BatchStore, Failure, GetError, ListError, Page, PageLimit, Put, PutError, Start};
use crate::survey::Name;
use crate::sweep::{Removable, RemoveError, Stored, Sweeper};

/// How many of the newest objects the wrapper can hide.
pub const REMEMBERED_MAX: usize = 4096;

/// What a store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// [`BatchStore::put`].
    Put,
    /// [`BatchStore::get`].
    Get,
    /// [`BatchStore::list`] and [`Sweeper::tell`].
    List,
    /// [`Sweeper::remove`].
    Remove,
}

/// Which requests or responses get lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// None.
    Never,
    /// As many as this from now on, then none.
    Next(u32),
    /// Each with this chance in a thousand; 1000 and above mean all.
    PerMille(u16),
}

/// How many requests arrived, whatever became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requests {
    /// Puts.
    pub put: u64,
    /// Gets.
    pub get: u64,
    /// Lists.
    pub list: u64,
    /// Removals, each of some objects.
    pub remove: u64,
}

impl Requests {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.put + self.get + self.list + self.remove
    }
}

/// The controls of a [`FaultyStore`]. Clones control the same store.
#[derive(Clone)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

struct State {
    random: Box<dyn FnMut() -> u64 + Send>,
    latency: RangeInclusive<Duration>,
    lost_requests: [Loss; 4],
    lost_responses: [Loss; 4],
    hidden_from_lists: usize,
    hidden_from_gets: u64,
    newest: VecDeque<Newborn>,
    requests: Requests,
}

/// An object created through the wrapper, and how many requests had arrived until then.
struct Newborn {
    key: Key,
    born: u64,
}

/// What happens to one request, decided when it arrives.
struct Plan {
    latency: Duration,
    lose_request: bool,
    lose_response: bool,
}

/// What the caller of a lost request or response learns.
#[derive(Debug, thiserror::Error)]
#[error("no answer from the store (injected fault)")]
struct NoAnswer;

impl Faults {
    /// Controls without any fault. `random` decides every chance: give it a seeded generator.
    pub fn new(random: impl FnMut() -> u64 + Send + 'static) -> Self {
        let state = State {
            random: Box::new(random),
            latency: Duration::ZERO..=Duration::ZERO,
            lost_requests: [Loss::Never; 4],
            lost_responses: [Loss::Never; 4],
            hidden_from_lists: 0,
            hidden_from_gets: 0,
            newest: VecDeque::new(),
            requests: Requests::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Every request waits that long before anything else happens to it.
    pub fn set_latency(&self, latency: RangeInclusive<Duration>) {
        self.state().latency = latency;
    }

    /// These requests are lost before they take effect.
    pub fn lose_requests(&self, verb: Verb, loss: Loss) {
        self.state().lost_requests[verb as usize] = loss;
    }

    /// These requests take effect, and their answers are lost.
    pub fn lose_responses(&self, verb: Verb, loss: Loss) {
        self.state().lost_responses[verb as usize] = loss;
    }

    /// Listings do not show the newest `count` objects, at most [`REMEMBERED_MAX`].
    pub fn hide_newest_from_lists(&self, count: usize) {
        self.state().hidden_from_lists = count;
    }

    /// Gets do not find an object during the `requests` requests after the one that created it.
    pub fn hide_newest_from_gets(&self, requests: u64) {
        self.state().hidden_from_gets = requests;
    }

    /// Ends every fault. The counters stay.
    pub fn clear(&self) {
        let mut state = self.state();
        state.latency = Duration::ZERO..=Duration::ZERO;
        state.lost_requests = [Loss::Never; 4];
        state.lost_responses = [Loss::Never; 4];
        state.hidden_from_lists = 0;
        state.hidden_from_gets = 0;
    }

    /// What arrived since the wrapper was made. An idle system leaves this unchanged.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.state().requests
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state holds no invariant that a panic could break half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn plan(&mut self, verb: Verb) -> Plan {
        match verb {
            Verb::Put => self.requests.put += 1,
            Verb::Get => self.requests.get += 1,
            Verb::List => self.requests.list += 1,
            Verb::Remove => self.requests.remove += 1,
        }
        let (shortest, longest) = (*self.latency.start(), *self.latency.end());
        let spread = u64::try_from(longest.saturating_sub(shortest).as_nanos()).unwrap_or(u64::MAX);
        let extra = if spread == 0 { 0 } else { (self.random)() % spread.saturating_add(1) };
        Plan {
            latency: shortest + Duration::from_nanos(extra),
            lose_request: strikes(&mut self.lost_requests[verb as usize], &mut self.random),
            lose_response: strikes(&mut self.lost_responses[verb as usize], &mut self.random),
        }
    }

    fn remember(&mut self, key: Key) {
        let born = self.requests.total();
        self.newest.push_back(Newborn { key, born });
        if self.newest.len() > REMEMBERED_MAX {
            self.newest.pop_front();
        }
    }

    fn hides_from_get(&self, key: &Key) -> bool {
        let now = self.requests.total();
        let young = |newborn: &&Newborn| now - newborn.born <= self.hidden_from_gets;
        self.hidden_from_gets > 0
            && self.newest.iter().rev().take_while(young).any(|newborn| newborn.key == *key)
    }

    fn hides_from_list(&self, key: &Key) -> bool {
        self.newest.iter().rev().take(self.hidden_from_lists).any(|newborn| newborn.key == *key)
    }
}

fn strikes(loss: &mut Loss, random: &mut (dyn FnMut() -> u64 + Send)) -> bool {
    match loss {
        Loss::Never | Loss::Next(0) => false,
        Loss::Next(left) => {
            *left -= 1;
            true
        }
        Loss::PerMille(chance) => random() % 1000 < u64::from(*chance),
    }
}

/// A store with the faults that its [`Faults`] order.
#[derive(Clone)]
pub struct FaultyStore<S> {
    inner: S,
    faults: Faults,
}

impl<S> FaultyStore<S> {
    /// Wraps `inner`; the caller keeps a clone of `faults`.
    pub const fn new(inner: S, faults: Faults) -> Self {
        Self { inner, faults }
    }

    /// Lets one request arrive: waits, and says what else happens to it.
    async fn arrive(&self, verb: Verb) -> Result<Plan, Failure> {
        let plan = self.faults.state().plan(verb);
        if !plan.latency.is_zero() {
            tokio::time::sleep(plan.latency).await;
        }
        if plan.lose_request { Err(no_answer()) } else { Ok(plan) }
    }
}

fn no_answer() -> Failure {
    Failure::Unavailable(Box::new(NoAnswer))
}

#[async_trait]
impl<S: BatchStore> BatchStore for FaultyStore<S> {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        let failed = |failure| PutError::Failed { key: *key, failure };
        let plan = self.arrive(Verb::Put).await.map_err(failed)?;
        let answer = self.inner.put(key, bytes).await;
        if matches!(answer, Ok(Put::Created)) {
            self.faults.state().remember(*key);
        }
        if plan.lose_response { Err(failed(no_answer())) } else { answer }
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        let failed = |failure| GetError::Failed { key: *key, failure };
        let plan = self.arrive(Verb::Get).await.map_err(failed)?;
        if self.faults.state().hides_from_get(key) {
            return if plan.lose_response { Err(failed(no_answer())) } else { Ok(None) };
        }
        let answer = self.inner.get(key).await;
        if plan.lose_response { Err(failed(no_answer())) } else { answer }
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        let failed = |failure| ListError::Failed { folder: start.key().folder(), failure };
        let plan = self.arrive(Verb::List).await.map_err(failed)?;
        let mut answer = self.inner.list(start, limit).await;
        if let Ok(page) = &mut answer {
            let state = self.faults.state();
            page.keys.retain(|key| !state.hides_from_list(key));
        }
        if plan.lose_response { Err(failed(no_answer())) } else { answer }
    }
}

#[async_trait]
impl<S: Sweeper> Sweeper for FaultyStore<S> {
    async fn tell(&self, folder: Folder, each: &mut (dyn FnMut(Stored) + Send)) -> Result<(), ListError> {
        let failed = |failure| ListError::Failed { folder, failure };
        let plan = self.arrive(Verb::List).await.map_err(failed)?;
        let mut seen = |stored: Stored| {
            let is_hidden =
                matches!(&stored.name, Name::Key(key) if self.faults.state().hides_from_list(key));
            if !is_hidden {
                each(stored);
            }
        };
        let answer = self.inner.tell(folder, &mut seen).await;
        if plan.lose_response { Err(failed(no_answer())) } else { answer }
    }

    fn now(&self) -> Option<SystemTime> {
        self.inner.now()
    }

    /// Where the answer is lost, any number of the objects may have been removed: the first ones, as many as chance says.
    async fn remove(&self, objects: &[Removable]) -> Result<(), RemoveError> {
        let Some(first) = objects.first() else { return Ok(()) };
        let failed = |failure| RemoveError::Failed { key: *first.key(), failure };
        let plan = self.arrive(Verb::Remove).await.map_err(failed)?;
        if !plan.lose_response {
            return self.inner.remove(objects).await;
        }
        let chance = (self.faults.state().random)();
        let count = usize::try_from(chance % (objects.len() as u64 + 1)).unwrap_or(0);
        self.inner.remove(&objects[..count]).await?;
        Err(failed(no_answer()))
    }
}
