//! The last endorsements of this validator that are stored, for whoever asks it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use synddb_protocol::id::Sequence;
use synddb_protocol::log::SignedEndorsement;

/// Endorsements that are kept in memory. The store has all.
const SHOWN_MAX: usize = 256;

/// What is shown. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown(Arc<Mutex<BTreeMap<Sequence, SignedEndorsement>>>);

impl Shown {
    pub(super) fn add(&self, endorsement: SignedEndorsement) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.insert(endorsement.endorsement().sequence(), endorsement);
        if shown.len() > SHOWN_MAX {
            shown.pop_first();
        }
    }

    /// The last message that is endorsed, as far as this process knows.
    pub(super) fn newest(&self) -> Option<Sequence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last_key_value().map(|(sequence, _)| *sequence)
    }

    /// The endorsement of a place.
    pub(super) fn at(&self, sequence: Sequence) -> Option<SignedEndorsement> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&sequence).cloned()
    }
}
