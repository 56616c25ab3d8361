//! Who signed what of the log before a snapshot, which the replica that begins with it never reads: without that, a key that was revoked long ago,
//! at the very place where it ended, would take every later snapshot with it.
//!
//! Learned backwards. The epochs at the end of what is unknown began with some batch, which is searched for and verified from the checkpoint of the batch
//! before it. Its leader signed both that batch and the end, and leads one log: so nobody else signed between them, and the log of whoever led before ends
//! at that checkpoint. The search reads batches that are not verified; one that lies leads it to a pair that does not fit.
//!
//! What cannot be learned stays unknown, and costs something only when a key is revoked from before it.

use synddb_protocol::chain;
use synddb_protocol::id::{Epoch, Sequence};
use synddb_protocol::log::{Batch, Checkpoint, RevokedError, Signers, TrustedCheckpoint, VerifiedBatch};
use tracing::info;

use super::begin::{Beginning, Passed, holding, revoked, through, verify};
use super::unfit::Unfit;
use crate::replica::Place;

/// Beginnings of epochs that are looked for, at most, while no key is revoked from before them. Each costs some dozen batches.
const LEARNED_MAX: usize = 64;

/// Who signed what of the log up to a checkpoint that was verified.
pub(super) async fn learn(
    of: &Beginning<'_>,
    place: &Place,
    checkpoint: &TrustedCheckpoint,
) -> Result<Signers, Passed> {
    let mut signers = Signers::ending(checkpoint);
    let mut end = checkpoint.clone();
    for learned in 0_usize.. {
        let believed = signers.check(&revoked(of).await?);
        let is_needed = match believed {
            Ok(()) => false,
            Err(RevokedError::Unknown { .. }) => true,
            Err(signed @ RevokedError::Signed { .. }) => return Err(signed.into()),
        };
        if learned >= LEARNED_MAX && !is_needed {
            info!(before = end.claim().size.get(), "who signed the log before is not looked for");
            break;
        }
        match began(of, place, &end).await {
            Ok((batch, before)) => {
                signers.learn(&batch, before.as_ref());
                let Some(before) = before else { break };
                end = before;
            }
            Err(Passed::Unfit(unfit)) => {
                let before = end.claim().size.get();
                info!(before, error = %chain(&unfit), "who signed the log before cannot be told");
                break;
            }
            Err(stopped @ Passed::Stopped(_)) => return Err(stopped),
        }
    }
    signers.check(&revoked(of).await?)?;
    Ok(signers)
}

/// The batch with which the epochs at the end of a log began: that of the checkpoint, and that of the last message. And the checkpoint before it.
async fn began(
    of: &Beginning<'_>,
    place: &Place,
    end: &TrustedCheckpoint,
) -> Result<(VerifiedBatch, Option<TrustedCheckpoint>), Passed> {
    let led = epochs(end.claim());
    let mut first = through(of, end.claim().size).await?;
    let mut before: Option<Batch> = None;
    // Epochs are short more often than not, so it is looked near the end first.
    let mut back = 0;
    while let Some(newest) = first.first().previous() {
        let oldest = match &before {
            None => Sequence::FIRST,
            Some(before) if before.last() >= newest => break,
            Some(before) => before.last().next().unwrap_or(newest),
        };
        let at = match before {
            None => newest.get().saturating_sub(back).max(oldest.get()),
            Some(_) => oldest.get().midpoint(newest.get()),
        };
        let batch = holding(of, Sequence::new(at).unwrap_or(oldest)).await?;
        // What is left is less each time, whatever is stored.
        if batch.first() < oldest || batch.last() > newest {
            return Err(Unfit::NoBatch.into());
        }
        let (signed, sent) = epochs(batch.checkpoint().claim());
        if signed >= led.0 && sent >= led.1 {
            (first, back) = (batch, (back * 2).max(1));
        } else {
            before = Some(batch);
        }
    }
    let before = before.map(|batch| batch.checkpoint().clone());
    let (batch, before) = verify(of, place, before, first).await?;
    let (found, wanted) = (batch.checkpoint().claim(), end.claim());
    let is_same_log = batch.checkpoint().key() == end.key()
        && epochs(found) == led
        && (found.size < wanted.size || found == wanted);
    if is_same_log { Ok((batch, before)) } else { Err(Unfit::OtherCheckpoint.into()) }
}

/// The epoch that signed a checkpoint, and that of the message that it ends with. Neither falls along a log.
const fn epochs(claim: &Checkpoint) -> (Epoch, Epoch) {
    (claim.epoch, claim.last_leader.epoch)
}
