//! A source of keys, asked until it answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use synddb_protocol::chain;
use synddb_protocol::id::KeyId;
use synddb_protocol::log::SignedEpochRecord;
use synddb_protocol::signing::Revocations;
use synddb_service::shutdown::Shutdown;
use synddb_service::trouble::Trouble;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Judgement, KeySource, Unreachable};
use crate::fetch::{NoAnswer, RETRY_MAX, RETRY_MIN, spread};

/// The source. Nobody is trusted while it does not answer.
#[derive(Clone)]
pub(crate) struct PatientKeys {
    source: Arc<dyn KeySource>,
    shutdown: Shutdown,
    /// Cancelled when the time for what is under way is over.
    stop: CancellationToken,
    trouble: Arc<Mutex<Trouble>>,
}

impl PatientKeys {
    pub(crate) fn new(source: Arc<dyn KeySource>, shutdown: Shutdown, stop: CancellationToken) -> Self {
        Self { source, shutdown, stop, trouble: Arc::default() }
    }

    pub(crate) fn look_again(&self) -> Option<Duration> {
        self.source.look_again()
    }

    pub(crate) async fn knows(&self, key: KeyId) -> Result<bool, NoAnswer> {
        self.ask(|| self.source.knows(key)).await
    }

    pub(crate) async fn judge(&self, record: &SignedEpochRecord) -> Result<Judgement, NoAnswer> {
        self.ask(|| self.source.judge(record)).await
    }

    pub(crate) async fn revoked(&self) -> Result<Revocations, NoAnswer> {
        self.ask(|| self.source.revoked()).await
    }

    async fn ask<'q, T>(
        &self,
        question: impl Fn() -> BoxFuture<'q, Result<T, Unreachable>>,
    ) -> Result<T, NoAnswer> {
        let mut wait = RETRY_MIN;
        loop {
            let answer = tokio::select! {
                biased;
                answer = question() => answer,
                () = self.stop.cancelled() => return Err(NoAnswer::GaveUp),
            };
            let error = match answer {
                Ok(answer) => {
                    self.trouble().over(Instant::now());
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if let Some(lasting) = self.trouble().met(Instant::now(), "unreachable") {
                let (attempts, lasts_s) = (lasting.times, lasting.lasts.as_secs());
                warn!(error = %chain(&error), attempts, lasts_s, "the source of keys does not answer; trying again");
            }
            tokio::select! {
                () = self.shutdown.asked() => return Err(NoAnswer::GaveUp),
                () = tokio::time::sleep(spread(wait)) => {}
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }
    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        // When something was said is right whoever panicked.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
