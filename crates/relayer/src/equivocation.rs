//! Reports of equivocation: what proves nothing is refused here, before it costs gas.

use synddb_chain::submit::{Job, JobId, QueueError, Submitter};
use synddb_chain::{Contracts, EndpointError, Reverted, calls};
use synddb_protocol::DecodeError;
use synddb_protocol::id::Address;
use synddb_protocol::log::{Equivocation, NotEquivocation, Receipt, SignedCheckpoint};

use crate::config::FeePolicy;

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
    #[error("it takes more gas than is paid for; raise `fees.gas_max`. gas=`{gas}` limit=`{gas_max}`")]
    TooDear {
        /// What it takes.
        gas: u64,
        /// What is paid for.
        gas_max: u64,
    },
    /// The node does not tell.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The transaction is not queued.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

enum Claimed {
    Receipt(Box<Receipt>),
    Checkpoint(Box<SignedCheckpoint>),
}

fn read(which: &'static str, bytes: &[u8]) -> Result<Claimed, ReportError> {
    if let Ok(receipt) = Receipt::from_bytes(bytes) {
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
pub fn equivocation_of(first: &[u8], second: &[u8]) -> Result<Equivocation, ReportError> {
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

/// Has a proof of equivocation brought to the key manager, which freezes the key. The name of the job says what becomes of it.
///
/// # Errors
/// [`ReportError`], before anything is paid.
pub async fn report_equivocation(
    contracts: &Contracts,
    submitter: &Submitter,
    account: Address,
    fees: &FeePolicy,
    first: &[u8],
    second: &[u8],
) -> Result<(Equivocation, JobId), ReportError> {
    let proven = equivocation_of(first, second)?;
    let data = calls::report_equivocation(first, second);
    let to = contracts.deployment().key_manager;
    let estimated = contracts.endpoint().estimate_gas(account, to, &data).await;
    let gas = estimated.map_err(|error| {
        error.reverted().map(Reverted::of).map_or(ReportError::Endpoint(error), ReportError::Refused)
    })?;
    if gas > fees.gas_max {
        return Err(ReportError::TooDear { gas, gas_max: fees.gas_max });
    }
    let id = JobId(format!("equivocation/{}/{}/{}", proven.key, proven.epoch, proven.sequence));
    let job = Job { id: id.clone(), to, value: 0, data, gas_limit: fees.limited(gas) };
    submitter.enqueue(job).await?;
    Ok((proven, id))
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
