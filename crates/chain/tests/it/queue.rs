//! The queue in memory keeps what every queue promises.

use std::sync::Arc;

use synddb_chain::Receipt;
use synddb_chain::submit::{Added, Attempt, Job, JobId, MemoryQueue, Queue, QueueError, Stored, conformance};

/// Opened again, it is the same: memory has no restarts.
struct Shared(Arc<MemoryQueue>);

impl Queue for Shared {
    fn load(&self) -> Result<Stored, QueueError> {
        self.0.load()
    }
    fn add(&self, job: &Job) -> Result<Added, QueueError> {
        self.0.add(job)
    }
    fn begin(&self, nonce: u64) -> Result<(), QueueError> {
        self.0.begin(nonce)
    }
    fn record(&self, job: &JobId, attempt: &Attempt) -> Result<(), QueueError> {
        self.0.record(job, attempt)
    }
    fn release(&self, job: &JobId) -> Result<(), QueueError> {
        self.0.release(job)
    }
    fn settle(&self, job: &JobId, receipt: &Receipt) -> Result<(), QueueError> {
        self.0.settle(job, receipt)
    }
    fn receipt(&self, job: &JobId) -> Result<Option<Receipt>, QueueError> {
        self.0.receipt(job)
    }
}

#[test]
fn the_queue_in_memory_keeps_what_every_queue_promises() {
    let memory = Arc::new(MemoryQueue::default());
    let broken = conformance::run(&mut || Box::new(Shared(Arc::clone(&memory)))).unwrap();
    assert_eq!(broken, Vec::<String>::new());
}
