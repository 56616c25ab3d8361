//! Faults that a test plants in the core, to show that the simulation would find them.

use synddb_storage::{Put, PutError};

use super::Core;

/// A way to lead wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planted {
    /// Takes commands before the message that began the epoch is stored.
    LeadsUnfenced,
    /// Takes an epoch whose object is somebody's for its own.
    SharesAnEpoch,
    /// Takes a foreign batch in its place for its own, and goes on behind it.
    TakesForeignForOwn,
    /// Gives up what an earlier epoch left, although nobody else came in between.
    FencesItsOwnTail,
    /// Puts a batch whose bytes are not in the journal.
    PutsUnjournalled,
    /// Publishes what an earlier epoch left, although another leader came in between.
    RevivesTheTail,
}

impl Core {
    pub(super) fn is_planted(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    pub(super) fn planted_claim(&self, answer: Result<Put, PutError>) -> Result<Put, PutError> {
        if self.is_planted(Planted::SharesAnEpoch) { answer.map(|_| Put::Created) } else { answer }
    }
}

/// What a faulty epoch makes of the store's answer.
pub(super) fn take_put(planted: Option<Planted>, answer: Result<Put, PutError>) -> Result<Put, PutError> {
    match answer {
        Err(PutError::Conflict { .. }) if planted == Some(Planted::TakesForeignForOwn) => Ok(Put::Unchanged),
        answer => answer,
    }
}
