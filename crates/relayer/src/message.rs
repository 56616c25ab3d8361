//! One message as the relayer knows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a message stands with this relayer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Standing {
    /// It is not brought yet, or is to be brought again.
    Waiting {
        /// What it waits for, for people.
        detail: String,
        /// Signatures of live validators that were gathered.
        signatures: u32,
        /// How many are needed; 0 while that is not known.
        threshold: u32,
    },
    /// Somebody has to look: what this relayer may pay, or what the bridge says, is in the way.
    Held {
        /// What, for people.
        detail: String,
    },
    /// A transaction is under way.
    Submitted {
        /// Its hash, as it was sent last; it is another one whenever more is paid.
        #[serde(skip_serializing_if = "Option::is_none")]
        tx: Option<String>,
        /// Its block, once that is final; until the bridge itself says the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        block: Option<u64>,
    },
    /// The bridge has executed it, and that is final.
    Completed {
        /// The transaction, where it was this relayer's.
        #[serde(skip_serializing_if = "Option::is_none")]
        tx: Option<String>,
        /// Its block.
        #[serde(skip_serializing_if = "Option::is_none")]
        block: Option<u64>,
    },
    /// The bridge has undone it. It is tried again, as long as attempts are left.
    Failed {
        /// Why, by the bridge.
        reason: String,
        /// Transactions that this relayer has paid for it.
        attempts: u32,
    },
    /// The bridge refuses it for ever.
    Rejected,
    /// It was brought after its deadline.
    Expired,
}

impl Standing {
    /// The word for it, as it is served and counted.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Held { .. } => "held",
            Self::Submitted { .. } => "submitted",
            Self::Completed { .. } => "completed",
            Self::Failed { .. } => "failed",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing changes it any more.
    pub const fn is_settled(&self) -> bool {
        match self {
            Self::Completed { .. } | Self::Rejected | Self::Expired => true,
            Self::Waiting { .. } | Self::Held { .. } | Self::Submitted { .. } | Self::Failed { .. } => false,
        }
    }
}

/// A message, and when it is looked at next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tracked {
    /// The row's id.
    pub(crate) nonce: u64,
    /// Where it stands.
    pub(crate) standing: Standing,
    /// Transactions that were paid for it.
    pub(crate) attempts: u32,
    /// Pauses since something changed.
    pub(crate) pauses: u32,
    /// When it is looked at, in milliseconds since 1970.
    pub(crate) due_ms: u64,
    /// How many looks in a row found that the bridge has ended it in a block that is final.
    pub(crate) ended_looks: u32,
    /// The last thing that was in the way.
    pub(crate) error: Option<String>,
}

impl Tracked {
    /// One that was never looked at.
    pub(crate) fn new(nonce: u64, now_ms: u64) -> Self {
        let standing =
            Standing::Waiting { detail: "it was just found".to_owned(), signatures: 0, threshold: 0 };
        Self { nonce, standing, attempts: 0, pauses: 0, due_ms: now_ms, ended_looks: 0, error: None }
    }
}

/// A message as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayedMessage {
    /// The row's id.
    pub nonce: u64,
    /// Where it stands.
    #[serde(flatten)]
    pub standing: Standing,
    /// Transactions that were paid for it.
    pub transactions: u32,
    /// The last thing that was in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<Tracked> for RelayedMessage {
    fn from(tracked: Tracked) -> Self {
        let Tracked { nonce, standing, attempts, error, .. } = tracked;
        Self { nonce, standing, transactions: attempts, error }
    }
}
