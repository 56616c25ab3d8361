//! Which leaders are admitted, and batches become verified ones. There is no other way to the replica (I7).
//!
//! An epoch is admitted by the object under its number in the store, when a batch that a known key signed first needs it. Objects that
//! are no record of a trusted key admit nobody and are passed. What a stranger signed names no epoch that is looked for: it could name
//! one that is never reached.
//!
//! Which keys are trusted and revoked is asked of their source, at the start, before an epoch is admitted, and in between as often as the
//! source says. A key that is revoked after the fact may have signed a part of what was verified: that ends it.

use std::path::Path;
use std::sync::Arc;

use synddb_protocol::chain;
use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_protocol::log::{
    Batch, BatchError, Leaders, SignedCheckpoint, SignedEpochRecord, Signers, Tip, TrustedCheckpoint,
    VerifiedBatch, Versions,
};
use synddb_protocol::signing::{SignatureError, TrustedKeys};
use synddb_storage::{GetError, Key};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::spawn_blocking;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{info, warn};

use crate::error::{HaltCause, Refused, ReplicaError, ValidatorError};
use crate::fetch::{NoAnswer, PatientStore};
use crate::keys::{Judgement, PatientKeys};
use crate::pipeline::{Ahead, Item};

/// Where verifying begins.
pub(crate) struct Joined {
    pub(crate) leaders: Leaders,
    pub(crate) tip: Tip,
    /// Who signed what the replica holds.
    pub(crate) signers: Signers,
    /// The checkpoint that the replica stands at.
    pub(crate) checkpoint: Option<TrustedCheckpoint>,
}

/// What a replica says of itself, unchecked.
pub(crate) struct Kept {
    /// Where it stands.
    pub(crate) checkpoint: SignedCheckpoint,
    /// Who signed what it holds; `None` where that was not kept.
    pub(crate) signers: Option<Signers>,
}

/// Joins the log where the replica stands, or at its beginning.
pub(crate) async fn join(
    store: &PatientStore,
    stream: StreamId,
    keys: &PatientKeys,
    supported: Versions,
    file: &Path,
    kept: Option<Kept>,
) -> Result<Joined, Stopped> {
    let mut trusted = TrustedKeys::default();
    trusted.set_revoked(keys.revoked().await?);
    let Some(Kept { checkpoint, signers }) = kept else {
        let (leaders, tip) = (Leaders::new(stream, trusted), Tip::start(stream).supporting(supported));
        return Ok(Joined { leaders, tip, signers: Signers::default(), checkpoint: None });
    };
    let claim = checkpoint.claim();
    // A release that does not know of them moves the position without them.
    let signers = signers.filter(|signers| signers.reach(claim)).unwrap_or_else(|| Signers::joining(claim));
    signers.check(trusted.revoked()).map_err(HaltCause::revoked)?;
    let (leaders, tip, checkpoint) = enter(store, stream, keys, supported, file, checkpoint, trusted).await?;
    Ok(Joined { leaders, tip, signers, checkpoint: Some(checkpoint) })
}

/// The same at a checkpoint, whoever signed what is before it: whether that is believed is for the caller to find out.
pub(crate) async fn enter(
    store: &PatientStore,
    stream: StreamId,
    keys: &PatientKeys,
    supported: Versions,
    file: &Path,
    checkpoint: SignedCheckpoint,
    trusted: TrustedKeys,
) -> Result<(Leaders, Tip, TrustedCheckpoint), Stopped> {
    let claim = checkpoint.claim();
    let epoch = claim.epoch;
    let untrusted = |source| ReplicaError::Untrusted { file: file.to_owned(), epoch, source };
    let mut leaders = Leaders::joining(stream, trusted, claim.last_leader.epoch);
    signed(&checkpoint, &leaders, keys).await?.map_err(untrusted)?;
    admit_through(store, keys, &mut leaders, epoch).await?;
    // The position was made from records: where one is absent it is the store that is to blame, and no key.
    if let Some(absent) = leaders.next().filter(|next| *next <= epoch) {
        let at = claim.size.next().unwrap_or(claim.size);
        return Err(refused(at, at, Refused::EpochAbsent { epoch: absent }).into());
    }
    let checkpoint = checkpoint.verify(&leaders).map_err(untrusted)?;
    let tip = Tip::trusting_as(&checkpoint, supported)
        .map_err(|source| ReplicaError::Newer { file: file.to_owned(), source })?;
    Ok((leaders, tip, checkpoint))
}

/// Why verifying does not go on.
pub(crate) enum Stopped {
    /// The process was asked to end before somebody answered.
    GaveUp,
    /// Nothing comes after this.
    Failed(Box<ValidatorError>),
}

impl From<NoAnswer> for Stopped {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::GaveUp => Self::GaveUp,
            NoAnswer::Failed(error) => Self::Failed(Box::new(error.into())),
        }
    }
}

impl From<ValidatorError> for Stopped {
    fn from(error: ValidatorError) -> Self {
        Self::Failed(Box::new(error))
    }
}

impl From<ReplicaError> for Stopped {
    fn from(error: ReplicaError) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

/// Whether a key signed a checkpoint that leads its epoch, or may have led one. Whether it leads the epoch that the checkpoint names is
/// another question.
async fn signed(
    checkpoint: &SignedCheckpoint,
    leaders: &Leaders,
    keys: &PatientKeys,
) -> Result<Result<(), SignatureError>, NoAnswer> {
    let key = checkpoint.key();
    // What was admitted stays admitted for its epoch, also when its key is not trusted any more.
    if !leaders.leads(checkpoint.claim().epoch, key) && !keys.knows(key).await? {
        return Ok(Err(SignatureError::UntrustedKey { key }));
    }
    Ok(checkpoint.recover().map(|_| ()))
}

/// Reads the records of all epochs up to `epoch` that were not read. Where one is absent it ends: an epoch that nobody claimed is then
/// refused where it is used.
async fn admit_through(
    store: &PatientStore,
    keys: &PatientKeys,
    leaders: &mut Leaders,
    epoch: Epoch,
) -> Result<(), NoAnswer> {
    let mut passed: Option<(Epoch, Epoch)> = None;
    let read = read_through(store, keys, leaders, epoch, &mut passed).await;
    if let Some((from, to)) = passed {
        warn!(from = from.get(), to = to.get(), "nobody whose key is trusted leads these epochs");
    }
    read
}

/// The same; `passed` are the first and the last epoch that nobody leads.
async fn read_through(
    store: &PatientStore,
    keys: &PatientKeys,
    leaders: &mut Leaders,
    epoch: Epoch,
    passed: &mut Option<(Epoch, Epoch)>,
) -> Result<(), NoAnswer> {
    while let Some(next) = leaders.next().filter(|next| *next <= epoch) {
        // Also where each answer comes at once, so that no log keeps a process from ending.
        store.goes_on()?;
        let Some(admitted) = admit(store, keys, leaders, next).await? else { return Ok(()) };
        if !admitted {
            let (from, _) = passed.unwrap_or((next, next));
            *passed = Some((from, next));
            if leaders.pass(next).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Admits the leader of `epoch` by the object under its number, if it is a record of that epoch by a key that may claim it. `None` where
/// there is no object.
async fn admit(
    store: &PatientStore,
    keys: &PatientKeys,
    leaders: &mut Leaders,
    epoch: Epoch,
) -> Result<Option<bool>, NoAnswer> {
    let object = match store.get(&Key::Epoch { stream: leaders.stream(), epoch }).await {
        Ok(Some(object)) => object,
        Ok(None) => return Ok(None),
        Err(NoAnswer::Failed(GetError::TooLarge { .. })) => return Ok(Some(false)),
        Err(error) => return Err(error),
    };
    let Ok(record) = SignedEpochRecord::from_bytes(&object) else { return Ok(Some(false)) };
    // A record counts only under its own number: under another one it could lead an epoch that it never claimed.
    if record.epoch() != epoch {
        return Ok(Some(false));
    }
    let admitted = match keys.judge(&record).await? {
        Judgement::MayLead(key) => leaders.admit_as(&record, &key),
        Judgement::MayNot => return Ok(Some(false)),
    };
    match &admitted {
        Ok(()) => info!(epoch = epoch.get(), key = %record.key(), "admitted a leader"),
        Err(error) => warn!(epoch = epoch.get(), error = %chain(error), "a claim is refused"),
    }
    Ok(Some(admitted.is_ok()))
}

/// Verifies the batches of one log.
pub(crate) struct Verify {
    store: PatientStore,
    keys: PatientKeys,
    leaders: Arc<Leaders>,
    tip: Arc<Tip>,
    signers: Signers,
    /// When to ask again what is revoked, if that ever changes.
    look: Option<Interval>,
}

impl Verify {
    pub(crate) fn new(
        store: PatientStore,
        keys: PatientKeys,
        leaders: Leaders,
        tip: Tip,
        signers: Signers,
    ) -> Self {
        let look = keys.look_again().map(|every| {
            let mut look = tokio::time::interval(every);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            look
        });
        Self { store, keys, leaders: Arc::new(leaders), tip: Arc::new(tip), signers, look }
    }

    /// Verifies what comes, until something is refused or nothing comes.
    pub(crate) async fn run(mut self, mut from: Receiver<Item<Batch>>, to: Sender<Item<Box<VerifiedBatch>>>) {
        loop {
            let next = tokio::select! {
                biased;
                () = tick(self.look.as_mut()) => None,
                item = from.recv() => Some(item),
            };
            let item = match next {
                None => self.look().await.map(|()| None),
                Some(Some(Item::Batch(ahead))) => {
                    self.verify(ahead).await.map(|ahead| Some(Item::Batch(ahead)))
                }
                Some(Some(Item::End)) => Ok(Some(Item::End)),
                Some(Some(Item::Look)) => Ok(Some(Item::Look)),
                Some(Some(Item::Audit(asked))) => Ok(Some(Item::Audit(asked))),
                Some(Some(Item::Failed(error))) => Ok(Some(Item::Failed(error))),
                Some(None) => return,
            };
            let item = match item {
                Ok(Some(item)) => item,
                Ok(None) => continue,
                Err(Stopped::GaveUp) => return,
                Err(Stopped::Failed(error)) => Item::Failed(error),
            };
            let last = matches!(item, Item::Failed(_));
            if to.send(item).await.is_err() || last {
                return;
            }
        }
    }

    /// Asks what is revoked now, and whether what was verified is still believed.
    async fn look(&mut self) -> Result<(), Stopped> {
        let revoked = self.keys.revoked().await?;
        if revoked == *self.leaders.revoked() {
            return Ok(());
        }
        info!(keys = revoked.iter().count(), "other keys are revoked");
        self.signers.check(&revoked).map_err(HaltCause::revoked)?;
        Arc::make_mut(&mut self.leaders).set_revoked(revoked);
        Ok(())
    }

    async fn verify(&mut self, ahead: Ahead<Batch>) -> Result<Ahead<Box<VerifiedBatch>>, Stopped> {
        let (batch, room) = ahead.split();
        Ok(Ahead::of(Box::new(self.verify_next(batch).await?), room))
    }

    /// Verifies the batch that follows what was verified.
    pub(crate) async fn verify_next(&mut self, batch: Batch) -> Result<VerifiedBatch, Stopped> {
        let (first, last) = (batch.first(), batch.last());
        let epoch = batch.checkpoint().claim().epoch;
        if let Err(error) = signed(batch.checkpoint(), &self.leaders, &self.keys).await? {
            return Err(refused(first, last, BatchError::CheckpointSignature(error).into()).into());
        }
        if self.leaders.next().is_some_and(|next| next <= epoch) {
            self.look().await?;
            admit_through(&self.store, &self.keys, Arc::make_mut(&mut self.leaders), epoch).await?;
        }
        self.admit_passed(&batch).await?;
        let (leaders, tip) = (Arc::clone(&self.leaders), Arc::clone(&self.tip));
        // Signatures, hashes and decompression are work for a thread that may be busy.
        let verified = spawn_blocking(move || batch.verify(&leaders, &tip)).await;
        let batch = match verified {
            Ok(Ok(batch)) => batch,
            Ok(Err(error)) => return Err(refused(first, last, error.into()).into()),
            Err(_) => return Err(ValidatorError::Fault { part: "verifier" }.into()),
        };
        self.tip = Arc::new(batch.tip().clone());
        self.signers.add(&batch);
        Ok(batch)
    }

    /// Asks once more about epochs of a batch that nobody led when they were read: their keys may be trusted by now.
    async fn admit_passed(&mut self, batch: &Batch) -> Result<(), Stopped> {
        let mut epochs: Vec<Epoch> =
            batch.messages().iter().map(|message| message.receipt.header().epoch).collect();
        epochs.push(batch.checkpoint().claim().epoch);
        epochs.retain(|epoch| self.leaders.is_passed(*epoch));
        epochs.sort_unstable();
        epochs.dedup();
        for epoch in epochs {
            admit(&self.store, &self.keys, Arc::make_mut(&mut self.leaders), epoch).await?;
        }
        Ok(())
    }
}

async fn tick(look: Option<&mut Interval>) {
    match look {
        Some(look) => {
            look.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn refused(from: Sequence, to: Sequence, why: Refused) -> ValidatorError {
    HaltCause::refused(from, why).into_error(from, to)
}
