//! How far back two replicas of one log recorded the same states. They commit at different messages, so that only common ones say something.

use std::collections::BTreeMap;

use synddb_protocol::contents::{STATES_KEPT, STATES_MAX, State};
use synddb_protocol::hash::StateHash;
use synddb_protocol::id::Sequence;

use super::found::History;
use super::side::Side;
use crate::exit::CommandError;

/// Most answers that are asked for of each.
const PAGES_MAX: u64 = STATES_KEPT / STATES_MAX as u64 + 1;

/// What both recorded, from a message back to the last one at which they agree.
pub(super) async fn compare(one: &Side, other: &Side, from: Sequence) -> Result<History, CommandError> {
    let mut history = History { equal_at: None, different_at: None };
    let mut through = from;
    for _ in 0..PAGES_MAX {
        let states = page(one, through).await?;
        let others = page(other, through).await?;
        for (sequence, state) in states.iter().rev() {
            match others.get(sequence) {
                Some(found) if found == state => {
                    history.equal_at = Some(*sequence);
                    return Ok(history);
                }
                Some(_) => history.different_at = Some(*sequence),
                None => {}
            }
        }
        // Everything from the later beginning on is known of both.
        let beginnings = states.keys().next().zip(others.keys().next());
        let Some(next) = beginnings.and_then(|(one, other)| one.max(other).previous()) else { break };
        through = next;
    }
    Ok(history)
}

async fn page(side: &Side, through: Sequence) -> Result<BTreeMap<Sequence, StateHash>, CommandError> {
    let states = side.states(through).await?.found;
    if states.len() > STATES_MAX || states.iter().any(|state| state.sequence > through) {
        return Err(side.contradicts("it tells of other states than were asked for"));
    }
    Ok(states.into_iter().map(|State { sequence, state }| (sequence, state)).collect())
}
