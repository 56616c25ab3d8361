//! Brings endorsed checkpoints to their registry: now and then the newest one that a quorum has endorsed.

use std::collections::BTreeSet;

use synddb_chain::submit::{Job, JobId};
use synddb_chain::{EndpointError, Role, calls};
use synddb_protocol::chain;
use synddb_protocol::http::ServedEndorsement;
use synddb_protocol::id::{KeyId, Sequence, StreamId};
use synddb_protocol::log::{Endorsed, Endorsement, KeyProof, Quorum, SignedEndorsement};
use synddb_protocol::signing::Domain;

use crate::carry::Round;
use crate::journal::{Journal, JournalError};
use crate::metrics;
use crate::payer::{Payer, Unaffordable};
use crate::peers::Peers;

/// Sequences that are asked for in one look, newest first.
const SEQUENCES_MAX: usize = 4;

/// When checkpoints are brought, and when it is tried next.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    pub(crate) stream: StreamId,
    pub(crate) domain: Domain,
    pub(crate) every_ms: u64,
    pub(crate) not_before_ms: u64,
}

/// Why none is brought now.
#[derive(Debug, thiserror::Error)]
enum NotNow {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{0}")]
    Other(String),
}

impl Checkpoints {
    /// Brings one, if it is time and there is one.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) async fn bring(
        &mut self,
        round: &Round<'_>,
        journal: &mut Journal,
    ) -> Result<(), JournalError> {
        let Round { now_ms, policy, .. } = *round;
        let last = journal.checkpoint_ms()?;
        if now_ms < self.not_before_ms || now_ms < last.saturating_add(self.every_ms) {
            return Ok(());
        }
        self.not_before_ms = now_ms.saturating_add(policy.retry.pause_ms.max(policy.poll_ms));
        match self.attempt(round, journal).await {
            Ok(Some(sequence)) => {
                metrics::checkpoint();
                tracing::info!(%sequence, "a checkpoint is brought");
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(NotNow::Journal(error)) => Err(error),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "no checkpoint is brought now");
                Ok(())
            }
        }
    }

    async fn attempt(&self, round: &Round<'_>, journal: &mut Journal) -> Result<Option<Sequence>, NotNow> {
        let Round { now_ms, peers, payer, policy, view } = *round;
        let newest = payer.contracts.newest_checkpoint().await?;
        view.update(|status| status.checkpoint = Some(newest));
        let threshold = payer.contracts.threshold().await?;
        let threshold = usize::try_from(threshold).unwrap_or(usize::MAX);
        for sequence in self.candidates(peers, newest).await {
            let Some(endorsed) = self.endorsed(sequence, peers, payer, threshold).await? else {
                continue;
            };
            let signatures: Vec<_> = endorsed.signatures.values().take(threshold).copied().collect();
            let endorsement = Endorsement {
                checkpoint: endorsed.checkpoint,
                domain: self.domain,
                proof: KeyProof::Unattested,
            };
            let Some(data) = calls::record_checkpoint(&endorsement, &signatures, "") else { continue };
            let to = self.domain.contract;
            let gas = payer.affordable(to, &data, policy).await.map_err(|error| match error {
                Unaffordable::Reverted(reverted) => NotNow::Other(format!("the registry says {reverted}")),
                Unaffordable::TooLittle(detail) => NotNow::Other(detail),
                Unaffordable::Unknown(error) => NotNow::Endpoint(error),
            })?;
            if gas > policy.fees.gas_max {
                return Err(NotNow::Other(format!("it takes more gas than is paid for. gas=`{gas}`")));
            }
            let id = JobId(format!("checkpoint/{sequence}/{now_ms}"));
            let job = Job { id, to, value: 0, data, gas_limit: policy.fees.limited(gas) };
            // Remembered before, so that a restart waits for its time, and pays for none twice.
            journal.checkpoint_brought(now_ms)?;
            let queued = payer.submitter.enqueue(job).await;
            queued.map_err(|error| NotNow::Other(chain(&error)))?;
            return Ok(Some(sequence));
        }
        Ok(None)
    }

    /// What validators have endorsed last, newest first, as far as the registry has it not.
    async fn candidates(&self, peers: &Peers, newest: u64) -> Vec<Sequence> {
        let answers = peers.newest().await;
        let told = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
        let sequences: BTreeSet<_> =
            told.map(|served| served.sequence).filter(|sequence| sequence.get() > newest).collect();
        sequences.into_iter().rev().take(SEQUENCES_MAX).collect()
    }

    /// The checkpoint of a sequence, if a quorum of live validators has endorsed one.
    async fn endorsed(
        &self,
        sequence: Sequence,
        peers: &Peers,
        payer: &Payer,
        threshold: usize,
    ) -> Result<Option<Endorsed>, NotNow> {
        let answers = peers.endorsements(sequence).await;
        let told = answers.into_iter().filter_map(|(_, answer)| answer.ok());
        let read: Vec<SignedEndorsement> = told.filter_map(|served| read(&served)).collect();
        let signers: BTreeSet<KeyId> = read.iter().filter_map(SignedEndorsement::recover).collect();
        let mut live = Vec::new();
        for signer in signers {
            if payer.contracts.is_live(signer, Role::Validator).await? {
                live.push(signer);
            }
        }
        let Ok(quorum) = Quorum::new(live, threshold) else { return Ok(None) };
        let gathered = quorum.gather(self.stream, self.domain, read);
        let is_it = |endorsed: &Endorsed| endorsed.has_quorum && endorsed.checkpoint.claim().size == sequence;
        Ok(gathered.endorsed.into_iter().find(is_it))
    }
}

/// The object itself: nothing else of what is served is looked at.
fn read(served: &ServedEndorsement) -> Option<SignedEndorsement> {
    let digits = served.endorsement.strip_prefix("0x").unwrap_or(&served.endorsement);
    let read = hex::decode(digits).ok().and_then(|bytes| SignedEndorsement::from_bytes(&bytes).ok());
    if read.is_none() {
        metrics::nonsense();
        tracing::warn!(validator = %served.validator, "what a validator serves is no endorsement, and is dropped");
    }
    read
}
