//! Does what the core says, over one node and one queue.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use synddb_protocol::chain;
use tokio::sync::{mpsc, oneshot, watch};

use crate::account::{Account, Fees, Unsigned};
use crate::endpoint::{BlockTag, Endpoint, EndpointError};
use crate::submit::{
    Added, Attempt, Config, Core, Depth, Effect, Event, Job, JobId, Look, Outcome, Queue, QueueError, Seen,
};

/// How many requests wait for the runner.
const REQUESTS_MAX: usize = 64;

/// Asks a [`Runner`]. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Submitter {
    requests: mpsc::Sender<Request>,
    settled: watch::Receiver<u64>,
}

/// Signs and sends, and follows what was sent.
pub struct Runner {
    account: Account,
    endpoint: Endpoint,
    queue: Arc<dyn Queue>,
    config: Config,
    core: Core,
    since: Instant,
    jobs: BTreeMap<JobId, Job>,
    requests: mpsc::Receiver<Request>,
    settled: watch::Sender<u64>,
}

#[derive(Debug)]
enum Request {
    Add(Job, oneshot::Sender<Result<Added, QueueError>>),
    Withdraw(JobId, String, oneshot::Sender<Result<(), QueueError>>),
    Outcome(JobId, oneshot::Sender<Result<Option<Outcome>, QueueError>>),
}

/// The runner has ended.
fn ended() -> QueueError {
    QueueError::Failed("the submitter has ended".into())
}

impl Submitter {
    /// A submitter and what does its work, once [`Runner::run`] is called.
    ///
    /// # Errors
    /// [`QueueError`], when the queue cannot be read.
    pub fn new(
        account: Account,
        endpoint: Endpoint,
        queue: Arc<dyn Queue>,
        config: Config,
    ) -> Result<(Self, Runner), QueueError> {
        let stored = queue.load()?;
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let (settled, told) = watch::channel(0);
        let jobs = stored.jobs.iter().map(|open| (open.job.id.clone(), open.job.clone())).collect();
        let core = Core::new(config.clone(), stored, Duration::ZERO);
        let since = Instant::now();
        let runner = Runner { account, endpoint, queue, config, core, since, jobs, requests, settled };
        Ok((Self { requests: sender, settled: told }, runner))
    }

    /// Has a call mined once. When this returns, the job survives a restart.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn enqueue(&self, job: Job) -> Result<Added, QueueError> {
        self.ask(|answer| Request::Add(job, answer)).await
    }

    /// Takes a job back. One that something was signed for goes on.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn withdraw(&self, job: JobId, why: String) -> Result<(), QueueError> {
        self.ask(|answer| Request::Withdraw(job, why, answer)).await
    }

    /// What became of a job; `None` for one that is open or unknown.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn outcome(&self, job: JobId) -> Result<Option<Outcome>, QueueError> {
        self.ask(|answer| Request::Outcome(job, answer)).await
    }

    /// Changes whenever a job is settled: how many were since the start.
    pub fn settled(&self) -> watch::Receiver<u64> {
        self.settled.clone()
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> Request,
    ) -> Result<T, QueueError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

impl Runner {
    /// Works until `stop` is ready. What was signed is sent again by the next run.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut pause = tokio::time::interval(self.config.poll);
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop);
        loop {
            let done = tokio::select! {
                () = &mut stop => return,
                request = self.requests.recv() => match request {
                    Some(request) => self.answer(request).await,
                    // Nobody can ask any more, and what is open goes on.
                    None => { pause.tick().await; self.look().await }
                },
                _ = pause.tick() => self.look().await,
            };
            if let Err(error) = done {
                tracing::warn!(error = chain(&error), "the queue of transactions fails; it is read again");
                self.read_again().await;
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Result<(), QueueError> {
        // Whoever asked may have gone; then nobody wants the answer.
        match request {
            Request::Add(job, answer) => {
                let added = self.add(job).await;
                answer.send(added).ok();
            }
            Request::Outcome(id, answer) => {
                let outcome = self.remember(move |queue| queue.outcome(&id)).await;
                answer.send(outcome).ok();
            }
            Request::Withdraw(job, why, answer) => {
                let effects = self.core.step(self.now(), Event::Withdrawn { job, why });
                let done = self.apply(effects).await;
                let failed = done.is_err();
                answer.send(done).ok();
                if failed {
                    self.read_again().await;
                }
            }
        }
        Ok(())
    }

    async fn add(&mut self, job: Job) -> Result<Added, QueueError> {
        let kept = job.clone();
        let added = self.remember(move |queue| queue.add(&kept)).await?;
        if added == Added::New {
            self.jobs.insert(job.id.clone(), job.clone());
            let effects = self.core.step(self.now(), Event::Added(job));
            self.apply(effects).await?;
        }
        Ok(added)
    }

    async fn read_again(&mut self) {
        match self.remember(|queue| queue.load()).await {
            Ok(stored) => {
                self.jobs = stored.jobs.iter().map(|open| (open.job.id.clone(), open.job.clone())).collect();
                self.core = Core::new(self.config.clone(), stored, self.now());
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "the queue of transactions cannot be read");
            }
        }
    }

    async fn look(&mut self) -> Result<(), QueueError> {
        let look = self.ask_node().await;
        let effects = self.core.step(self.now(), Event::Looked(look));
        self.apply(effects).await
    }

    /// Does the effects in their order, and what follows from each before the next.
    async fn apply(&mut self, effects: Vec<Effect>) -> Result<(), QueueError> {
        for effect in effects {
            match effect {
                Effect::Begin(nonce) => {
                    self.remember(move |queue| queue.begin(nonce)).await?;
                    self.core.step(self.now(), Event::Begun(nonce));
                }
                Effect::Sign { job, nonce, fees } => self.sign(job, nonce, fees).await?,
                Effect::Send(bytes) => self.send(&bytes).await,
                Effect::Release(job) => {
                    tracing::warn!(%job, "somebody else used the nonce of a job, which gets another");
                    self.remember(move |queue| queue.release(&job)).await?;
                }
                Effect::Settle(job, outcome) => {
                    self.jobs.remove(&job);
                    self.remember(move |queue| queue.settle(&job, &outcome)).await?;
                    self.settled.send_modify(|count| *count += 1);
                }
            }
        }
        Ok(())
    }

    async fn sign(&mut self, id: JobId, nonce: u64, fees: Fees) -> Result<(), QueueError> {
        let job = self.jobs.get(&id).ok_or_else(|| QueueError::Unknown(id.clone()))?;
        let signed = self.account.sign(&Unsigned {
            chain_id: self.endpoint.chain_id(),
            nonce,
            to: job.to,
            value: job.value,
            data: job.data.clone(),
            gas_limit: job.gas_limit,
            fees,
        });
        let attempt = Attempt { nonce, fees, hash: signed.hash, bytes: signed.bytes };
        let (kept, of) = (attempt.clone(), id.clone());
        self.remember(move |queue| queue.record(&of, &kept)).await?;
        for effect in self.core.step(self.now(), Event::Signed { job: id, attempt }) {
            if let Effect::Send(bytes) = effect {
                self.send(&bytes).await;
            }
        }
        Ok(())
    }

    async fn send(&self, bytes: &[u8]) {
        // The answer decides nothing: a receipt does.
        if let Err(error) = self.endpoint.send(bytes).await {
            tracing::debug!(error = chain(&error), "a transaction that was sent is not said to be taken");
        }
    }

    /// What cannot be had is left out, and the core does nothing that needs it.
    async fn ask_node(&self) -> Look {
        let asked = async {
            self.endpoint.check_chain().await?;
            let head = self.endpoint.latest().await?;
            let settled_block = match self.config.depth {
                Depth::Finalized => self.endpoint.block(BlockTag::Finalized).await?.map(|block| block.number),
                Depth::Blocks(depth) => Some(head.number.saturating_sub(depth)),
            };
            let priority_fee = self.endpoint.priority_fee().await?;
            let max_fee = head.base_fee.saturating_mul(2).saturating_add(priority_fee);
            let fees = Some(Fees { max_fee, priority_fee });
            let mut look = Look { settled_block, fees, ..Look::default() };
            if let Some(block) = settled_block {
                let tag = BlockTag::Number(block);
                look.settled_count =
                    self.endpoint.transaction_count_at(self.account.address(), tag).await.ok();
            }
            for hash in self.core.hashes() {
                if let Some(seen) = self.seen(&hash).await? {
                    look.receipts.insert(hash, seen);
                }
            }
            Ok::<Look, EndpointError>(look)
        };
        asked.await.unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "the node does not tell what became of transactions");
            Look::default()
        })
    }

    /// A receipt of a block that the chain does not have is none at all.
    async fn seen(&self, hash: &[u8; 32]) -> Result<Option<Seen>, EndpointError> {
        let Some(receipt) = self.endpoint.receipt(hash).await? else { return Ok(Some(Seen::Nowhere)) };
        let block = self.endpoint.block(BlockTag::Number(receipt.block)).await?;
        let is_there = block.is_some_and(|block| block.hash == receipt.block_hash);
        Ok(is_there.then(|| Seen::In(Box::new(receipt))))
    }

    async fn remember<T: Send + 'static>(
        &self,
        how: impl FnOnce(&dyn Queue) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let queue = Arc::clone(&self.queue);
        let done = tokio::task::spawn_blocking(move || how(queue.as_ref())).await;
        done.unwrap_or_else(|error| Err(QueueError::Failed(Box::new(error))))
    }

    fn now(&self) -> Duration {
        self.since.elapsed()
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("account", &self.account)
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}
