//! Whether a sequencer keeps what it promised. A receipt is a promise; the stored log shows whether it came true.
//!
//! ```text
//! receipts ------> ledger <------ leaves between two checkpoints: frontier + leaves = the next signed frontier?
//!                    |            and is each receipt's leaf at its sequence?
//!                    +-- another leaf: the stored batch --> a later epoch: unkept, as a deposed leader's promise may be
//!                                                       --> the same epoch: two messages for one place, proven
//! ```
//!
//! What must stay true:
//!
//! - Nothing is forgotten by a checkpoint whose log was seen not to go on from the one before.
//! - A key that is proven to have signed twice for one place is not believed any more, and the proof is kept first.
//! - It costs one request for each checkpoint of up to 4096 new messages, on the watcher's thread; idle, none; what is sent never waits for it.
//!
//! Knows nothing of the outbox: what is lost is sent again whatever is found here.

mod check;
mod ledger;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use synddb_protocol::chain;
use synddb_protocol::log::{Equivocation, Receipt};

use super::problems;
use super::trust::Trust;
use crate::error::AgentError;
use crate::event::{Event, Events};
use crate::evidence::{self, Evidence};
use crate::handle::Shared;
use crate::status::Problem;
pub(super) use check::Verdict;
use ledger::Ledger;

/// What was promised to one agent, shared by the thread that gets receipts and the one that sees what is stored.
pub(super) struct Promises {
    /// The agent's. Not the owned folder itself, as in `trust.rs`.
    folder: PathBuf,
    trust: Arc<Trust>,
    shared: Arc<Shared>,
    events: Events,
    /// Never held while anything is asked.
    ledger: Mutex<Ledger>,
}

impl Promises {
    pub(super) fn new(
        folder: PathBuf,
        trust: Arc<Trust>,
        shared: Arc<Shared>,
        events: Events,
    ) -> Result<Self, AgentError> {
        let mut ledger = Ledger::default();
        ledger.count_evidence(evidence::kept(&folder)?.len() as u64);
        let promises = Self { folder, trust, shared, events, ledger: Mutex::new(ledger) };
        promises.note();
        Ok(promises)
    }

    /// Notes what was promised. Returns what to say when that alone proves that its key is false.
    pub(super) fn take(&self, receipts: Vec<Receipt>) -> Option<Problem> {
        let mut found = None;
        for receipt in receipts {
            let before = self.ledger().take(receipt.clone());
            let proof = before.and_then(|before| {
                let proof = Equivocation::of_receipts(&before, &receipt).ok()?;
                Some(self.convict(&proof, &Evidence::of_receipts(&proof, &before, &receipt)))
            });
            found = found.or(proof);
        }
        self.note();
        found
    }

    /// Keeps the proof, and believes its key no more.
    fn convict(&self, proof: &Equivocation, evidence: &Evidence) -> Problem {
        let file = self.keep(evidence);
        self.trust.convict(proof.key, file.clone().unwrap_or_else(|| self.folder.clone()));
        problems::equivocated(&evidence.detail, proof, file.as_deref())
    }

    /// Keeps evidence and tells of it, unless it was kept before.
    fn keep(&self, evidence: &Evidence) -> Option<PathBuf> {
        let kept = evidence.keep(&self.folder).unwrap_or_else(|error| {
            tracing::error!(error = %chain(&error), ?evidence, "evidence cannot be kept");
            None
        });
        let is_new = kept.as_ref().is_none_or(|(_, is_new)| *is_new);
        let file = kept.map(|(file, _)| file);
        if is_new {
            self.ledger().count_evidence(u64::from(file.is_some()));
            let (finding, detail) = (evidence.finding, evidence.detail.clone());
            self.events.say(Event::Evidence { finding, detail, file: file.clone() });
            self.note();
        }
        file
    }

    /// Shows what was counted.
    fn note(&self) {
        let counts = self.ledger().counts();
        self.shared.board.note(|status| status.promises = counts);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every change leaves it whole.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
