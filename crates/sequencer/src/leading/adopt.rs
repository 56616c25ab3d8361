//! Taking over what was signed before and is not stored: it is published with its old signatures, so each message is checked again first.
//!
//! ```text
//! a chunk of the journal -> verified, on as many threads as there are processors -> its order, one by one -> the next chunk
//! ```
//!
//! What must stay true: nothing is published that a reader would refuse. The disk may have changed what was written, so a message counts only with its
//! signature, its body's hash and a body that opens; and together they must follow the tip, to the last one that the journal has. Memory is bounded by a
//! chunk, however much waits.

use std::num::NonZero;
use std::thread;

use synddb_protocol::id::Sequence;
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{BatchError, Body, Leaders, LogError, Message, MessageError, VerifiedMessage};

use super::Now;
use crate::error::LeadError;
use crate::journal::Journal;
use crate::ordering::Ordering;

/// Most messages of one chunk.
const CHUNK_MESSAGES_MAX: usize = 1024;

/// What the bodies of one chunk take at most, as they are and opened. One that takes more is a chunk by itself.
const CHUNK_BYTES_MAX: usize = 8 << 20;

/// Fewer are verified on this thread.
const SHARED_MESSAGES_MIN: usize = 32;

/// Takes over everything in the journal that is behind the tip.
pub(super) fn adopt(
    journal: &Journal,
    leaders: &Leaders,
    ordering: &mut Ordering,
    now: Now,
) -> Result<(), LeadError> {
    let Some(last) = journal.last_unstored()? else { return Ok(()) };
    while let Ok(first) = ordering.tip().next()
        && first <= last
    {
        let (mut messages, mut bytes) = (0, 0);
        let chunk = journal.messages_from(first, |message| {
            messages += 1;
            bytes += message.body.len() + Body::stated_bytes(&message.body).unwrap_or_default();
            messages == 1 || (messages <= CHUNK_MESSAGES_MAX && bytes <= CHUNK_BYTES_MAX)
        })?;
        if chunk.is_empty() {
            return Err(refused(first, LogError::Sequence { expected: first, found: last }));
        }
        for (message, body_bytes) in verify(chunk, leaders)? {
            let sequence = message.header().sequence;
            ordering.adopt(&message, body_bytes, now.instant).map_err(|source| refused(sequence, source))?;
        }
    }
    Ok(())
}

fn refused(sequence: Sequence, source: LogError) -> LeadError {
    LeadError::Contradiction { sequence, source: Box::new(BatchError::Log { sequence, source }) }
}

/// Messages that are what was signed, in their order, each with the size of its body as stored.
fn verify(chunk: Vec<Message>, leaders: &Leaders) -> Result<Vec<(VerifiedMessage, usize)>, LeadError> {
    if chunk.len() < SHARED_MESSAGES_MIN {
        return verify_share(chunk, leaders);
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let each = chunk.len().div_ceil(threads).max(1);
    let mut chunk = chunk.into_iter();
    let shares = std::iter::from_fn(|| {
        let share: Vec<Message> = chunk.by_ref().take(each).collect();
        (!share.is_empty()).then_some(share)
    });
    let shares: Vec<Vec<Message>> = shares.collect();
    let verified: Vec<Result<Vec<_>, LeadError>> = thread::scope(|scope| {
        let under_way: Vec<_> =
            shares.into_iter().map(|share| scope.spawn(|| verify_share(share, leaders))).collect();
        let ended = under_way.into_iter().map(|share| match share.join() {
            Ok(verified) => verified,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect()
    });
    let mut all = Vec::new();
    for share in verified {
        all.append(&mut share?);
    }
    Ok(all)
}

fn verify_share(share: Vec<Message>, leaders: &Leaders) -> Result<Vec<(VerifiedMessage, usize)>, LeadError> {
    let verify = |message: Message| {
        let (sequence, body_bytes) = (message.receipt.header().sequence, message.body.len());
        let refuse = |source: MessageError| LeadError::Contradiction {
            sequence,
            source: Box::new(BatchError::Message { sequence, source }),
        };
        message.verify(leaders, BODY_BYTES_MAX).map(|message| (message, body_bytes)).map_err(refuse)
    };
    share.into_iter().map(verify).collect()
}
