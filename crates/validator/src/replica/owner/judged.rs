//! What rules found, as the owner of the replica tells it; and which checkpoints may be endorsed.

use std::time::{Duration, Instant};

use synddb_protocol::id::CommitNumber;
use synddb_protocol::log::{TrustedCheckpoint, VerifiedMessage};
use synddb_protocol::submission::Snapshot;
use synddb_sqlite::connection::Connection;
use tracing::{info, warn};

use super::Owner;
use crate::endorse::{Clean, Due};
use crate::event::Event;
use crate::metrics;
use crate::replica::Ended;
use crate::replica::working::Working;
use crate::rules::{CameInbound, Carried, Replaced, Violation};

/// The least time between two looks whether somebody resolved a violation.
const RESOLVE_AGAIN: Duration = Duration::from_secs(1);

impl Owner {
    /// Takes in what somebody decided of violations. Not in a transaction, and not while another state waits to take the place of this one: it has its own copy.
    pub(super) fn resolve(&mut self) -> Result<(), Ended> {
        let is_seldom = self.asked_at.is_none_or(|at| at.elapsed() >= RESOLVE_AGAIN);
        let may_now = is_seldom && self.staged.is_none();
        let Some(live) = self.live.as_mut().filter(|live| may_now && !live.is_open()) else {
            return Ok(());
        };
        let is_first = self.asked_at.replace(Instant::now()).is_none();
        let all = live.resolve()?;
        // Where it stands is offered when it is new, and when what stood in the way is gone: not again and again.
        let may_be_new = is_first || !all.is_empty();
        for resolved in all {
            let (id, rule, sequence) = (resolved.id, &resolved.violation.rule, resolved.violation.sequence);
            let because = resolved.resolved.as_ref().map(|resolved| resolved.because.as_str());
            info!(id, rule, sequence = sequence.get(), because, "a violation is resolved");
            self.tell(Event::Resolved { id, rule: rule.clone(), sequence });
        }
        self.tell_violations();
        if may_be_new {
            self.offer_standing();
        }
        Ok(())
    }

    /// Looks whether somebody has checked by now what came before the snapshot that the replica began with.
    pub(super) fn look_at_start(&mut self) -> Result<(), Ended> {
        let (Some(live), true) = (&mut self.live, self.context.started.is_some()) else { return Ok(()) };
        self.context.started = live.started()?;
        if self.context.started.is_none() {
            // What rules found of the log before is written down by now, and how many messages were acknowledged there. Nothing is offered that was clean without that.
            live.read_again()?;
            self.clean.clear();
            self.context.due.iter().for_each(Due::withdraw);
            self.offer_standing();
            info!("the log before the snapshot that the replica began with was checked in full");
            self.context.view.started(None);
        }
        Ok(())
    }

    /// Says what is open in a replica at which no rule looks.
    pub(super) fn tell_unjudged(&self, live: &Working) -> Result<(), Ended> {
        let open = live.violations_kept()?;
        self.context.view.refuses(open);
        if open > 0 {
            warn!(
                open,
                "violations are open in this replica, and this run has no rules: what it applies is judged by nobody (`synddb rules list`)"
            );
        }
        Ok(())
    }

    /// Inbound messages came by, whether or not anything is there to apply them to.
    pub(super) fn note_delivered(&mut self, messages: &[VerifiedMessage]) {
        for message in messages {
            // Those before a snapshot may come by twice.
            if let Some(came) = CameInbound::of(message).filter(|came| came.nonce > self.delivered) {
                self.delivered = came.nonce;
                self.inbound.push(came);
            }
        }
    }

    /// Shows rules a snapshot that is staged, beside what it takes the place of. `seen` was seen of an earlier one of the same batch. Where no rule looks, what
    /// rules wrote down before stays.
    pub(super) fn judge_staged(
        &mut self,
        staged: &mut Working,
        seen: Option<Carried>,
        message: &VerifiedMessage,
        snapshot: &Snapshot,
    ) -> Result<(), Ended> {
        let gap = self.context.gaps.open().map(|open| open.gap.from);
        // A replica that is not what it was is followed no more, and what it says of violations still counts.
        let unread = if self.live.is_none() && gap.is_some() && self.place.is_taken() {
            Connection::open_to_read(self.place.file()).ok()
        } else {
            None
        };
        let from = self.live.as_ref().map(Working::connection).or(unread.as_ref());
        from.map_or(Ok(()), |from| staged.copy_inbound(from))?;
        let Some(rules) = &self.context.rules else {
            return from.map_or(Ok(()), |from| staged.keep_judged(from));
        };
        let carried = self.live.as_mut().map(Working::carry).transpose()?.flatten();
        let live = self.live.as_ref().map(|live| (live.connection(), carried));
        let (unread, delivered) = (unread.as_ref(), self.delivered);
        let replaced = Replaced { live, staged: seen, unread, gap, delivered };
        staged.judge_snapshot(rules, replaced, message, snapshot, self.place.file())
    }

    /// How many violations are open, and each that was found since the last time.
    pub(super) fn tell_violations(&mut self) {
        let Some(working) = self.working_mut() else { return };
        let (Some(open), found) = (working.violations_open(), working.take_found()) else { return };
        self.context.view.refuses(open);
        for violation in found {
            let Violation { rule, sequence, commit, detail, .. } = &violation;
            metrics::violated(self.context.stream, rule);
            let commit = commit.map(CommitNumber::get);
            warn!(
                rule,
                sequence = sequence.get(),
                commit,
                detail,
                "a rule is violated; nothing from here on is endorsed until it is resolved"
            );
            self.tell(Event::Violated { rule: rule.clone(), sequence: *sequence, detail: detail.clone() });
        }
    }

    /// The checkpoint that the replica stands at may be endorsed, where nothing speaks against it.
    pub(super) fn offer_standing(&self) {
        let clean = self.live.as_ref().zip(self.checkpoint.as_ref());
        let clean = clean.and_then(|(live, checkpoint)| clean_at(live, checkpoint));
        if let (Some(due), Some(clean), None) = (&self.context.due, clean, self.context.gaps.open()) {
            due.offer(clean);
        }
    }

    /// A batch ends here, and everything before it is applied and compared.
    pub(super) fn note_clean(&mut self, checkpoint: &TrustedCheckpoint) {
        let clean = self.working().and_then(|working| clean_at(working, checkpoint));
        self.clean.extend(clean.filter(|_| self.context.due.is_some()));
    }
}

/// What may be endorsed of a file that stands at a checkpoint: nothing while a violation is open, or no rule looks.
fn clean_at(working: &Working, checkpoint: &TrustedCheckpoint) -> Option<Clean> {
    let acknowledged = working.acknowledged().filter(|_| working.violations_open() == Some(0))?;
    Some(Clean { checkpoint: checkpoint.clone(), acknowledged })
}

/// Those that the log has up to a checkpoint.
pub(super) fn through<'c>(came: &'c [CameInbound], checkpoint: &TrustedCheckpoint) -> &'c [CameInbound] {
    let size = checkpoint.claim().size;
    &came[..came.partition_point(|came| came.sequence <= size)]
}
