//! The epoch records of a log, all of them: who claimed which epoch, and whether it is admitted.
//!
//! Whether it is, `verify` decides for the batches as for every reader. Here each object is read once more, for people, from the first
//! epoch to the first that nobody claimed.

use std::collections::BTreeSet;

use synddb_protocol::chain;
use synddb_protocol::id::{Epoch, KeyId, StreamId};
use synddb_protocol::log::{Leaders, SignedEpochRecord};
use synddb_protocol::signing::TrustedKeys;
use synddb_storage::{GetError, Key};

use super::report::{Claim, EpochRun, Listed};
use super::{Problem, lacks_leader};
use crate::error::ValidatorError;
use crate::fetch::{NoAnswer, PatientStore};

/// Runs of epochs that are told apart, at most. What comes behind is counted as one run.
const RUNS_MAX: usize = 1000;
/// Keys that are remembered by name, at most.
const SIGNERS_MAX: usize = 1000;

/// What the epoch records say.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    runs: Vec<EpochRun>,
    last: Option<Epoch>,
    signers: BTreeSet<KeyId>,
    admitted: u64,
    damaged: Vec<Epoch>,
}

/// Reads them.
pub(super) async fn read(
    store: &PatientStore,
    stream: StreamId,
    keys: &TrustedKeys,
) -> Result<Epochs, NoAnswer> {
    let mut leaders = Leaders::new(stream, keys.clone());
    let mut epochs = Epochs::default();
    while let Some(epoch) = leaders.next() {
        store.goes_on()?;
        let claim = match store.get(&Key::Epoch { stream, epoch }).await {
            Ok(None) => break,
            Ok(Some(object)) => {
                let is_admitted = admits(&mut leaders, epoch, &object);
                judge(stream, epoch, &object, is_admitted)
            }
            Err(NoAnswer::Failed(error @ GetError::TooLarge { .. })) => Claim::Damaged { why: chain(&error) },
            Err(error) => return Err(error),
        };
        if !matches!(claim, Claim::Admitted { .. }) && leaders.pass(epoch).is_err() {
            break;
        }
        epochs.add(epoch, claim);
    }
    Ok(epochs)
}

/// Admits the leader of `epoch` by the object under its number, if it is a record of that epoch by a pinned key.
fn admits(leaders: &mut Leaders, epoch: Epoch, object: &[u8]) -> bool {
    let Ok(record) = SignedEpochRecord::from_bytes(object) else { return false };
    // A record counts only under its own number: under another one it could lead an epoch that it never claimed.
    record.epoch() == epoch && leaders.admit(&record).is_ok()
}

/// What one object is.
fn judge(stream: StreamId, epoch: Epoch, object: &[u8], is_admitted: bool) -> Claim {
    let damaged = |why: String| Claim::Damaged { why };
    let record = match SignedEpochRecord::from_bytes(object) {
        Ok(record) => record,
        Err(error) => return damaged(chain(&error)),
    };
    match record.recover() {
        Err(error) => damaged(chain(&error)),
        Ok((claim, _)) if claim.stream != stream => damaged(format!("it is of stream {}", claim.stream)),
        Ok((claim, _)) if claim.epoch != epoch => damaged(format!("it claims epoch {}", claim.epoch)),
        Ok(_) if is_admitted => Claim::Admitted { key_id: record.key() },
        Ok(_) => Claim::Stranger { key_id: record.key() },
    }
}

impl Epochs {
    fn add(&mut self, epoch: Epoch, claim: Claim) {
        self.last = Some(epoch);
        match &claim {
            Claim::Admitted { key_id } => {
                self.admitted += 1;
                self.sign(*key_id);
            }
            Claim::Stranger { key_id } => self.sign(*key_id),
            Claim::Damaged { .. } if self.damaged.len() < RUNS_MAX => self.damaged.push(epoch),
            Claim::Damaged { .. } | Claim::More => {}
        }
        let is_full = self.runs.len() >= RUNS_MAX;
        match self.runs.last_mut() {
            Some(run) if run.claim == claim || matches!(run.claim, Claim::More) => run.to = epoch,
            Some(_) if is_full => self.runs.push(EpochRun { from: epoch, to: epoch, claim: Claim::More }),
            Some(_) | None => self.runs.push(EpochRun { from: epoch, to: epoch, claim }),
        }
    }

    fn sign(&mut self, key: KeyId) {
        if self.signers.len() < SIGNERS_MAX {
            self.signers.insert(key);
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// The last one that somebody claimed.
    pub(super) const fn last(&self) -> Option<Epoch> {
        self.last
    }

    pub(super) fn signers(&self) -> Listed {
        Listed::of(self.signers.iter().map(KeyId::to_string))
    }

    /// Whether somebody who is pinned leads.
    pub(super) const fn are_led(&self) -> bool {
        self.admitted > 0
    }

    /// Whether others lead, and nobody who is pinned.
    pub(super) fn are_of_strangers(&self) -> bool {
        self.admitted == 0 && !self.signers.is_empty()
    }

    /// A refusal for want of a leader, with the records that may be why.
    pub(crate) fn explain(&self, error: ValidatorError) -> Problem {
        if self.damaged.is_empty() || !lacks_leader(&error) {
            return error.into();
        }
        let epochs = Listed::of(self.damaged.iter().map(Epoch::to_string));
        Problem::BadRecord { epochs, source: Box::new(error.into()) }
    }

    pub(super) fn into_runs(self) -> Vec<EpochRun> {
        self.runs
    }
}
