//! Decides what is signed, sent, given up and settled. It has no clock, asks nobody and remembers nothing beyond its value.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::account::Fees;
use crate::endpoint::Receipt;
use crate::submit::{ATTEMPTS_MAX, Attempt, Config, Job, JobId, Stored};

/// Least percentage that nodes ask of a replacement.
const BUMP_PERCENT_MIN: u32 = 10;

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
    /// Send what is remembered.
    Send(Vec<u8>),
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
}

/// The state of one account's transactions.
#[derive(Debug)]
pub struct Core {
    config: Config,
    next_nonce: Option<u64>,
    jobs: Vec<Open>,
    /// The count that the last looks agreed on while there was no first nonce, and how many did.
    agreed: Option<(u64, u32)>,
    /// The hole that the last looks agreed on, and how many did.
    hole: Option<(Hole, u32)>,
}

impl Core {
    /// Goes on from what is remembered.
    pub fn new(config: Config, stored: Stored, now: Duration) -> Self {
        let open = |stored: crate::submit::StoredJob| Open::new(stored.job, stored.attempts, now);
        let jobs = stored.jobs.into_iter().map(open).collect();
        Self { config, next_nonce: stored.next_nonce, jobs, agreed: None, hole: None }
    }

    /// Nonces that somebody has to fill.
    pub fn hole(&self) -> Option<Hole> {
        self.hole.filter(|(_, times)| *times >= self.config.answers.max(1)).map(|(hole, _)| hole)
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
            Event::Looked(look) => self.looked(now, &look),
        }
    }

    /// Only here is anything sent for the first time: after it was remembered.
    fn signed(&mut self, now: Duration, id: &JobId, attempt: Attempt) -> Vec<Effect> {
        let Some(open) = self.jobs.iter_mut().find(|open| open.job.id == *id) else { return Vec::new() };
        let bytes = attempt.bytes.clone();
        open.is_signing = false;
        open.signed_at = now;
        open.sent_at = Some(now);
        open.attempts.push(attempt);
        vec![Effect::Send(bytes)]
    }

    fn looked(&mut self, now: Duration, look: &Look) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.settle(look, &mut effects);
        self.look_for_hole(look);
        self.give_up(look, &mut effects);
        self.send_again(now, look, &mut effects);
        self.bump(now, look, &mut effects);
        self.choose_first_nonce(look, &mut effects);
        self.begin_jobs(look, &mut effects);
        effects
    }

    /// One receipt may be wrong, and a job that is settled wrongly leaves a hole: the count has to agree, and both have to be said in several looks.
    fn settle(&mut self, look: &Look, effects: &mut Vec<Effect>) {
        let answers = self.config.answers.max(1);
        self.jobs.retain_mut(|open| {
            let nonce = open.nonce();
            let is_passed = nonce.zip(look.settled_count).map(|(nonce, count)| count > nonce);
            let was_in_block = open.is_in_block;
            let (mut found, mut mined, mut settled) = (false, BTreeMap::new(), None);
            for attempt in &open.attempts {
                let receipt = match look.receipts.get(&attempt.hash) {
                    Some(Seen::In(receipt)) => receipt,
                    Some(Seen::Nowhere) => continue,
                    // Silence says neither that it is there nor that it is not.
                    None => {
                        found |= was_in_block;
                        let known = open.mined.iter().filter(|((hash, _), _)| *hash == attempt.hash);
                        mined.extend(known.map(|(place, times)| (*place, *times)));
                        continue;
                    }
                };
                found = true;
                let is_deep = look.settled_block.map(|block| receipt.block <= block);
                let place = (receipt.hash, receipt.block_hash);
                let times = open.mined.get(&place).copied().unwrap_or_default();
                let times = match (is_passed, is_deep) {
                    (Some(true), Some(true)) => times + 1,
                    (Some(false), _) | (_, Some(false)) => continue,
                    (None, _) | (_, None) => times,
                };
                mined.insert(place, times);
                if times >= answers {
                    settled = Some(receipt);
                }
            }
            open.mined = mined;
            open.is_in_block = found;
            if was_in_block && !found {
                // The chain took it back, or the node says so.
                open.sent_at = None;
            }
            let Some(settled) = settled else { return true };
            let mut receipt = settled.clone();
            // Nobody is told here what other contracts tell, of which there may be any number.
            receipt.logs.retain(|log| log.address == open.job.to);
            effects.push(Effect::Settle(open.job.id.clone(), receipt));
            false
        });
    }

    /// Where everything is as it should, the chain has each nonce below the lowest that is open.
    fn look_for_hole(&mut self, look: &Look) {
        let Some(count) = look.settled_count else { return };
        let lowest = self.jobs.iter().filter_map(Open::nonce).min();
        let hole = lowest.or(self.next_nonce).filter(|lowest| count < *lowest);
        self.hole = hole.map(|to| {
            let hole = Hole { from: count, to };
            let times = self.hole.filter(|(known, _)| *known == hole).map_or(0, |(_, times)| times);
            (hole, times.saturating_add(1))
        });
    }

    /// A nonce that was used by somebody else.
    fn give_up(&mut self, look: &Look, effects: &mut Vec<Effect>) {
        for open in &mut self.jobs {
            let (Some(nonce), Some(count)) = (open.nonce(), look.settled_count) else { continue };
            let nowhere = |attempt: &Attempt| look.receipts.get(&attempt.hash) == Some(&Seen::Nowhere);
            if open.is_in_block || count <= nonce {
                open.passed = 0;
            } else if !open.is_signing && open.attempts.iter().all(nowhere) {
                open.passed += 1;
            }
            if open.passed >= self.config.answers_of_nonce.max(1) {
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
                effects.push(Effect::Send(last.bytes.clone()));
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
        // Of settled blocks: one that is too low is given up, one that is too high would wait for ever.
        let (None, Some(count)) = (self.next_nonce, look.settled_count) else { return };
        let times = match self.agreed {
            Some((agreed, times)) if agreed == count => times + 1,
            Some(_) | None => 1,
        };
        self.agreed = Some((count, times));
        if times >= self.config.answers_of_nonce.max(1) {
            effects.push(Effect::Begin(count));
        }
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
