//! Looks whether the log that a checkpoint signs goes on from the one before, and whether it holds what was promised.

use synddb_protocol::hash::TreeHash;
use synddb_protocol::http::Reason;
use synddb_protocol::log::{Equivocation, Frontier, Receipt, SignedCheckpoint};

use super::super::client::{Answer, Client};
use super::super::problems;
use super::Promises;
use super::ledger::{LEAVES_MAX, Relation};
use crate::evidence::Evidence;
use crate::status::{Problem, PromiseCheck};

/// Most requests for the leaves between two checkpoints. Each should bring thousands, and a log of tiny batches still brings 64.
const REQUESTS_MAX: usize = 256;

/// What a checkpoint is worth.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It contradicts nothing that was seen.
    Believed,
    /// A later leader was seen before.
    Stale,
    /// Its log does not go on from the one before.
    Inconsistent(Problem),
    /// Its key is proven to have signed twice for one place.
    Equivocation(Problem),
}

/// What the leaves of the log say.
enum Extended {
    /// They lead to the checkpoint's frontier.
    Yes(Vec<TreeHash>),
    /// They lead elsewhere.
    No,
    /// They were not shown, now or at all.
    Unknown { is_offered: bool },
}

impl Promises {
    /// Judges a checkpoint that a believed key has signed. Asks the sequencer for what it needs to.
    pub(crate) fn check(&self, client: &Client, new: &SignedCheckpoint) -> Verdict {
        let verdict = self.judge(client, new);
        self.note();
        verdict
    }

    fn judge(&self, client: &Client, new: &SignedCheckpoint) -> Verdict {
        let relation = self.ledger().relation(new);
        match relation {
            Relation::Stale => return Verdict::Stale,
            // Who keeps the outbox says what that means.
            Relation::Behind => return Verdict::Believed,
            Relation::Contradicts(before) => return self.contradicted(&before, new),
            Relation::Further => {}
        }
        let from = self.ledger().begin(new);
        match extend(client, from, new) {
            Extended::Yes(leaves) => self.ledger().settle(new, &leaves),
            Extended::No => {
                let before = self.ledger().known().cloned();
                let detail = format!(
                    "the stored log does not go on from what was seen of it before. size_before=`{}` size=`{}`",
                    before.as_ref().map_or(0, |before| before.claim().size.get()),
                    new.claim().size
                );
                return self.inconsistent(&Evidence::of_logs(detail, before.as_ref(), new));
            }
            Extended::Unknown { is_offered } => {
                // Who showed leaves before is held to them: one refusal, which anybody in between can make up, takes nothing out of the check.
                if is_offered || self.ledger().was_shown() {
                    self.ledger().believe(new, PromiseCheck::Unchecked);
                } else {
                    self.ledger().begin_at(new);
                }
                return Verdict::Believed;
            }
        }
        self.judge_doubted(client).unwrap_or(Verdict::Believed)
    }

    /// Looks what stands where something else was promised.
    fn judge_doubted(&self, client: &Client) -> Option<Verdict> {
        loop {
            let (promised, leaf) = self.ledger().doubted()?;
            let (sequence, epoch) = (promised.header().sequence, promised.header().epoch);
            let answer = client.stored_at(sequence);
            // What is no answer, or not what the tree has there, is nobody's word: it is asked again with the next checkpoint.
            let Ok(Answer::Done(Some(stored))) = answer else { return None };
            if stored.leaf() != leaf {
                return None;
            }
            if stored.header().epoch > epoch {
                self.ledger().give_up(sequence, stored.header().epoch);
                continue;
            }
            self.ledger().break_doubted();
            return Some(self.broken(&promised, &stored));
        }
    }

    /// Another message stands where one was promised, and no later leader put it there.
    fn broken(&self, promised: &Receipt, stored: &Receipt) -> Verdict {
        match Equivocation::of_receipts(promised, stored) {
            Ok(proof) => {
                let evidence = Evidence::of_receipts(&proof, promised, stored);
                Verdict::Equivocation(self.convict(&proof, &evidence))
            }
            Err(error) => {
                let sequence = stored.header().sequence;
                let detail = format!(
                    "another message stands where one was promised, and nobody is proven to have signed both. sequence=`{sequence}`: {error}"
                );
                self.inconsistent(&Evidence::of_place(detail, promised, stored))
            }
        }
    }

    fn contradicted(&self, before: &SignedCheckpoint, new: &SignedCheckpoint) -> Verdict {
        match Equivocation::of_checkpoints(before, new) {
            Ok(proof) => {
                let evidence = Evidence::of_checkpoints(&proof, before, new);
                Verdict::Equivocation(self.convict(&proof, &evidence))
            }
            Err(error) => {
                let detail = format!(
                    "two checkpoints of one epoch and size differ. size=`{}`: {error}",
                    new.claim().size
                );
                self.inconsistent(&Evidence::of_logs(detail, Some(before), new))
            }
        }
    }

    fn inconsistent(&self, evidence: &Evidence) -> Verdict {
        let file = self.keep(evidence);
        Verdict::Inconsistent(problems::inconsistent(&evidence.detail, file.as_deref()))
    }
}

/// Fetches the leaves between a frontier and a checkpoint, and sees where they lead.
fn extend(client: &Client, mut frontier: Frontier, new: &SignedCheckpoint) -> Extended {
    let size = new.claim().size.get();
    let mut leaves = Vec::new();
    for _ in 0..REQUESTS_MAX {
        if frontier.size() >= size {
            break;
        }
        let end = size.min(frontier.size() + LEAVES_MAX as u64);
        match client.leaves(frontier.size() + 1, end) {
            Ok(Answer::Done(found)) => {
                found.iter().for_each(|leaf| frontier.push(*leaf));
                leaves.extend(found);
            }
            Ok(Answer::Refused(refused, _)) => {
                return Extended::Unknown { is_offered: *refused.reason() != Reason::NotFound };
            }
            Err(error) => {
                tracing::debug!(%error, "the leaves of the log are not shown");
                return Extended::Unknown { is_offered: true };
            }
        }
    }
    if frontier.size() < size {
        return Extended::Unknown { is_offered: true };
    }
    if frontier == new.claim().frontier { Extended::Yes(leaves) } else { Extended::No }
}
