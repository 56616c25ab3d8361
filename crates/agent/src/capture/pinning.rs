//! Sees to it that another process holds the place in the WAL.

use std::process::Child;
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
    /// The process that was started and does not hold this place yet.
    starting: Option<u32>,
    /// Pins that this process has started and that have not ended.
    children: Vec<Child>,
}

impl PinTried {
    /// Gives the numbers of those back that have ended.
    fn reap(&mut self) {
        self.children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
    }

    /// Waits for those that were asked to end.
    pub(super) fn ended(&mut self) {
        for mut child in self.children.drain(..) {
            child.wait().ok();
        }
    }
}

impl Capture {
    /// Tells of a pin once it holds what a next agent would need.
    pub(super) fn tell_pinned(&mut self, running: &Running) {
        if let Source::Wal(follower) = &running.source
            && follower.is_kept()
            && let Some(pid) = self.pin_tried.starting.take()
        {
            self.events.say(Event::Pinned { pid });
        }
    }

    /// Starts a pin where there should be one and is none. Says when it is to be tried again.
    pub(super) fn keep_pinned(&mut self, running: &mut Running) -> Option<Duration> {
        let Source::Wal(follower) = &mut running.source else { return None };
        self.pin_tried.reap();
        // One that has ended is forgotten here, also where none is to be started.
        if follower.is_pinned() {
            return None;
        }
        let program = self.config.pin.as_ref()?;
        let since = self.pin_tried.last.map_or(AGAIN, |last| last.elapsed());
        if since < AGAIN {
            return Some(AGAIN.saturating_sub(since));
        }
        self.pin_tried.last = Some(Instant::now());
        match PinPeer::start(program, &self.config.database, self.home.folder()) {
            Ok((pin, child)) => {
                self.pin_tried.children.push(child);
                self.pin_tried.is_told = false;
                self.pin_tried.starting = Some(pin.pid());
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
