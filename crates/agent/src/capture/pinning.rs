//! Sees to it that another process holds the place in the WAL.

use std::time::{Duration, Instant};

use super::Capture;
use crate::attach::Running;
use crate::event::Event;
use crate::pin::PinPeer;
use crate::source::Source;

/// How long a pin that could not be started is left alone.
const AGAIN: Duration = Duration::from_secs(5);

/// What is known of starting a pin.
#[derive(Debug, Default)]
pub(super) struct PinTried {
    last: Option<Instant>,
    is_told: bool,
}

impl Capture {
    /// Starts a pin where there should be one and is none. Says when it is to be tried again.
    pub(super) fn keep_pinned(&mut self, running: &mut Running) -> Option<Duration> {
        let program = self.config.pin.as_ref()?;
        let Source::Wal(follower) = &mut running.source else { return None };
        if follower.is_pinned() {
            return None;
        }
        let since = self.pin_tried.last.map_or(AGAIN, |last| last.elapsed());
        if since < AGAIN {
            return Some(AGAIN.saturating_sub(since));
        }
        self.pin_tried.last = Some(Instant::now());
        match PinPeer::start(program, self.home.folder()) {
            Ok(pin) => {
                self.pin_tried.is_told = false;
                self.events.say(Event::Pinned { pid: pin.pid() });
                follower.set_pin(Box::new(pin));
                None
            }
            Err(error) => {
                if !std::mem::replace(&mut self.pin_tried.is_told, true) {
                    self.events.say(Event::Unpinned { detail: synddb_protocol::chain(&error) });
                }
                Some(AGAIN)
            }
        }
    }
}
