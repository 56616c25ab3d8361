//! Keys that the configuration names, for as long as the process runs.

use std::time::Duration;

use async_trait::async_trait;
use synddb_protocol::id::KeyId;
use synddb_protocol::log::SignedEpochRecord;
use synddb_protocol::signing::{Revocations, TrustedKeys};

use super::{Judgement, KeySource, Unreachable};

/// Keys that are pinned: each may lead any epoch, up to where it is revoked.
#[derive(Debug, Clone)]
pub struct Pinned(TrustedKeys);

impl Pinned {
    /// Exactly these.
    pub const fn new(keys: TrustedKeys) -> Self {
        Self(keys)
    }
}

#[async_trait]
impl KeySource for Pinned {
    async fn knows(&self, key: KeyId) -> Result<bool, Unreachable> {
        Ok(self.0.get(key).is_some())
    }

    async fn judge(&self, record: &SignedEpochRecord) -> Result<Judgement, Unreachable> {
        Ok(self.0.get(record.key()).copied().map_or(Judgement::MayNot, Judgement::MayLead))
    }

    async fn revoked(&self) -> Result<Revocations, Unreachable> {
        Ok(self.0.revoked().clone())
    }

    fn look_again(&self) -> Option<Duration> {
        None
    }
}
