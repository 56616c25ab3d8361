//! Whether what a client sends is new, or has a place already.
//!
//! Only the tip decides whether something new follows. Here it is told from what was sent before: a client that got no answer sends
//! the same again, perhaps cut otherwise, and must get the receipts that it missed instead of a refusal.

use synddb_protocol::http::{Position, Reason};
use synddb_protocol::log::{ClientState, Entry};

use super::{Held, What};

/// What to do with what a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It has no place yet. The tip says whether it follows.
    New,
    /// It may have a place already: look it up. When it has none, it is new.
    PerhapsKnown(Held),
    /// All of it must have a place: look it up. When it has none, this is why it is refused.
    Known(Held, Reason),
    /// It is refused.
    Refused(Reason),
}

/// Judges an entry by what the log has of the client.
pub(super) fn judge(client: Option<&ClientState>, entry: &Entry) -> Judgement {
    let (Some(client), Some(held)) = (client, Held::of(entry)) else { return Judgement::New };
    if held.incarnation != client.incarnation {
        // Commits of an earlier incarnation have places as far as they were sent in time. What is left of it never gets one.
        let earlier = held.incarnation.counter < client.incarnation.counter;
        let superseded = Reason::IncarnationSuperseded { running: client.incarnation };
        return if earlier { Judgement::Known(held, superseded) } else { Judgement::New };
    }
    match held.what {
        What::Commits { last, .. } if last < client.next => Judgement::Known(held, Reason::Internal),
        // A part of it has a place, and a message is signed whole.
        What::Commits { first, .. } if first < client.next => {
            Judgement::Refused(Reason::Gap { expected: Position::expected(client) })
        }
        What::Part { commit, index } => {
            let begun = commit == client.next && client.group.is_some_and(|group| index < group.next);
            let known = commit < client.next || begun;
            if known { Judgement::Known(held, Reason::Internal) } else { Judgement::New }
        }
        What::Begins => Judgement::Known(held, Reason::Internal),
        What::After { .. } => Judgement::PerhapsKnown(held),
        What::Commits { .. } => Judgement::New,
    }
}
