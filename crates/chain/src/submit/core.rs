//! Decides what is signed, sent, given up and settled. It has no clock, asks nobody and remembers nothing beyond its value.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::account::Fees;
use crate::endpoint::Receipt;
use crate::submit::{ATTEMPTS_MAX, Attempt, Config, Job, JobId, Stored};

/// Least percentage that nodes ask of a replacement.
const BUMP_PERCENT_MIN: u32 = 10;

/// How many times more looks it takes before a nonce is given up. It costs a second transaction where they were wrong, and only time where they were right,
/// which is rare: the account is nobody else's.
const GIVE_UP_FACTOR: u32 = 4;

/// What happened. Times are since any one moment.
#[derive(Debug, Clone)]
pub enum Event {
    /// A job is in the queue.
    Added(Job),
    /// The first nonce is in the queue.
    Begun(u64),
    /// What was signed is in the queue.
    Signed {
        /// The job.
        job: JobId,
        /// The transaction.
        attempt: Attempt,
    },
    /// No node is known to have heard of what was sent, by its hash.
    Unheard([u8; 32]),
    /// A node was looked at.
    Looked(Look),
}

/// What a node said in one look. What it did not say is `None`, or missing.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The newest block that is deep enough.
    pub settled_block: Option<u64>,
    /// How many transactions of the account are in [`Self::settled_block`] and those before it.
    pub settled_count: Option<u64>,
    /// What a transaction should pay, before any bound.
    pub fees: Option<Fees>,
    /// What it said of transactions, by their hashes.
    pub receipts: BTreeMap<[u8; 32], Seen>,
}

/// What a node said of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It is in no block.
    Nowhere,
    /// It is in a block.
    In(Box<Receipt>),
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Remember the first nonce, then say [`Event::Begun`].
    Begin(u64),
    /// Sign a transaction, remember it, then say [`Event::Signed`].
    Sign {
        /// The job.
        job: JobId,
        /// Its nonce.
        nonce: u64,
        /// What it pays.
        fees: Fees,
    },
    /// Send what is remembered. Where no node answers, say [`Event::Unheard`].
    Send {
        /// Its hash.
        hash: [u8; 32],
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Remember that somebody else used the nonce of a job.
    Release(JobId),
    /// Remember what became of a job.
    Settle(JobId, Box<Receipt>),
}

/// Nonces that no transaction has, below those that do: nothing behind them is mined before somebody fills them. It is so when nodes said together,
/// again and again, that a transaction was mined which never was, or when a chain was taken back deeper than was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The first of them.
    pub from: u64,
    /// The first nonce behind them.
    pub to: u64,
}

impl std::fmt::Display for Hole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, to } = self;
        write!(
            f,
            "the node knows no transaction of the account for nonces that were used, and nothing behind them is mined; where that stays, send any with them. from=`{from}` to=`{to}`"
        )
    }
}

#[derive(Debug)]
struct Open {
    job: Job,
    attempts: Vec<Attempt>,
    /// Being signed: the nonce is taken.
    is_signing: bool,
    /// When the last transaction was signed, or known to be after a start.
    signed_at: Duration,
    /// When it was sent the last time; `None` when it should be at once.
    sent_at: Option<Duration>,
    /// Whether the last look found it in a block.
    is_in_block: bool,
    /// How many looks said that its nonce was used, and not by us, since any said otherwise.
    passed: u32,
    /// Blocks that are said to have one of its transactions, and in how many looks each was since any said otherwise.
    mined: BTreeMap<([u8; 32], [u8; 32]), u32>,
}

impl Open {
    fn new(job: Job, attempts: Vec<Attempt>, now: Duration) -> Self {
        let (signed_at, sent_at, is_in_block) = (now, None, false);
        Self {
            job,
            attempts,
            is_signing: false,
            signed_at,
            sent_at,
            is_in_block,
            passed: 0,
            mined: BTreeMap::new(),
        }
    }

    fn nonce(&self) -> Option<u64> {
        self.attempts.first().map(|attempt| attempt.nonce)
    }

    /// Takes in what a look says of its transactions, and gives the receipt that enough looks have said. Silence says neither that a transaction is there
    /// nor that it is not.
    fn heard<'l>(&mut self, look: &'l Look, answers: u32) -> Option<&'l Receipt> {
        let (mut found, mut mined, mut enough) = (false, BTreeMap::new(), None);
        for attempt in &self.attempts {
            let Some(seen) = look.receipts.get(&attempt.hash) else {
                found |= self.is_in_block;
                let known = self.mined.iter().filter(|((hash, _), _)| *hash == attempt.hash);
                mined.extend(known.map(|(place, times)| (*place, *times)));
                continue;
            };
            let Seen::In(receipt) = seen else { continue };
            found = true;
            if look.settled_block.is_none_or(|settled| receipt.block > settled) {
                continue;
            }
            let place = (receipt.hash, receipt.block_hash);
            let times = self.mined.get(&place).map_or(1, |times| times.saturating_add(1));
            mined.insert(place, times);
            if times >= answers {
                enough = Some(receipt.as_ref());
            }
        }
        if self.is_in_block && !found {
            // The chain took it back, or the node says so.
            self.sent_at = None;
        }
        (self.mined, self.is_in_block) = (mined, found);
        enough
    }
}

/// What the last looks said of the count of transactions in settled blocks. It only grows, so one look that tells the truth is enough of a bound.
#[derive(Debug)]
struct Counts {
    last: VecDeque<u64>,
    /// How many of them say something.
    answers: usize,
}

impl Counts {
    fn new(answers: u32) -> Self {
        Self { last: VecDeque::new(), answers: usize::try_from(answers).unwrap_or(usize::MAX) }
    }

    fn add(&mut self, count: u64) {
        self.last.push_back(count);
        if self.last.len() > self.answers {
            self.last.pop_front();
        }
    }

    /// All of them say that there are so many, at least.
    fn at_least(&self) -> Option<u64> {
        self.last.iter().min().copied().filter(|_| self.last.len() >= self.answers)
    }

    /// None of them says that there are more.
    fn at_most(&self) -> Option<u64> {
        self.last.iter().max().copied().filter(|_| self.last.len() >= self.answers)
    }
}

/// The state of one account's transactions.
#[derive(Debug)]
pub struct Core {
    config: Config,
    next_nonce: Option<u64>,
    jobs: Vec<Open>,
    counts: Counts,
    /// In how many looks in a row all of these were one.
    agreed: u32,
}

impl Core {
    /// Goes on from what is remembered.
    pub fn new(mut config: Config, stored: Stored, now: Duration) -> Self {
        let open = |stored: crate::submit::StoredJob| Open::new(stored.job, stored.attempts, now);
        let jobs = stored.jobs.into_iter().map(open).collect();
        config.answers = config.answers.max(1);
        let counts = Counts::new(config.answers);
        Self { config, next_nonce: stored.next_nonce, jobs, counts, agreed: 0 }
    }

    /// Nonces that somebody has to fill: where everything is as it should, the chain has each below the lowest that is open.
    pub fn hole(&self) -> Option<Hole> {
        let lowest = self.jobs.iter().filter_map(Open::nonce).min();
        let (to, from) = lowest.or(self.next_nonce).zip(self.counts.at_most())?;
        (from < to).then_some(Hole { from, to })
    }

    /// The transactions that the next look should ask about.
    pub fn hashes(&self) -> Vec<[u8; 32]> {
        self.jobs.iter().flat_map(|open| &open.attempts).map(|attempt| attempt.hash).collect()
    }

    /// How many jobs are open.
    pub fn open(&self) -> usize {
        self.jobs.len()
    }

    /// What an event makes necessary.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        match event {
            Event::Added(job) => {
                if !self.jobs.iter().any(|open| open.job.id == job.id) {
                    self.jobs.push(Open::new(job, Vec::new(), now));
                }
                Vec::new()
            }
            Event::Begun(nonce) => {
                self.next_nonce.get_or_insert(nonce);
                Vec::new()
            }
            Event::Signed { job, attempt } => self.signed(now, &job, attempt),
            Event::Unheard(hash) => {
                let of = |open: &&mut Open| open.attempts.last().is_some_and(|last| last.hash == hash);
                if let Some(open) = self.jobs.iter_mut().find(of) {
                    open.sent_at = None;
                }
                Vec::new()
            }
            Event::Looked(look) => self.looked(now, &look),
        }
    }

    /// Only here is anything sent for the first time: after it was remembered.
    fn signed(&mut self, now: Duration, id: &JobId, attempt: Attempt) -> Vec<Effect> {
        let Some(open) = self.jobs.iter_mut().find(|open| open.job.id == *id) else { return Vec::new() };
        let send = Effect::Send { hash: attempt.hash, bytes: attempt.bytes.clone() };
        open.is_signing = false;
        open.signed_at = now;
        open.sent_at = Some(now);
        open.attempts.push(attempt);
        vec![send]
    }

    fn looked(&mut self, now: Duration, look: &Look) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(count) = look.settled_count {
            self.counts.add(count);
        }
        self.settle(look, &mut effects);
        self.give_up(look, &mut effects);
        self.send_again(now, look, &mut effects);
        self.bump(now, look, &mut effects);
        self.choose_first_nonce(look, &mut effects);
        self.begin_jobs(look, &mut effects);
        effects
    }

    /// One receipt may be wrong, and a job that is settled wrongly leaves a hole: the count has to agree, and both have to be said in several looks.
    fn settle(&mut self, look: &Look, effects: &mut Vec<Effect>) {
        let (answers, count) = (self.config.answers, self.counts.at_least());
        self.jobs.retain_mut(|open| {
            let Some(receipt) = open.heard(look, answers) else { return true };
            if open.nonce().zip(count).is_none_or(|(nonce, count)| count <= nonce) {
                return true;
            }
            let mut receipt = receipt.clone();
            // Nobody is told here what other contracts tell, of which there may be any number.
            receipt.logs.retain(|log| log.address == open.job.to);
            effects.push(Effect::Settle(open.job.id.clone(), Box::new(receipt)));
            false
        });
    }

    /// A nonce that was used by somebody else.
    fn give_up(&mut self, look: &Look, effects: &mut Vec<Effect>) {
        for open in &mut self.jobs {
            let (Some(nonce), Some(count)) = (open.nonce(), self.counts.at_least()) else { continue };
            let nowhere = |attempt: &Attempt| look.receipts.get(&attempt.hash) == Some(&Seen::Nowhere);
            if open.is_in_block || count <= nonce {
                open.passed = 0;
            } else if !open.is_signing && open.attempts.iter().all(nowhere) {
                open.passed += 1;
            }
            if open.passed >= self.config.answers.saturating_mul(GIVE_UP_FACTOR) {
                open.attempts.clear();
                open.passed = 0;
                effects.push(Effect::Release(open.job.id.clone()));
            }
        }
    }

    fn send_again(&mut self, now: Duration, look: &Look, effects: &mut Vec<Effect>) {
        for open in &mut self.jobs {
            let Some(last) = open.attempts.last() else { continue };
            let is_due = open.sent_at.is_none_or(|sent| now.saturating_sub(sent) >= self.config.resend_after);
            let is_asked = look.receipts.contains_key(&last.hash);
            if is_due && is_asked && !open.is_in_block {
                open.sent_at = Some(now);
                effects.push(Effect::Send { hash: last.hash, bytes: last.bytes.clone() });
            }
        }
    }

    /// Only the lowest nonce can be stuck by what it pays; the others wait for it.
    fn bump(&mut self, now: Duration, look: &Look, effects: &mut Vec<Effect>) {
        let waiting = self.jobs.iter_mut().filter(|open| !open.is_in_block && open.nonce().is_some());
        let Some(open) = waiting.min_by_key(|open| open.nonce()) else { return };
        let Some(last) = open.attempts.last() else { return };
        let is_stuck = now.saturating_sub(open.signed_at) >= self.config.stuck_after;
        let nowhere = open.attempts.iter().all(|sent| look.receipts.get(&sent.hash) == Some(&Seen::Nowhere));
        if !is_stuck || !nowhere || open.is_signing || open.attempts.len() >= ATTEMPTS_MAX {
            return;
        }
        let Some(fees) = self.config.more(last.fees, look.fees) else { return };
        open.is_signing = true;
        effects.push(Effect::Sign { job: open.job.id.clone(), nonce: last.nonce, fees });
    }

    fn choose_first_nonce(&mut self, look: &Look, effects: &mut Vec<Effect>) {
        if self.next_nonce.is_some() || look.settled_count.is_none() {
            return;
        }
        // Of settled blocks: one that is too low is given up, one that is too high would wait for ever.
        let count = self.counts.at_least().filter(|count| self.counts.at_most() == Some(*count));
        self.agreed = count.map_or(0, |_| self.agreed + 1);
        effects.extend(count.filter(|_| self.agreed >= self.config.answers).map(Effect::Begin));
    }

    fn begin_jobs(&mut self, look: &Look, effects: &mut Vec<Effect>) {
        let Some(fees) = look.fees else { return };
        let mut taken = self.jobs.iter().filter(|open| open.is_signing || open.nonce().is_some()).count();
        for open in &mut self.jobs {
            let Some(nonce) = self.next_nonce else { return };
            if taken >= self.config.in_flight_max.max(1) {
                return;
            }
            if open.is_signing || open.nonce().is_some() {
                continue;
            }
            let Some(after) = nonce.checked_add(1) else { return };
            (open.is_signing, self.next_nonce) = (true, Some(after));
            taken += 1;
            effects.push(Effect::Sign { job: open.job.id.clone(), nonce, fees: self.config.capped(fees) });
        }
    }
}

impl Config {
    fn capped(&self, fees: Fees) -> Fees {
        let max_fee = fees.max_fee.min(self.max_fee_per_gas_max);
        Fees { max_fee, priority_fee: fees.priority_fee.min(max_fee) }
    }

    /// What a replacement pays; `None` where that is above the bound.
    fn more(&self, last: Fees, wanted: Option<Fees>) -> Option<Fees> {
        let percent = u128::from(self.bump_percent.max(BUMP_PERCENT_MIN));
        let raised = |fee: u128| {
            fee.saturating_add(fee.saturating_mul(percent).div_ceil(100)).max(fee.saturating_add(1))
        };
        let wanted = self.capped(wanted.unwrap_or(last));
        let max_fee = raised(last.max_fee).max(wanted.max_fee);
        let priority_fee = raised(last.priority_fee).max(wanted.priority_fee).min(max_fee);
        (max_fee <= self.max_fee_per_gas_max).then_some(Fees { max_fee, priority_fee })
    }
}
