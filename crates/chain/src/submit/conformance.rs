//! What every [`Queue`] must do. A queue outside this crate is a queue when its report is clean.

use crate::account::Fees;
use crate::endpoint::{Log, Receipt};
use crate::submit::{Added, Attempt, DATA_BYTES_MAX, Job, JobId, Queue, QueueError, StoredJob};
use synddb_protocol::id::Address;

/// Checks a queue. `open` opens the same one again, as after a restart, and finds it empty the first time.
///
/// # Errors
/// [`QueueError`], when the queue fails where it should not.
pub fn run(open: &mut dyn FnMut() -> Box<dyn Queue>) -> Result<Vec<String>, QueueError> {
    let mut broken = Vec::new();
    let mut promise = |holds: bool, what: &str| {
        if !holds {
            broken.push(what.to_owned());
        }
    };
    let (first, second) = (job("first"), job("second"));
    let queue = open();
    promise(queue.load()?.jobs.is_empty() && queue.load()?.next_nonce.is_none(), "a new queue is empty");
    promise(queue.add(&first)? == Added::New, "a job is new the first time");
    promise(queue.add(&first)? == Added::Known, "the same job again is known");
    let other = Job { gas_limit: 2, ..first.clone() };
    promise(matches!(queue.add(&other), Err(QueueError::Conflict(_))), "another job of a name is a conflict");
    let large = Job { data: vec![0; DATA_BYTES_MAX + 1], ..job("large") };
    promise(matches!(queue.add(&large), Err(QueueError::TooLarge(_))), "a job is bounded");
    queue.add(&second)?;
    let unfit = queue.record(&first.id, &attempt(5, 1));
    promise(matches!(unfit, Err(QueueError::NonceUnfit { .. })), "nothing is signed before there is a nonce");
    queue.begin(5)?;
    queue.begin(9)?;
    promise(open().load()?.next_nonce == Some(5), "the first nonce is chosen once");

    let unknown = queue.record(&JobId("none".to_owned()), &attempt(5, 1));
    promise(matches!(unknown, Err(QueueError::Unknown(_))), "nothing is signed for a job that is not there");
    queue.record(&first.id, &attempt(5, 1))?;
    queue.record(&first.id, &attempt(5, 2))?;
    for (id, nonce, what) in [
        (&first.id, 6, "a job has one nonce"),
        (&second.id, 5, "a nonce has one job"),
        (&second.id, 7, "no nonce is left out"),
    ] {
        promise(matches!(queue.record(id, &attempt(nonce, 3)), Err(QueueError::NonceUnfit { .. })), what);
    }
    queue.record(&second.id, &attempt(6, 4))?;
    let stored = open().load()?;
    let expected = vec![
        StoredJob { job: first.clone(), attempts: vec![attempt(5, 1), attempt(5, 2)] },
        StoredJob { job: second.clone(), attempts: vec![attempt(6, 4)] },
    ];
    promise(stored.jobs == expected, "what was signed is there byte for byte and in order after a restart");
    promise(stored.next_nonce == Some(7), "the next nonce is above all that were used");

    queue.release(&first.id)?;
    let stored = open().load()?;
    promise(
        stored.jobs.first().is_some_and(|open| open.attempts.is_empty()),
        "a job whose nonce is used has none",
    );
    promise(stored.next_nonce == Some(7), "a nonce is not used again");
    queue.record(&first.id, &attempt(7, 5))?;

    let receipt = receipt();
    promise(queue.receipt(&first.id)?.is_none(), "an open job has no receipt");
    queue.settle(&first.id, &receipt)?;
    queue.settle(&first.id, &receipt)?;
    let queue = open();
    promise(queue.receipt(&first.id)? == Some(receipt), "a receipt is there after a restart");
    promise(queue.load()?.jobs.len() == 1, "a settled job is not open");
    promise(queue.add(&first)? == Added::Known, "a settled job is not opened again");
    promise(matches!(queue.add(&other), Err(QueueError::Conflict(_))), "a settled job's name is taken");
    promise(queue.load()?.next_nonce == Some(8), "the next nonce does not go back");
    Ok(broken)
}

fn job(id: &str) -> Job {
    Job {
        id: JobId(id.to_owned()),
        to: Address::from_bytes([1; 20]),
        value: u128::MAX,
        data: vec![2, 3],
        gas_limit: 1,
    }
}

fn receipt() -> Receipt {
    let log = Log { address: Address::from_bytes([1; 20]), topics: vec![[2; 32]], data: vec![3] };
    let (hash, block_hash) = ([5; 32], [6; 32]);
    let (gas_used, gas_price) = (u64::MAX, u128::MAX);
    Receipt { hash, block: 9, block_hash, succeeded: true, gas_used, gas_price, logs: vec![log] }
}

fn attempt(nonce: u64, byte: u8) -> Attempt {
    let fees = Fees { max_fee: u128::MAX, priority_fee: byte.into() };
    Attempt { nonce, fees, hash: [byte; 32], bytes: vec![byte; 3] }
}
