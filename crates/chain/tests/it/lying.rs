//! The core over a chain that forgets, delays, repeats, takes blocks back and says what is not so, with restarts between any two effects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use synddb_chain::submit::{
    Attempt, Config, Core, Effect, Event, Hole, Job, JobId, Look, MemoryQueue, Queue as _, Seen,
};
use synddb_chain::{Fees, Finality, Receipt};
use synddb_protocol::id::Address;

const SEEDS: u64 = 400;
const JOBS: usize = 6;
/// After so many rounds the chain is honest.
const LYING_ROUNDS: u64 = 400;
const ROUNDS_MAX: u64 = 2_000;
const DEPTH: usize = 3;
const ANSWERS: u32 = 3;
const FIRST_NONCE: u64 = 7;

/// A transaction as the chain sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Transaction {
    nonce: u64,
    fee: u128,
    /// `None` for what somebody else sent with the same key.
    job: Option<u8>,
}

impl Transaction {
    fn bytes(self) -> Vec<u8> {
        format!("{} {} {}", self.nonce, self.fee, self.job.unwrap_or(u8::MAX)).into_bytes()
    }

    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let words: Vec<&str> = text.split(' ').collect();
        let job: u8 = words[2].parse().unwrap();
        Self {
            nonce: words[0].parse().unwrap(),
            fee: words[1].parse().unwrap(),
            job: (job != u8::MAX).then_some(job),
        }
    }

    fn hash(self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.nonce.to_be_bytes());
        hash[8..24].copy_from_slice(&self.fee.to_be_bytes());
        hash[24] = self.job.unwrap_or(u8::MAX);
        hash
    }
}

/// A chain, and a node that lies about it.
struct Chain {
    rng: StdRng,
    /// Each block has at most one transaction.
    blocks: Vec<Option<Transaction>>,
    /// So many blocks are never taken back.
    settled: usize,
    pool: BTreeMap<u64, Transaction>,
    is_lying: bool,
    /// How many looks in a row had a lie about counts or receipts: who says the same lie for ever cannot be told from who says the truth.
    lied: u32,
}

impl Chain {
    fn count(&self, blocks: usize) -> u64 {
        FIRST_NONCE + self.blocks[..blocks].iter().flatten().count() as u64
    }

    fn lies(&mut self, of: f64) -> bool {
        self.is_lying && self.rng.random_bool(of)
    }

    fn send(&mut self, transaction: Transaction) {
        if self.lies(0.4) || transaction.nonce < self.count(self.blocks.len()) {
            return;
        }
        let known = self.pool.get(&transaction.nonce);
        // A node wants 10 percent more for a replacement.
        if known.is_none_or(|known| transaction.fee * 10 >= known.fee * 11) {
            self.pool.insert(transaction.nonce, transaction);
        }
    }

    fn mine(&mut self, fee_min: u128) {
        if self.lies(0.1) {
            let back = self.rng.random_range(1..=DEPTH);
            self.blocks.truncate(self.blocks.len().saturating_sub(back).max(self.settled));
        }
        if self.lies(0.05) {
            self.pool.clear();
        }
        let next = self.count(self.blocks.len());
        if self.lies(0.03) {
            self.pool.insert(next, Transaction { nonce: next, fee: 1 << 60, job: None });
        }
        self.pool.retain(|nonce, _| *nonce >= next);
        let mined = self.pool.get(&next).copied().filter(|found| found.fee >= fee_min);
        if mined.is_some() {
            self.pool.remove(&next);
        }
        self.blocks.push(mined);
        self.settled = self.settled.max(self.blocks.len().saturating_sub(DEPTH));
    }

    fn look(&mut self, hashes: &[[u8; 32]]) -> Look {
        if self.lies(0.1) {
            return Look::default();
        }
        let fees = Some(Fees { max_fee: 100, priority_fee: 10 });
        let mut look = Look { fees, ..Look::default() };
        // A node that is behind knows less, but of one chain.
        let settled =
            self.settled - if self.lies(0.3) { self.rng.random_range(0..=self.settled.min(4)) } else { 0 };
        look.settled_block = Some(settled as u64);
        look.settled_count = Some(self.count(settled));
        let may_lie = self.lied + 1 < ANSWERS;
        let mut has_lied = false;
        if may_lie && self.lies(0.4) {
            has_lied = true;
            look.settled_count = Some(self.rng.random_range(0..40));
        }
        for hash in hashes {
            if self.lies(0.1) {
                continue;
            }
            let at = self.blocks.iter().position(|found| found.is_some_and(|found| found.hash() == *hash));
            // The node may not know of it yet; it must not do so in each of the looks that count.
            let seen = match at {
                Some(at) if has_lied || self.lied > 0 || !self.lies(0.1) => {
                    Seen::In(Box::new(receipt(*hash, at as u64 + 1)))
                }
                Some(_) => continue,
                None if may_lie && self.lies(0.2) => {
                    has_lied = true;
                    Seen::In(Box::new(receipt(*hash, self.rng.random_range(0..=settled as u64))))
                }
                None => Seen::Nowhere,
            };
            look.receipts.insert(*hash, seen);
        }
        self.lied = if has_lied { self.lied + 1 } else { 0 };
        look
    }
}

fn receipt(hash: [u8; 32], block: u64) -> Receipt {
    let mut block_hash = [0; 32];
    block_hash[..8].copy_from_slice(&block.to_be_bytes());
    let (gas_used, gas_price) = (1, 1);
    Receipt { hash, block, block_hash, succeeded: true, gas_used, gas_price, logs: Vec::new() }
}

fn job(number: u8) -> Job {
    let to = Address::from_bytes([number; 20]);
    Job { id: JobId(number.to_string()), to, value: 0, data: vec![number], gas_limit: 21_000 }
}

fn config() -> Config {
    Config {
        finality: Finality::Depth(DEPTH as u64),
        poll: Duration::from_secs(1),
        resend_after: Duration::from_secs(3),
        stuck_after: Duration::from_secs(8),
        bump_percent: 13,
        max_fee_per_gas_max: 1_000,
        in_flight_max: 3,
        answers: ANSWERS,
    }
}

/// Does what the core says over a queue, and may end between any two effects.
struct Process {
    core: Core,
    queue: MemoryQueue,
    chain: Chain,
    now: Duration,
    sent: BTreeSet<Vec<u8>>,
}

impl Process {
    /// Whether the process is still there afterwards.
    fn apply(&mut self, effects: Vec<Effect>) -> bool {
        for effect in effects {
            if self.chain.lies(0.03) {
                return false;
            }
            match effect {
                Effect::Begin(nonce) => {
                    assert!(nonce >= FIRST_NONCE, "a nonce that nobody agreed on was chosen");
                    self.queue.begin(nonce).unwrap();
                    assert!(self.core.step(self.now, Event::Begun(nonce)).is_empty());
                }
                Effect::Sign { job, nonce, fees } => {
                    let transaction =
                        Transaction { nonce, fee: fees.max_fee, job: Some(job.0.parse().unwrap()) };
                    let (hash, bytes) = (transaction.hash(), transaction.bytes());
                    let attempt = Attempt { nonce, fees, hash, bytes };
                    self.queue.record(&job, &attempt).unwrap();
                    if self.chain.lies(0.1) {
                        return false;
                    }
                    let effects = self.core.step(self.now, Event::Signed { job, attempt });
                    if !self.apply(effects) {
                        return false;
                    }
                }
                Effect::Send { hash, bytes } => {
                    let stored = self.queue.load().unwrap();
                    let mut known = stored.jobs.iter().flat_map(|open| &open.attempts);
                    assert!(
                        known.any(|attempt| attempt.bytes == bytes),
                        "it was sent before it was remembered"
                    );
                    if self.chain.lies(0.2) {
                        assert!(self.core.step(self.now, Event::Unheard(hash)).is_empty());
                    } else {
                        self.chain.send(Transaction::read(&bytes));
                        self.sent.insert(bytes);
                    }
                }
                Effect::Release(job) => self.queue.release(&job).unwrap(),
                Effect::Settle(job, receipt) => self.queue.settle(&job, &receipt).unwrap(),
            }
        }
        true
    }

    fn restart(&mut self) {
        self.core = Core::new(config(), self.queue.load().unwrap(), self.now);
    }
}

fn play(seed: u64) {
    let queue = MemoryQueue::default();
    let rng = StdRng::seed_from_u64(seed);
    let chain = Chain { rng, blocks: Vec::new(), settled: 0, pool: BTreeMap::new(), is_lying: true, lied: 0 };
    let core = Core::new(config(), queue.load().unwrap(), Duration::ZERO);
    let mut process = Process { core, queue, chain, now: Duration::ZERO, sent: BTreeSet::new() };
    let mut added = 0;
    for round in 0..ROUNDS_MAX {
        process.now += Duration::from_secs(1);
        process.chain.is_lying = round < LYING_ROUNDS;
        if added < JOBS && (process.chain.rng.random_bool(0.1) || round >= LYING_ROUNDS) {
            let job = job(u8::try_from(added).unwrap());
            process.queue.add(&job).unwrap();
            assert!(process.core.step(process.now, Event::Added(job)).is_empty());
            added += 1;
        }
        let look = process.chain.look(&process.core.hashes());
        let effects = process.core.step(process.now, Event::Looked(look));
        if !process.apply(effects) {
            process.restart();
        }
        // Blocks take from 80 to 200 for gas, for a while each.
        let fee_min = [80, 120, 90, 200][usize::try_from(round / 25 % 4).unwrap()];
        process.chain.mine(fee_min);
        if added == JOBS && process.core.open() == 0 {
            break;
        }
    }
    assert_eq!(process.core.open(), 0, "something is stuck. seed=`{seed}` jobs=`{:?}`", process.queue.load());
    let mut mined: Vec<u8> = process.chain.blocks.iter().flatten().filter_map(|found| found.job).collect();
    mined.sort_unstable();
    let all: Vec<u8> = (0..u8::try_from(JOBS).unwrap()).collect();
    assert_eq!(mined, all, "each job is mined once. seed=`{seed}`");
    for number in all {
        let receipt = process.queue.receipt(&job(number).id).unwrap();
        let Some(receipt) = receipt else { panic!("no receipt. job=`{number}`") };
        let at = usize::try_from(receipt.block).unwrap() - 1;
        let found = process.chain.blocks[at].unwrap();
        assert_eq!((found.hash(), found.job), (receipt.hash, Some(number)));
    }
}

#[test]
fn each_job_is_mined_once_whatever_nodes_say() {
    for seed in 0..SEEDS {
        play(seed);
    }
}

/// A core with one transaction under way, of the first nonce.
fn under_way() -> (Core, [u8; 32]) {
    let mut core = Core::new(config(), MemoryQueue::default().load().unwrap(), Duration::ZERO);
    core.step(Duration::ZERO, Event::Begun(FIRST_NONCE));
    core.step(Duration::ZERO, Event::Added(job(0)));
    let fees = Fees { max_fee: 100, priority_fee: 10 };
    let attempt = Attempt { nonce: FIRST_NONCE, fees, hash: [1; 32], bytes: vec![1] };
    core.step(Duration::ZERO, Event::Looked(Look { fees: Some(fees), ..Look::default() }));
    core.step(Duration::ZERO, Event::Signed { job: job(0).id, attempt });
    (core, [1; 32])
}

fn settles(core: &mut Core, count: u64, seen: Seen) -> bool {
    let receipts = BTreeMap::from([([1; 32], seen)]);
    let look = Look { settled_block: Some(9), settled_count: Some(count), receipts, ..Look::default() };
    let effects = core.step(Duration::ZERO, Event::Looked(look));
    effects.iter().any(|effect| matches!(effect, Effect::Settle(..)))
}

#[test]
fn a_receipt_is_believed_when_the_count_agrees_and_both_are_said_again() {
    let (mut core, hash) = under_way();
    let mined = || Seen::In(Box::new(receipt(hash, 9)));
    for _ in 0..10 {
        assert!(!settles(&mut core, FIRST_NONCE, mined()), "the count does not agree");
    }
    for _ in 1..ANSWERS {
        assert!(!settles(&mut core, FIRST_NONCE + 1, mined()));
    }
    assert!(!settles(&mut core, FIRST_NONCE + 1, Seen::Nowhere), "what was said is taken back");
    for _ in 1..ANSWERS {
        assert!(!settles(&mut core, FIRST_NONCE + 1, mined()));
    }
    assert!(settles(&mut core, FIRST_NONCE + 1, mined()));
}

#[test]
fn nonces_that_no_transaction_has_are_told() {
    let (mut core, hash) = under_way();
    for _ in 0..ANSWERS {
        settles(&mut core, FIRST_NONCE + 1, Seen::In(Box::new(receipt(hash, 9))));
    }
    assert_eq!((core.open(), core.hole()), (0, None));
    // The chain was taken back deeper than was waited for.
    for times in 1..=ANSWERS {
        assert_eq!(core.hole(), None, "{times}");
        settles(&mut core, FIRST_NONCE, Seen::Nowhere);
    }
    let hole = Hole { from: FIRST_NONCE, to: FIRST_NONCE + 1 };
    assert_eq!(core.hole(), Some(hole));
    settles(&mut core, FIRST_NONCE + 1, Seen::Nowhere);
    assert_eq!(core.hole(), None, "somebody has filled it");
}
