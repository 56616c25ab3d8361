//! Where a log ends in the store, who may have led it there, and whether a journal is of that history.
//!
//! Reads only: nothing is changed, neither here nor there.

mod history;
mod last;

pub(crate) use history::holds_own_messages;

use synddb_protocol::id::{Epoch, KeyId, Sequence, StreamId};
use synddb_protocol::log::{Leaders, SignedCheckpoint, SignedEpochRecord, Tip};
use synddb_protocol::signing::TrustedKeys;
use synddb_storage::{BatchStore, GetError, Key};

use crate::error::LeadError;
use crate::journal::{Journal, Stored};
use last::last_checkpoint;

/// What the store tells before anything is claimed.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) tail: Tail,
    /// Whether the store ends on the history that the journal was written for.
    pub(crate) is_own: bool,
}

/// Looks where a log ends, and whether that is the journal's history.
///
/// # Errors
/// [`LeadError`] where the store does not tell, and where it lacks what the journal saw in it: it is another store, or an old copy, and must get
/// nothing.
pub(crate) async fn look(
    store: &dyn BatchStore,
    journal: &Journal,
    stream: StreamId,
    trusted: &TrustedKeys,
) -> Result<Box<Looked>, LeadError> {
    let tail = Tail::find(store, stream, trusted).await?;
    let is_own = history::compare(store, journal, &tail).await?;
    Ok(Box::new(Looked { tail, is_own }))
}

/// The end of a log in the store.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) tip: Tip,
    /// `None` when nothing is stored.
    pub(crate) stored: Option<Stored>,
    pub(crate) inbox_consumed: u64,
    pub(crate) leaders: Leaders,
    /// The epochs that were claimed, from the last message's on, and by whom; `None` for an object that admits nobody.
    pub(crate) claims: Vec<(Epoch, Option<KeyId>)>,
}

impl Tail {
    /// Finds the end: by halving, then by gets until a key is absent, because a listing may be behind.
    async fn find(
        store: &dyn BatchStore,
        stream: StreamId,
        trusted: &TrustedKeys,
    ) -> Result<Self, LeadError> {
        let last = last_checkpoint(store, stream, trusted).await?;
        let first_epoch = last.as_ref().map_or(Epoch::FIRST, |last| last.claim().last_leader.epoch);
        let mut tail = Self {
            tip: Tip::start(stream),
            stored: None,
            inbox_consumed: 0,
            leaders: Leaders::joining(stream, trusted.clone(), first_epoch),
            claims: Vec::new(),
        };
        tail.read_claims(store, first_epoch).await?;
        if let Some(last) = last {
            tail.advance(last)?;
        }
        Ok(tail)
    }

    /// Goes on to a checkpoint whose batch is stored.
    pub(crate) fn advance(&mut self, checkpoint: SignedCheckpoint) -> Result<(), LeadError> {
        let (epoch, key) = (checkpoint.claim().epoch, checkpoint.key());
        let stored = Stored { last: checkpoint.claim().size, checkpoint: checkpoint.to_bytes() };
        let trusted = checkpoint.verify(&self.leaders).map_err(|source| LeadError::UntrustedTail {
            epoch,
            key,
            source,
        })?;
        self.tip = Tip::trusting(&trusted)?;
        self.inbox_consumed = trusted.claim().inbox_consumed;
        self.stored = Some(stored);
        Ok(())
    }

    /// The last message that is stored.
    pub(crate) fn last(&self) -> Option<Sequence> {
        self.stored.as_ref().map(|stored| stored.last)
    }

    /// Takes an object under an epoch's number for what it is worth: it admits its key, or nobody.
    pub(crate) fn take_claim(&mut self, epoch: Epoch, object: &[u8]) -> Result<(), LeadError> {
        let record = SignedEpochRecord::from_bytes(object).ok();
        let admitted = record.filter(|record| {
            let is_its_own = record.recover().is_ok_and(|(claim, _)| claim.epoch == epoch);
            is_its_own && self.leaders.admit(record).is_ok()
        });
        if admitted.is_none() && self.leaders.next() == Some(epoch) {
            self.leaders.pass(epoch).map_err(|_| LeadError::NoEpochLeft)?;
        }
        self.claims.push((epoch, admitted.map(|record| record.key())));
        Ok(())
    }

    /// Epochs are claimed one after the other, so they end before the first number that is absent. An object behind it is nobody's
    /// claim, whatever a listing says.
    async fn read_claims(&mut self, store: &dyn BatchStore, from: Epoch) -> Result<(), LeadError> {
        let stream = self.leaders.stream();
        let mut next = Some(from);
        while let Some(epoch) = next {
            match store.get(&Key::Epoch { stream, epoch }).await {
                Ok(Some(object)) => self.take_claim(epoch, &object)?,
                Ok(None) => return Ok(()),
                Err(GetError::TooLarge { .. }) => self.take_claim(epoch, &[])?,
                Err(error) => return Err(error.into()),
            }
            next = epoch.next();
        }
        Err(LeadError::NoEpochLeft)
    }
}
