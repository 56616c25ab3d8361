//! Who waits for a full scan, and when the next one may begin.
//!
//! A scan that somebody asked for rests nine times as long as the one before took, so that strangers who ask again and again take a tenth
//! of the owner's time at most.

use std::time::{Duration, Instant};

use synddb_protocol::http::ReplicaAudit;
use tokio::sync::oneshot;

/// How many wait for one scan. More are turned away.
const WAITING_MAX: usize = 64;
/// So many times as long as a scan took, no other one is made.
const REST: u32 = 9;

/// Who gets the result of a scan. Nobody, where it is made by the clock.
pub(crate) type Asked = Option<oneshot::Sender<ReplicaAudit>>;

/// Who waits.
#[derive(Debug)]
pub(super) struct Waiting {
    asked: Vec<oneshot::Sender<ReplicaAudit>>,
    is_due: bool,
    rest_until: Instant,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self { asked: Vec::new(), is_due: false, rest_until: Instant::now() }
    }

    /// Somebody asks. Who is not let in is told by the end of the channel.
    pub(super) fn ask(&mut self, asked: Asked) {
        self.is_due = true;
        self.asked.retain(|asked| !asked.is_closed());
        if let Some(asked) = asked.filter(|_| self.asked.len() < WAITING_MAX) {
            self.asked.push(asked);
        }
    }

    /// Whether a scan is to be made now.
    pub(super) fn is_due(&self) -> bool {
        self.is_due && Instant::now() >= self.rest_until
    }

    /// A scan began then, and found this.
    pub(super) fn answer(&mut self, began: Instant, audit: Option<&ReplicaAudit>) {
        self.is_due = false;
        self.rest_until = Instant::now() + began.elapsed().saturating_mul(REST).max(Duration::from_millis(1));
        for asked in std::mem::take(&mut self.asked) {
            if let Some(audit) = audit {
                asked.send(audit.clone()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_scan_rests_and_those_who_ask_meanwhile_share_the_next() {
        let mut waiting = Waiting::new();
        assert!(!waiting.is_due());
        let (one, mut told) = oneshot::channel();
        waiting.ask(Some(one));
        assert!(waiting.is_due());
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        waiting.answer(long_ago, None);
        assert!(told.try_recv().is_err());
        let mut all: Vec<_> = (0..=WAITING_MAX).map(|_| oneshot::channel()).collect();
        let mut receivers = Vec::new();
        for (asked, told) in all.drain(..) {
            waiting.ask(Some(asked));
            receivers.push(told);
        }
        assert!(!waiting.is_due(), "nine minutes of rest");
        assert_eq!(waiting.asked.len(), WAITING_MAX);
        let turned_away = receivers.last_mut().unwrap().try_recv();
        assert_eq!(turned_away, Err(oneshot::error::TryRecvError::Closed));
    }
}
