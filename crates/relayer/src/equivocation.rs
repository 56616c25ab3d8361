//! Reports of equivocation: what proves nothing is refused here, before it costs gas.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use synddb_chain::submit::{Config, Job, JobId, MemoryQueue, QueueError, Submitter};
use synddb_chain::{Contracts, EndpointError, Finality, Receipt, Reverted, calls};
use synddb_protocol::DecodeError;
use synddb_protocol::log::{self, Equivocation, NotEquivocation, SignedCheckpoint};

use crate::config::FeePolicy;
use crate::error::RelayerError;
use crate::run::account;

/// Between two looks at the chain: somebody waits for it.
const POLL: Duration = Duration::from_millis(500);

/// Why nothing is reported.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// One of the two is neither a receipt nor a checkpoint.
    #[error("this is neither a receipt nor a checkpoint as the log has it. which=`{which}`")]
    Unreadable {
        /// Which of the two: `first` or `second`.
        which: &'static str,
        /// Why it is no checkpoint.
        source: DecodeError,
    },
    /// One is a receipt, the other a checkpoint.
    #[error("one is a receipt and the other a checkpoint: they cannot be for one place")]
    TwoKinds,
    /// They prove nothing.
    #[error(transparent)]
    Nothing(#[from] NotEquivocation),
    /// The chain refuses it.
    #[error("the key manager refuses the report: {0}")]
    Refused(Reverted),
    /// It would cost more than is paid for.
    #[error("it takes more gas than is paid for; raise `--gas-max`. gas=`{gas}` limit=`{gas_max}`")]
    TooDear {
        /// What it takes.
        gas: u64,
        /// What is paid for.
        gas_max: u64,
    },
    /// The node does not tell.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The key of the account cannot be used.
    #[error(transparent)]
    Account(#[from] Box<RelayerError>),
    /// The transaction is not queued.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// It was paid for, and did nothing: somebody else has reported the key meanwhile.
    #[error("the transaction was undone; has somebody else reported the key meanwhile?")]
    Undone,
}

enum Claimed {
    Receipt(Box<log::Receipt>),
    Checkpoint(Box<SignedCheckpoint>),
}

fn read(which: &'static str, bytes: &[u8]) -> Result<Claimed, ReportError> {
    if let Ok(receipt) = log::Receipt::from_bytes(bytes) {
        return Ok(Claimed::Receipt(Box::new(receipt)));
    }
    let checkpoint = SignedCheckpoint::from_bytes(bytes);
    let checkpoint = checkpoint.map_err(|source| ReportError::Unreadable { which, source })?;
    Ok(Claimed::Checkpoint(Box::new(checkpoint)))
}

/// What two objects of the log prove.
///
/// # Errors
/// [`ReportError`] where they prove nothing.
fn equivocation_of(first: &[u8], second: &[u8]) -> Result<Equivocation, ReportError> {
    match (read("first", first)?, read("second", second)?) {
        (Claimed::Receipt(first), Claimed::Receipt(second)) => {
            Ok(Equivocation::of_receipts(&first, &second)?)
        }
        (Claimed::Checkpoint(first), Claimed::Checkpoint(second)) => {
            Ok(Equivocation::of_checkpoints(&first, &second)?)
        }
        (Claimed::Receipt(_), Claimed::Checkpoint(_)) | (Claimed::Checkpoint(_), Claimed::Receipt(_)) => {
            Err(ReportError::TwoKinds)
        }
    }
}

/// A report that was taken: the key counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// What was proven.
    pub proven: Equivocation,
    /// The transaction.
    pub transaction: [u8; 32],
    /// Its block.
    pub block: u64,
}

/// Brings a proof of equivocation to the key manager, which freezes the key, and waits until that is in a block. Whoever is cut off does it again: a key
/// is frozen once. The account must not be that of a running relayer, with which it would take the same numbers.
///
/// # Errors
/// [`ReportError`]; before anything is paid, but for [`ReportError::Undone`].
pub async fn report_equivocation(
    contracts: &Contracts,
    account_file: &Path,
    fees: &FeePolicy,
    first: &[u8],
    second: &[u8],
) -> Result<Reported, ReportError> {
    let proven = equivocation_of(first, second)?;
    let account = account(account_file).map_err(Box::new)?;
    contracts.endpoint().check_chain().await?;
    let data = calls::report_equivocation(first, second);
    let to = contracts.deployment().key_manager;
    let estimated = contracts.endpoint().estimate_gas(account.address(), to, &data).await;
    let gas = estimated.map_err(|error| {
        error.reverted().map(Reverted::of).map_or(ReportError::Endpoint(error), ReportError::Refused)
    })?;
    if gas > fees.gas_max {
        return Err(ReportError::TooDear { gas, gas_max: fees.gas_max });
    }
    let id = JobId(format!("equivocation/{}/{}/{}", proven.key, proven.epoch, proven.sequence));
    let job = Job { id, to, value: 0, data, gas_limit: fees.limited(gas) };
    let config = Config {
        finality: Finality::Depth(0),
        poll: POLL,
        max_fee_per_gas_max: fees.fee_per_gas_wei_max.into(),
        ..Config::default()
    };
    let queue = Arc::new(MemoryQueue::default());
    let (submitter, runner) = Submitter::new(account, contracts.endpoint().clone(), queue, config)?;
    let receipt = tokio::select! {
        mined = mined(&submitter, job) => mined?,
        () = runner.run(std::future::pending()) => return Err(ReportError::Undone),
    };
    if !receipt.succeeded {
        return Err(ReportError::Undone);
    }
    Ok(Reported { proven, transaction: receipt.hash, block: receipt.block })
}

/// Has a job mined, and waits for that.
async fn mined(submitter: &Submitter, job: Job) -> Result<Receipt, ReportError> {
    let (id, mut settled) = (job.id.clone(), submitter.settled());
    submitter.enqueue(job).await?;
    loop {
        if let Some(receipt) = submitter.receipt(id.clone()).await? {
            return Ok(receipt);
        }
        if settled.changed().await.is_err() {
            return Err(ReportError::Undone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proves_nothing_is_refused_before_it_costs() {
        let unreadable = equivocation_of(b"one", b"two").unwrap_err();
        assert!(matches!(unreadable, ReportError::Unreadable { which: "first", .. }), "{unreadable}");
    }
}
