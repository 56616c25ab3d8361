//! Claiming an epoch: the first to create its object has it.

use bytes::Bytes;
use synddb_protocol::id::{Epoch, StreamId};
use synddb_protocol::log::{EpochRecord, KeyProof, SignedEpochRecord};
use synddb_protocol::signing::SigningKey;
use synddb_storage::{BatchStore, Key, Put, PutError};

use super::LeadError;
use super::tail::Tail;

/// Claims the first epoch that is free, and admits its leader.
///
/// Only an object that this very put created is a claim. The same bytes may also be those of another process with the same key:
/// two leaders of one epoch would sign one place twice. So an epoch whose answer was lost is left behind.
pub(super) async fn claim(
    store: &dyn BatchStore,
    stream: StreamId,
    key: &SigningKey,
    tail: &mut Tail,
) -> Result<(Epoch, SignedEpochRecord), LeadError> {
    while let Some(epoch) = tail.leaders.next() {
        let record = EpochRecord { stream, epoch, proof: KeyProof::Unattested }.sign(key);
        let object = Bytes::from(record.to_bytes());
        match store.put(&Key::Epoch { stream, epoch }, object.clone()).await {
            Ok(Put::Created) => {
                tail.take_claim(epoch, &object)?;
                return Ok((epoch, record));
            }
            Ok(Put::Unchanged) => tail.take_claim(epoch, &object)?,
            Err(PutError::Conflict { existing, .. }) => tail.take_claim(epoch, existing.as_bytes())?,
            Err(PutError::ConflictTooLarge { .. }) => tail.take_claim(epoch, &[])?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(LeadError::NoEpochLeft)
}
