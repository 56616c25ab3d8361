//! When what stands on a chain is believed to stay.

use serde::{Deserialize, Serialize};

use crate::endpoint::{BlockTag, Endpoint, EndpointError};

/// When what stands on the chain is believed to stay: `"finalized"`, or `{ depth = 12 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finality {
    /// When the chain calls it so.
    Finalized,
    /// When so many blocks follow it.
    Depth(u64),
}

impl Finality {
    /// The number of the newest block that stays, by a node; `None` while there is none.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn newest(self, endpoint: &Endpoint) -> Result<Option<u64>, EndpointError> {
        match self {
            Self::Finalized => Ok(endpoint.block(BlockTag::Finalized).await?.map(|block| block.number)),
            // The first block of a chain stays.
            Self::Depth(depth) => Ok(Some(endpoint.latest().await?.number.saturating_sub(depth))),
        }
    }
}
