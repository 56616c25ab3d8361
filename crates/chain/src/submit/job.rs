//! What is to be mined, what was signed for it, and what became of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use synddb_protocol::id::Address;

use crate::account::Fees;
use crate::finality::Finality;

/// Longest name of a job, in bytes.
pub const JOB_ID_BYTES_MAX: usize = 128;
/// Most call data of a job, in bytes: what nodes take of one transaction.
pub const DATA_BYTES_MAX: usize = 128 << 10;
/// Most transactions that are signed for one nonce. From then on the last one is sent again.
pub const ATTEMPTS_MAX: usize = 32;

/// What names a job. Its meaning is its maker's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub String);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A call that is to be mined once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Who is called.
    pub to: Address,
    /// Native currency that it brings, in wei.
    pub value: u128,
    /// The call data.
    pub data: Vec<u8>,
    /// Most gas that it may use.
    pub gas_limit: u64,
}

/// A job that nothing can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job's {what} has more than {max} bytes; make it shorter. found=`{found}`")]
pub struct JobTooLarge {
    what: &'static str,
    max: usize,
    found: usize,
}

impl Job {
    /// Whether it is within the bounds.
    ///
    /// # Errors
    /// [`JobTooLarge`].
    pub fn check(&self) -> Result<(), JobTooLarge> {
        let bounds =
            [("name", JOB_ID_BYTES_MAX, self.id.0.len()), ("call data", DATA_BYTES_MAX, self.data.len())];
        let over = bounds.into_iter().find(|(_, max, found)| found > max);
        over.map_or(Ok(()), |(what, max, found)| Err(JobTooLarge { what, max, found }))
    }
}

/// A transaction that was signed for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its place among those of the account.
    pub nonce: u64,
    /// What it pays for gas.
    pub fees: Fees,
    /// What names it.
    pub hash: [u8; 32],
    /// What is sent.
    pub bytes: Vec<u8>,
}

/// How transactions are submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// When a block is deep enough.
    pub finality: Finality,
    /// How long there is between two looks at the chain.
    pub poll: Duration,
    /// How long a transaction without a receipt waits before it is sent again.
    pub resend_after: Duration,
    /// How long it waits before one is signed that pays more.
    pub stuck_after: Duration,
    /// By how many percent each pays more than the one before. Nodes ask for 10; less is taken as that.
    pub bump_percent: u32,
    /// The most that is paid for a unit of gas, in wei.
    pub max_fee_per_gas_max: u128,
    /// How many nonces may be open at once.
    pub in_flight_max: usize,
    /// How many looks must say the same before a count, or a receipt, is believed, with none between them that says otherwise.
    pub answers: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            finality: Finality::Finalized,
            poll: Duration::from_secs(4),
            resend_after: Duration::from_secs(30),
            stuck_after: Duration::from_secs(60),
            bump_percent: 13,
            max_fee_per_gas_max: 500_000_000_000,
            in_flight_max: 8,
            answers: 4,
        }
    }
}
