//! What goes wrong, by chance that a seed decides, and what is counted.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;

/// What can happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is answered 503, as stores do that are asked too much, and has no effect.
    Unavailable,
    /// It is answered 403, as stores do when a permission is gone, and has no effect.
    Denied,
    /// It is answered 404 for its bucket, as stores do when that was removed, and has no effect.
    Gone,
    /// The connection is reset before anything is forwarded.
    ResetBefore,
    /// It is forwarded and has its effect, and the connection is reset before the answer.
    ResetAfter,
    /// It is forwarded and has its effect, and the answer ends in the middle of its body. One without a body is reset as by [`Self::ResetAfter`].
    CutAnswer,
    /// Only the first half of its body is forwarded, and then both connections end. One without a body is reset as by [`Self::ResetBefore`].
    CutRequest,
    /// Nothing is forwarded and nothing answered, until the client gives up.
    Hang,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Unavailable,
        Self::Denied,
        Self::Gone,
        Self::ResetBefore,
        Self::ResetAfter,
        Self::CutAnswer,
        Self::CutRequest,
        Self::Hang,
    ];
}

/// How a server is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blackout {
    /// Every connection is reset at once. The port is kept, so that nobody else gets it meanwhile.
    Refuses,
    /// Connections are made, and nothing is ever answered.
    Silent,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The server's answer was passed on.
    Answered,
    /// This fault struck it.
    Struck(Fault),
    /// It came during a blackout, or was caught by one.
    BlackedOut,
    /// The server behind the proxy did not answer.
    Unanswered,
}

/// What arrived, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests that arrived, by method.
    pub methods: BTreeMap<String, u64>,
    /// What became of them. What is under way has become nothing yet; what hangs counts at once.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Connections that a blackout refused.
    pub refused: u64,
}

impl Counts {
    /// Everything that arrived: requests, and connections that were refused. An idle client leaves this as it is.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.methods.values().sum::<u64>() + self.refused
    }

    /// The requests of one method.
    #[must_use]
    pub fn of(&self, method: &str) -> u64 {
        self.methods.get(method).copied().unwrap_or(0)
    }

    /// The requests that ended so.
    #[must_use]
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    /// The requests that any fault struck.
    #[must_use]
    pub fn struck(&self) -> u64 {
        Fault::ALL.iter().map(|fault| self.ended(Outcome::Struck(*fault))).sum()
    }
}

/// What is set now, what chance says next, and what was counted.
pub(super) struct Faults {
    pub(super) latency: RangeInclusive<Duration>,
    pub(super) shares: BTreeMap<Fault, u16>,
    pub(super) counts: Counts,
    chance: SmallRng,
}

/// What the proxy and its tasks share.
pub(super) struct Shared {
    faults: Mutex<Faults>,
    pub(super) blackout: watch::Sender<Option<Blackout>>,
}

/// What happens to one request, decided when it arrives.
pub(super) struct Plan {
    pub(super) latency: Duration,
    pub(super) fault: Option<Fault>,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Self {
        let faults = Faults {
            latency: Duration::ZERO..=Duration::ZERO,
            shares: BTreeMap::new(),
            counts: Counts::default(),
            chance: SmallRng::seed_from_u64(seed),
        };
        Self { faults: Mutex::new(faults), blackout: watch::Sender::new(None) }
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        // Nothing in there that a panic could break half-way.
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that arrives, and decides what happens to it.
    pub(super) fn arrive(&self, method: &str) -> Plan {
        let mut faults = self.faults();
        *faults.counts.methods.entry(method.to_owned()).or_default() += 1;
        // Both numbers are always drawn, so that one setting changes nothing of what another one meets.
        let (late, struck) = (faults.chance.random_range(0.0..=1.0), faults.chance.random_range(0..1000));
        let (shortest, longest) = (*faults.latency.start(), *faults.latency.end());
        let latency = shortest + longest.saturating_sub(shortest).mul_f64(late);
        let mut below = 0;
        let mut strikes = |share: u16| {
            below += share;
            struck < below
        };
        let fault = faults.shares.iter().find(|(_, share)| strikes(**share)).map(|(fault, _)| *fault);
        Plan { latency, fault }
    }

    pub(super) fn ended(&self, outcome: Outcome) {
        *self.faults().counts.outcomes.entry(outcome).or_default() += 1;
    }
}
