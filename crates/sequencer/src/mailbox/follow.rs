//! Reading what is stored, batch by batch, for the ledger: beside the owner of the stream, which knows nothing of it.
//!
//! Each batch is verified as any reader of the log verifies it, with the keys that this sequencer trusts: what it signs for a bridge must not be what somebody
//! else put into the store. One batch is in memory at a time, however far the ledger is behind.

use std::sync::Arc;
use std::time::Instant;

use synddb_protocol::DecodeError;
use synddb_protocol::chain;
use synddb_protocol::id::{Epoch, Sequence};
use synddb_protocol::log::{
    AdmissionError, Batch, BatchError, Leaders, LogError, SignedCheckpoint, SignedEpochRecord, Tip,
};
use synddb_protocol::signing::{SignatureError, TrustedKeys};
use synddb_service::trouble::Trouble;
use synddb_storage::{BatchStore, GetError, Key};
use tokio::sync::watch;

use super::{LedgerError, Mailbox};
use crate::aside::aside;
use crate::backoff::Backoff;
use crate::stream::{Phase, View};

/// What is said of a ledger that does not get on.
const NOT_READ: &str = "outbound messages are not read";

/// Why the ledger does not get on.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    /// The store does not answer.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The store lacks what it had.
    #[error("the store lacks a batch that was stored. first=`{first}`")]
    Missing {
        /// Its first message.
        first: Sequence,
    },
    /// An epoch that the log names was claimed by nobody.
    #[error("the store lacks the claim of an epoch. epoch=`{epoch}`")]
    Unclaimed {
        /// The epoch.
        epoch: Epoch,
    },
    /// It is no batch.
    #[error("a batch in the store cannot be read. first=`{first}`")]
    Unreadable {
        /// Its first message.
        first: Sequence,
        /// Why not.
        source: DecodeError,
    },
    /// It is not of this log.
    #[error(
        "a batch in the store does not follow the log by the keys that are trusted here; name every key that led the stream in `trusted_keys`. first=`{first}`"
    )]
    Foreign {
        /// Its first message.
        first: Sequence,
        /// Why not.
        source: Box<BatchError>,
    },
    /// The checkpoint up to which was read is not trusted any more.
    #[error(
        "the ledger was read up to a checkpoint that is not trusted here; name the key that led then in `trusted_keys`"
    )]
    Checkpoint(#[from] SignatureError),
    /// It cannot be gone on with.
    #[error("the log cannot be gone on with")]
    Log(#[from] LogError),
    /// The epochs do not follow each other.
    #[error("the epochs in the store do not follow each other")]
    Admission(#[from] AdmissionError),
    /// The ledger does not take it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Has the ledger read what is stored of the stream, until its owner ends or is deposed.
pub(super) async fn follow(
    mailbox: Arc<Mailbox>,
    store: Arc<dyn BatchStore>,
    trusted: TrustedKeys,
    mut view: watch::Receiver<View>,
) {
    let mut ends = view.clone();
    let ended = ends.wait_for(|view| matches!(view.phase, Phase::Deposed | Phase::Ended));
    let following = async {
        let (mut backoff, mut trouble) = (Backoff::new(), Trouble::new());
        let mut reading = None;
        loop {
            let begun = match reading.take() {
                Some(reading) => Ok(reading),
                None => Reading::begin(&mailbox, &*store, &trusted).await,
            };
            let step = match begun {
                Ok(mut begun) => {
                    begun.next(&mailbox, &*store, &mut view).await.map(|is_on| is_on.then_some(begun))
                }
                Err(error) => Err(error),
            };
            match step {
                Ok(None) => return,
                Ok(Some(begun)) => {
                    reading = Some(begun);
                    backoff = Backoff::new();
                    if let Some(lasting) = trouble.over(Instant::now()) {
                        let attempts = lasting.times;
                        tracing::info!(stream = %mailbox.stream, attempts, "outbound messages are read again");
                    }
                }
                Err(error) => {
                    if let Some(lasting) = trouble.met(Instant::now(), NOT_READ) {
                        tracing::warn!(stream = %mailbox.stream, error = chain(&error), attempts = lasting.times,
                            "{NOT_READ}; trying again");
                    }
                    backoff.wait().await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        _ = ended => {}
        () = following => {}
    }
}

/// How far the log was read and verified.
struct Reading {
    leaders: Leaders,
    tip: Tip,
}

impl Reading {
    /// Where the ledger stands.
    async fn begin(
        mailbox: &Arc<Mailbox>,
        store: &dyn BatchStore,
        trusted: &TrustedKeys,
    ) -> Result<Self, FollowError> {
        let ledger = Arc::clone(mailbox);
        let Some((read, checkpoint)) = aside(move || ledger.read()).await? else {
            let leaders = Leaders::new(mailbox.stream, trusted.clone());
            return Ok(Self { leaders, tip: Tip::start(mailbox.stream) });
        };
        let checkpoint = SignedCheckpoint::from_bytes(&checkpoint);
        let checkpoint = checkpoint.map_err(|source| FollowError::Unreadable { first: read, source })?;
        let (first, last) = (checkpoint.claim().last_leader.epoch, checkpoint.claim().epoch);
        let mut leaders = Leaders::joining(mailbox.stream, trusted.clone(), first);
        admit(&mut leaders, store, last).await?;
        let trusted = checkpoint.verify(&leaders)?;
        Ok(Self { leaders, tip: Tip::trusting(&trusted)? })
    }

    /// Waits until more is stored, and takes in one batch of it. `false` when the owner is gone.
    async fn next(
        &mut self,
        mailbox: &Arc<Mailbox>,
        store: &dyn BatchStore,
        view: &mut watch::Receiver<View>,
    ) -> Result<bool, FollowError> {
        let first = self.tip.next()?;
        let is_stored = |view: &View| view.stored.as_ref().is_some_and(|(last, _)| *last >= first);
        if view.wait_for(is_stored).await.is_err() {
            return Ok(false);
        }
        let object = store.get(&Key::Batch { stream: mailbox.stream, first }).await?;
        let object = object.ok_or(FollowError::Missing { first })?;
        let batch = aside(move || Batch::from_stored(&object)).await;
        let batch = batch.map_err(|source| FollowError::Unreadable { first, source })?;
        admit(&mut self.leaders, store, batch.checkpoint().claim().epoch).await?;
        let (ledger, leaders, tip) = (Arc::clone(mailbox), self.leaders.clone(), self.tip.clone());
        self.tip = aside(move || {
            let checkpoint = batch.checkpoint().to_bytes();
            let verified = batch.verify(&leaders, &tip);
            let verified =
                verified.map_err(|source| FollowError::Foreign { first, source: Box::new(source) })?;
            ledger.take(&verified, &checkpoint)?;
            Ok::<Tip, FollowError>(verified.tip().clone())
        })
        .await?;
        Ok(true)
    }
}

/// Admits the leaders of epochs up to one, by the objects that claim them.
async fn admit(leaders: &mut Leaders, store: &dyn BatchStore, through: Epoch) -> Result<(), FollowError> {
    let stream = leaders.stream();
    while let Some(epoch) = leaders.next()
        && epoch <= through
    {
        let object = match store.get(&Key::Epoch { stream, epoch }).await {
            Ok(Some(object)) => object,
            Ok(None) => return Err(FollowError::Unclaimed { epoch }),
            Err(GetError::TooLarge { .. }) => bytes::Bytes::new(),
            Err(error) => return Err(error.into()),
        };
        // An object under the number of another epoch is nobody's claim of this one.
        let record = SignedEpochRecord::from_bytes(&object).ok().filter(|record| record.epoch() == epoch);
        if record.is_none_or(|record| leaders.admit(&record).is_err()) {
            leaders.pass(epoch)?;
        }
    }
    Ok(())
}
