//! What a submitter remembers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::endpoint::Receipt;
use crate::submit::{Attempt, Job, JobId, JobTooLarge};

/// Why something is not remembered.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A job of this name asks for something else.
    #[error("there is another job of this name; give each call its own. job=`{0}`")]
    Conflict(JobId),
    /// There is no such job that is open.
    #[error("no such job is open. job=`{0}`")]
    Unknown(JobId),
    /// The nonce is not one that this job can have now.
    #[error(
        "the nonce does not follow what is remembered; is another process using the queue? job=`{job}` nonce=`{nonce}`"
    )]
    NonceUnfit {
        /// The job.
        job: JobId,
        /// The nonce.
        nonce: u64,
    },
    /// The job is out of bounds.
    #[error(transparent)]
    TooLarge(#[from] JobTooLarge),
    /// What it is kept in fails.
    #[error("the queue cannot be read or written")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What became of adding a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New,
    /// The same one is there, open or settled.
    Known,
}

/// An open job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredJob {
    /// What is to be mined.
    pub job: Job,
    /// What was signed for it, oldest first, all of one nonce.
    pub attempts: Vec<Attempt>,
}

/// What is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The next nonce that nothing was signed for; `None` before the first was chosen.
    pub next_nonce: Option<u64>,
    /// The open jobs, in the order in which they were added.
    pub jobs: Vec<StoredJob>,
}

/// Where jobs, and what was signed for them, are kept: for one account on one chain, by one process at a time.
///
/// - Each method is all or nothing, and **what it answered survives a power cut**.
/// - A job is open from `add` to `settle`, keeps its place among the open ones, and is added once: the same one again is `Known`, another of its name
///   a `Conflict`, also after it was settled.
/// - Attempts of a job are kept in order and byte for byte, and all have one nonce, which no other open job has.
/// - `next_nonce` only grows, and only by one with the first attempt of a nonce.
///
/// [`conformance::run`](crate::submit::conformance::run) checks this.
pub trait Queue: Send + Sync + 'static {
    /// All that is open.
    ///
    /// # Errors
    /// [`QueueError::Failed`].
    fn load(&self) -> Result<Stored, QueueError>;

    /// Adds a job.
    ///
    /// # Errors
    /// [`QueueError::Conflict`], [`QueueError::TooLarge`] and [`QueueError::Failed`].
    fn add(&self, job: &Job) -> Result<Added, QueueError>;

    /// Chooses the first nonce. Nothing happens where one was chosen.
    ///
    /// # Errors
    /// [`QueueError::Failed`].
    fn begin(&self, nonce: u64) -> Result<(), QueueError>;

    /// Remembers what was signed for an open job: the first with the next nonce, each further one with the nonce that the job has.
    ///
    /// # Errors
    /// [`QueueError::Unknown`], [`QueueError::NonceUnfit`] and [`QueueError::Failed`].
    fn record(&self, job: &JobId, attempt: &Attempt) -> Result<(), QueueError>;

    /// Forgets what was signed for an open job, because somebody else used its nonce.
    ///
    /// # Errors
    /// [`QueueError::Unknown`] and [`QueueError::Failed`].
    fn release(&self, job: &JobId) -> Result<(), QueueError>;

    /// Closes an open job with the receipt of one of its transactions. The same receipt again changes nothing.
    ///
    /// # Errors
    /// [`QueueError::Unknown`] and [`QueueError::Failed`].
    fn settle(&self, job: &JobId, receipt: &Receipt) -> Result<(), QueueError>;

    /// The receipt that closed a job; `None` for one that is open or unknown.
    ///
    /// # Errors
    /// [`QueueError::Failed`].
    fn receipt(&self, job: &JobId) -> Result<Option<Receipt>, QueueError>;
}

/// A queue that is forgotten with its value, for tests and for callers that live as long as their transaction.
#[derive(Debug, Default)]
pub struct MemoryQueue(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    open: Stored,
    settled: BTreeMap<JobId, (Job, Receipt)>,
}

impl Memory {
    fn open(&mut self, id: &JobId) -> Result<&mut StoredJob, QueueError> {
        let found = self.open.jobs.iter_mut().find(|open| open.job.id == *id);
        found.ok_or_else(|| QueueError::Unknown(id.clone()))
    }
}

impl MemoryQueue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        // Nothing is left half done by a panic: no method can have one between two changes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue for MemoryQueue {
    fn load(&self) -> Result<Stored, QueueError> {
        Ok(self.lock().open.clone())
    }

    fn add(&self, job: &Job) -> Result<Added, QueueError> {
        job.check()?;
        let mut memory = self.lock();
        let settled = memory.settled.get(&job.id).map(|(known, _)| known.clone());
        let known = settled.or_else(|| memory.open(&job.id).ok().map(|open| open.job.clone()));
        match known {
            Some(known) if known == *job => Ok(Added::Known),
            Some(_) => Err(QueueError::Conflict(job.id.clone())),
            None => {
                memory.open.jobs.push(StoredJob { job: job.clone(), attempts: Vec::new() });
                Ok(Added::New)
            }
        }
    }

    fn begin(&self, nonce: u64) -> Result<(), QueueError> {
        self.lock().open.next_nonce.get_or_insert(nonce);
        Ok(())
    }

    fn record(&self, id: &JobId, attempt: &Attempt) -> Result<(), QueueError> {
        let mut memory = self.lock();
        let next = memory.open.next_nonce;
        let open = memory.open(id)?;
        let first = open.attempts.first().map(|first| first.nonce);
        if first.or(next) != Some(attempt.nonce) {
            return Err(QueueError::NonceUnfit { job: id.clone(), nonce: attempt.nonce });
        }
        open.attempts.push(attempt.clone());
        if first.is_none() {
            memory.open.next_nonce = Some(attempt.nonce + 1);
        }
        Ok(())
    }

    fn release(&self, id: &JobId) -> Result<(), QueueError> {
        self.lock().open(id)?.attempts.clear();
        Ok(())
    }

    fn settle(&self, id: &JobId, receipt: &Receipt) -> Result<(), QueueError> {
        let mut memory = self.lock();
        if memory.settled.get(id).is_some_and(|(_, known)| known == receipt) {
            return Ok(());
        }
        let job = memory.open(id)?.job.clone();
        memory.open.jobs.retain(|open| open.job.id != *id);
        memory.settled.insert(id.clone(), (job, receipt.clone()));
        Ok(())
    }

    fn receipt(&self, id: &JobId) -> Result<Option<Receipt>, QueueError> {
        Ok(self.lock().settled.get(id).map(|(_, receipt)| receipt.clone()))
    }
}
