//! Going on to another sequencer when one does not answer or does not lead.
//!
//! The first change is at once, so that a failover costs one request in vain; when all were asked in vain, there is a pause, and it is short:
//! whoever takes over may be there by now, whatever the last one asked for.

use std::time::Duration;

use synddb_protocol::http::Reason;

use super::Shipper;
use super::sequencers::Which;
use crate::event::Event;

/// The longest pause after all of several sequencers were asked in vain.
pub(super) const ROUND_MAX: Duration = Duration::from_secs(1);

/// Whether another sequencer may take what this one refuses.
pub(super) const fn may_be_taken_elsewhere(reason: &Reason) -> bool {
    matches!(reason, Reason::NotLeading | Reason::Unavailable | Reason::NotFound)
}

impl Shipper {
    /// What was sent was not taken, and another sequencer may take it. Says how long to wait before it is asked; `pause` is the wait before the same
    /// one is asked again.
    pub(super) fn turn(&mut self, pause: Duration) -> Duration {
        if !self.sequencers.are_several() {
            return pause;
        }
        self.leave(self.client.asked());
        self.asked_in_vain += 1;
        if self.asked_in_vain < self.sequencers.count() {
            return Duration::ZERO;
        }
        self.asked_in_vain = 0;
        pause.min(ROUND_MAX)
    }

    /// The watcher got no answer that is one. What waits to be sent finds out who leads; where nothing does, what was sent last is sent again.
    pub(super) fn take_unanswered(&mut self, which: Which) {
        self.is_watching = false;
        if self.is_idle() && self.sequencers.current() == which {
            self.leave(which);
            if self.unstored.is_some() {
                return self.send_last_again(which);
            }
        }
        self.watch();
    }

    pub(super) fn leave(&self, which: Which) {
        self.sequencers.leave(which);
        self.note_sequencer();
    }

    /// Whoever was asked last has taken something.
    pub(super) fn note_taken(&mut self) {
        self.asked_in_vain = 0;
        let which = self.client.asked();
        if std::mem::replace(&mut self.taken_by, which) != which {
            let sequencer = self.sequencers.url(which).to_owned();
            self.events.say(Event::FailedOver { sequencer });
        }
    }

    /// Shows whom it speaks to.
    pub(super) fn note_sequencer(&self) {
        let url = self.sequencers.url(self.sequencers.current()).to_owned();
        self.shared.board.note(|status| status.sequencer = url);
    }
}
