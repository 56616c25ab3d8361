//! Does what the core says, over one node and one queue.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, Fuse, FusedFuture as _};
use futures::stream::{self, FuturesUnordered};
use futures::{FutureExt as _, StreamExt as _};
use synddb_protocol::chain;
use synddb_protocol::id::Address;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::account::{Account, Fees, Unsigned};
use crate::endpoint::{BlockTag, Endpoint, EndpointError, Receipt};
use crate::finality::Finality;
use crate::submit::{Added, Attempt, Config, Core, Effect, Event, Job, JobId, Look, Queue, QueueError, Seen};

/// How many requests wait for the runner.
const REQUESTS_MAX: usize = 64;
/// How many transactions are being sent at once. One more is sent again later.
const SENDS_MAX: usize = 256;
/// How many transactions are asked about at once: nodes are shared, and small ones stand still under many questions.
const ASKS_MAX: usize = 2;
/// How long one look asks about transactions. The next begins with others.
const LOOK_TIME: Duration = Duration::from_secs(60);

/// Asks a [`Runner`]. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Submitter {
    requests: mpsc::Sender<Request>,
    settled: watch::Receiver<u64>,
    hindered: watch::Receiver<Option<String>>,
}

/// Signs and sends, and follows what was sent.
pub struct Runner {
    account: Account,
    endpoint: Endpoint,
    queue: Arc<dyn Queue>,
    config: Config,
    core: Core,
    /// The queue took something that the core does not know of, or the other way round: it is read before anything else is done.
    is_stale: bool,
    since: Instant,
    jobs: BTreeMap<JobId, Job>,
    sending: FuturesUnordered<BoxFuture<'static, Option<[u8; 32]>>>,
    requests: mpsc::Receiver<Request>,
    settled: watch::Sender<u64>,
    hindered: watch::Sender<Option<String>>,
    /// How many looks there were.
    looks: usize,
}

#[derive(Debug)]
enum Request {
    Add(Job, oneshot::Sender<Result<Added, QueueError>>),
    Receipt(JobId, oneshot::Sender<Result<Option<Receipt>, QueueError>>),
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
        let ((settled, told), (hindered, said)) = (watch::channel(0), watch::channel(None));
        let jobs = stored.jobs.iter().map(|open| (open.job.id.clone(), open.job.clone())).collect();
        let core = Core::new(config.clone(), stored, Duration::ZERO);
        let since = Instant::now();
        let (is_stale, sending) = (false, FuturesUnordered::new());
        let runner = Runner {
            account,
            endpoint,
            queue,
            config,
            core,
            is_stale,
            since,
            jobs,
            sending,
            requests,
            settled,
            hindered,
            looks: 0,
        };
        Ok((Self { requests: sender, settled: told, hindered: said }, runner))
    }

    /// Has a call mined once. When this returns, the job survives a restart.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn enqueue(&self, job: Job) -> Result<Added, QueueError> {
        self.ask(|answer| Request::Add(job, answer)).await
    }

    /// The receipt that settled a job, with what the contract that it called told; `None` for a job that is open or unknown.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn receipt(&self, job: JobId) -> Result<Option<Receipt>, QueueError> {
        self.ask(|answer| Request::Receipt(job, answer)).await
    }

    /// Changes whenever a job is settled: how many were since the start.
    pub fn settled(&self) -> watch::Receiver<u64> {
        self.settled.clone()
    }

    /// What is in the way of transactions now: a node that does not tell what has to be known, or nonces that somebody has to fill ([`Hole`]).
    ///
    /// [`Hole`]: crate::submit::Hole
    pub fn hindered(&self) -> Option<String> {
        self.hindered.borrow().clone()
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
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop);
        // A slow node holds up neither whoever asks nor the end.
        let mut looking: Fuse<BoxFuture<'static, Looked>> = Fuse::terminated();
        let mut is_asked = true;
        loop {
            let done = tokio::select! {
                () = &mut stop => return,
                Some(unheard) = self.sending.next() => {
                    if let Some(hash) = unheard {
                        // Nothing follows from it before the next look.
                        let _nothing = self.core.step(self.now(), Event::Unheard(hash));
                    }
                    Ok(())
                }
                request = self.requests.recv(), if is_asked => {
                    // Where nobody can ask any more, what is open goes on.
                    is_asked = request.is_some();
                    if let Some(request) = request {
                        self.answer(request).await;
                    }
                    Ok(())
                }
                looked = &mut looking => self.looked(looked).await,
                _ = pause.tick(), if looking.is_terminated() => {
                    looking = self.look().boxed().fuse();
                    self.looks = self.looks.wrapping_add(1);
                    Ok(())
                }
            };
            if let Err(error) = done {
                tracing::warn!(error = chain(&error), "the queue of transactions fails; it is read again");
                self.is_stale = true;
            }
        }
    }

    async fn answer(&mut self, request: Request) {
        // Whoever asked may have gone; then nobody wants the answer.
        match request {
            Request::Add(job, answer) => {
                let added = self.add(job).await;
                answer.send(added).ok();
            }
            Request::Receipt(id, answer) => {
                let receipt = self.remember(move |queue| queue.receipt(&id)).await;
                answer.send(receipt).ok();
            }
        }
    }

    async fn add(&mut self, job: Job) -> Result<Added, QueueError> {
        let kept = job.clone();
        let added = self.remember(move |queue| queue.add(&kept)).await;
        // Nobody knows whether it is there.
        self.is_stale |= matches!(added, Err(QueueError::Failed(_)));
        let added = added?;
        if added == Added::New {
            self.jobs.insert(job.id.clone(), job.clone());
            // What follows from it follows from the next look.
            let _nothing = self.core.step(self.now(), Event::Added(job));
        }
        Ok(added)
    }

    async fn read_again(&mut self) -> Result<(), QueueError> {
        let stored = self.remember(|queue| queue.load()).await?;
        self.jobs = stored.jobs.iter().map(|open| (open.job.id.clone(), open.job.clone())).collect();
        self.core = Core::new(self.config.clone(), stored, self.now());
        self.is_stale = false;
        Ok(())
    }

    async fn looked(&mut self, Looked { look, untold }: Looked) -> Result<(), QueueError> {
        if self.is_stale {
            self.read_again().await?;
        }
        let effects = self.core.step(self.now(), Event::Looked(look));
        self.apply(effects).await?;
        let hindered = self.core.hole().map(|hole| hole.to_string()).or(untold);
        self.hindered.send_if_modified(|known| {
            let is_new = *known != hindered;
            if let Some(detail) = hindered.as_deref().filter(|_| is_new) {
                tracing::warn!(detail, "transactions are hindered");
            }
            *known = hindered;
            is_new
        });
        Ok(())
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
                Effect::Send { hash, bytes } => self.send(hash, bytes),
                Effect::Release(job) => {
                    tracing::warn!(%job, "somebody else used the nonce of a job, which gets another");
                    self.remember(move |queue| queue.release(&job)).await?;
                }
                Effect::Settle(job, receipt) => {
                    self.jobs.remove(&job);
                    self.remember(move |queue| queue.settle(&job, &receipt)).await?;
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
            if let Effect::Send { hash, bytes } = effect {
                self.send(hash, bytes);
            }
        }
        Ok(())
    }

    fn send(&self, hash: [u8; 32], bytes: Vec<u8>) {
        if self.sending.len() >= SENDS_MAX {
            return;
        }
        let endpoint = self.endpoint.clone();
        let send = async move {
            // What a node answers decides nothing: a receipt does. That it does not answer says that it is worth to be sent again.
            let error = endpoint.send(&bytes).await.err()?;
            tracing::debug!(error = chain(&error), "a transaction that was sent is not said to be taken");
            (!matches!(error, EndpointError::Refused { .. })).then_some(hash)
        };
        self.sending.push(send.boxed());
    }

    /// Asks the node. What cannot be had is left out, and the core does nothing that needs it.
    fn look(&self) -> impl Future<Output = Looked> + Send + use<> {
        let (endpoint, account) = (self.endpoint.clone(), self.account.address());
        let finality = self.config.finality;
        let mut hashes = self.core.hashes();
        let first = (self.looks * ASKS_MAX).checked_rem(hashes.len()).unwrap_or_default();
        hashes.rotate_left(first);
        async move {
            let mut looked = look_at(&endpoint, account, finality).await;
            if looked.look.settled_block.is_some() {
                looked.look.receipts = receipts(&endpoint, hashes, &mut looked.untold).await;
            }
            looked
        }
    }

    fn remember<T: Send + 'static, F>(
        &self,
        how: F,
    ) -> impl Future<Output = Result<T, QueueError>> + Send + use<T, F>
    where
        F: FnOnce(&dyn Queue) -> Result<T, QueueError> + Send + 'static,
    {
        let queue = Arc::clone(&self.queue);
        async move {
            let done = tokio::task::spawn_blocking(move || how(queue.as_ref())).await;
            done.unwrap_or_else(|error| Err(QueueError::Failed(Box::new(error))))
        }
    }

    fn now(&self) -> Duration {
        self.since.elapsed()
    }
}

/// What was to be had in one look.
#[derive(Debug, Default)]
struct Looked {
    look: Look,
    /// Why the rest was not.
    untold: Option<String>,
}

/// Where the chain is, and what a transaction pays, as far as the node tells.
async fn look_at(endpoint: &Endpoint, account: Address, finality: Finality) -> Looked {
    let mut untold = None;
    if told(endpoint.check_chain().await, &mut untold).is_none() {
        return Looked { look: Look::default(), untold };
    }
    let settled_block = told(finality.newest(endpoint).await, &mut untold).flatten();
    let settled_count = match settled_block.map(BlockTag::Number) {
        Some(block) => told(endpoint.transaction_count_at(account, block).await, &mut untold),
        None => None,
    };
    // What is paid is bounded by whoever decides.
    let fees = told(endpoint.fees(u128::MAX).await, &mut untold);
    Looked { look: Look { settled_block, settled_count, fees, ..Look::default() }, untold }
}

fn told<T>(answer: Result<T, EndpointError>, untold: &mut Option<String>) -> Option<T> {
    answer.map_err(|error| *untold = Some(chain(&error).to_string())).ok()
}

/// What the node says of transactions, as far as it does in the time. A receipt of a block that the chain does not have is none at all.
async fn receipts(
    endpoint: &Endpoint,
    hashes: Vec<[u8; 32]>,
    untold: &mut Option<String>,
) -> BTreeMap<[u8; 32], Seen> {
    let end = tokio::time::Instant::now() + LOOK_TIME;
    let ask = |hash: [u8; 32]| async move { (hash, endpoint.receipt(&hash).await) };
    let asked = stream::iter(hashes).map(ask).buffer_unordered(ASKS_MAX);
    let asked: Vec<_> = asked.take_until(tokio::time::sleep_until(end)).collect().await;
    let mut found = Vec::new();
    for (hash, receipt) in asked {
        found.extend(told(receipt, untold).map(|receipt| (hash, receipt)));
    }
    // Many are in one block.
    let blocks: BTreeSet<u64> = found.iter().filter_map(|(_, found)| Some(found.as_ref()?.block)).collect();
    let ask = |number: u64| async move { (number, endpoint.block(BlockTag::Number(number)).await) };
    let asked = stream::iter(blocks).map(ask).buffer_unordered(ASKS_MAX);
    let asked: Vec<_> = asked.take_until(tokio::time::sleep_until(end)).collect().await;
    let mut hashes = BTreeMap::new();
    for (number, block) in asked {
        hashes.extend(told(block, untold).flatten().map(|block| (number, block.hash)));
    }
    let seen = |receipt: Option<Receipt>| match receipt {
        None => Some(Seen::Nowhere),
        Some(receipt) => {
            (hashes.get(&receipt.block) == Some(&receipt.block_hash)).then(|| Seen::In(Box::new(receipt)))
        }
    };
    found.into_iter().filter_map(|(hash, receipt)| Some((hash, seen(receipt)?))).collect()
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("account", &self.account)
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}
