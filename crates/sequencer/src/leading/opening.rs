//! Beginning to lead: claim an epoch, settle what the journal holds, put what was cut, sign the message that begins the epoch.
//!
//! Nothing is acknowledged here. That begins once the epoch message is stored: the batch that holds it is the fence (I6).

use bytes::Bytes;
use synddb_protocol::chain;
use synddb_protocol::id::{Epoch, KeyId};
use synddb_protocol::log::{Batch, EpochRecord, KeyProof, SignedEpochRecord};
use synddb_sqlite::killable::reached;
use synddb_storage::{Put, PutError};

use super::adopt::adopt;
use super::{Core, Effect, Now, State};
use crate::error::LeadError;
use crate::journal::Journal;
use crate::ordering::Ordering;
use crate::tail::{Looked, Tail};

impl Core {
    pub(super) fn take_looked(
        &mut self,
        looked: Result<Box<Looked>, LeadError>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LeadError> {
        self.claim(looked?, effects)
    }

    /// Looks again after a rest.
    pub(super) fn try_again(&mut self, now: Now, error: &LeadError, effects: &mut Vec<Effect>) {
        let (stream, brief) = (self.leader.stream, error.in_brief());
        if let Some(lasting) = self.trouble.met(now.instant, brief) {
            let (attempts, lasts_s) = (lasting.times, lasting.lasts.as_secs());
            tracing::warn!(%stream, error = chain(error), attempts, lasts_s,
                "cannot lead the stream yet: {brief}; trying again");
        }
        self.state = State::Looking;
        effects.push(Effect::Look { rest: Some(brief) });
    }

    /// Claims the first epoch that is free.
    fn claim(&mut self, looked: Box<Looked>, effects: &mut Vec<Effect>) -> Result<(), LeadError> {
        let epoch = looked.tail.leaders.next().ok_or(LeadError::NoEpochLeft)?;
        let record = EpochRecord { stream: self.leader.stream, epoch, proof: KeyProof::Unattested };
        let record = record.sign(&self.leader.key);
        effects.push(Effect::Claim { epoch, object: Bytes::from(record.to_bytes()) });
        self.state = State::Claiming { looked, epoch, record };
        Ok(())
    }

    /// Only an object that this very put created is a claim. The same bytes may also be those of another process with the same key: two leaders of
    /// one epoch would sign one place twice. So an epoch whose answer was lost is left behind (ADR 17).
    pub(super) fn take_claimed(
        &mut self,
        now: Now,
        answer: Result<Put, PutError>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LeadError> {
        let State::Claiming { mut looked, epoch, record } =
            std::mem::replace(&mut self.state, State::Looking)
        else {
            return Ok(());
        };
        #[cfg(test)]
        let answer = self.planted_claim(answer);
        let existing = match answer {
            Ok(Put::Created) => {
                looked.tail.take_claim(epoch, &record.to_bytes())?;
                let (stream, key) = (self.leader.stream, self.leader.key.id());
                tracing::info!(%stream, %epoch, %key, "claimed an epoch");
                reached("epoch claimed");
                return self.resume(now, looked, epoch, record, effects);
            }
            Ok(Put::Unchanged) => Bytes::from(record.to_bytes()),
            Err(PutError::Conflict { existing, .. }) => existing.into_bytes(),
            Err(PutError::ConflictTooLarge { .. }) => Bytes::new(),
            Err(error) => return Err(error.into()),
        };
        looked.tail.take_claim(epoch, &existing)?;
        self.claim(looked, effects)
    }

    /// Settles the journal, and puts the batch that was cut before the process ended, if there is one.
    fn resume(
        &mut self,
        now: Now,
        looked: Box<Looked>,
        epoch: Epoch,
        record: SignedEpochRecord,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LeadError> {
        let Looked { tail, is_own } = *looked;
        #[cfg(test)]
        let is_own = (is_own || self.is_planted(super::Planted::RevivesTheTail))
            && !self.is_planted(super::Planted::FencesItsOwnTail);
        let is_own = is_own && !self.is_claimed_by_others(&tail, self.leader.key.id());
        settle(&mut self.journal, &tail, is_own)?;
        let Some(cut) = self.journal.cut()? else {
            return self.sign_epoch(now, &tail, epoch, &record, effects);
        };
        let first = cut.first;
        let batch = Batch::from_stored(&cut.bytes);
        let batch = batch.map_err(|source| LeadError::UnreadableTail { first, source })?;
        let checkpoint = Box::new(batch.checkpoint().clone());
        effects.push(Effect::Put { first, object: Bytes::from(cut.bytes) });
        self.state = State::Resuming { tail: Box::new(tail), epoch, record, checkpoint };
        Ok(())
    }

    /// Whether a key that is not ours claimed an epoch after the one that the journal was written under.
    fn is_claimed_by_others(&self, tail: &Tail, own: KeyId) -> bool {
        #[cfg(test)]
        if self.is_planted(super::Planted::RevivesTheTail) {
            return false;
        }
        let epoch = self.journal.epoch();
        tail.claims.iter().any(|(claimed, key)| Some(*claimed) > epoch && *key != Some(own))
    }

    pub(super) fn take_resumed(
        &mut self,
        now: Now,
        answer: Result<Put, PutError>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LeadError> {
        let State::Resuming { mut tail, epoch, record, checkpoint } =
            std::mem::replace(&mut self.state, State::Looking)
        else {
            return Ok(());
        };
        match answer {
            Ok(Put::Created | Put::Unchanged) => {
                reached("cut put again");
                tail.advance(*checkpoint)?;
                if let Some(stored) = tail.stored.clone() {
                    self.journal.mark_stored(stored)?;
                }
                self.sign_epoch(now, &tail, epoch, &record, effects)
            }
            Err(PutError::Conflict { .. } | PutError::ConflictTooLarge { .. }) => {
                let stream = self.leader.stream;
                tracing::warn!(%stream, %epoch, "another batch stands where one was cut; claiming the next epoch");
                self.look_again("another batch stands where one was cut", effects);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes over what is left of the journal, and signs the message that begins the epoch behind it.
    fn sign_epoch(
        &mut self,
        now: Now,
        tail: &Tail,
        epoch: Epoch,
        record: &SignedEpochRecord,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LeadError> {
        let Tail { tip, stored, inbox_consumed, leaders, .. } = tail;
        let (key, batching) = (self.leader.key.clone(), self.leader.batching);
        let mut ordering = Ordering::new(tip.clone(), epoch, key, batching, *inbox_consumed);
        adopt(&self.journal, leaders, &mut ordering, now)?;
        reached("tail adopted");
        let signed = ordering.draft().sign_epoch(now.log_time, record)?;
        self.journal.begin()?;
        let written = self.journal.insert(&signed).and_then(|()| self.journal.write_epoch(epoch));
        reached("fence written");
        match written {
            Ok(()) => self.journal.commit()?,
            Err(error) => return Err(self.journal.give_up().err().unwrap_or(error).into()),
        }
        reached("fence journalled");
        let fence = signed.message.receipt.header().sequence;
        ordering.accept([signed.placed], now.instant);
        // That the stream is led is said when the fence is stored.
        self.trouble.over(now.instant);
        self.begin_term(ordering, fence, stored.clone(), effects);
        Ok(())
    }
}

/// Makes the journal agree with where the store ends. Where that is its own history, and nobody else claimed the stream since, it goes on from
/// there: what was acknowledged and not stored is published with its old signatures. In every other case it must never be published, since another
/// leader may have given these places to others: it is kept in a `.fenced` file, and the clients send it again from their outboxes.
fn settle(journal: &mut Journal, tail: &Tail, is_own: bool) -> Result<(), LeadError> {
    let stream = tail.leaders.stream();
    let seen = journal.stored().map(|stored| stored.last);
    if is_own {
        if let Some(stored) = tail.stored.clone()
            && Some(stored.last) > seen
        {
            journal.mark_stored(stored)?;
        }
        return Ok(());
    }
    // A message that began an epoch, and was never stored, promised nobody anything.
    if journal.has_promised()? {
        let copy = journal.copy_fenced()?;
        reached("tail fenced");
        tracing::warn!(%stream, messages = journal.unstored().messages, file = %copy.display(),
            "another leader came in between: what was not stored is never published; clients send it again");
    }
    journal.begin_anew(tail.stored.clone())?;
    reached("begun anew");
    Ok(())
}
