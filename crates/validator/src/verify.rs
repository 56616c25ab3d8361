//! Which leaders are admitted, and batches become verified ones. There is no other way to the replica (I7).
//!
//! An epoch is admitted by the object under its number in the store, when a batch that a pinned key signed first needs it. Objects that
//! are no record of a pinned key admit nobody and are passed. What a stranger signed names no epoch that is looked for: it could name
//! one that is never reached.

use std::sync::Arc;

use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_protocol::log::{
    Batch, BatchError, Leaders, SignedCheckpoint, SignedEpochRecord, Tip, TrustedCheckpoint, VerifiedBatch,
};
use synddb_protocol::signing::{SignatureError, TrustedKeys};
use synddb_storage::{GetError, Key};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::error::{HaltCause, Refused, ReplicaError, ValidatorError};
use crate::fetch::{NoAnswer, PatientStore};
use crate::pipeline::{Ahead, Item};
use crate::replica::Place;

/// Where verifying begins.
pub(crate) struct Joined {
    pub(crate) leaders: Leaders,
    pub(crate) tip: Tip,
    /// The checkpoint that the replica stands at.
    pub(crate) checkpoint: Option<TrustedCheckpoint>,
}

/// Joins the log where the replica stands, or at its beginning. `None` when the process was asked to end before the store answered.
pub(crate) async fn join(
    store: &PatientStore,
    stream: StreamId,
    keys: TrustedKeys,
    place: &Place,
    checkpoint: Option<SignedCheckpoint>,
) -> Result<Option<Joined>, ValidatorError> {
    let Some(checkpoint) = checkpoint else {
        let (leaders, tip) = (Leaders::new(stream, keys), Tip::start(stream));
        return Ok(Some(Joined { leaders, tip, checkpoint: None }));
    };
    let claim = checkpoint.claim();
    let epoch = claim.epoch;
    let file = || place.file().to_owned();
    signed(&checkpoint, &keys).map_err(|source| ReplicaError::Untrusted { file: file(), epoch, source })?;
    let mut leaders = Leaders::joining(stream, keys, claim.last_leader.epoch);
    match admit_through(store, &mut leaders, epoch).await {
        Ok(()) => {}
        Err(NoAnswer::GaveUp) => return Ok(None),
        Err(NoAnswer::Failed(error)) => return Err(error.into()),
    }
    // The position was made from records: where one is absent it is the store that is to blame, and no key.
    if let Some(absent) = leaders.next().filter(|next| *next <= epoch) {
        let at = claim.size.next().unwrap_or(claim.size);
        return Err(refused(at, at, Refused::EpochAbsent { epoch: absent }));
    }
    let checkpoint = checkpoint.verify(&leaders).map_err(|source| ReplicaError::Untrusted {
        file: file(),
        epoch,
        source,
    })?;
    let tip = Tip::trusting(&checkpoint).map_err(|source| ReplicaError::Newer { file: file(), source })?;
    Ok(Some(Joined { leaders, tip, checkpoint: Some(checkpoint) }))
}

/// Whether a pinned key signed a checkpoint. Whether it leads the epoch that the checkpoint names is another question.
fn signed(checkpoint: &SignedCheckpoint, keys: &TrustedKeys) -> Result<(), SignatureError> {
    let key = checkpoint.key();
    let Some(pinned) = keys.get(key) else { return Err(SignatureError::UntrustedKey { key }) };
    if checkpoint.recover()? == *pinned { Ok(()) } else { Err(SignatureError::UntrustedKey { key }) }
}

/// Reads the records of all epochs up to `epoch` that were not read. Where one is absent it ends: an epoch that nobody claimed is then
/// refused where it is used.
async fn admit_through(store: &PatientStore, leaders: &mut Leaders, epoch: Epoch) -> Result<(), NoAnswer> {
    let mut passed: Option<(Epoch, Epoch)> = None;
    let read = read_through(store, leaders, epoch, &mut passed).await;
    if let Some((from, to)) = passed {
        warn!(from = from.get(), to = to.get(), "nobody whose key is pinned leads these epochs");
    }
    read
}

/// The same; `passed` are the first and the last epoch that nobody leads.
async fn read_through(
    store: &PatientStore,
    leaders: &mut Leaders,
    epoch: Epoch,
    passed: &mut Option<(Epoch, Epoch)>,
) -> Result<(), NoAnswer> {
    while let Some(next) = leaders.next().filter(|next| *next <= epoch) {
        // Also where each answer comes at once, so that no log keeps a process from ending.
        store.goes_on()?;
        let key = Key::Epoch { stream: leaders.stream(), epoch: next };
        let admitted = match store.get(&key).await {
            Ok(None) => return Ok(()),
            Ok(Some(record)) => admits(leaders, next, &record),
            Err(NoAnswer::Failed(GetError::TooLarge { .. })) => false,
            Err(error) => return Err(error),
        };
        if admitted {
            info!(epoch = next.get(), "admitted a leader");
        } else {
            let (from, _) = passed.unwrap_or((next, next));
            *passed = Some((from, next));
            if leaders.pass(next).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Admits the leader of `epoch` by the object under its number, if it is a record of that epoch by a pinned key.
fn admits(leaders: &mut Leaders, epoch: Epoch, object: &[u8]) -> bool {
    let Ok(record) = SignedEpochRecord::from_bytes(object) else { return false };
    // A record counts only under its own number: under another one it could lead an epoch that it never claimed.
    record.recover().is_ok_and(|(claim, _)| claim.epoch == epoch) && leaders.admit(&record).is_ok()
}

/// Verifies the batches of one log.
pub(crate) struct Verify {
    store: PatientStore,
    keys: TrustedKeys,
    leaders: Arc<Leaders>,
    tip: Arc<Tip>,
}

impl Verify {
    pub(crate) fn new(store: PatientStore, keys: TrustedKeys, leaders: Leaders, tip: Tip) -> Self {
        Self { store, keys, leaders: Arc::new(leaders), tip: Arc::new(tip) }
    }

    /// Verifies what comes, until something is refused or nothing comes.
    pub(crate) async fn run(mut self, mut from: Receiver<Item<Batch>>, to: Sender<Item<Box<VerifiedBatch>>>) {
        while let Some(item) = from.recv().await {
            let item = match item {
                Item::Batch(ahead) => match self.verify(ahead).await {
                    Ok(Some(ahead)) => Item::Batch(ahead),
                    Ok(None) => return,
                    Err(error) => Item::Failed(error),
                },
                Item::End => Item::End,
                Item::Failed(error) => Item::Failed(error),
            };
            let last = matches!(item, Item::Failed(_));
            if to.send(item).await.is_err() || last {
                return;
            }
        }
    }

    /// `None` when the process was asked to end before the store answered.
    async fn verify(
        &mut self,
        ahead: Ahead<Batch>,
    ) -> Result<Option<Ahead<Box<VerifiedBatch>>>, Box<ValidatorError>> {
        let (batch, room) = ahead.split();
        let (first, last) = (batch.first(), batch.last());
        if let Err(error) = signed(batch.checkpoint(), &self.keys) {
            return Err(Box::new(refused(first, last, BatchError::CheckpointSignature(error).into())));
        }
        let epoch = batch.checkpoint().claim().epoch;
        match admit_through(&self.store, Arc::make_mut(&mut self.leaders), epoch).await {
            Ok(()) => {}
            Err(NoAnswer::GaveUp) => return Ok(None),
            Err(NoAnswer::Failed(error)) => return Err(Box::new(error.into())),
        }
        let (leaders, tip) = (Arc::clone(&self.leaders), Arc::clone(&self.tip));
        // Signatures, hashes and decompression are work for a thread that may be busy.
        let verified = spawn_blocking(move || batch.verify(&leaders, &tip)).await;
        let batch = match verified {
            Ok(Ok(batch)) => batch,
            Ok(Err(error)) => return Err(Box::new(refused(first, last, error.into()))),
            Err(_) => return Err(Box::new(ValidatorError::Fault { part: "verifier" })),
        };
        self.tip = Arc::new(batch.tip().clone());
        Ok(Some(Ahead::of(Box::new(batch), room)))
    }
}

fn refused(from: Sequence, to: Sequence, why: Refused) -> ValidatorError {
    HaltCause::refused(from, why).into_error(from, to)
}
