//! A submitter over a real node.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use synddb_chain::submit::{
    Added, Attempt, Config, Job, JobId, MemoryQueue, Queue, QueueError, Stored, Submitter,
};
use synddb_chain::{Account, BlockTag, Endpoint, EndpointError, Fees, Finality, Receipt, Unsigned};
use synddb_protocol::id::Address;
use synddb_servers::{Anvil, Program, need};

/// The first account of every development chain.
const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn http() -> reqwest::Client {
    // Of several tests, one is first.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn endpoint(anvil: &Anvil) -> Endpoint {
    Endpoint::new(http(), anvil.url().parse().unwrap(), anvil.chain_id())
}

fn account() -> Account {
    KEY.parse().unwrap()
}

fn config() -> Config {
    Config {
        finality: Finality::Depth(2),
        poll: Duration::from_millis(50),
        resend_after: Duration::from_millis(500),
        stuck_after: Duration::from_millis(500),
        answers: 2,
        ..Config::default()
    }
}

fn job(id: &str) -> Job {
    Job {
        id: JobId(id.to_owned()),
        to: Address::from_bytes([0x77; 20]),
        value: 5,
        data: Vec::new(),
        gas_limit: 30_000,
    }
}

/// Runs a submitter beside a test of it.
async fn with<T>(anvil: &Anvil, queue: Arc<dyn Queue>, test: impl AsyncFnOnce(Submitter) -> T) -> T {
    let (submitter, runner) = Submitter::new(account(), endpoint(anvil), queue, config()).unwrap();
    tokio::select! {
        () = runner.run(std::future::pending()) => unreachable!("nobody stops it"),
        done = within(test(submitter)) => done,
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

/// Looks again and again, with the pause of an interval, until there is something.
async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut pause = tokio::time::interval(Duration::from_millis(30));
    loop {
        pause.tick().await;
        if let Some(found) = look().await {
            return found;
        }
    }
}

async fn mined(submitter: &Submitter, anvil: &Anvil, id: &str) -> Receipt {
    eventually(async || {
        anvil.mine(1).unwrap();
        submitter.receipt(JobId(id.to_owned())).await.unwrap()
    })
    .await
}

async fn received(anvil: &Anvil) -> u128 {
    endpoint(anvil).balance(job("any").to).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_mined_once_each_and_in_order() {
    if !need(Program::Anvil) {
        return;
    }
    let anvil = Anvil::start(&["--no-mining"]).unwrap();
    with(&anvil, Arc::new(MemoryQueue::default()), async |submitter| {
        assert_eq!(submitter.enqueue(job("first")).await.unwrap(), Added::New);
        assert_eq!(submitter.enqueue(job("first")).await.unwrap(), Added::Known);
        submitter.enqueue(job("second")).await.unwrap();
        let (first, second) =
            (mined(&submitter, &anvil, "first").await, mined(&submitter, &anvil, "second").await);
        assert!(first.succeeded && first.block <= second.block);
        assert_eq!(received(&anvil).await, 10);
        assert_eq!(endpoint(&anvil).transaction_count(account().address()).await.unwrap(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_stuck_is_replaced_by_one_that_pays_more() {
    if !need(Program::Anvil) {
        return;
    }
    let anvil = Anvil::start(&["--no-mining"]).unwrap();
    let queue = Arc::new(MemoryQueue::default());
    with(&anvil, Arc::<MemoryQueue>::clone(&queue), async |submitter| {
        submitter.enqueue(job("stuck")).await.unwrap();
        let attempts = eventually(async || {
            let attempts = queue.load().unwrap().jobs.remove(0).attempts;
            (attempts.len() >= 3).then_some(attempts)
        })
        .await;
        for pair in attempts.windows(2) {
            assert_eq!(pair[0].nonce, pair[1].nonce);
            assert!(pair[1].fees.max_fee * 10 >= pair[0].fees.max_fee * 11);
            assert!(pair[1].fees.priority_fee * 10 >= pair[0].fees.priority_fee * 11);
        }
        let receipt = mined(&submitter, &anvil, "stuck").await;
        assert_ne!(receipt.hash, attempts[0].hash, "the first one is replaced");
        assert_eq!(received(&anvil).await, 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_before_a_restart_is_sent_after_it() {
    if !need(Program::Anvil) {
        return;
    }
    let anvil = Anvil::start(&["--no-mining"]).unwrap();
    // The process ended after it remembered and before it sent.
    let queue = MemoryQueue::default();
    let fees = Fees { max_fee: 10_000_000_000, priority_fee: 1_000_000_000 };
    let Job { id, to, value, data, gas_limit } = job("signed");
    let unsigned = Unsigned { chain_id: anvil.chain_id(), nonce: 0, to, value, data, gas_limit, fees };
    let signed = account().sign(&unsigned);
    queue.add(&job("signed")).unwrap();
    queue.begin(0).unwrap();
    queue.record(&id, &Attempt { nonce: 0, fees, hash: signed.hash, bytes: signed.bytes }).unwrap();
    with(&anvil, Arc::new(queue), async |submitter| {
        let receipt = mined(&submitter, &anvil, "signed").await;
        assert_eq!(receipt.hash, signed.hash);
        assert_eq!(received(&anvil).await, 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_that_somebody_else_used_is_given_up() {
    if !need(Program::Anvil) {
        return;
    }
    let anvil = Anvil::start(&["--no-mining"]).unwrap();
    let queue = MemoryQueue::default();
    queue.begin(0).unwrap();
    let other = Address::from_bytes([0x88; 20]);
    let sent = json!([{"from": account().address(), "to": other, "value": "0x1"}]);
    anvil.ask("eth_sendTransaction", &sent).unwrap();
    anvil.mine(3).unwrap();
    with(&anvil, Arc::new(queue), async |submitter| {
        submitter.enqueue(job("late")).await.unwrap();
        mined(&submitter, &anvil, "late").await;
        assert_eq!(received(&anvil).await, 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_chain_is_not_believed() {
    if !need(Program::Anvil) {
        return;
    }
    let anvil = Anvil::start(&[]).unwrap();
    let other = Endpoint::new(http(), anvil.url().parse().unwrap(), 1);
    assert!(matches!(other.check_chain().await, Err(EndpointError::OtherChain { found: 31_337, .. })));
    let right = endpoint(&anvil);
    right.check_chain().await.unwrap();
    assert_eq!(right.block(BlockTag::Latest).await.unwrap().unwrap().number, 0);
    assert_eq!(right.block(BlockTag::Number(99)).await.unwrap(), None);
}

/// A queue that fails now and then, before it did something or behind it.
struct Failing {
    queue: MemoryQueue,
    calls: AtomicU32,
}

impl Failing {
    fn call<T>(&self, work: impl FnOnce() -> Result<T, QueueError>) -> Result<T, QueueError> {
        let failed = || Err(QueueError::Failed("the disk is away".into()));
        match self.calls.fetch_add(1, Ordering::Relaxed) % 7 {
            2 => failed(),
            4 => work().and_then(|_| failed()),
            _ => work(),
        }
    }
}

impl Queue for Failing {
    fn load(&self) -> Result<Stored, QueueError> {
        self.call(|| self.queue.load())
    }
    fn add(&self, job: &Job) -> Result<Added, QueueError> {
        self.call(|| self.queue.add(job))
    }
    fn begin(&self, nonce: u64) -> Result<(), QueueError> {
        self.call(|| self.queue.begin(nonce))
    }
    fn record(&self, job: &JobId, attempt: &Attempt) -> Result<(), QueueError> {
        self.call(|| self.queue.record(job, attempt))
    }
    fn release(&self, job: &JobId) -> Result<(), QueueError> {
        self.call(|| self.queue.release(job))
    }
    fn settle(&self, job: &JobId, receipt: &Receipt) -> Result<(), QueueError> {
        self.call(|| self.queue.settle(job, receipt))
    }
    fn receipt(&self, job: &JobId) -> Result<Option<Receipt>, QueueError> {
        self.call(|| self.queue.receipt(job))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_fails_now_and_then_has_each_job_mined_once() {
    if !need(Program::Anvil) {
        return;
    }
    let anvil = Anvil::start(&["--no-mining"]).unwrap();
    let queue = Failing { queue: MemoryQueue::default(), calls: AtomicU32::new(0) };
    with(&anvil, Arc::new(queue), async |submitter| {
        let names: Vec<String> = (0..12).map(|number| format!("job {number}")).collect();
        for name in &names {
            eventually(async || submitter.enqueue(job(name)).await.ok()).await;
        }
        for name in &names {
            eventually(async || {
                anvil.mine(1).unwrap();
                submitter.receipt(JobId(name.clone())).await.ok().flatten()
            })
            .await;
        }
        assert_eq!(received(&anvil).await, 5 * 12);
        assert_eq!(endpoint(&anvil).transaction_count(account().address()).await.unwrap(), 12);
    })
    .await;
}
